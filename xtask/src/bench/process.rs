//! What a process has taken of the machine, as the kernel says.

use std::{fs, ops::Range};

use anyhow::Context as _;
use rustix::param::{clock_ticks_per_second, page_size};

/// The 14th and 15th field are times of its own, the two behind them those of children it has waited for
/// (`proc_pid_stat(5)`); behind its name, which may have anything in it, they begin with the third.
const OWN: Range<usize> = 11..13;
const OF_CHILDREN: Range<usize> = 13..15;

/// Seconds of processor time that a process has taken so far.
pub(super) fn seconds_of(pid: u32) -> anyhow::Result<f64> {
    seconds(&fs::read_to_string(format!("/proc/{pid}/stat"))?, OWN)
}

/// The same of all that this process has started and that have ended.
pub(super) fn seconds_of_children() -> anyhow::Result<f64> {
    seconds(&fs::read_to_string("/proc/self/stat")?, OF_CHILDREN)
}

fn seconds(stat: &str, fields: Range<usize>) -> anyhow::Result<f64> {
    let (_, behind) = stat.rsplit_once(") ").context("a process has a name")?;
    let times = behind.split(' ').skip(fields.start).take(fields.len());
    let ticks: u32 = times.filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    Ok(f64::from(ticks) / f64::from(u32::try_from(clock_ticks_per_second())?))
}

/// Memory that a process has, in bytes.
pub(super) fn resident_bytes_of(pid: u32) -> anyhow::Result<f64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u32 = statm.split(' ').nth(1).context("pages that are resident")?.parse()?;
    Ok(f64::from(pages) * f64::from(u32::try_from(page_size())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 90 80 0 0 100 200 300 400 20 0 1 0 5 0 0";
        let per_tick = 1.0 / f64::from(u32::try_from(clock_ticks_per_second()).expect("a hundred or so"));
        let of = |fields| seconds(stat, fields).expect("a line of the kernel's");
        assert!((of(OWN) - 300.0 * per_tick).abs() < 1e-9);
        assert!((of(OF_CHILDREN) - 700.0 * per_tick).abs() < 1e-9);
    }
}
