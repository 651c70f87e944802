//! What goes wrong around the daemon: it is stopped, killed, short of room, watched by readers that die, and its host
//! changes under it.
//!
//! After each, its gauges are the kernel's, nothing hangs, nothing is left behind, and what was lost is in a counter.
//! Trouble that it is started into is in `trouble.rs`.
//!
//! A fault lasts as long as CI has time for, and as long as is promised where `TCP_CLOSE_TEST_FULL` is set.
//! `machine` takes a machine of its own: the others leave the host as it is.

#![expect(clippy::panic, reason = "helpers of a test fail as the test itself does")]
#![expect(
    clippy::print_stdout,
    reason = "what a test saw is for who reads why it failed, or how near it came"
)]
#![expect(clippy::float_cmp, reason = "samples of counters are whole numbers")]
#![expect(clippy::cast_precision_loss, reason = "and far below 2^52")]

#[path = "faults/agreement.rs"]
mod agreement;
#[path = "faults/daemon.rs"]
mod daemon;
#[path = "faults/full_tables.rs"]
mod full_tables;
#[path = "faults/killed.rs"]
mod killed;
#[path = "faults/load.rs"]
mod load;
#[path = "faults/machine.rs"]
mod machine;
#[path = "faults/namespaces.rs"]
mod namespaces;
#[path = "faults/pid_reuse.rs"]
mod pid_reuse;
#[path = "faults/readers.rs"]
mod readers;
#[path = "faults/stopped.rs"]
mod stopped;
#[path = "live/stuck.rs"]
mod stuck;

use std::{
    env,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::Duration,
};

use tcp_close_test::clock::Deadline;

/// How much of a fault there is: what CI has time for, or what is promised.
fn brief_or_full<T>(brief: T, full: T) -> T {
    if env::var_os("TCP_CLOSE_TEST_FULL").is_some_and(|value| value == "1") { full } else { brief }
}

/// Held by the test that watches the whole host, for writing, and by those that flood a part of it.
static HOST: RwLock<()> = RwLock::new(());

/// As long as this is held, no other test here floods anything.
fn alone() -> RwLockWriteGuard<'static, ()> {
    HOST.write().unwrap_or_else(PoisonError::into_inner)
}

/// As long as this is held, nobody watches all of the host.
fn beside_others() -> RwLockReadGuard<'static, ()> {
    HOST.read().unwrap_or_else(PoisonError::into_inner)
}

/// Asks until there is an answer; an error says what is missing yet.
#[track_caller]
fn eventually<T>(within: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Deadline::after(within);
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(missing) => assert!(deadline.left().is_some(), "not within {within:?}: {missing}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}
