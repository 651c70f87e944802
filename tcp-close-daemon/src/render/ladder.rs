//! One close as a ladder: our end on the left, the peer's on the right, a rung for each segment that mattered, and what
//! it did to either. It fits 80 columns.

use std::{fmt::Write as _, time::Duration};

use super::{measure::Measure, printable};
use crate::{
    event::{Process, TcpState},
    lifecycle::observation::{EndCause, LINUX_MSL, Manner, RFC_9293_2MSL, Role, Then, Witness},
    line::{Direction, Line, StateLine, StoryLine, TimeWaitLine},
};

/// Width of our states, which end at our end's line.
const OURS: usize = 13;

/// Width between the lines of both ends.
const BETWEEN: usize = 42;

/// Width of the peer's states.
const THEIRS: usize = 13;

/// Width of a TIME-WAIT of 240 s.
const BAR: usize = 60;

/// The signs that a ladder is drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    upright: char,
    level: char,
    to_right: char,
    to_left: char,
    full: char,
    empty: char,
}

impl Signs {
    /// For terminals that show more than ASCII.
    pub const UNICODE: Self =
        Self { upright: '│', level: '─', to_right: '▶', to_left: '◀', full: '█', empty: '░' };

    /// For all others.
    pub const ASCII: Self =
        Self { upright: '|', level: '-', to_right: '>', to_left: '<', full: '#', empty: '.' };
}

/// Draws what became of a connection; `None` for a change of state, which is no whole close.
pub fn ladder(line: &Line, signs: Signs) -> Option<String> {
    let (story, end) = match line {
        Line::Closed(closed) => (&closed.story, End::Socket(closed.then)),
        Line::TimeWaitEnded(ended) => (&ended.story, End::TimeWait(&ended.time_wait)),
        Line::FinWait2Ended(ended) => (&ended.story, End::FinWait2(ended.cause, ended.by)),
        Line::Transition(_) => return None,
    };
    let mut ladder = Ladder { text: String::new(), signs, elapsed: Some(0.0) };
    ladder.title(line, story);
    ladder.line("");
    ladder.close(story, &end);
    if let End::TimeWait(time_wait) = end {
        ladder.line("");
        ladder.time_wait(time_wait);
    }
    if is_gap(line) {
        ladder.line("");
        ladder.line("Events were lost while it closed: parts of it may be missing.");
    }
    Some(ladder.text)
}

const fn is_gap(line: &Line) -> bool {
    match line {
        Line::Closed(line) => line.gap,
        Line::TimeWaitEnded(line) => line.gap,
        Line::FinWait2Ended(line) => line.gap,
        Line::Transition(_) => false,
    }
}

/// How it ended.
enum End<'a> {
    /// The full socket did, and went there.
    Socket(Option<Then>),
    /// Its TIME-WAIT did.
    TimeWait(&'a TimeWaitLine),
    /// Its minisock did, in FIN-WAIT-2, for this reason and by that process.
    FinWait2(EndCause, Option<Process>),
}

/// What is drawn so far.
struct Ladder {
    text: String,
    signs: Signs,
    /// Since the close began, in seconds, as long as every step is known.
    elapsed: Option<f64>,
}

impl Ladder {
    fn line(&mut self, line: &str) {
        let line = printable(line.trim_end());
        // The one letter beyond ASCII that a measure may have.
        let micro = if self.signs == Signs::ASCII { "u" } else { "µ" };
        self.text.push_str(&line.replace('µ', micro));
        self.text.push('\n');
    }

    fn title(&mut self, line: &Line, story: &StoryLine) {
        let head = line.head();
        let named = |process: Option<Process>| {
            process.map_or_else(
                || "nobody known".to_owned(),
                |process| format!("{}/{}", process.comm, process.pid),
            )
        };
        let owner = &story.owner;
        let local = std::net::SocketAddr::from(head.local);
        let remote = std::net::SocketAddr::from(head.remote);
        self.line(&format!("we      {local}"));
        self.line(&format!("peer    {remote}"));
        let (closer, opener) = (named(owner.closer), named(owner.opener));
        self.line(&if closer == opener {
            format!("owner   {closer}")
        } else {
            format!("owner   closed by {closer}, opened by {opener}")
        });
        let container =
            owner.container.as_deref().map(|id| format!("container {}", id.get(..12).unwrap_or(id)));
        let of = [
            owner.unit.clone(),
            container,
            owner.pod.as_ref().map(|pod| format!("pod {pod}")),
            owner.uid.map(|uid| format!("uid {uid}")),
        ];
        for part in of.into_iter().flatten() {
            self.line(&format!("        {part}"));
        }
        let cookie = head.cookie.map_or_else(String::new, |cookie| format!(", cookie sk:{cookie:x}"));
        self.line(&format!("netns   {}{cookie}", head.netns));
        let role = match story.role {
            Some(Role::None) => "without a FIN",
            Some(role) => role.label(),
            None => "unknown",
        };
        let manner =
            story.manner.map_or_else(|| "unknown".to_owned(), |manner| manner.label().replace('_', " "));
        let segments = story.segments.map_or_else(String::new, |segments| format!(", {segments} segments"));
        self.line(&format!("close   {role}, {manner}{segments}"));
        self.line(&format!("ended   {}", head.time.strftime("%Y-%m-%d %H:%M:%S%.3f UTC")));
        let count = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
        let bytes = &story.bytes;
        self.line(&format!("bytes   {} sent, {} received", count(bytes.sent), count(bytes.received)));
    }

    /// The states and the segments between them.
    fn close(&mut self, story: &StoryLine, end: &End<'_>) {
        let three = story.segments == Some(3);
        let fin = &story.fin;
        let ack_of_peers = fin.peer_seq.map(|seq| seq.wrapping_add(1));
        if story.states.is_empty() && story.manner.is_some() {
            self.state("ESTABLISHED", "", "ESTABLISHED");
        }
        let mut before = None;
        for StateLine { state, seconds } in shown(story, end) {
            match (before, state) {
                (None, TcpState::FinWait1) => {
                    self.state("ESTABLISHED", "", "ESTABLISHED");
                    self.fin(story, None);
                }
                (None, TcpState::CloseWait) => {
                    self.state("ESTABLISHED", "", "ESTABLISHED");
                    self.segment(Direction::Received, &numbered("FIN", "seq", fin.peer_seq));
                    if !three {
                        self.segment(Direction::Sent, &numbered("ACK", "", ack_of_peers));
                    }
                }
                (Some(TcpState::CloseWait), TcpState::LastAck) => {
                    self.fin(story, ack_of_peers.filter(|_| three));
                }
                (Some(TcpState::FinWait1), TcpState::FinWait2) if three => {
                    let both = format!(
                        "{}, {}",
                        numbered("ACK", "", fin.ack_of_fin),
                        numbered("FIN", "seq", fin.peer_seq)
                    );
                    self.segment(Direction::Received, &both);
                }
                (Some(TcpState::FinWait1), TcpState::FinWait2)
                | (Some(TcpState::Closing), TcpState::TimeWait) => {
                    self.segment(Direction::Received, &numbered("ACK", "", fin.ack_of_fin));
                }
                (Some(TcpState::FinWait1), TcpState::Closing)
                | (Some(TcpState::FinWait2), TcpState::TimeWait) => {
                    if !three || state == TcpState::Closing {
                        self.segment(Direction::Received, &numbered("FIN", "seq", fin.peer_seq));
                    }
                    self.segment(Direction::Sent, &numbered("ACK", "", ack_of_peers));
                }
                _ => {}
            }
            self.state(&name(state), &dwell(state, seconds, story, end), peers(before, state, three));
            self.elapsed = self.elapsed.zip(seconds).map(|(elapsed, seconds)| elapsed + seconds);
            before = Some(state);
        }
        self.end(story, end, before);
    }

    /// Our FIN, as often as it was sent.
    fn fin(&mut self, story: &StoryLine, with_ack: Option<u32>) {
        let fin = &story.fin;
        let mut words = numbered("FIN", "seq", fin.seq);
        if let Some(ack) = with_ack {
            let _written = write!(words, ", ACK {ack}");
        }
        self.segment(Direction::Sent, &words);
        let since = self.elapsed;
        let after_first = fin.retransmitted_after.clone().unwrap_or_default();
        for &after in &after_first {
            self.elapsed = since.map(|since| since + after);
            self.segment(Direction::Sent, "FIN again");
        }
        let untold = fin
            .retransmits
            .unwrap_or_default()
            .saturating_sub(u32::try_from(after_first.len()).unwrap_or(u32::MAX));
        self.elapsed = since;
        if untold > 0 {
            self.state("", &format!("FIN again, {} more", times(untold)), "");
        }
    }

    /// What ended it, after it was in this state.
    fn end(&mut self, story: &StoryLine, end: &End<'_>, last: Option<TcpState>) {
        if let Some(reset) = &story.reset {
            let reason = reset
                .reason
                .as_ref()
                .map_or_else(String::new, |reason| format!(", {}", reason.replace('_', " ")));
            self.segment(reset.direction, &format!("RST{reason}"));
        }
        match end {
            End::Socket(Some(Then::TimeWait | Then::FinWait2)) => {}
            End::Socket(then) => {
                let acknowledged = last == Some(TcpState::LastAck) && story.manner == Some(Manner::Graceful);
                if acknowledged {
                    self.segment(Direction::Received, &numbered("ACK", "", story.fin.ack_of_fin));
                }
                if *then == Some(Then::Refused)
                    && story.fin.peer_seq.is_some()
                    && last == Some(TcpState::FinWait2)
                {
                    self.segment(Direction::Received, &numbered("FIN", "seq", story.fin.peer_seq));
                    self.segment(
                        Direction::Sent,
                        &numbered("ACK", "", story.fin.peer_seq.map(|seq| seq.wrapping_add(1))),
                    );
                }
                let why = match (then, story.manner) {
                    (Some(Then::Refused), _) => "the kernel refused it a TIME-WAIT",
                    (None, _) => "what came then was not seen",
                    (_, Some(Manner::TimedOut)) => "nobody answered any more",
                    (_, Some(Manner::Killed)) => "killed by an operator",
                    _ => "",
                };
                let theirs = if acknowledged { "TIME-WAIT" } else { "" };
                self.state("CLOSED", why, theirs);
            }
            End::TimeWait(time_wait) => {
                if time_wait.cause == EndCause::Assassinated {
                    self.segment(Direction::Received, "RST");
                }
                self.state("CLOSED", &why(time_wait.cause, time_wait.by), "");
            }
            End::FinWait2(cause, process) => {
                match cause {
                    EndCause::ResetInFinWait2 => self.segment(Direction::Received, "RST"),
                    EndCause::ResetByUs => {
                        self.segment(Direction::Received, "data or SYN");
                        self.segment(Direction::Sent, "RST");
                    }
                    _ => {}
                }
                self.state("CLOSED", &why(*cause, *process), "");
            }
        }
    }

    /// Either end's state, and what is to be said between them.
    fn state(&mut self, ours: &str, between: &str, theirs: &str) {
        let upright = self.signs.upright;
        let room = BETWEEN - 1;
        self.line(&format!("{ours:>OURS$} {upright} {between:<room$}{upright} {theirs}"));
    }

    /// A segment, and when it was.
    fn segment(&mut self, direction: Direction, words: &str) {
        let Signs { upright, level, to_right, to_left, .. } = self.signs;
        let words = format!(" {words} ");
        let room = BETWEEN.saturating_sub(words.chars().count() + 4);
        let (head, tail): (String, String) =
            ([level; 3].into_iter().collect(), std::iter::repeat_n(level, room).collect());
        let arrow = match direction {
            Direction::Sent => format!("{head}{words}{tail}{to_right}"),
            Direction::Received => format!("{to_left}{head}{words}{tail}"),
        };
        let elapsed = match self.elapsed {
            None => String::new(),
            Some(0.0) => "+0".to_owned(),
            Some(elapsed) => format!("+{}", measured(elapsed)),
        };
        self.line(&format!("{:OURS$} {upright}{arrow}{upright} {:THEIRS$} {elapsed}", "", ""));
    }

    /// A TIME-WAIT against the two that it may be held against.
    fn time_wait(&mut self, time_wait: &TimeWaitLine) {
        let Signs { full, empty, upright, .. } = self.signs;
        let rfc = RFC_9293_2MSL.as_secs_f64();
        let cells = |seconds: f64| cells(seconds, rfc);
        let filled = cells(time_wait.seconds);
        // Where it began again the last time.
        let restart = (time_wait.restarts > 0)
            .then(|| cells(time_wait.seconds - time_wait.since_last_restart_seconds).saturating_sub(1));
        let sign = |cell| match restart {
            Some(restart) if restart == cell => upright,
            _ if cell < filled => full,
            _ => empty,
        };
        let bar: String = (0..BAR).map(sign).collect();
        let more = if time_wait.seconds > rfc { "+" } else { "" };
        self.line(&format!("TIME-WAIT {bar}{more}"));
        let nominal = cells(time_wait.nominal_seconds);
        let linux = format!("{} nominal", measured(time_wait.nominal_seconds));
        self.line(&format!(
            "{:10}{:>nominal$}{linux:<rest$}240s 2MSL",
            "",
            "",
            rest = BAR.saturating_sub(nominal + 9)
        ));
        let ratio =
            time_wait.ratio_of_nominal.map_or_else(String::new, |ratio| format!(", {ratio:.3} of nominal"));
        let of_rfc = time_wait
            .ratio_of_rfc_2msl
            .map_or_else(String::new, |ratio| format!(", {ratio:.3} of RFC 9293's 2MSL"));
        let verdict = time_wait.verdict.label();
        self.line(&format!("lasted {}{ratio}{of_rfc}; verdict: {verdict}", measured(time_wait.seconds)));
        let last = measured(time_wait.since_last_restart_seconds);
        match (time_wait.restarts, time_wait.witness) {
            (0, Witness::Exact) => {}
            (0, Witness::Inferred) => self.line("whether it began again was not seen"),
            (restarts, Witness::Exact) => {
                self.line(&format!("began again {}, the last time {last} before its end", times(restarts)));
            }
            (restarts, Witness::Inferred) => self.line(&format!(
                "began again {} at least, the last time {last} before its end",
                times(restarts)
            )),
        }
        if let Some((lost, strays)) = time_wait.final_ack_lost.zip(time_wait.stray_segments)
            && lost + strays > 0
        {
            self.line(&format!("final ACK lost: {lost}, stray segments: {strays}"));
        }
        if let Some(needed) = time_wait.needed_seconds {
            let msl = LINUX_MSL.as_secs();
            self.line(&format!(
                "{} would have been enough to answer a FIN that comes again (an MSL of {msl} s)",
                measured(needed)
            ));
        }
    }
}

/// How long it was in a state, and what came meanwhile.
fn dwell(state: TcpState, seconds: Option<f64>, story: &StoryLine, end: &End<'_>) -> String {
    let goes_on = matches!(
        (end, state),
        (End::Socket(Some(Then::TimeWait)), TcpState::TimeWait)
            | (End::Socket(Some(Then::FinWait2)), TcpState::FinWait2)
    );
    let mut text = match seconds {
        Some(seconds) => measured(seconds),
        None if goes_on => "goes on".to_owned(),
        None => "for an unknown time".to_owned(),
    };
    let bytes = match state {
        TcpState::FinWait2 => story.bytes.after_our_fin.map(|bytes| (bytes, "received")),
        TcpState::CloseWait => story.bytes.after_peer_fin.map(|bytes| (bytes, "sent")),
        _ => None,
    };
    if let Some((bytes, went)) = bytes.filter(|&(bytes, _)| bytes > 0) {
        let _written = write!(text, ", {bytes} bytes {went}");
    }
    text
}

/// The states to show: those that it was in, and the one that goes on in a minisock.
fn shown(story: &StoryLine, end: &End<'_>) -> Vec<StateLine> {
    let mut states = story.states.clone();
    if matches!(end, End::Socket(Some(Then::TimeWait))) {
        states.push(StateLine { state: TcpState::TimeWait, seconds: None });
    }
    states
}

/// The state that the peer is in by what its segments say, once we have entered ours.
const fn peers(before: Option<TcpState>, state: TcpState, three: bool) -> &'static str {
    match (before, state) {
        (_, TcpState::FinWait2) if three => "LAST-ACK",
        (_, TcpState::FinWait2) => "CLOSE-WAIT",
        (Some(TcpState::Closing), TcpState::TimeWait) => "TIME-WAIT",
        (_, TcpState::TimeWait) => "LAST-ACK",
        (_, TcpState::Closing) => "CLOSING",
        (_, TcpState::CloseWait) if three => "FIN-WAIT-1",
        (_, TcpState::CloseWait) => "FIN-WAIT-2",
        _ => "",
    }
}

/// RFC 9293's name of a state.
fn name(state: TcpState) -> String {
    state.ss_name().to_uppercase()
}

fn numbered(segment: &str, what: &str, number: Option<u32>) -> String {
    let gap = if what.is_empty() { "" } else { " " };
    number.map_or_else(|| segment.to_owned(), |number| format!("{segment}{gap}{what} {number}"))
}

/// Why a minisock ended, and who was behind it.
fn why(cause: EndCause, by: Option<Process>) -> String {
    let cause = cause.label().replace("fin_wait2", "FIN-WAIT-2").replace('_', " ");
    by.map_or_else(|| cause.clone(), |by| format!("{cause} by {}/{}", by.comm, by.pid))
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn measured(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds)
        .map_or_else(|_error| "?".to_owned(), |duration| Measure(duration).to_string())
}

/// How much of the bar a time takes, at least one cell.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "it is no longer than the bar"
)]
fn cells(seconds: f64, whole: f64) -> usize {
    ((seconds / whole * BAR as f64).round() as usize).clamp(1, BAR)
}
