//! `tcp-close list`: every socket that is closing now. The kernel's own table says which; the daemon, if there is one, says
//! whose they are and since when. And it remembers what has ended.

use std::{
    fmt::Display,
    io::{self, BufWriter, StdoutLock, Write as _},
    process::ExitCode,
    time::Duration,
};

use jiff::tz::TimeZone;
use rustix::termios::tcgetwinsize;
use tokio::time::{interval, sleep};

use super::{
    Failure, listen_for_signals, printed,
    printer::{LOOK, reader_is_gone},
    runtime, warn_of_missing,
};
use crate::{
    api::{self, AskError, Client, Question},
    cli::{Output, SortKey},
    clock,
    closing::{self, ClosingSocket, Group, GroupKey, Known},
    filter::Subject,
    owner::{Holders, Homes},
    render::Table,
    settings::ListSettings,
    snapshot::Snapshot,
};

/// Takes the cursor to the upper left corner and clears what is there.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) fn run(settings: &ListSettings) -> Result<ExitCode, Failure> {
    // Of a namespace that is gone there may be something to tell that has ended.
    if settings.ended.is_none() {
        warn_of_missing(&settings.filter.netns().map(Vec::from_iter).unwrap_or_default());
    }
    printed(runtime()?.block_on(async {
        match settings.watch {
            Some(pause) => again_and_again(settings, pause).await,
            None => once(settings, &Frame::default()).await,
        }
    })?)
}

/// How one list among several is shown.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    /// What goes before it.
    before: &'static str,
    /// How many lines there is room for; `None` for any number.
    room: Option<usize>,
    /// What there is to complain about was said before.
    is_repeated: bool,
}

/// Prints it once.
async fn once(settings: &ListSettings, frame: &Frame) -> Result<io::Result<()>, Failure> {
    if let Some(since) = settings.ended {
        let (ended, complaints) = ended(settings, since).await?;
        frame.complain(&complaints);
        return Ok(List::new(settings, frame).print_ended(&ended));
    }
    let (mut sockets, complaints) = sockets(settings).await?;
    frame.complain(&complaints);
    let list = List::new(settings, frame);
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
    let mut shutdown = listen_for_signals(None)?;
    let mut frame = Frame::default();
    loop {
        if settings.lines.output == Output::Table {
            frame.room = room();
            // Who reads it from a file or a pipe sees where one ends and the next begins.
            frame.before = match (frame.room, frame.is_repeated) {
                (Some(_), _) => CLEAR,
                (None, true) => "\n",
                (None, false) => "",
            };
        }
        let printed = tokio::select! {
            biased;
            _ = shutdown.reason() => return Ok(Ok(())),
            printed = once(settings, &frame) => printed?,
        };
        if printed.is_err() {
            return Ok(printed);
        }
        frame.is_repeated = true;
        let mut look = interval(LOOK);
        let next = sleep(pause);
        tokio::pin!(next);
        loop {
            tokio::select! {
                biased;
                _ = shutdown.reason() => return Ok(Ok(())),
                () = &mut next => break,
                _ = look.tick() => {
                    if reader_is_gone() {
                        return Ok(Ok(()));
                    }
                }
            }
        }
    }
}

/// How many lines the terminal has, if it is one.
fn room() -> Option<usize> {
    tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_row)).filter(|&rows| rows > 0)
}

impl Frame {
    fn complain(&self, complaints: &[String]) {
        for complaint in complaints.iter().filter(|_| !self.is_repeated) {
            tracing::warn!("{complaint}");
        }
    }
}

type WithComplaints<T> = (Vec<T>, Vec<String>);

async fn sockets(settings: &ListSettings) -> Result<WithComplaints<ClosingSocket>, Failure> {
    if settings.standalone {
        return standalone(settings);
    }
    match from_daemon(settings).await {
        Err(error @ (AskError::NoDaemon(_) | AskError::NotAllowed(_))) if !settings.daemon.named => {
            let (sockets, mut complaints) = standalone(settings)?;
            let lacks = format!("{error}: whose a TIME-WAIT was, and how old a socket is, is not known");
            complaints.insert(0, lacks);
            Ok((sockets, complaints))
        }
        answered => Ok(answered?),
    }
}

/// As the daemon tells it.
async fn from_daemon(settings: &ListSettings) -> Result<WithComplaints<ClosingSocket>, AskError> {
    let question = Question {
        netns: settings.netns.clone(),
        states: settings.states.clone(),
        filter: settings.filter.clone(),
        ..Question::default()
    };
    let mut lines = Client::connect(&settings.daemon).await?.closing(&question).await?;
    // All of it before any is printed: the daemon does not wait for whoever reads in a pager.
    let mut sockets: Vec<ClosingSocket> = Vec::new();
    while let Some(some) = lines.next().await? {
        sockets.extend::<Vec<ClosingSocket>>(some);
    }
    Ok((sockets, there_may_be_more(lines.blind_spot)))
}

fn there_may_be_more(blind_spot: Option<impl Display>) -> Vec<String> {
    blind_spot.map(|blind_spot| format!("there may be more: {blind_spot}")).into_iter().collect()
}

/// As the kernel's table tells it.
fn standalone(settings: &ListSettings) -> Result<WithComplaints<ClosingSocket>, Failure> {
    let snapshot =
        Snapshot::take(&settings.netns, &settings.states).map_err(|error| Failure::Other(error.into()))?;
    let mut complaints = there_may_be_more(snapshot.blind_spot);
    let holders = Holders::of(&snapshot.inodes());
    if holders.incomplete {
        complaints.push("not every process shows which sockets it holds; root sees them all".to_owned());
    }
    let mut homes = Homes::of_this_host();
    let home = |cgroup| homes.get(cgroup, clock::monotonic_now);
    let sockets = closing::join(snapshot, Known::default(), &settings.states, holders, home)
        .filter(|socket| settings.filter.holds(&Subject::of_socket(socket)));
    Ok((sockets.collect(), complaints))
}

/// What has ended, as the daemon remembers it: each connection once, in its JSON.
async fn ended(
    settings: &ListSettings,
    since: Option<Duration>,
) -> Result<WithComplaints<Vec<u8>>, AskError> {
    let question = Question { filter: settings.filter.clone(), since, ..Question::default() };
    let mut lines = Client::connect(&settings.daemon).await?.ends(&question).await?;
    let mut ended = Vec::new();
    while let Some(told) = lines.next_told().await? {
        ended.extend(told);
    }
    let mut complaints = there_may_be_more(lines.blind_spot.take());
    let missed = lines.missed();
    if missed > 0 {
        complaints.push(format!("at most {missed} lines were forgotten while others were read"));
    }
    Ok((ended, complaints))
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
    frame: Frame,
}

impl<'a> List<'a> {
    fn new(settings: &'a ListSettings, frame: &Frame) -> Self {
        let table = Table::new(settings.lines.wide, TimeZone::system());
        Self { settings, table, out: BufWriter::new(io::stdout().lock()), frame: *frame }
    }

    fn print(mut self, sockets: &[ClosingSocket]) -> io::Result<()> {
        self.table = self.table.fitted_to(sockets);
        let header = self.table.list_header();
        let json = |socket: &ClosingSocket| Ok(serde_json::to_string(socket)?);
        let row = |table: &Table, socket: &ClosingSocket| Ok(table.closing(socket));
        self.lines(&header, sockets, json, row)
    }

    fn print_groups(mut self, groups: &[Group], key: GroupKey) -> io::Result<()> {
        let json = |group: &Group| Ok(serde_json::to_string(group)?);
        self.lines(&Table::groups_header(key), groups, json, |_, group| Ok(Table::group(group)))
    }

    fn print_ended(mut self, ended: &[Vec<u8>]) -> io::Result<()> {
        let header = self.table.header();
        let json = |line: &Vec<u8>| Ok(String::from_utf8_lossy(line).trim_end().to_owned());
        let row = |table: &Table, line: &Vec<u8>| {
            api::told(line).map(|line| table.line(&line)).map_err(io::Error::other)
        };
        self.lines(&header, ended, json, row)
    }

    /// A line for each, in its form; on a terminal that is too small for all, the first of them.
    fn lines<T>(
        &mut self,
        header: &str,
        rows: &[T],
        json: impl Fn(&T) -> io::Result<String>,
        row: impl Fn(&Table, &T) -> io::Result<String>,
    ) -> io::Result<()> {
        self.out.write_all(self.frame.before.as_bytes())?;
        if self.settings.lines.output == Output::Json {
            for line in rows {
                writeln!(self.out, "{}", json(line)?)?;
            }
            return self.out.flush();
        }
        if self.settings.lines.header {
            writeln!(self.out, "{header}")?;
        }
        // The header, the last line, and where the cursor is.
        let room = self.frame.room.map_or(rows.len(), |room| room.saturating_sub(3));
        let shown = if rows.len() > room + 1 { room } else { rows.len() };
        for line in rows.iter().take(shown) {
            writeln!(self.out, "{}", row(&self.table, line)?)?;
        }
        if shown < rows.len() {
            writeln!(self.out, "… and {} more", rows.len() - shown)?;
        }
        self.out.flush()
    }
}
