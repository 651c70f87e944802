//! What the kernel says of each program's runs, and of what its kprobes missed, in `/proc/self/fdinfo`.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    time::Duration,
};

use aya::{
    Ebpf,
    programs::{Program, ProgramFd},
};

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
    ebpf.programs()
        .filter(move |(name, _)| wanted(name))
        .filter_map(|(name, program)| Some(parse(name, &info(raw(program.fd().ok()?))?)))
}

/// The links by which kprobes hang on their functions, of those kernels that tell what such a link missed: Linux 6.17
/// and later (`bpf_perf_link_fdinfo_kprobe`, kernel/bpf/syscall.c).
#[derive(Debug, Default)]
pub(super) struct KprobeLinks(Vec<RawFd>);

impl KprobeLinks {
    /// Of these programs, which hold them for as long as they live. aya does not hand out their descriptors, so they are
    /// looked for among those of this process.
    pub(super) fn of(ebpf: &Ebpf) -> Self {
        let id = |program: &Program| match program {
            Program::KProbe(kprobe) => field(&info(raw(kprobe.fd().ok()?))?, "prog_id"),
            _ => None,
        };
        let programs: BTreeSet<u64> = ebpf.programs().filter_map(|(_, program)| id(program)).collect();
        if programs.is_empty() {
            return Self::default();
        }
        let of_ours = |&fd: &RawFd| info(fd).is_some_and(|info| missed_by(&info, &programs).is_some());
        let open = fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
        Self(open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(of_ours).collect())
    }

    /// Whether the kernel tells what they miss.
    pub(super) const fn tell(&self) -> bool {
        !self.0.is_empty()
    }

    /// Times that a kprobe of theirs was met while its CPU was in one already.
    pub(super) fn missed(&self) -> u64 {
        self.0.iter().filter_map(|&link| field(&info(link)?, "missed")).sum()
    }
}

/// What a link of one of these programs missed; nothing if this is none, or does not tell.
fn missed_by(info: &str, programs: &BTreeSet<u64>) -> Option<u64> {
    let is_of_ours = field(info, "prog_id").is_some_and(|id| programs.contains(&id));
    if is_of_ours && info.contains("link_type:\tperf\n") { field(info, "missed") } else { None }
}

fn raw(program: &ProgramFd) -> RawFd {
    program.as_fd().as_raw_fd()
}

/// Nothing if it is closed.
fn info(fd: RawFd) -> Option<String> {
    fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()
}

fn field(info: &str, wanted: &str) -> Option<u64> {
    let value = info.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':'))?;
    value.trim().parse().ok()
}

fn parse(name: &str, info: &str) -> ProgramStats {
    let field = |wanted| field(info, wanted).unwrap_or(0);
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

    #[test]
    fn a_link_of_ours_tells_what_it_missed() {
        let link = "pos:\t0\nlink_type:\tperf\nlink_id:\t4\nprog_tag:\t0123456789abcdef\nprog_id:\t8\n\
                    name:\ttcp_set_state\noffset:\t0x0\nmissed:\t3\naddr:\t0x0\nevent_type:\tkprobe\ncookie:\t0\n";
        let ours = BTreeSet::from([8]);
        assert_eq!(missed_by(link, &ours), Some(3));
        assert_eq!(missed_by(link, &BTreeSet::from([9])), None);
        assert_eq!(missed_by(&link.replace("missed:\t3\n", ""), &ours), None);
        assert_eq!(missed_by(&link.replace("\tperf", "\ttracing"), &ours), None);
    }
}
