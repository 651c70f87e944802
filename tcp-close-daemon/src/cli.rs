//! What may be typed. What it means is [`crate::settings`].

use std::{env, net::SocketAddr};

use clap::{
    ArgAction, Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    builder::{FalseyValueParser, NonEmptyStringValueParser, Resettable},
};

use self::{
    help::{
        CHECK_EXAMPLES, COMPLETIONS_EXAMPLES, DAEMON_EXAMPLES, ENVIRONMENT, EXAMPLES, EXIT_CODES, FILTER,
        LIST_EXAMPLES, MAN_EXAMPLES, PORTS_EXAMPLES, RECORD_EXAMPLES, REPLAY_EXAMPLES, SHOW_EXAMPLES,
        TOP_EXAMPLES, WATCH_EXAMPLES,
    },
    values::{at_least_one, closing_state, destination, duration, listen_address, telemetry_path},
};
use crate::{closing::GroupKey, event::TcpState};

mod help;
mod shared;
mod values;

pub use shared::{AskArgs, FilterArgs, LinesArgs, ProbeArgs, TableArgs};

/// Shows how every TCP connection on this host ends.
#[derive(Debug, Parser)]
#[command(name = "tcp-close", version, about, disable_help_subcommand = true)]
#[command(after_help = EXIT_CODES, after_long_help = format!("{EXAMPLES}\n{ENVIRONMENT}\n{EXIT_CODES}"))]
pub struct Cli {
    /// More of the program's own log on stderr; twice for still more, the kernel verifier's included.
    #[arg(short, long, action = ArgAction::Count, global = true, env = "TCP_CLOSE_VERBOSE", value_parser = values::verbosity, display_order = 900)]
    pub verbose: u8,

    /// Whether that log has colors; auto: on a terminal only.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t = ColorChoice::Auto,
        hide_possible_values = true,
        env = "TCP_CLOSE_COLOR",
        display_order = 901
    )]
    pub color: ColorChoice,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What was typed, or why that makes no sense.
    ///
    /// A variable that is set to nothing, as files of variables like to have them, counts as not set.
    pub fn read() -> Result<Self, clap::Error> {
        let typed = without_empty_variables(Self::command()).try_get_matches()?;
        Self::from_arg_matches(&typed)
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| if is_set(&argument) { argument } else { argument.env(Resettable::Reset) })
        .mut_subcommands(without_empty_variables)
}

/// Whether the variable of an argument says anything. A switch that is set to "no" would otherwise be in conflict
/// with others, as if it were on.
fn is_set(argument: &clap::Arg) -> bool {
    let Some(value) = argument.get_env().and_then(env::var_os) else {
        return false;
    };
    let is_switch = matches!(argument.get_action(), ArgAction::SetTrue | ArgAction::Count);
    let says_no = ["0", "f", "false", "n", "no", "off"].iter().any(|no| value.eq_ignore_ascii_case(no));
    !(value.is_empty() || is_switch && says_no)
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints a line per close as it ends, and per TIME-WAIT as it ends.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{FILTER}\n{WATCH_EXAMPLES}\n{EXIT_CODES}"))]
    Watch(WatchArgs),
    /// Prints every socket that is closing now, by the kernel's own table.
    ///
    /// That names no owner of a TIME-WAIT, nor of any other socket that no process holds, and not how old one is: a daemon
    /// that has seen them close tells that.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{FILTER}\n{LIST_EXAMPLES}\n{EXIT_CODES}"))]
    List(ListArgs),
    /// Prints one close as a ladder: its segments, its states, and its TIME-WAIT against 2MSL.
    ///
    /// The last one that the daemon remembers, or the next.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{SHOW_EXAMPLES}\n{EXIT_CODES}"))]
    Show(ShowArgs),
    /// Shows all of it on a whole screen: rates, sockets, owners, peers, ports, TIME-WAITs, slow closes.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{FILTER}\n{TOP_EXAMPLES}\n{EXIT_CODES}"))]
    Top(TopArgs),
    /// Prints which ephemeral ports are used, towards whom, and when there will be none left.
    ///
    /// It looks twice, a second apart. A port that a TIME-WAIT has is reusable where the kernel, by its settings, would
    /// give it to a new connection.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{PORTS_EXAMPLES}\n{EXIT_CODES}"))]
    Ports(PortsArgs),
    /// Writes every event to a file, from which replay prints what watch would have.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{RECORD_EXAMPLES}\n{EXIT_CODES}"))]
    Record(RecordArgs),
    /// Prints what was recorded, as watch would have then.
    ///
    /// On any machine, by anybody: what the lines are made of is in the file.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{FILTER}\n{REPLAY_EXAMPLES}\n{EXIT_CODES}"))]
    Replay(ReplayArgs),
    /// Follows every close and serves metrics over HTTP.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{DAEMON_EXAMPLES}\n{EXIT_CODES}"))]
    Daemon(DaemonArgs),
    /// Says what this kernel and this user allow tcp-close to see.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{CHECK_EXAMPLES}\n{EXIT_CODES}"))]
    Check(CheckArgs),
    /// Prints what a shell has to know to complete what is typed.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{COMPLETIONS_EXAMPLES}\n{EXIT_CODES}"))]
    Completions(CompletionsArgs),
    /// Prints the manual page, or writes all of them into a directory.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{MAN_EXAMPLES}\n{EXIT_CODES}"))]
    Man(ManArgs),
}

/// Which kind of kernel hook to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProbeFamily {
    /// The best one the kernel takes.
    #[default]
    Auto,
    /// Tracepoints only.
    Tracepoint,
    /// Functions by trampoline, and tracepoints for what has only these.
    Fentry,
    /// Functions by kprobe, and tracepoints for what has only these.
    Kprobe,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// How to watch.
    #[command(flatten)]
    pub probe: ProbeArgs,

    /// Print a line per state change instead.
    #[arg(long, env = "TCP_CLOSE_TRANSITIONS", value_parser = FalseyValueParser::new())]
    pub transitions: bool,

    /// Only what was in these states, or with --transitions changes from or to them, in the spelling of ss or of the kernel.
    #[arg(long, value_name = "STATE", value_delimiter = ',', env = "TCP_CLOSE_STATE")]
    pub state: Vec<TcpState>,

    /// Begin with what the daemon remembers of this time, such as 10m.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["transitions", "standalone"], env = "TCP_CLOSE_SINCE")]
    pub since: Option<std::time::Duration>,

    /// Where the daemon is asked.
    #[command(flatten)]
    pub ask: AskArgs,

    /// Which connections.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// Stop after this long, such as 10s or 5m.
    #[arg(long, value_name = "TIME", value_parser = duration, env = "TCP_CLOSE_DURATION")]
    pub duration: Option<std::time::Duration>,

    /// Stop after this many lines.
    #[arg(long, value_name = "N", value_parser = at_least_one::<u64>, env = "TCP_CLOSE_COUNT")]
    pub count: Option<u64>,

    /// How to print them.
    #[command(flatten)]
    pub lines: LinesArgs,

    /// How many closes may be followed at once.
    #[command(flatten)]
    pub tables: TableArgs,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// What has ended instead, as far as the daemon remembers it: each in a line as `watch` has them.
    #[arg(long, conflicts_with_all = ["standalone", "sort", "by"], env = "TCP_CLOSE_ENDED", value_parser = FalseyValueParser::new())]
    pub ended: bool,

    /// With --ended: only what ended in this time, such as 10m.
    #[arg(long, value_name = "TIME", requires = "ended", value_parser = duration, env = "TCP_CLOSE_ENDED_SINCE")]
    pub since: Option<std::time::Duration>,

    /// What comes first: the oldest, what has the least left, or the first by name of its owner or remote address.
    #[arg(long, value_name = "KEY", value_enum, env = "TCP_CLOSE_SORT")]
    pub sort: Option<SortKey>,

    /// A line per owner, remote address, state or unit, with how many sockets it has in each state.
    #[arg(long, value_name = "KEY", value_enum, conflicts_with = "sort", env = "TCP_CLOSE_BY")]
    pub by: Option<GroupKey>,

    /// Print it again every two seconds, or as often as is said, until it is interrupted.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = duration, env = "TCP_CLOSE_LIST_EVERY")]
    pub watch: Option<std::time::Duration>,

    /// Only sockets of this network namespace: a name of ip-netns(8), host, a path, or an inode number. May be repeated.
    #[arg(short = 'N', long, value_name = "NAME|INODE", env = "TCP_CLOSE_NETNS", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub netns: Vec<String>,

    /// Only sockets in these closing states, in the spelling of ss or of the kernel.
    #[arg(long, value_name = "STATE", value_delimiter = ',', env = "TCP_CLOSE_STATE", value_parser = closing_state)]
    pub state: Vec<TcpState>,

    /// Where the daemon is asked.
    #[command(flatten)]
    pub ask: AskArgs,

    /// Which connections.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// How to print them.
    #[command(flatten)]
    pub lines: LinesArgs,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SortKey {
    /// The oldest first.
    Age,
    /// What has the least left first.
    Left,
    /// By the owner's name.
    Owner,
    /// By the peer's address and port.
    Remote,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Which close: a cookie as ss -e shows it, one or both addresses, with ports or without, or a filter.
    #[arg(value_name = "CONNECTION", env = "TCP_CLOSE_CONNECTION")]
    pub connection: Vec<String>,

    /// Wait for the next.
    #[arg(long, env = "TCP_CLOSE_FOLLOW", value_parser = FalseyValueParser::new())]
    pub follow: bool,

    /// Draw with nothing but ASCII, as where the locale knows nothing else.
    #[arg(long, env = "TCP_CLOSE_ASCII", value_parser = FalseyValueParser::new())]
    pub ascii: bool,

    /// A ladder for people, or JSON.
    #[arg(short, long, value_enum, default_value_t, env = "TCP_CLOSE_OUTPUT")]
    pub output: Output,

    /// Where the daemon is asked.
    #[command(flatten)]
    pub ask: AskArgs,

    /// How to watch.
    #[command(flatten)]
    pub probe: ProbeArgs,

    /// How many closes may be followed at once.
    #[command(flatten)]
    pub tables: TableArgs,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Which connections.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// Draw with nothing but ASCII, as where the locale knows nothing else.
    #[arg(long, env = "TCP_CLOSE_ASCII", value_parser = FalseyValueParser::new())]
    pub ascii: bool,

    /// Where the daemon is asked.
    #[command(flatten)]
    pub ask: AskArgs,

    /// How to watch.
    #[command(flatten)]
    pub probe: ProbeArgs,

    /// How many closes may be followed at once.
    #[command(flatten)]
    pub tables: TableArgs,
}

/// Arguments of `record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The file, which must not be there yet; - is stdout.
    pub file: std::path::PathBuf,

    /// Write over a file that is there.
    #[arg(long, env = "TCP_CLOSE_FORCE", value_parser = FalseyValueParser::new())]
    pub force: bool,

    /// Print meanwhile what watch would.
    #[arg(long, env = "TCP_CLOSE_WATCH", value_parser = FalseyValueParser::new())]
    pub watch: bool,

    /// Stop after this long, such as 10s or 5m.
    #[arg(long, value_name = "TIME", value_parser = duration, env = "TCP_CLOSE_DURATION")]
    pub duration: Option<std::time::Duration>,

    /// With --watch: stop after this many lines.
    #[arg(long, value_name = "N", value_parser = at_least_one::<u64>, requires = "watch", env = "TCP_CLOSE_COUNT")]
    pub count: Option<u64>,

    /// How to watch.
    #[command(flatten)]
    pub probe: ProbeArgs,

    /// How to print lines.
    #[command(flatten)]
    pub lines: LinesArgs,

    /// How many closes may be followed at once.
    #[command(flatten)]
    pub tables: TableArgs,
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The file; - is stdin.
    pub file: std::path::PathBuf,

    /// Print a line per state change instead.
    #[arg(long, env = "TCP_CLOSE_TRANSITIONS", value_parser = FalseyValueParser::new())]
    pub transitions: bool,

    /// Only what was in these states, or with --transitions changes from or to them, in the spelling of ss or of the kernel.
    #[arg(long, value_name = "STATE", value_delimiter = ',', env = "TCP_CLOSE_STATE")]
    pub state: Vec<TcpState>,

    /// What all of it comes to, in place of the lines.
    #[arg(long, conflicts_with = "count", env = "TCP_CLOSE_SUMMARY", value_parser = FalseyValueParser::new())]
    pub summary: bool,

    /// Stop after this many lines.
    #[arg(long, value_name = "N", value_parser = at_least_one::<u64>, env = "TCP_CLOSE_COUNT")]
    pub count: Option<u64>,

    /// Which connections.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// How to print them.
    #[command(flatten)]
    pub lines: LinesArgs,
}

/// Arguments of `ports`.
#[derive(Debug, Args)]
pub struct PortsArgs {
    /// Only ports of this network namespace: a name of ip-netns(8), host, a path, or an inode number. May be repeated.
    #[arg(short = 'N', long, value_name = "NAME|INODE", env = "TCP_CLOSE_NETNS", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub netns: Vec<String>,

    /// Only ports that are used towards this destination.
    #[arg(long, value_name = "ADDR:PORT", env = "TCP_CLOSE_TO", value_parser = destination)]
    pub to: Option<SocketAddr>,

    /// Where the daemon is asked.
    #[command(flatten)]
    pub ask: AskArgs,

    /// How to print them.
    #[command(flatten)]
    pub lines: LinesArgs,
}

/// Arguments of `daemon`.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// How to watch.
    #[command(flatten)]
    pub probe: ProbeArgs,

    /// Address to serve HTTP on; without ADDR, on every address of this host.
    #[arg(
        long = "web.listen-address",
        value_name = "[ADDR]:PORT",
        default_value = "127.0.0.1:10060",
        env = "TCP_CLOSE_WEB_LISTEN_ADDRESS",
        value_parser = listen_address
    )]
    pub listen_address: SocketAddr,

    /// Path of the metrics.
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics", env = "TCP_CLOSE_WEB_TELEMETRY_PATH", value_parser = telemetry_path)]
    pub telemetry_path: String,

    /// File with TLS settings, users and headers, in the form of Prometheus' exporter-toolkit.
    #[arg(long = "web.config.file", value_name = "FILE", env = "TCP_CLOSE_WEB_CONFIG_FILE")]
    pub web_config_file: Option<std::path::PathBuf>,

    /// Socket that the other commands ask at [default: /run/tcp-close/tcp-close.sock, if it can be had].
    #[arg(long, value_name = "PATH", env = "TCP_CLOSE_SOCKET", value_parser = NonEmptyStringValueParser::new())]
    pub socket: Option<String>,

    /// How many ends of connections and of TIME-WAITs to remember, at most 512 bytes each on average.
    #[arg(long, value_name = "N", default_value_t = 50_000, env = "TCP_CLOSE_REMEMBER", value_parser = at_least_one::<usize>)]
    pub remember: usize,

    /// How many services, and how many destinations, have series of their own in the metrics; the rest is counted as "other".
    #[arg(long, value_name = "N", default_value_t = crate::metrics::MOST_SERIES, env = "TCP_CLOSE_TOP", value_parser = at_least_one::<usize>)]
    pub top: usize,

    /// How long a socket may be in CLOSE-WAIT before its process is looked for, and named in the log.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration, env = "TCP_CLOSE_CLOSE_WAIT_AFTER")]
    pub close_wait_after: std::time::Duration,

    /// How often to hold what is followed against the kernel's own counts; where they differ, its table is read.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration, env = "TCP_CLOSE_RECONCILE_INTERVAL")]
    pub reconcile_interval: std::time::Duration,

    /// How many closes may be followed at once.
    #[command(flatten)]
    pub tables: TableArgs,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write the pages of all commands into this directory.
    pub directory: Option<std::path::PathBuf>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A table for people, or JSON, one object.
    #[arg(short, long, value_enum, default_value_t, env = "TCP_CLOSE_OUTPUT")]
    pub output: Output,

    /// Which kind of kernel hook to try.
    #[arg(long, value_enum, default_value_t, env = "TCP_CLOSE_PROBE")]
    pub probe: ProbeFamily,
}

/// A form of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_opts() {
                let variable = argument.get_env().and_then(|name| name.to_str()).unwrap_or_default();
                assert!(variable.starts_with("TCP_CLOSE_"), "{} {}", command.get_name(), argument.get_id());
            }
        }
    }
}
