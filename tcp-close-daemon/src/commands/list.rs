//! `tcp-close list`: every socket that is closing now. The kernel's own table says which; the daemon, if there is one, says
//! whose they are and since when.

use std::{
    io::{self, BufWriter, ErrorKind, StdoutLock, Write as _},
    process::ExitCode,
};

use jiff::tz::TimeZone;

use super::{Failure, runtime};
use crate::{
    api::{AskError, Client},
    cli::Output,
    clock,
    closing::{self, ClosingSocket, Known},
    owner::{Holders, Homes},
    render::Table,
    settings::ListSettings,
    snapshot::Snapshot,
};

pub(super) fn run(settings: &ListSettings) -> Result<ExitCode, Failure> {
    let printed = if settings.standalone {
        standalone(settings)?
    } else {
        match runtime()?.block_on(from_daemon(settings)) {
            Ok(printed) => printed,
            Err(error @ (AskError::NoDaemon(_) | AskError::NotAllowed(_))) if !settings.daemon.named => {
                tracing::warn!("{error}: whose a TIME-WAIT was, and how old a socket is, is not known");
                standalone(settings)?
            }
            Err(error) => return Err(Failure::Other(anyhow::Error::new(error))),
        }
    };
    match printed {
        // A reader that has seen enough, such as `head`, is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// As the daemon tells it.
async fn from_daemon(settings: &ListSettings) -> Result<io::Result<()>, AskError> {
    let mut client = Client::connect(&settings.daemon).await?;
    let mut lines = client.closing(&settings.netns, &settings.states).await?;
    if let Some(blind_spot) = &lines.blind_spot {
        tracing::warn!("there may be more: {blind_spot}");
    }
    // All of it before any is printed: the daemon does not wait for whoever reads in a pager.
    let mut sockets: Vec<ClosingSocket> = Vec::new();
    while let Some(some) = lines.next().await? {
        sockets.extend::<Vec<ClosingSocket>>(some);
    }
    Ok(List::new(settings).print(&sockets))
}

/// As the kernel's table tells it.
fn standalone(settings: &ListSettings) -> Result<io::Result<()>, Failure> {
    let snapshot =
        Snapshot::take(&settings.netns, &settings.states).map_err(|error| Failure::Other(error.into()))?;
    if let Some(blind_spot) = snapshot.blind_spot {
        tracing::warn!("there may be more: {blind_spot}");
    }
    let holders = Holders::of(&snapshot.inodes());
    if holders.incomplete {
        tracing::warn!("not every process shows which sockets it holds; root sees them all");
    }
    let mut homes = Homes::of_this_host();
    let home = |cgroup| homes.get(cgroup, clock::monotonic_now);
    let sockets = closing::join(&snapshot, Known::default(), &settings.states, &holders, home);
    Ok(List::new(settings).print(&sockets))
}

/// Prints a list.
struct List<'a> {
    settings: &'a ListSettings,
    table: Table,
    out: BufWriter<StdoutLock<'static>>,
}

impl<'a> List<'a> {
    fn new(settings: &'a ListSettings) -> Self {
        let table = Table::new(settings.lines.wide, TimeZone::system());
        Self { settings, table, out: BufWriter::new(io::stdout().lock()) }
    }

    fn print(mut self, sockets: &[ClosingSocket]) -> io::Result<()> {
        if self.settings.lines.output == Output::Table && self.settings.lines.header {
            writeln!(self.out, "{}", self.table.list_header())?;
        }
        let wanted =
            |socket: &&ClosingSocket| self.settings.filter.matches(&socket.pair(), &socket.processes());
        for socket in sockets.iter().filter(wanted) {
            match self.settings.lines.output {
                Output::Table => writeln!(self.out, "{}", self.table.closing(socket))?,
                Output::Json => writeln!(self.out, "{}", serde_json::to_string(socket)?)?,
            }
        }
        self.out.flush()
    }
}
