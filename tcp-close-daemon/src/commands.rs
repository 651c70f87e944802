//! One file per verb, and what they have in common: how a command fails.

use std::{io, process::ExitCode, time::Duration};

use crate::{
    api::AskError,
    cli::{Cli, Command},
    event::Monotonic,
    kernel::{
        btf::BtfError,
        capabilities::{self, Need},
        netns,
    },
    pipeline::RunError,
    probe::{Preflight, Probe, ProbeError, ProbeSettings},
    sentence::sentence,
    settings::SettingsError,
    shutdown::Shutdown,
};

mod check;
mod completions;
mod daemon;
mod list;
mod man;
mod ports;
mod printer;
mod record;
mod replay;
mod seen;
mod show;
mod top;
mod watch;

/// Does what was asked for.
pub fn run(cli: Cli) -> Result<ExitCode, Failure> {
    // Before anything is asked, and while there is one thread.
    if let Err(error) = capabilities::use_what_is_permitted() {
        tracing::warn!(%error, "capabilities that this process may have cannot be used");
    }
    match cli.command {
        Command::Watch(args) => watch::run(args.try_into()?),
        Command::List(args) => list::run(&args.try_into()?),
        Command::Show(args) => show::run(&args.try_into()?),
        Command::Top(args) => top::run(&args.try_into()?),
        Command::Ports(args) => ports::run(&args.try_into()?),
        Command::Record(args) => record::run(&args.try_into()?),
        Command::Replay(args) => replay::run(&args.try_into()?),
        Command::Daemon(args) => daemon::run(args.try_into()?),
        Command::Check(args) => check::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// How a command fails, in one sentence; [`Failure::exit_code`] tells scripts which kind it is.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was typed names something that does not exist.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A capability is missing.
    #[error(
        "{command} needs {missing} in the initial user namespace: run it as root of the host, or give it these capabilities; `tcp-close check` says what each is for"
    )]
    Privilege {
        /// The command.
        command: &'static str,
        /// The capabilities, joined.
        missing: String,
    },
    /// The kernel has no BTF, or lacks a field.
    #[error("{}; tcp-close needs Linux 5.10 or later built with CONFIG_DEBUG_INFO_BTF", sentence(.0))]
    Kernel(#[source] BtfError),
    /// The probes cannot be had.
    #[error("{}; `tcp-close check` says what this kernel allows, -v more", sentence(.0))]
    Probe(#[source] ProbeError),
    /// The loop cannot go on.
    #[error("{}", sentence(.0))]
    Run(#[from] RunError),
    /// The daemon gives no answer.
    #[error("{}", sentence(.0))]
    Daemon(#[from] AskError),
    /// Nothing can be written to stdout.
    #[error("cannot write to stdout: {0}")]
    Stdout(#[source] io::Error),
    /// Anything else, with its context.
    #[error("{0:#}")]
    Other(anyhow::Error),
}

impl Failure {
    /// 1 for a runtime error, 2 for usage, 3 for a privilege that is missing or a kernel that is not supported.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Daemon(AskError::NotAllowed(_))
            | Self::Privilege { .. }
            | Self::Kernel(_)
            | Self::Probe(_) => 3,
            Self::Run(_) | Self::Daemon(_) | Self::Stdout(_) | Self::Other(_) => 1,
            Self::Settings(_) => 2,
        })
    }
}

/// What printing came to. A reader that has seen enough, such as `head`, is no error.
fn printed(outcome: io::Result<()>) -> Result<ExitCode, Failure> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Says why an answer may not be all there is.
fn warn_of(blind_spot: Option<&str>) {
    if let Some(blind_spot) = blind_spot {
        tracing::warn!("there may be more: {blind_spot}");
    }
}

/// Says to which of these network namespaces, if any are named, no process and no file is found to lead: its table cannot be
/// read, and if there is none with that number, nothing happens there.
fn warn_of_missing(netns: &[u32]) {
    if netns.is_empty() {
        return;
    }
    let found = netns::find(netns);
    for netns in netns.iter().filter(|netns| !found.hidden && !found.namespaces.contains_key(netns)) {
        tracing::warn!("nothing is found that leads to network namespace {netns}");
    }
}

/// Signals, and the end of the time there is.
fn listen_for_signals(duration: Option<Duration>) -> Result<Shutdown, Failure> {
    Shutdown::listen(duration)
        .map_err(|error| Failure::Other(anyhow::Error::new(error).context("cannot listen for signals")))
}

/// Looks at the kernel and attaches the probes, or says what is missing for it.
fn attach(command: &'static str, settings: &ProbeSettings) -> Result<(Preflight, Probe), Failure> {
    let missing: Vec<Need> =
        capabilities::needs().into_iter().filter(|need| need.required && !need.held).collect();
    if !missing.is_empty() {
        let missing = missing.iter().map(|need| need.name).collect::<Vec<_>>().join(" and ");
        return Err(Failure::Privilege { command, missing });
    }
    let preflight = Preflight::run().map_err(Failure::Kernel)?;
    let probe = Probe::attach(&preflight, settings).map_err(Failure::Probe)?;
    for report in probe.reports() {
        let (hook, verdict) = (report.hook.name(), report.verdict.name());
        let detail = report.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        if let Some(lost) = report.lost {
            tracing::warn!("hook {hook} is {verdict}{detail}; lost: {lost}");
        } else {
            tracing::debug!("hook {hook} is {verdict}{detail}");
        }
    }
    tracing::debug!("attached");
    Ok((preflight, probe))
}

/// Tells of lost events: the first time at once, then again at most every [`Self::PAUSE`].
#[derive(Default)]
struct LossLog {
    told: u64,
    pause_ends: Monotonic,
}

impl LossLog {
    const PAUSE: Duration = Duration::from_secs(10);

    fn look(&mut self, lost: u64, now: Monotonic) {
        if lost > self.told && now >= self.pause_ends {
            tracing::warn!(
                events = lost - self.told,
                "events were lost; if the ring was full, give it more --ring-bytes"
            );
            self.told = lost;
            self.pause_ends = now + Self::PAUSE;
        }
    }
}

/// The usual runtime: two workers are ample, since nearly all there is to do is the pipeline's.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // It is what owners are told from: the daemon's own connections are `tcp-close`'s.
        .thread_name("tcp-close")
        // Those that wait for the kernel's tables, of which few are read at a time.
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(anyhow::Error::new(error).context("cannot start the runtime")))
}
