//! How much memory this process may take: what the cgroups it is in allow, and of the host's own no more than is decent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use procfs::process::Process;
use rustix::system::sysinfo;

/// Where a controller's files lie, and the file that tells the limit: cgroup v2, that beside v1, and v1.
const HIERARCHIES: [(&str, &str, &str); 3] = [
    ("", "/sys/fs/cgroup", "memory.max"),
    ("", "/sys/fs/cgroup/unified", "memory.max"),
    ("memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
];

/// The part of the host's memory that it may take where nothing limits it.
const DECENT_PART: u64 = 16;

/// In bytes.
pub fn allowance() -> u64 {
    let host = sysinfo();
    let decent = host.totalram * u64::from(host.mem_unit) / DECENT_PART;
    // A process that cannot see its cgroup is told of none.
    let cgroups = Process::myself().and_then(|process| process.cgroups()).map(|cgroups| cgroups.0);
    let limits = cgroups.unwrap_or_default().into_iter().filter_map(|cgroup| {
        let is_of = |controller: &str| cgroup.controllers.iter().map(String::as_str).eq([controller]);
        let hierarchies = HIERARCHIES.iter().filter(|&&(controller, ..)| is_of(controller));
        hierarchies.filter_map(|(_, root, file)| least(Path::new(root), &cgroup.pathname, file)).min()
    });
    limits.min().unwrap_or(u64::MAX).min(decent)
}

/// The least limit of this cgroup and those above it, if any has one. In a container the cgroup may be called by a name
/// that it has outside, and the root is the container's own.
fn least(root: &Path, cgroup: &str, file: &str) -> Option<u64> {
    let below = PathBuf::from(cgroup.trim_start_matches('/'));
    // "max" is none.
    let limit = |below: &Path| fs::read_to_string(root.join(below).join(file)).ok()?.trim().parse().ok();
    below.ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_on_the_way_up_holds() {
        let root = tempfile::tempdir().expect("a directory");
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).expect("directories");
        let at = |cgroup| least(root.path(), cgroup, "memory.max");
        assert_eq!(at("/a/b"), None);
        for (directory, limit) in [("a", "4096\n"), ("a/b", "max\n")] {
            fs::write(root.path().join(directory).join("memory.max"), limit).expect("a file");
        }
        assert_eq!(at("/a/b"), Some(4096));
        assert_eq!(at("/not/here"), None);
        fs::write(root.path().join("memory.max"), "1024\n").expect("a file");
        assert_eq!([at("/a/b"), at("/not/here")], [Some(1024); 2], "the container's own");
    }

    #[test]
    fn there_is_some_memory() {
        assert!((1 << 20..u64::MAX).contains(&allowance()));
    }
}
