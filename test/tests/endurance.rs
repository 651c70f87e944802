//! Much at once, and for long: nothing is lost, every count is the kernel's to the last connection, and memory stays where
//! it is.
//!
//! Each test takes as long as CI has time for, with `TCP_CLOSE_TEST_FULL=1` an hour or ten minutes, and with
//! `TCP_CLOSE_TEST_SECONDS` as long as that says.

#![expect(clippy::panic, reason = "helpers of a test fail as the test itself does")]
#![expect(clippy::print_stdout, reason = "what was measured is shown where a test fails, and by --nocapture")]
#![expect(clippy::float_cmp, reason = "samples of counters are whole numbers")]
#![expect(clippy::cast_precision_loss, reason = "and far below 2^52")]

use std::{
    env,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[path = "endurance/churn.rs"]
mod churn;
#[path = "floods/daemon.rs"]
mod daemon;
#[path = "endurance/ending.rs"]
mod ending;
#[path = "endurance/highest_rate.rs"]
mod highest_rate;
#[path = "endurance/reckoning.rs"]
mod reckoning;

/// How long a test takes that may take as long as one likes: by default, and in full.
fn duration(default: u64, full: u64) -> Duration {
    let seconds = match env::var("TCP_CLOSE_TEST_SECONDS") {
        Ok(seconds) => seconds.parse().expect("TCP_CLOSE_TEST_SECONDS is a number"),
        Err(_) if env::var_os("TCP_CLOSE_TEST_FULL").is_some_and(|value| value == "1") => full,
        Err(_) => default,
    };
    Duration::from_secs(seconds)
}

/// Each of these wants the machine for itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
