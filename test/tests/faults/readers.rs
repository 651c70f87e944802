//! Who reads what the daemon tells is stopped, is killed, or runs out of memory; the others and the daemon go on.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustix::fs::{MemfdFlags, memfd_create};
use tcp_close_test::{memory::LittleMemory, netns::Netns};

use crate::{
    agreement::agrees,
    beside_others,
    daemon::{Daemon, PATIENCE, Running, lost, told},
    eventually,
    load::{Load, connections},
};

/// Enough for a reader, and too little for what it is told: a line has more than half a kilobyte.
const MEMORY: u64 = 4 << 20;

/// A `watch` of the daemon, which writes where nobody waits for it.
fn watch(daemon: &Daemon, out: impl Into<Stdio>) -> Running {
    let watch = daemon.asked_by("watch", &["-o", "json"]).stdout(out).stderr(Stdio::null()).spawn();
    Running(watch.expect("start tcp-close"))
}

/// A reader whose lines are counted.
fn counted(daemon: &Daemon) -> (Running, Arc<AtomicUsize>) {
    let mut reader = watch(daemon, Stdio::piped());
    let out = BufReader::new(reader.0.stdout.take().expect("stdout is piped"));
    let count = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for _ in out.lines().map_while(Result::ok) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (reader, count)
}

#[test]
fn a_reader_that_dies_or_stands_still_disturbs_nobody() {
    let _not_alone = beside_others();
    let netns = Netns::new();
    let daemon = Daemon::of(&netns, &[]);
    let (_healthy, healthy) = counted(&daemon);
    let mut by_itself = 0;
    eventually(PATIENCE, || {
        connections(&netns, 1);
        by_itself += 2;
        if healthy.load(Ordering::SeqCst) > 0 { Ok(()) } else { Err("nothing is told".to_owned()) }
    });
    assert_eq!(daemon.readers(), 1);

    // All that it is told stays in memory, which counts as its own.
    let memory = LittleMemory::of(MEMORY);
    let file = File::from(memfd_create("lines", MemfdFlags::CLOEXEC).expect("a file in memory"));
    let mut poor = watch(&daemon, file);
    memory.take_in(poor.pid());
    let (mut stopped, _) = counted(&daemon);
    let (mut murdered, read) = counted(&daemon);
    eventually(PATIENCE, || {
        connections(&netns, 1);
        let (readers, is_read) = (daemon.readers(), read.load(Ordering::SeqCst) > 0);
        if readers == 4 && is_read { Ok(()) } else { Err(format!("{readers} readers")) }
    });
    stopped.stop();

    let load = Load::start(&netns, 1, 100_000);
    let status = poor.ended();
    assert_eq!((status.signal(), memory.killed()), (Some(9), 1), "it ran out of memory: {status}");
    // In the midst of what it reads.
    murdered.kill();
    load.goes_on(2_000);
    load.finish();

    let exposition = agrees(&netns, &daemon);
    assert_eq!(lost(&exposition), 0.0);
    let all = eventually(PATIENCE, || {
        let (all, heard) = (told(&daemon.metrics()), healthy.load(Ordering::SeqCst) as f64);
        // It may have come while the first were told.
        let is_all = heard <= all && heard + f64::from(by_itself) >= all;
        if is_all { Ok(all) } else { Err(format!("{heard} of {all}")) }
    });
    println!("{all} ends were told");
    let only = |left: usize| {
        eventually(PATIENCE, || match daemon.readers() {
            readers if readers == left => Ok(()),
            readers => Err(format!("{readers} readers have a descriptor, {left} are left")),
        });
    };
    only(2);
    stopped.kill();
    only(1);
}
