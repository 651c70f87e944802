//! Which share of a processor a thread gets where there is not enough for all (sched(7), "The nice value").

use std::io;

use rustix::process::{getpriority_process, setpriority_process};

/// As much before others as udev is; whoever makes connections at the highest rate leaves the reader of the ring too little
/// else, and what is not read in time is lost. It makes nothing dearer.
const BEFORE_OTHERS: i32 = -10;

/// Puts this thread, and those that it begins from now on, before others, unless somebody has said where it is to be.
/// Fails without `CAP_SYS_NICE`.
pub fn before_others() -> io::Result<()> {
    if getpriority_process(None)? == 0 {
        setpriority_process(None, BEFORE_OTHERS)?;
    }
    Ok(())
}

/// Puts this thread back where processes are by default, if it is before them.
pub fn as_others() -> io::Result<()> {
    if getpriority_process(None)? < 0 {
        setpriority_process(None, 0)?;
    }
    Ok(())
}
