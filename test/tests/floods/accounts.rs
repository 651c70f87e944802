//! The kernel's account of the programs that a daemon has loaded: how often they ran, and for how long.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{FromRawFd as _, OwnedFd},
    str::FromStr,
};

/// Keeps the accounting on while it lives, for the whole host; `kernel.bpf_stats_enabled` stays what it is.
pub(crate) struct Accounting {
    _on: OwnedFd,
}

impl Accounting {
    /// Turns it on (`BPF_ENABLE_STATS`, Linux 5.8).
    pub(crate) fn on() -> Self {
        // `BPF_ENABLE_STATS` of `enum bpf_cmd`, and `BPF_STATS_RUN_TIME` of `enum bpf_stats_type`, which is all that
        // `union bpf_attr` has for this command (include/uapi/linux/bpf.h, user-space ABI).
        let (command, attribute): (libc::c_long, u32) = (32, 0);
        // SAFETY: the command reads as many bytes as it is told, of a number that outlives the call.
        let fd =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attribute, size_of_val(&attribute)) };
        assert!(fd >= 0, "turn on the accounting of BPF programs: {}", io::Error::last_os_error());
        let fd = i32::try_from(fd).expect("a file descriptor");
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Self { _on: unsafe { OwnedFd::from_raw_fd(fd) } }
    }
}

/// What programs have run for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) runs: f64,
    pub(crate) nanoseconds: f64,
}

/// What the programs that a process has open have run for so far, whoever made them run.
pub(crate) fn spent(pid: u32) -> Spent {
    let folder = format!("/proc/{pid}/fdinfo");
    let mut programs = BTreeMap::new();
    for entry in fs::read_dir(&folder).expect("it runs") {
        // One that was closed meanwhile is no program.
        let info = fs::read_to_string(entry.expect("an entry").path()).unwrap_or_default();
        if let (Some(id), Some(runs), Some(nanoseconds)) = (
            field::<u64>(&info, "prog_id"),
            field::<f64>(&info, "run_cnt"),
            field::<f64>(&info, "run_time_ns"),
        ) {
            programs.insert(id, Spent { runs, nanoseconds });
        }
    }
    assert!(!programs.is_empty(), "the daemon has programs open");
    Spent {
        runs: programs.values().map(|spent| spent.runs).sum(),
        nanoseconds: programs.values().map(|spent| spent.nanoseconds).sum(),
    }
}

fn field<T: FromStr>(info: &str, name: &str) -> Option<T> {
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().parse().ok()
}
