//! What was typed, as what it means: checked once, so that nothing after this has to.

use std::{
    collections::BTreeSet,
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tcp_close_abi::MAX_NETNS;

use self::wanted::{connection, filter};
use crate::{
    api,
    cli::{
        AskArgs, DaemonArgs, LinesArgs, ListArgs, Output, PortsArgs, ProbeArgs, ProbeFamily, RecordArgs,
        ReplayArgs, ShowArgs, SortKey, TableArgs, TopArgs, WatchArgs,
    },
    closing::GroupKey,
    event::TcpState,
    filter::{Expression, FilterError, Pairs, Predicate},
    http::{Access, web_config::WebConfigError},
    kernel::{
        memory,
        netns::{self, NetnsError},
    },
    lifecycle::Limits,
    probe::{Family, ProbeSettings},
    sentence::sentence,
};

mod wanted;

/// What was typed makes no sense on this host.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A network namespace cannot be found.
    #[error("{0}; `ip netns` lists the names, `lsns -t net` the inode numbers")]
    Netns(#[from] NetnsError),
    /// A filter makes no sense.
    #[error("{0}")]
    Filter(#[from] FilterError),
    /// What was before is asked for, and how to watch from now on is said.
    #[error(
        "--since asks the daemon what was before; --probe, --no-witness and --ring-bytes are about watching without it"
    )]
    NobodyRemembers,
    /// A recording and lines would get into each other.
    #[error("a recording on stdout leaves no room for lines: name a file, or leave --watch out")]
    BothToStdout,
    /// The web config file is no use.
    #[error("--web.config.file {}: {}", path.display(), sentence(source.as_ref()))]
    WebConfig {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<WebConfigError>,
    },
    /// More network namespaces than the kernel side can tell apart.
    #[error(
        "at most {MAX_NETNS} network namespaces can be watched by name, {given} were given; leave --netns out to watch all"
    )]
    TooManyNetns {
        /// How many were given.
        given: usize,
    },
}

/// Which closes are wanted, and how they are looked for where nobody else does.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the probes watch.
    pub probe: ProbeSettings,
    /// Room in the core.
    pub limits: Limits,
    /// Of which connections.
    pub filter: Expression,
    /// Changes of state, in place of ends.
    pub transitions: bool,
}

impl Wanted {
    fn new(
        probe: &ProbeArgs,
        tables: &TableArgs,
        filter: impl FnOnce(&[u32]) -> Result<Expression, FilterError>,
        transitions: bool,
    ) -> Result<Self, SettingsError> {
        let mut probe = probe_settings(probe, transitions)?;
        let filter = filter(&probe.netns)?;
        // What need not be watched is left alone by the kernel side already, as far as there is room for it.
        if let Some(netns) = filter.netns().filter(|netns| !netns.is_empty() && netns.len() <= MAX_NETNS) {
            probe.netns = netns.into_iter().collect();
        }
        probe.pairs = filter.pairs();
        Ok(Self { probe, limits: limits(tables), filter, transitions })
    }
}

/// What `watch` is to do.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// Which lines to print.
    pub wanted: Wanted,
    /// Where the daemon is asked.
    pub daemon: api::Place,
    /// Whether to do without it.
    pub standalone: bool,
    /// Begin with what is remembered of this time.
    pub since: Option<Duration>,
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
        if args.since.is_some() && is_standalone(&args.ask, &args.probe) {
            return Err(SettingsError::NobodyRemembers);
        }
        let filter = |netns: &[u32]| filter(args.filter, netns, args.state);
        Ok(Self {
            wanted: Wanted::new(&args.probe, &args.tables, filter, args.transitions)?,
            standalone: is_standalone(&args.ask, &args.probe),
            daemon: place(args.ask.socket),
            since: args.since,
            duration: args.duration,
            count: args.count,
            lines: lines(&args.lines),
        })
    }
}

/// What `show` is to do.
#[derive(Clone, Debug)]
pub struct ShowSettings {
    /// Which close to show.
    pub wanted: Wanted,
    /// The next, not the last.
    pub follow: bool,
    /// Where the daemon is asked.
    pub daemon: api::Place,
    /// Whether to do without it.
    pub standalone: bool,
    /// For people, or for programs.
    pub output: Output,
    /// Nothing but ASCII.
    pub ascii: bool,
}

impl TryFrom<ShowArgs> for ShowSettings {
    type Error = SettingsError;

    fn try_from(args: ShowArgs) -> Result<Self, SettingsError> {
        let connection = connection(&args.connection)?;
        let netns = |netns: &[u32]| {
            let in_one = Expression::one_of(netns.iter().copied().map(Predicate::Netns));
            Ok(in_one.and(connection))
        };
        Ok(Self {
            wanted: Wanted::new(&args.probe, &args.tables, netns, false)?,
            follow: args.follow,
            standalone: is_standalone(&args.ask, &args.probe),
            daemon: place(args.ask.socket),
            output: args.output,
            ascii: args.ascii || !speaks_utf8(),
        })
    }
}

/// Whether the terminal shows more than ASCII, by the locale.
fn speaks_utf8() -> bool {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_uppercase();
    locale.ends_with("UTF-8") || locale.ends_with("UTF8")
}

/// What `top` is to do.
#[derive(Clone, Debug)]
pub struct TopSettings {
    /// Which connections to begin with.
    pub filter: Expression,
    /// What to look at without a daemon: all of it, since the filter may change.
    pub wanted: Wanted,
    /// Where the daemon is asked.
    pub daemon: api::Place,
    /// Whether to do without it.
    pub standalone: bool,
    /// Nothing but ASCII.
    pub ascii: bool,
}

impl TryFrom<TopArgs> for TopSettings {
    type Error = SettingsError;

    fn try_from(args: TopArgs) -> Result<Self, SettingsError> {
        let everything = |_: &[u32]| Ok(Expression::default());
        let wanted = Wanted::new(&args.probe, &args.tables, everything, false)?;
        Ok(Self {
            filter: filter(args.filter, &wanted.probe.netns, Vec::new())?,
            wanted,
            standalone: is_standalone(&args.ask, &args.probe),
            daemon: place(args.ask.socket),
            ascii: args.ascii || !speaks_utf8(),
        })
    }
}

/// What `record` is to do.
#[derive(Clone, Debug)]
pub struct RecordSettings {
    /// What to record; all of it.
    pub wanted: Wanted,
    /// The file; `-` is stdout.
    pub file: PathBuf,
    /// Whether to write over a file that is there.
    pub force: bool,
    /// Lines to print meanwhile, as `watch` does.
    pub watch: Option<Print>,
    /// When to stop.
    pub duration: Option<Duration>,
}

/// Lines, and how many of them.
#[derive(Clone, Copy, Debug)]
pub struct Print {
    /// Form of the lines.
    pub lines: Lines,
    /// After how many to stop.
    pub count: Option<u64>,
}

impl TryFrom<RecordArgs> for RecordSettings {
    type Error = SettingsError;

    fn try_from(args: RecordArgs) -> Result<Self, SettingsError> {
        if args.watch && args.file == Path::new("-") {
            return Err(SettingsError::BothToStdout);
        }
        let everything = |_: &[u32]| Ok(Expression::default());
        let mut wanted = Wanted::new(&args.probe, &args.tables, everything, false)?;
        wanted.probe.record_opening = true;
        let print = Print { lines: lines(&args.lines), count: args.count };
        Ok(Self {
            wanted,
            file: args.file,
            force: args.force,
            watch: args.watch.then_some(print),
            duration: args.duration,
        })
    }
}

/// What `replay` is to do.
#[derive(Clone, Debug)]
pub struct ReplaySettings {
    /// Which lines to print.
    pub filter: Expression,
    /// Changes of state, in place of ends.
    pub transitions: bool,
    /// The file; `-` is stdin.
    pub file: PathBuf,
    /// What they come to, in place of the lines.
    pub summary: bool,
    /// After how many lines to stop.
    pub count: Option<u64>,
    /// Form of the lines.
    pub lines: Lines,
}

impl TryFrom<ReplayArgs> for ReplaySettings {
    type Error = SettingsError;

    fn try_from(args: ReplayArgs) -> Result<Self, SettingsError> {
        Ok(Self {
            filter: filter(args.filter, &[], args.state)?,
            transitions: args.transitions,
            file: args.file,
            summary: args.summary,
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
    pub filter: Expression,
    /// What has ended instead, and did so in this time, if one is given.
    pub ended: Option<Option<Duration>>,
    /// What comes first.
    pub sort: Option<SortKey>,
    /// Sockets are counted by this.
    pub by: Option<GroupKey>,
    /// How often it is printed, if more than once.
    pub watch: Option<Duration>,
    /// Form of the lines.
    pub lines: Lines,
}

impl TryFrom<ListArgs> for ListSettings {
    type Error = SettingsError;

    fn try_from(args: ListArgs) -> Result<Self, SettingsError> {
        let netns = inodes(&args.netns)?;
        // What has ended is in no state any more, but has passed through some.
        let (states, visited) = if args.ended { (Vec::new(), args.state) } else { (args.state, Vec::new()) };
        Ok(Self {
            filter: filter(args.filter, &netns, visited)?,
            netns,
            states: if states.is_empty() { TcpState::CLOSING.to_vec() } else { states },
            standalone: args.ask.standalone,
            daemon: place(args.ask.socket),
            ended: args.ended.then_some(args.since),
            sort: args.sort,
            by: args.by,
            watch: args.watch,
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
#[derive(Debug)]
pub struct DaemonSettings {
    /// What the probes watch.
    pub probe: ProbeSettings,
    /// Room in the core.
    pub limits: Limits,
    /// Where HTTP is served.
    pub listen_address: SocketAddr,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Who is let in there, and how.
    pub access: Access,
    /// Where the other commands ask.
    pub socket: api::Place,
    /// How long a socket may be in CLOSE-WAIT before its process is looked for.
    pub close_wait_after: Duration,
    /// How many ends are remembered.
    pub remember: usize,
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
            access: access(args.web_config_file)?,
            socket: place(args.socket),
            close_wait_after: args.close_wait_after,
            remember: args.remember,
            top: args.top,
            reconcile_interval: args.reconcile_interval,
        })
    }
}

/// Who is let in over HTTP, as the web config file says.
fn access(file: Option<PathBuf>) -> Result<Access, SettingsError> {
    let Some(path) = file else {
        return Ok(Access::open());
    };
    Access::load(&path).map_err(|error| SettingsError::WebConfig { path, source: Box::new(error) })
}

/// Whether to do without the daemon: where that is said, or how to watch instead. Whoever names its socket wants the daemon.
fn is_standalone(ask: &AskArgs, probe: &ProbeArgs) -> bool {
    ask.standalone || ask.socket.is_none() && probe.says_how()
}

fn place(named: Option<String>) -> api::Place {
    api::Place::new(named.map(Into::into))
}

fn inodes(names: &[String]) -> Result<Vec<u32>, NetnsError> {
    let inodes: BTreeSet<u32> = names.iter().map(|name| netns::inode(name)).collect::<Result<_, _>>()?;
    Ok(inodes.into_iter().collect())
}

const fn lines(args: &LinesArgs) -> Lines {
    Lines { output: args.output, header: !args.no_header, wide: args.wide }
}

/// What the probes are to watch. Records of opening are wanted only by who prints them.
fn probe_settings(args: &ProbeArgs, record_opening: bool) -> Result<ProbeSettings, SettingsError> {
    if args.netns.len() > MAX_NETNS {
        return Err(SettingsError::TooManyNetns { given: args.netns.len() });
    }
    Ok(ProbeSettings {
        netns: inodes(&args.netns)?,
        pairs: Pairs::ALL,
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

/// Room in the core's tables: as much as is asked for, or as the memory allows that this process may take.
fn limits(args: &TableArgs) -> Limits {
    let Limits { sockets, minisocks } = Limits::within(memory::allowance());
    Limits {
        sockets: args.max_sockets.unwrap_or(sockets),
        minisocks: args.max_minisocks.unwrap_or(minisocks),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn watch(typed: &[&str]) -> Result<WatchSettings, SettingsError> {
        let typed = ["tcp-close", "watch"].iter().chain(typed);
        let command = Cli::try_parse_from(typed).expect("it can be typed").command;
        let Command::Watch(args) = command else { panic!("it is watch: {command:?}") };
        args.try_into()
    }

    #[test]
    fn every_part_of_what_is_typed_must_hold() {
        let typed = [
            "-4",
            "-L",
            "1,2",
            "-D",
            "443",
            "-p",
            "42",
            "--comm",
            "curl",
            "--role",
            "active",
            "dst",
            "192.0.2.1",
        ];
        let settings = watch(&typed).expect("settings");
        assert_eq!(
            settings.wanted.filter.to_string(),
            "family ipv4 and (sport = :1 or sport = :2) and dport = :443 and pid = 42 and comm = \"curl\" \
             and role = active and dst 192.0.2.1/32:*"
        );
        assert!(watch(&[]).expect("settings").wanted.filter.wants_all());
    }

    #[test]
    fn what_a_filter_does_not_ask_for_is_not_watched() {
        let watched = |typed: &[&str]| watch(typed).map(|settings| settings.wanted.probe.netns).ok();
        assert_eq!(watched(&["netns", "=", "7", "and", "dport", "443"]), Some(vec![7]));
        assert_eq!(watched(&["netns", "=", "7", "or", "dport", "443"]), Some(vec![]));
        let pairs = watch(&["dport", "443"]).map(|settings| settings.wanted.probe.pairs).ok();
        assert_eq!(pairs, Some(Pairs { remote_ports: 443..=443, ..Pairs::ALL }));
    }

    /// Variables may say how to watch for whoever watches.
    #[test]
    fn who_names_the_daemons_socket_wants_the_daemon() {
        let standalone = |typed: &[&str]| watch(typed).map(|settings| settings.standalone).ok();
        assert_eq!(standalone(&[]), Some(false));
        assert_eq!(standalone(&["--probe", "kprobe"]), Some(true));
        assert_eq!(standalone(&["--probe", "kprobe", "--socket", "/run/x.sock"]), Some(false));
        assert_eq!(standalone(&["--standalone", "--socket", "/run/x.sock"]), Some(true));
        let error = watch(&["--since", "10m", "--probe", "kprobe"]).expect_err("nobody remembers");
        assert!(matches!(error, SettingsError::NobodyRemembers), "{error}");
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_an_error() {
        let error = watch(&["dport", "="]).expect_err("nothing is compared");
        assert!(matches!(error, SettingsError::Filter(_)), "{error}");
    }
}
