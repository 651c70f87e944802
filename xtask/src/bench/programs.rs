//! The kernel's own account of the programs that an observer has loaded, as it stands beside each that is open.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, ensure};

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

/// What programs have run for in between: nanoseconds and runs, of each that ran.
pub(super) struct Spent(Vec<(f64, f64)>);

pub(super) fn between(before: &Accounts, after: &Accounts) -> Spent {
    let spent = after.iter().filter_map(|(id, after)| {
        let before = before.get(id).copied().unwrap_or_default();
        let runs = u32::try_from(after.run_cnt.checked_sub(before.run_cnt)?).ok()?;
        let time = u32::try_from(after.run_time_ns.checked_sub(before.run_time_ns)?).ok()?;
        (runs > 0).then(|| (f64::from(time), f64::from(runs)))
    });
    Spent(spent.collect())
}

/// Programs that ran this seldom tell nothing of what a run takes.
const MANY_RUNS: f64 = 1000.0;

impl Spent {
    pub(super) fn runs(&self) -> f64 {
        self.0.iter().map(|(_, runs)| runs).sum()
    }

    /// Nanoseconds, less what the accounting itself takes of each run: what the cheapest of the programs takes, which is
    /// more than an empty one would.
    pub(super) fn nanoseconds_less_accounting(&self) -> f64 {
        let often = self.0.iter().filter(|(_, runs)| *runs >= MANY_RUNS);
        let accounting = often.map(|(time, runs)| time / runs).fold(f64::INFINITY, f64::min);
        let accounting = if accounting.is_finite() { accounting.min(MOST_ACCOUNTING) } else { 0.0 };
        self.0.iter().map(|(time, runs)| time - runs * accounting).sum()
    }
}

/// What the accounting of a run takes at most, in nanoseconds: an observer may have no cheap program.
const MOST_ACCOUNTING: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_program_tells_what_the_accounting_takes() {
        let program = "pos:\t0\nprog_type:\t26\nprog_id:\t7\nrun_time_ns:\t90\nrun_cnt:\t9\n";
        let of = |run_time_ns, run_cnt| Account { run_time_ns, run_cnt };
        assert_eq!(account(program), Some((7, of(90, 9))));
        assert_eq!(account("link_type:\ttracing\nlink_id:\t1\nprog_id:\t7\n"), None);
        let before = Accounts::from([(1, of(1_000, 10))]);
        let after =
            Accounts::from([(1, of(501_000, 5_010)), (2, of(50_000, 1_000)), (3, of(9, 1)), (4, of(5, 0))]);
        let spent = between(&before, &after);
        assert_eq!(spent.runs().total_cmp(&6_001.0), std::cmp::Ordering::Equal);
        // 50 ns a run by program 2; program 3 ran once, and tells nothing.
        assert!((spent.nanoseconds_less_accounting() - (550_009.0 - 50.0 * 6_001.0)).abs() < 1e-6);
    }
}
