//! Limits the kernel sets on closing sockets, and how far they are used.

use std::{fs, path::Path};

/// Host-wide limits and use; `None` for what cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `net.ipv4.tcp_max_tw_buckets` of this network namespace: minisocks it may hold.
    pub time_wait: Option<u64>,
    /// `net.ipv4.tcp_max_orphans`: orphans the host may hold.
    pub orphans: Option<u64>,
    /// Orphans of the host now (`/proc/net/sockstat`).
    pub orphans_now: Option<u64>,
}

impl Limits {
    /// Reads them now.
    pub fn read() -> Self {
        Self {
            time_wait: number(Path::new("/proc/sys/net/ipv4/tcp_max_tw_buckets")),
            orphans: number(Path::new("/proc/sys/net/ipv4/tcp_max_orphans")),
            orphans_now: fs::read_to_string("/proc/net/sockstat").ok().and_then(|text| orphans(&text)),
        }
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The `orphan` figure of the `TCP:` line.
fn orphans(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"))?;
    let mut words = line.split_ascii_whitespace().skip_while(|&word| word != "orphan");
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orphans_are_read_from_the_tcp_line() {
        let text = "sockets: used 3\nTCP: inuse 4 orphan 7 tw 2 alloc 9 mem 1\nUDP: inuse 0 mem 0\n";
        assert_eq!(orphans(text), Some(7));
        assert_eq!(orphans("UDP: inuse 0\n"), None);
    }
}
