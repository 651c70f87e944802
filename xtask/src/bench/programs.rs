//! The kernel's own account of the programs that an observer has loaded, as bpftool has it.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use xshell::{Shell, cmd};

use crate::debian::Unpacked;

/// What a program has run for so far.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub(super) struct Account {
    id: u32,
    #[serde(default)]
    run_time_ns: u64,
    #[serde(default)]
    run_cnt: u64,
}

#[derive(Deserialize)]
struct Program {
    #[serde(flatten)]
    account: Account,
    #[serde(default)]
    pids: Vec<Holder>,
}

/// Somebody who has a program open.
#[derive(Deserialize)]
struct Holder {
    pid: u32,
}

/// The accounts of the programs that this process has loaded.
pub(super) fn of(sh: &Shell, tools: &Unpacked, pid: u32) -> anyhow::Result<Vec<Account>> {
    let said = tools.find(cmd!(sh, "bpftool --json prog show")).read()?;
    let programs: Vec<Program> = serde_json::from_str(&said).context("bpftool lists programs")?;
    let held = programs.into_iter().filter(|program| program.pids.iter().any(|holder| holder.pid == pid));
    let accounts: Vec<Account> = held.map(|program| program.account).collect();
    ensure!(!accounts.is_empty(), "bpftool names no program that process {pid} has loaded");
    Ok(accounts)
}

/// What programs have run for in between: nanoseconds and runs, of each that ran.
pub(super) struct Spent(Vec<(f64, f64)>);

pub(super) fn between(before: &[Account], after: &[Account]) -> Spent {
    let before: BTreeMap<u32, Account> = before.iter().map(|account| (account.id, *account)).collect();
    let spent = after.iter().filter_map(|after| {
        let before = before.get(&after.id).copied().unwrap_or_default();
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
        let said = r#"[{"id":7,"type":"tracing","run_time_ns":90,"run_cnt":9,"pids":[{"pid":1,"comm":"x"}]},{"id":8}]"#;
        let programs: Vec<Program> = serde_json::from_str(said).expect("as bpftool has it");
        let account = |id, run_time_ns, run_cnt| Account { id, run_time_ns, run_cnt };
        assert_eq!(programs[0].account, account(7, 90, 9));
        let before = [account(1, 1_000, 10)];
        let after =
            [account(1, 501_000, 5_010), account(2, 50_000, 1_000), account(3, 9, 1), account(4, 5, 0)];
        let spent = between(&before, &after);
        assert_eq!(spent.runs().total_cmp(&6_001.0), std::cmp::Ordering::Equal);
        // 50 ns a run by program 2; program 3 ran once, and tells nothing.
        assert!((spent.nanoseconds_less_accounting() - (550_009.0 - 50.0 * 6_001.0)).abs() < 1e-6);
    }
}
