//! The kernel's own account of the programs that a process has loaded, as it stands beside each that is open.

use std::{collections::BTreeMap, fs, os::fd::OwnedFd};

use anyhow::{Context as _, ensure};
use aya::sys::{Stats, enable_stats};

/// Whether somebody has switched the kernel's accounting of programs on, which costs some 50 ns for each time that one runs.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The kernel keeps accounts for as long as this is there.
pub(super) struct Statistics(#[expect(dead_code, reason = "it is only held")] OwnedFd);

impl Statistics {
    /// Whether somebody else has switched them on.
    pub(super) fn are_on() -> anyhow::Result<bool> {
        Ok(fs::read_to_string(STATISTICS).context("the kernel keeps no accounts of programs")?.trim() != "0")
    }

    pub(super) fn on() -> anyhow::Result<Self> {
        enable_stats(Stats::RunTime).map(Self).context("the kernel keeps no accounts of programs")
    }
}

/// What a program has run for so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Account {
    run_time_ns: u64,
    run_cnt: u64,
}

/// The accounts of the programs that a process has open, by their ids.
pub(super) type Accounts = BTreeMap<u64, Account>;

/// Those of this process.
pub(super) fn of(pid: u32) -> anyhow::Result<Accounts> {
    let folder = format!("/proc/{pid}/fdinfo");
    let mut accounts = Accounts::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        // It may be closed meanwhile; a program is not.
        accounts.extend(fs::read_to_string(entry?.path()).ok().and_then(|info| account(&info)));
    }
    ensure!(!accounts.is_empty(), "process {pid} has no program open");
    Ok(accounts)
}

/// A program's id and account, if this is one: a link names its program too, and has no account.
fn account(info: &str) -> Option<(u64, Account)> {
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().parse().ok()
    };
    let account = Account { run_time_ns: field("run_time_ns")?, run_cnt: field("run_cnt")? };
    Some((field("prog_id")?, account))
}

/// What programs have run for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spent {
    nanoseconds: f64,
    pub(super) runs: f64,
}

/// The same in between.
pub(super) fn between(before: &Accounts, after: &Accounts) -> Spent {
    let spent = after.iter().filter_map(|(id, after)| {
        let before = before.get(id).copied().unwrap_or_default();
        let runs = after.run_cnt.checked_sub(before.run_cnt)?;
        let time = after.run_time_ns.checked_sub(before.run_time_ns)?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        Some(Spent { nanoseconds: time as f64, runs: runs as f64 })
    });
    spent.fold(Spent::default(), |sum, one| Spent {
        nanoseconds: sum.nanoseconds + one.nanoseconds,
        runs: sum.runs + one.runs,
    })
}

impl Spent {
    /// Nanoseconds of a run, accounting included.
    pub(super) fn of_a_run(&self) -> f64 {
        self.nanoseconds / self.runs.max(1.0)
    }

    /// Nanoseconds, less what each run of a program that does nothing takes: what the accounting itself does.
    pub(super) fn less(&self, empty_run: f64) -> f64 {
        self.nanoseconds - self.runs * empty_run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_and_summed() {
        let program = "pos:\t0\nprog_type:\t26\nprog_id:\t7\nrun_time_ns:\t90\nrun_cnt:\t9\n";
        let of = |run_time_ns, run_cnt| Account { run_time_ns, run_cnt };
        assert_eq!(account(program), Some((7, of(90, 9))));
        assert_eq!(account("link_type:\ttracing\nlink_id:\t1\nprog_id:\t7\n"), None);
        let before = Accounts::from([(1, of(1_000, 10))]);
        let after = Accounts::from([(1, of(501_000, 5_010)), (2, of(50_000, 1_000)), (4, of(5, 0))]);
        let spent = between(&before, &after);
        assert_eq!(spent, Spent { nanoseconds: 550_005.0, runs: 6_000.0 });
        assert!((spent.less(50.0) - 250_005.0).abs() < 1e-6);
        assert!((Spent { nanoseconds: 90.0, runs: 3.0 }.of_a_run() - 30.0).abs() < 1e-6);
    }
}
