//! Options that several commands take.

use clap::{
    Args,
    builder::{FalseyValueParser, NonEmptyStringValueParser},
};

use super::{
    Output, ProbeFamily,
    values::{at_least_one, cause, port, role},
};
use crate::lifecycle::observation::{EndCause, Role};

/// How to watch.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// Watch only this network namespace: a name of ip-netns(8), host, a path, or an inode number. May be repeated.
    #[arg(short = 'N', long, value_name = "NAME|INODE", env = "TCP_CLOSE_NETNS", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub netns: Vec<String>,

    /// Which kind of kernel hook to use.
    #[arg(long, value_enum, default_value_t, env = "TCP_CLOSE_PROBE")]
    pub probe: ProbeFamily,

    /// Do not look at the segments that TIME-WAIT deals with: nothing is spent on dropped packets then, and flips,
    /// restarts and lost final ACKs are inferred or unknown.
    #[arg(long, env = "TCP_CLOSE_NO_WITNESS", value_parser = FalseyValueParser::new())]
    pub no_witness: bool,

    /// Size of the ring between kernel and user space, in bytes; rounded up to a power of two.
    #[arg(long, value_name = "BYTES", default_value_t = crate::probe::DEFAULT_RING_BYTES, env = "TCP_CLOSE_RING_BYTES", value_parser = clap::value_parser!(u32).range(4096..=1 << 30))]
    pub ring_bytes: u32,
}

impl ProbeArgs {
    /// Whether it says how to watch, which whoever watches already does not ask.
    pub fn says_how(&self) -> bool {
        self.probe != ProbeFamily::Auto
            || self.no_witness
            || self.ring_bytes != crate::probe::DEFAULT_RING_BYTES
    }
}

/// How to print lines.
#[derive(Debug, Args)]
pub struct LinesArgs {
    /// A table for people, or JSON, one object per line.
    #[arg(short, long, value_enum, default_value_t, env = "TCP_CLOSE_OUTPUT")]
    pub output: Output,

    /// No header line.
    #[arg(short = 'H', long, env = "TCP_CLOSE_NO_HEADER", value_parser = FalseyValueParser::new())]
    pub no_header: bool,

    /// Columns wide enough for any IPv6 address.
    #[arg(short, long, env = "TCP_CLOSE_WIDE", value_parser = FalseyValueParser::new())]
    pub wide: bool,
}

/// Which connections to show.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only connections of which this is so, in the language of ss: see --help.
    #[arg(value_name = "FILTER", env = "TCP_CLOSE_FILTER")]
    pub filter: Vec<String>,

    /// Only IPv4, IPv4 mapped into IPv6 included.
    #[arg(short = '4', long, conflicts_with = "ipv6", env = "TCP_CLOSE_IPV4", value_parser = FalseyValueParser::new())]
    pub ipv4: bool,

    /// Only IPv6.
    #[arg(short = '6', long, env = "TCP_CLOSE_IPV6", value_parser = FalseyValueParser::new())]
    pub ipv6: bool,

    /// Only these local ports.
    #[arg(short = 'L', long, value_name = "PORT", value_delimiter = ',', env = "TCP_CLOSE_LOCALPORT", value_parser = port)]
    pub localport: Vec<u16>,

    /// Only these remote ports.
    #[arg(short = 'D', long, value_name = "PORT", value_delimiter = ',', env = "TCP_CLOSE_REMOTEPORT", value_parser = port)]
    pub remoteport: Vec<u16>,

    /// Only sockets that these processes opened, closed or hold.
    #[arg(short, long, value_name = "PID", value_delimiter = ',', env = "TCP_CLOSE_PID", value_parser = at_least_one::<u32>)]
    pub pid: Vec<u32>,

    /// Only sockets that processes of these names opened, closed or hold.
    #[arg(long, value_name = "NAME", value_delimiter = ',', env = "TCP_CLOSE_COMM")]
    pub comm: Vec<String>,

    /// Only sockets of these systemd units.
    #[arg(long, value_name = "UNIT", value_delimiter = ',', env = "TCP_CLOSE_UNIT")]
    pub unit: Vec<String>,

    /// Only sockets of these containers, by their ids or the first twelve digits of these.
    #[arg(long, value_name = "ID", value_delimiter = ',', env = "TCP_CLOSE_CONTAINER")]
    pub container: Vec<String>,

    /// Only ends of connections that closed in these roles.
    #[arg(long, value_name = "ROLE", value_delimiter = ',', value_parser = role, env = "TCP_CLOSE_ROLE")]
    pub role: Vec<Role>,

    /// Only TIME-WAITs that ended by these causes, such as reused.
    #[arg(long, value_name = "CAUSE", value_delimiter = ',', value_parser = cause, env = "TCP_CLOSE_CAUSE")]
    pub cause: Vec<EndCause>,
}

/// How many closes may be followed at once.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// Full sockets that may be followed at once [default: an eighth of the memory that may be taken, at 1 KiB each].
    #[arg(long, value_name = "N", env = "TCP_CLOSE_MAX_SOCKETS", value_parser = at_least_one::<usize>)]
    pub max_sockets: Option<usize>,

    /// Minisocks that may be followed at once [default: half of the memory that may be taken, at 512 bytes each].
    #[arg(long, value_name = "N", env = "TCP_CLOSE_MAX_MINISOCKS", value_parser = at_least_one::<usize>)]
    pub max_minisocks: Option<usize>,
}

/// Where the daemon is asked.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// The daemon's socket [default: /run/tcp-close/tcp-close.sock, if a daemon answers there].
    #[arg(long, value_name = "PATH", env = "TCP_CLOSE_SOCKET", value_parser = NonEmptyStringValueParser::new())]
    pub socket: Option<String>,

    /// Do without the daemon, wherever its socket is.
    #[arg(long, env = "TCP_CLOSE_STANDALONE", value_parser = FalseyValueParser::new())]
    pub standalone: bool,
}
