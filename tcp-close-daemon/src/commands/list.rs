//! `tcp-close list`: every socket that is closing now. The kernel's own table says which; the daemon, if there is one, says
//! whose they are and since when. And it remembers what has ended.

use std::{
    collections::HashSet,
    io::{self, BufWriter, ErrorKind, IsTerminal as _, StdoutLock, Write as _},
    process::ExitCode,
    time::Duration,
};

use jiff::tz::TimeZone;

use super::{Failure, runtime};
use crate::{
    api::{AskError, Client, Missed, Question},
    cli::{GroupKey, Output, SortKey},
    clock,
    closing::{self, ClosingSocket, Group, Known},
    event::Address,
    filter::Subject,
    lifecycle::observation::Then,
    line::Line,
    owner::{Holders, Homes},
    render::Table,
    settings::ListSettings,
    shutdown::Shutdown,
    snapshot::Snapshot,
};

/// Takes the cursor to the upper left corner and clears what is there.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) fn run(settings: &ListSettings) -> Result<ExitCode, Failure> {
    let printed = runtime()?.block_on(async {
        match settings.watch {
            Some(pause) => again_and_again(settings, pause).await,
            None => once(settings, "").await,
        }
    })?;
    match printed {
        // A reader that has seen enough, such as `head`, is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints it once, and something before it.
async fn once(settings: &ListSettings, before: &str) -> Result<io::Result<()>, Failure> {
    if let Some(since) = settings.ended {
        let ended = ended(settings, since).await?;
        return Ok(List::new(settings, before).print_ended(&ended));
    }
    let mut sockets = sockets(settings).await?;
    let list = List::new(settings, before);
    if let Some(key) = settings.by {
        return Ok(list.print_groups(&closing::groups(&sockets, key), key));
    }
    if let Some(key) = settings.sort {
        sort(&mut sockets, key);
    }
    Ok(list.print(&sockets))
}

/// Prints it until somebody has seen enough.
async fn again_and_again(settings: &ListSettings, pause: Duration) -> Result<io::Result<()>, Failure> {
    let mut shutdown = Shutdown::listen(None)
        .map_err(|error| Failure::Other(anyhow::Error::new(error).context("cannot listen for signals")))?;
    // Who reads it from a file or a pipe sees where one ends and the next begins.
    let (first, next) = if io::stdout().is_terminal() { (CLEAR, CLEAR) } else { ("", "\n") };
    let mut before = first;
    loop {
        let printed = tokio::select! {
            biased;
            _ = shutdown.reason() => return Ok(Ok(())),
            printed = once(settings, before) => printed?,
        };
        if printed.is_err() {
            return Ok(printed);
        }
        before = next;
        tokio::select! {
            biased;
            _ = shutdown.reason() => return Ok(Ok(())),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn sockets(settings: &ListSettings) -> Result<Vec<ClosingSocket>, Failure> {
    if settings.standalone {
        return standalone(settings);
    }
    match from_daemon(settings).await {
        Err(error @ (AskError::NoDaemon(_) | AskError::NotAllowed(_))) if !settings.daemon.named => {
            tracing::warn!("{error}: whose a TIME-WAIT was, and how old a socket is, is not known");
            standalone(settings)
        }
        answered => Ok(answered?),
    }
}

/// As the daemon tells it.
async fn from_daemon(settings: &ListSettings) -> Result<Vec<ClosingSocket>, AskError> {
    let question = Question {
        netns: settings.netns.clone(),
        states: settings.states.clone(),
        filter: settings.filter.clone(),
        ..Question::default()
    };
    let mut lines = Client::connect(&settings.daemon).await?.closing(&question).await?;
    if let Some(blind_spot) = &lines.blind_spot {
        tracing::warn!("there may be more: {blind_spot}");
    }
    // All of it before any is printed: the daemon does not wait for whoever reads in a pager.
    let mut sockets: Vec<ClosingSocket> = Vec::new();
    while let Some(some) = lines.next().await? {
        sockets.extend::<Vec<ClosingSocket>>(some);
    }
    Ok(sockets)
}

/// As the kernel's table tells it.
fn standalone(settings: &ListSettings) -> Result<Vec<ClosingSocket>, Failure> {
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
    let mut sockets = closing::join(&snapshot, Known::default(), &settings.states, &holders, home);
    sockets.retain(|socket| settings.filter.holds(&Subject::of_socket(socket)));
    Ok(sockets)
}

/// What has ended, as the daemon remembers it, with its own JSON: each connection once, with its TIME-WAIT where that is
/// over too.
async fn ended(settings: &ListSettings, since: Option<Duration>) -> Result<Vec<(Line, String)>, Failure> {
    let question = Question { filter: settings.filter.clone(), since, ..Question::default() };
    let mut lines = Client::connect(&settings.daemon).await?.ends(&question).await?;
    if let Some(blind_spot) = &lines.blind_spot {
        tracing::warn!("there may be more: {blind_spot}");
    }
    let mut ended = Vec::new();
    while let Some(some) = lines.next_bytes().await? {
        for told in some.split_inclusive(|&byte| byte == b'\n') {
            if let Some(missed) = Missed::read(told) {
                tracing::warn!("at most {} lines were forgotten while others were read", missed.lines);
                continue;
            }
            let line = serde_json::from_slice(told).map_err(AskError::NotUnderstood)?;
            ended.push((line, String::from_utf8_lossy(told).into_owned()));
        }
    }
    let mut ended_later = HashSet::new();
    let newest_first = ended.into_iter().rev();
    let mut last_of_each: Vec<_> = newest_first.filter(|(line, _)| is_last(line, &mut ended_later)).collect();
    last_of_each.reverse();
    Ok(last_of_each)
}

/// Whether nothing later is known of the connection, where `ended_later` has those whose minisock ended later.
fn is_last(line: &Line, ended_later: &mut HashSet<(u32, Option<u64>, Address, Address)>) -> bool {
    let head = line.head();
    let which = (head.netns, head.cookie, head.local, head.remote);
    if let Line::Closed(closed) = line {
        let goes_on = matches!(closed.then, Some(Then::TimeWait | Then::FinWait2));
        return !(goes_on && ended_later.remove(&which));
    }
    ended_later.insert(which);
    true
}

/// What is not known comes last.
fn sort(sockets: &mut [ClosingSocket], key: SortKey) {
    let or_last = |seconds: Option<f64>| seconds.unwrap_or(f64::INFINITY);
    match key {
        SortKey::Age => sockets.sort_by(|a, b| {
            let youth = |socket: &ClosingSocket| or_last(socket.age_seconds.map(|age| -age));
            youth(a).total_cmp(&youth(b))
        }),
        SortKey::Left => sockets.sort_by(|a, b| or_last(a.left_seconds).total_cmp(&or_last(b.left_seconds))),
        SortKey::Owner => sockets.sort_by_cached_key(|socket| {
            let name = socket.owner_name();
            (name.is_none(), name)
        }),
        SortKey::Remote => sockets.sort_by_key(|socket| (socket.remote.addr, socket.remote.port)),
    }
}

/// Prints a list.
struct List<'a> {
    settings: &'a ListSettings,
    table: Table,
    out: BufWriter<StdoutLock<'static>>,
    /// What goes before it.
    before: &'a str,
}

impl<'a> List<'a> {
    fn new(settings: &'a ListSettings, before: &'a str) -> Self {
        let table = Table::new(settings.lines.wide, TimeZone::system());
        Self { settings, table, out: BufWriter::new(io::stdout().lock()), before }
    }

    fn print(mut self, sockets: &[ClosingSocket]) -> io::Result<()> {
        let header = self.table.list_header();
        self.begin(&header)?;
        for socket in sockets {
            match self.settings.lines.output {
                Output::Table => writeln!(self.out, "{}", self.table.closing(socket))?,
                Output::Json => writeln!(self.out, "{}", serde_json::to_string(socket)?)?,
            }
        }
        self.out.flush()
    }

    fn print_groups(mut self, groups: &[Group], key: GroupKey) -> io::Result<()> {
        self.begin(&Table::groups_header(key))?;
        for group in groups {
            match self.settings.lines.output {
                Output::Table => writeln!(self.out, "{}", Table::group(group))?,
                Output::Json => writeln!(self.out, "{}", serde_json::to_string(group)?)?,
            }
        }
        self.out.flush()
    }

    fn print_ended(mut self, ended: &[(Line, String)]) -> io::Result<()> {
        let header = self.table.header();
        self.begin(&header)?;
        for (line, json) in ended {
            match self.settings.lines.output {
                Output::Table => writeln!(self.out, "{}", self.table.line(line))?,
                Output::Json => self.out.write_all(json.as_bytes())?,
            }
        }
        self.out.flush()
    }

    fn begin(&mut self, header: &str) -> io::Result<()> {
        self.out.write_all(self.before.as_bytes())?;
        if self.settings.lines.output == Output::Table && self.settings.lines.header {
            writeln!(self.out, "{header}")?;
        }
        Ok(())
    }
}
