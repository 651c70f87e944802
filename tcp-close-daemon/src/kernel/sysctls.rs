//! The settings of the kernel that bear on how connections end, with what each does, and what it does not.

use std::fs;

/// A setting below `net.ipv4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub does: &'static str,
    /// What it is often taken to do, and does not.
    pub does_not: Option<&'static str>,
}

/// Those that matter, by what they are about: TIME-WAIT, ports, FIN-WAIT-2 and orphans, peers that are gone.
pub const SYSCTLS: [Sysctl; 13] = [
    Sysctl {
        name: "tcp_max_tw_buckets",
        does: "minisocks that a network namespace may hold; past that, a close is refused its TIME-WAIT",
        does_not: Some("spare anything: a refused TIME-WAIT leaves its socket pair unprotected"),
    },
    Sysctl {
        name: "tcp_tw_reuse",
        does: "whether connect() may take the socket pair of a TIME-WAIT: 0 never, 1 always, 2 within the host only",
        does_not: Some("help who accepts: only a connection that is opened here takes one"),
    },
    Sysctl {
        name: "tcp_tw_reuse_delay",
        does: "milliseconds that a TIME-WAIT is left alone before connect() may take its socket pair (Linux 6.14; a second before)",
        does_not: None,
    },
    Sysctl {
        name: "tcp_timestamps",
        does: "1 or 2: timestamps, without which connect() takes no TIME-WAIT's socket pair",
        does_not: None,
    },
    Sysctl {
        name: "tcp_rfc1337",
        does: "1: a reset does not end a TIME-WAIT",
        does_not: Some("keep a reset from ending FIN-WAIT-2"),
    },
    Sysctl {
        name: "tcp_tw_recycle",
        does: "nothing: Linux 4.12 took it out",
        does_not: Some("exist any more"),
    },
    Sysctl {
        name: "ip_local_port_range",
        does: "the ephemeral ports: as many connections may one address have to one destination, TIME-WAITs included",
        does_not: Some(
            "limit connections in all: towards another destination each port can be used once more",
        ),
    },
    Sysctl {
        name: "ip_local_reserved_ports",
        does: "ports of that range that are given to nobody",
        does_not: None,
    },
    Sysctl {
        name: "tcp_fin_timeout",
        does: "seconds that an orphan waits in FIN-WAIT-2 for the peer's FIN",
        does_not: Some("shorten TIME-WAIT, which is 60 s whatever is set"),
    },
    Sysctl {
        name: "tcp_max_orphans",
        does: "sockets that the host may have closed by their processes and not ended; past that, they are reset",
        does_not: None,
    },
    Sysctl {
        name: "tcp_orphan_retries",
        does: "how often an orphan sends its FIN or data again before it gives up; 0 stands for 8",
        does_not: None,
    },
    Sysctl {
        name: "tcp_retries2",
        does: "the same for a socket that a process holds; 15 take at least a quarter of an hour",
        does_not: Some("say when a TIME-WAIT ends: a retransmission timeout is not 2MSL"),
    },
    Sysctl {
        name: "tcp_keepalive_time",
        does: "seconds of silence after which a socket with SO_KEEPALIVE asks whether its peer is there",
        does_not: Some("end CLOSE-WAIT while the peer answers: its process has to close the socket"),
    },
];

impl Sysctl {
    /// Its value in the network namespace of this thread; `None` where the kernel does not have it.
    pub fn read(&self) -> Option<String> {
        let value = fs::read_to_string(format!("/proc/sys/net/ipv4/{}", self.name)).ok()?;
        Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_them() {
        let read = |name| SYSCTLS.iter().find(|sysctl| sysctl.name == name).and_then(Sysctl::read);
        let range = read("ip_local_port_range").expect("every kernel has it");
        assert_eq!(range.split(' ').filter_map(|end| end.parse::<u16>().ok()).count(), 2, "{range}");
        assert!(read("tcp_fin_timeout").is_some_and(|value| value.parse::<u32>().is_ok()));
        assert_eq!(read("tcp_tw_recycle"), None);
    }
}
