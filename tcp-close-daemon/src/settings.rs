//! What was typed, as what it means: checked once, so that nothing after this has to.

use std::{net::SocketAddr, time::Duration};

use tcp_close_abi::MAX_NETNS;

use crate::{
    api,
    cli::{
        DaemonArgs, FilterArgs, LinesArgs, ListArgs, Output, PortsArgs, ProbeArgs, ProbeFamily, TableArgs,
        WatchArgs,
    },
    event::{AddressFamily, Pair, Process, TcpState},
    kernel::netns::{self, NetnsError},
    lifecycle::Limits,
    probe::{Family, ProbeSettings},
};

/// What was typed makes no sense on this host.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A network namespace cannot be found.
    #[error("{0}; `ip netns` lists the names, `lsns -t net` the inode numbers")]
    Netns(#[from] NetnsError),
    /// More network namespaces than the kernel side can tell apart.
    #[error(
        "at most {MAX_NETNS} network namespaces can be watched by name, {given} were given; leave --netns out to watch all"
    )]
    TooManyNetns {
        /// How many were given.
        given: usize,
    },
}

/// What `watch` is to do.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// What the probes watch.
    pub probe: ProbeSettings,
    /// Room in the core.
    pub limits: Limits,
    /// Which lines to print.
    pub filter: Filter,
    /// A line per state change; the states it must touch, if any are named.
    pub transitions: Option<Vec<TcpState>>,
    /// When to stop.
    pub duration: Option<Duration>,
    /// After how many lines to stop.
    pub count: Option<u64>,
    /// Form of the lines.
    pub lines: Lines,
}

impl TryFrom<WatchArgs> for WatchSettings {
    type Error = SettingsError;

    fn try_from(args: WatchArgs) -> Result<Self, SettingsError> {
        Ok(Self {
            probe: probe_settings(&args.probe, args.transitions)?,
            limits: limits(&args.tables),
            filter: filter(args.filter),
            transitions: args.transitions.then_some(args.state),
            duration: args.duration,
            count: args.count,
            lines: lines(&args.lines),
        })
    }
}

/// The form of the lines that a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    /// For people, or for programs.
    pub output: Output,
    /// Whether a table begins with a header.
    pub header: bool,
    /// Whether columns are wide enough for any IPv6 address.
    pub wide: bool,
}

/// What `list` is to do.
#[derive(Clone, Debug)]
pub struct ListSettings {
    /// Inode numbers of the network namespaces to look into; empty for all.
    pub netns: Vec<u32>,
    /// Which sockets to print, by their state.
    pub states: Vec<TcpState>,
    /// Where the daemon is asked.
    pub daemon: api::Place,
    /// Whether to do without it.
    pub standalone: bool,
    /// And otherwise.
    pub filter: Filter,
    /// Form of the lines.
    pub lines: Lines,
}

impl TryFrom<ListArgs> for ListSettings {
    type Error = SettingsError;

    fn try_from(args: ListArgs) -> Result<Self, SettingsError> {
        Ok(Self {
            netns: inodes(&args.netns)?,
            states: if args.state.is_empty() { TcpState::CLOSING.to_vec() } else { args.state },
            standalone: args.ask.standalone,
            daemon: place(args.ask.socket),
            filter: filter(args.filter),
            lines: lines(&args.lines),
        })
    }
}

/// What `ports` is to do.
#[derive(Clone, Debug)]
pub struct PortsSettings {
    /// Inode numbers of the network namespaces to look into; empty for all.
    pub netns: Vec<u32>,
    /// Only this destination.
    pub to: Option<SocketAddr>,
    /// Where the daemon is asked.
    pub daemon: api::Place,
    /// Whether to do without it.
    pub standalone: bool,
    /// Form of the lines.
    pub lines: Lines,
}

impl TryFrom<PortsArgs> for PortsSettings {
    type Error = SettingsError;

    fn try_from(args: PortsArgs) -> Result<Self, SettingsError> {
        Ok(Self {
            netns: inodes(&args.netns)?,
            to: args.to,
            standalone: args.ask.standalone,
            daemon: place(args.ask.socket),
            lines: lines(&args.lines),
        })
    }
}

/// What `daemon` is to do.
#[derive(Clone, Debug)]
pub struct DaemonSettings {
    /// What the probes watch.
    pub probe: ProbeSettings,
    /// Room in the core.
    pub limits: Limits,
    /// Where HTTP is served.
    pub listen_address: SocketAddr,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Where the other commands ask.
    pub socket: api::Place,
    /// How long a socket may be in CLOSE-WAIT before its process is looked for.
    pub close_wait_after: Duration,
    /// How many services, and how many destinations, have series of their own.
    pub top: usize,
    /// How often what is followed is held against the kernel's own counts.
    pub reconcile_interval: Duration,
}

impl TryFrom<DaemonArgs> for DaemonSettings {
    type Error = SettingsError;

    fn try_from(args: DaemonArgs) -> Result<Self, SettingsError> {
        Ok(Self {
            probe: probe_settings(&args.probe, false)?,
            limits: limits(&args.tables),
            listen_address: args.listen_address,
            telemetry_path: args.telemetry_path,
            socket: place(args.socket),
            close_wait_after: args.close_wait_after,
            top: args.top,
            reconcile_interval: args.reconcile_interval,
        })
    }
}

fn place(named: Option<String>) -> api::Place {
    api::Place::new(named.map(Into::into))
}

fn inodes(names: &[String]) -> Result<Vec<u32>, NetnsError> {
    names.iter().map(|name| netns::inode(name)).collect()
}

const fn lines(args: &LinesArgs) -> Lines {
    Lines { output: args.output, header: !args.no_header, wide: args.wide }
}

fn filter(args: FilterArgs) -> Filter {
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => Some(AddressFamily::V4),
        (_, true) => Some(AddressFamily::V6),
        _ => None,
    };
    Filter {
        family,
        local_ports: args.localport,
        remote_ports: args.remoteport,
        pids: args.pid,
        comms: args.comm,
    }
}

/// What the probes are to watch. Records of opening are wanted only by who prints them.
fn probe_settings(args: &ProbeArgs, record_opening: bool) -> Result<ProbeSettings, SettingsError> {
    if args.netns.len() > MAX_NETNS {
        return Err(SettingsError::TooManyNetns { given: args.netns.len() });
    }
    Ok(ProbeSettings {
        netns: inodes(&args.netns)?,
        record_opening,
        ring_bytes: args.ring_bytes.next_power_of_two(),
        family: family(args.probe),
        witness: !args.no_witness,
    })
}

/// Which rungs may be taken.
pub const fn family(family: ProbeFamily) -> Family {
    match family {
        ProbeFamily::Auto => Family::Auto,
        ProbeFamily::Tracepoint => Family::Tracepoint,
        ProbeFamily::Fentry => Family::Fentry,
        ProbeFamily::Kprobe => Family::Kprobe,
    }
}

/// Room in the core's tables.
const fn limits(args: &TableArgs) -> Limits {
    Limits { sockets: args.max_sockets, minisocks: args.max_minisocks }
}

/// Which lines to print; an empty list lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this family.
    pub family: Option<AddressFamily>,
    /// Only these local ports.
    pub local_ports: Vec<u16>,
    /// Only these remote ports.
    pub remote_ports: Vec<u16>,
    /// Only these processes.
    pub pids: Vec<u32>,
    /// Only processes of these names.
    pub comms: Vec<String>,
}

impl Filter {
    /// Whether a connection of this socket pair and these processes, either of them, is wanted.
    pub fn matches(&self, pair: &Pair, processes: &[Option<Process>]) -> bool {
        let known = || processes.iter().flatten();
        self.family.is_none_or(|wanted| wanted == pair.family())
            && passes(&self.local_ports, &pair.local.port())
            && passes(&self.remote_ports, &pair.remote.port())
            && (self.pids.is_empty() || known().any(|process| self.pids.contains(&process.pid)))
            && (self.comms.is_empty()
                || known().any(|process| self.comms.contains(&process.comm.to_string())))
    }
}

fn passes<T: PartialEq>(wanted: &[T], value: &T) -> bool {
    wanted.is_empty() || wanted.contains(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Comm;

    #[test]
    fn each_part_of_a_filter_must_pass() {
        let pair = Pair {
            local: "192.0.2.1:40000".parse().expect("an address"),
            remote: "192.0.2.2:443".parse().expect("an address"),
        };
        let curl = Process { pid: 42, comm: Comm::from_bytes(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0") };
        let with = |change: fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            filter
        };
        let passing: [fn(&mut Filter); 6] = [
            |_| {},
            |filter| filter.family = Some(AddressFamily::V4),
            |filter| filter.local_ports = vec![1, 40000],
            |filter| filter.remote_ports = vec![443],
            |filter| filter.pids = vec![42],
            |filter| filter.comms = vec!["curl".to_owned()],
        ];
        for change in passing {
            assert!(with(change).matches(&pair, &[None, Some(curl)]));
        }
        let failing: [fn(&mut Filter); 5] = [
            |filter| filter.family = Some(AddressFamily::V6),
            |filter| filter.local_ports = vec![443],
            |filter| filter.remote_ports = vec![40000],
            |filter| filter.pids = vec![43],
            |filter| filter.comms = vec!["cur".to_owned()],
        ];
        for change in failing {
            assert!(!with(change).matches(&pair, &[None, Some(curl)]));
        }
        assert!(!with(|filter| filter.pids = vec![42]).matches(&pair, &[None]));
    }
}
