//! Limits the kernel sets on closing sockets, how far they are used, and how many connections it counts itself.

use std::{fs, path::Path};

/// Host-wide limits and use; `None` for what cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `net.ipv4.tcp_max_tw_buckets` of this network namespace: minisocks it may hold.
    pub time_wait: Option<u64>,
    /// Minisocks of this network namespace now (`/proc/net/sockstat`).
    pub time_wait_now: Option<u64>,
    /// TIME-WAITs that this network namespace was refused (`TCPTimeWaitOverflow`).
    pub refused: Option<u64>,
    /// `net.ipv4.tcp_max_orphans`: orphans the host may hold.
    pub orphans: Option<u64>,
    /// Orphans of the host now (`/proc/net/sockstat`).
    pub orphans_now: Option<u64>,
}

impl Limits {
    /// Reads them now.
    pub fn read() -> Self {
        let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        let netstat = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
        Self {
            time_wait_now: figure(&sockstat, "tw"),
            refused: counter(&netstat, "TcpExt", "TCPTimeWaitOverflow"),
            time_wait: number(Path::new("/proc/sys/net/ipv4/tcp_max_tw_buckets")),
            orphans: number(Path::new("/proc/sys/net/ipv4/tcp_max_orphans")),
            orphans_now: figure(&sockstat, "orphan"),
        }
    }
}

/// Connections that this network namespace began to open or accepted, by the kernel's own count (`ActiveOpens` and
/// `PassiveOpens`), since it was made.
pub fn opens() -> Option<u64> {
    let snmp = fs::read_to_string("/proc/net/snmp").ok()?;
    Some(counter(&snmp, "Tcp", "ActiveOpens")? + counter(&snmp, "Tcp", "PassiveOpens")?)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A figure of the `TCP:` line.
fn figure(sockstat: &str, name: &str) -> Option<u64> {
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"))?;
    let mut words = line.split_ascii_whitespace().skip_while(|&word| word != name);
    words.nth(1)?.parse().ok()
}

/// A counter of a group, which has a line of names and below it one of values.
fn counter(netstat: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter(|line| line.split(':').next() == Some(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut both = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
    both.find(|&(found, _)| found == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orphans_are_read_from_the_tcp_line() {
        let text = "sockets: used 3\nTCP: inuse 4 orphan 7 tw 2 alloc 9 mem 1\nUDP: inuse 0 mem 0\n";
        assert_eq!(figure(text, "orphan"), Some(7));
        assert_eq!(figure(text, "tw"), Some(2));
        assert_eq!(figure("UDP: inuse 0\n", "orphan"), None);
    }

    #[test]
    fn a_counter_is_read_from_its_group() {
        let text = "TcpExt: TW TCPTimeWaitOverflow X\nTcpExt: 1 5 9\nIpExt: TW\nIpExt: 3\n";
        assert_eq!(counter(text, "TcpExt", "TCPTimeWaitOverflow"), Some(5));
        assert_eq!(counter(text, "IpExt", "TW"), Some(3));
        assert_eq!(counter(text, "TcpExt", "None"), None);
        assert_eq!(counter("", "TcpExt", "TW"), None);
    }
}
