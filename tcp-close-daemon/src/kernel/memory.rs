//! How much memory this process may take: what the cgroups it is in allow, or else a decent part of the host's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use procfs::{ProcessCGroup, ProcessCGroups};
use rustix::system::sysinfo;

/// Below it the cgroups have their directories.
const ROOT: &str = "/sys/fs/cgroup";

/// Where a hierarchy's directories are below that, and the file that tells the limit: cgroup v2, alone or beside v1.
const V2: [(&str, &str); 2] = [("", "memory.max"), ("unified", "memory.max")];

/// The same of the controller of cgroup v1.
const V1: [(&str, &str); 1] = [("memory", "memory.limit_in_bytes")];

/// The part of the host's memory that it may take where nothing limits it.
const DECENT_PART: u64 = 16;

/// In bytes.
pub fn allowance() -> u64 {
    let host = sysinfo();
    let there_is = host.totalram * u64::from(host.mem_unit);
    // A process that cannot see its cgroups is told of none.
    let cgroups = procfs::process::Process::myself().and_then(|process| process.cgroups());
    let limit = cgroups.ok().and_then(|cgroups| least(Path::new(ROOT), &cgroups));
    // Where cgroup v1 limits nothing, it tells a number that is larger than any memory.
    limit.filter(|&limit| limit < there_is).unwrap_or(there_is / DECENT_PART)
}

/// The least limit of these cgroups and those above them, if any has one.
fn least(root: &Path, cgroups: &ProcessCGroups) -> Option<u64> {
    let limit = |cgroup: &ProcessCGroup| {
        let hierarchies: &[_] = match &cgroup.controllers {
            none if none.is_empty() => &V2,
            some if some.iter().any(|controller| controller == "memory") => &V1,
            _ => &[],
        };
        hierarchies.iter().filter_map(|(below, file)| least_above(&root.join(below), cgroup, file)).min()
    };
    cgroups.0.iter().filter_map(limit).min()
}

/// In a container the cgroup may be called by a name that it has outside, and the root is the container's own.
fn least_above(root: &Path, cgroup: &ProcessCGroup, file: &str) -> Option<u64> {
    let below = PathBuf::from(cgroup.pathname.trim_start_matches('/'));
    // "max" is none.
    let limit = |below: &Path| fs::read_to_string(root.join(below).join(file)).ok()?.trim().parse().ok();
    below.ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use procfs::FromBufRead as _;

    use super::*;

    /// What a process finds whose `/proc/self/cgroup` says this, with these files below the root.
    fn found(cgroups: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().expect("a directory");
        for (file, text) in files {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().expect("a directory")).expect("directories");
            fs::write(file, text).expect("a file");
        }
        let cgroups = ProcessCGroups::from_buf_read(cgroups.as_bytes()).expect("cgroups");
        least(root.path(), &cgroups)
    }

    #[test]
    fn the_least_limit_on_the_way_up_holds() {
        assert_eq!(
            found("0::/a/b\n", &[("a/memory.max", "4096\n"), ("a/b/memory.max", "max\n")]),
            Some(4096)
        );
        assert_eq!(found("0::/a/b\n", &[("a/memory.max", "4096\n"), ("a/b/memory.max", "512\n")]), Some(512));
        assert_eq!(found("0::/a/b\n", &[("other/memory.max", "4096\n")]), None);
        assert_eq!(found("0::/\n", &[]), None);
    }

    #[test]
    fn a_container_has_a_root_of_its_own() {
        let own = [("memory.max", "4096\n")];
        assert_eq!([found("0::/\n", &own), found("0::/not/here\n", &own)], [Some(4096); 2]);
    }

    #[test]
    fn cgroup_v1_has_a_hierarchy_for_memory() {
        let v1 = [("memory/a/memory.limit_in_bytes", "4096\n"), ("cpu/a/memory.limit_in_bytes", "1\n")];
        assert_eq!(found("5:cpu:/a\n4:memory:/a\n0::/b\n", &v1), Some(4096));
        let beside = [("unified/b/memory.max", "512\n")];
        assert_eq!(found("5:cpu:/a\n0::/b\n", &beside), Some(512));
    }

    #[test]
    fn there_is_some_memory() {
        assert!((1 << 20..u64::MAX).contains(&allowance()));
    }
}
