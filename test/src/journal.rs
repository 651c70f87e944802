//! The record of every segment the lab has seen, in the order in which it was handled.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock;
use crate::segment::Segment;
use crate::wire::Verdict;

/// A segment with its time and its fate.
#[derive(Clone, Copy, Debug)]
pub struct LoggedSegment {
    /// When the lab read it (or sent it), on [`clock::now`].
    pub at: Duration,
    /// The segment as it was.
    pub segment: Segment,
    /// The segment with numbers relative to the initial ones, where the SYNs were seen.
    pub relative: Segment,
    /// What the policy said.
    pub verdict: Verdict,
    /// When it was handed to the receiver's kernel; nothing while it is delayed or held, and if it is
    /// dropped.
    pub forwarded: Option<Duration>,
}

/// One line of a transcript: `c>s F. 3:3(0) ack 1 DROPPED`.
impl fmt::Display for LoggedSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.relative)?;
        match self.verdict {
            Verdict::Pass => Ok(()),
            Verdict::Drop => f.write_str("   DROPPED"),
            Verdict::Delay(time) => write!(f, "   DELAYED by {time:?}"),
            Verdict::Duplicate => f.write_str("   DUPLICATED"),
            Verdict::Hold if self.forwarded.is_some() => f.write_str("   HELD, then released"),
            Verdict::Hold => f.write_str("   HELD"),
        }
    }
}

/// All segments with a line each, and the time since the first.
pub fn transcript(log: &[LoggedSegment]) -> String {
    use std::fmt::Write as _;

    let mut text = String::new();
    let start = log.first().map_or(Duration::ZERO, |first| first.at);
    for entry in log {
        let since = entry.at.saturating_sub(start).as_secs_f64();
        writeln!(text, "  {since:>8.4}  {entry}").expect("a string takes any text");
    }
    text
}

/// The record itself.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Vec<LoggedSegment>,
    /// Initial sequence number of each sender towards each receiver.
    initial: HashMap<(SocketAddr, SocketAddr), u32>,
}

impl Journal {
    pub(crate) fn entries(&self) -> &[LoggedSegment] {
        &self.entries
    }

    /// Adds a segment that was read at `at`, and gives back its place.
    pub(crate) fn add(&mut self, at: Duration, segment: Segment, verdict: Verdict) -> usize {
        let way = (segment.source, segment.destination);
        if segment.is_syn() {
            self.initial.insert(way, segment.seq);
        }
        let sender = self.initial.get(&way).copied().unwrap_or(0);
        let receiver = self.initial.get(&(way.1, way.0)).copied().unwrap_or(0);
        let relative = segment.relative_to(sender, receiver);
        self.entries.push(LoggedSegment { at, segment, relative, verdict, forwarded: None });
        self.entries.len() - 1
    }

    /// Notes that the segment at this place has reached the receiver's kernel.
    pub(crate) fn mark_forwarded(&mut self, place: usize) {
        if let Some(entry) = self.entries.get_mut(place) {
            entry.forwarded = Some(clock::now());
        }
    }
}
