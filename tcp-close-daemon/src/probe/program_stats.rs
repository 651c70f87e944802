//! What the kernel says of each program's runs, in `/proc/self/fdinfo`.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use aya::Ebpf;

/// One program's runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStats {
    /// The program, named after its hook.
    pub program: String,
    /// Time it ran, all CPUs together; zero unless `kernel.bpf_stats_enabled` is on.
    pub run_time: Duration,
    /// Times it ran; zero unless `kernel.bpf_stats_enabled` is on.
    pub runs: u64,
    /// Times it did not run because it was running on that CPU already (Linux 5.12 and later).
    pub recursion_misses: u64,
}

/// Of the programs that are wanted, by name: each is a file to be read.
pub(super) fn read(ebpf: &Ebpf, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = ProgramStats> {
    ebpf.programs().filter(move |(name, _)| wanted(name)).filter_map(|(name, program)| {
        let fd = program.fd().ok()?.as_fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        Some(parse(name, &info))
    })
}

fn parse(name: &str, info: &str) -> ProgramStats {
    let field = |wanted: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    };
    ProgramStats {
        program: name.to_owned(),
        run_time: Duration::from_nanos(field("run_time_ns")),
        runs: field("run_cnt"),
        recursion_misses: field("recursion_misses"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_by_name() {
        let info = "pos:\t0\nprog_type:\t26\nrun_time_ns:\t1500\nrun_cnt:\t10\nrecursion_misses:\t2\n";
        let stats = parse("timer_start", info);
        assert_eq!((stats.run_time, stats.runs, stats.recursion_misses), (Duration::from_nanos(1500), 10, 2));
        assert_eq!(parse("timer_start", "pos:\t0\n").runs, 0);
    }
}
