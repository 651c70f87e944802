//! `tcp-close replay`: what was recorded, through the lifecycle again: the same lines that `watch` printed then, or what they
//! come to.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufRead, BufReader, Write as _},
    ops::ControlFlow,
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use serde::Serialize;

use super::{Failure, printed, printer::Printer, seen};
use crate::{
    cli::Output,
    clock::Anchor,
    event::CgroupId,
    lifecycle::{Observation, Tracker},
    line::{Line, Teller},
    owner::Home,
    recording::{self, Header, Reader, Rest, Step},
    settings::ReplaySettings,
};

pub(super) fn run(settings: &ReplaySettings) -> Result<ExitCode, Failure> {
    let cannot_read = || format!("cannot replay {}", settings.file.display());
    let input = open(&settings.file).with_context(cannot_read).map_err(Failure::Other)?;
    let mut reader = Reader::new(input).with_context(cannot_read).map_err(Failure::Other)?;
    let mut replay = Replay::new(reader.header(), settings);
    let mut out = if settings.summary {
        Out::Summary(Box::default())
    } else {
        Out::Lines(Printer::new(settings.lines, settings.count))
    };
    if let Err(error) = out.begin(settings.transitions) {
        return printed(Err(error));
    }
    let rest = loop {
        match reader.next_block().with_context(cannot_read).map_err(Failure::Other)? {
            Err(rest) => break rest,
            Ok(steps) => {
                for step in steps {
                    match out.take(&replay.step(step)) {
                        Ok(ControlFlow::Continue(())) => {}
                        Ok(ControlFlow::Break(())) => return Ok(ExitCode::SUCCESS),
                        Err(error) => return printed(Err(error)),
                    }
                }
            }
        }
    };
    if let Rest::CutOff(bytes) = rest {
        tracing::warn!(
            "the recording is cut off or damaged: {} events were read, the {bytes} bytes after them cannot be",
            replay.events
        );
    }
    printed(out.end(settings.lines.output, reader.header(), replay.events))
}

/// The file, or stdin.
fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    Ok(Box::new(BufReader::new(File::open(path)?)))
}

/// The lifecycle, told again what it was told.
struct Replay<'a> {
    tracker: Tracker,
    teller: Teller,
    settings: &'a ReplaySettings,
    homes: HashMap<CgroupId, Option<Home>>,
    observations: Vec<Observation>,
    events: u64,
}

impl<'a> Replay<'a> {
    fn new(header: &Header, settings: &'a ReplaySettings) -> Self {
        let Header { limits, wait, sees, sees_fin_retransmits, .. } = *header;
        Self {
            tracker: Tracker::new(limits, wait, sees),
            teller: Teller::new(header.reset_reasons.clone(), sees_fin_retransmits),
            settings,
            homes: HashMap::new(),
            observations: Vec::new(),
            events: 0,
        }
    }

    /// Takes a step; at the end of a turn, gives back the lines that it brought.
    fn step(&mut self, step: Step) -> Vec<Line> {
        match step {
            Step::Event(event) => {
                self.events += 1;
                self.tracker.apply(&event, &mut self.observations);
            }
            Step::Advance(until) => self.tracker.advance(until, &mut self.observations),
            Step::Gap(until) => self.tracker.gap(until),
            Step::Finish => self.tracker.finish(&mut self.observations),
            Step::Home(cgroup, home) => {
                self.homes.insert(cgroup, home);
            }
            Step::TurnEnds { monotonic, wall } => {
                if let Some(anchor) = recording::anchor(monotonic, wall) {
                    return self.lines(&anchor);
                }
            }
        }
        Vec::new()
    }

    fn lines(&mut self, anchor: &Anchor) -> Vec<Line> {
        let observations = std::mem::take(&mut self.observations);
        let line = |observation: &Observation| {
            let cgroup = observation.story().and_then(|story| story.cgroup);
            let home = cgroup.and_then(|cgroup| self.homes.get(&cgroup)).and_then(Option::as_ref);
            seen::line(
                (&self.settings.filter, self.settings.transitions),
                &self.teller,
                observation,
                home,
                anchor,
            )
        };
        observations.iter().filter_map(line).collect()
    }
}

/// Where lines go.
enum Out {
    Lines(Printer),
    Summary(Box<Summary>),
}

/// What all lines come to.
#[derive(Default, Serialize)]
struct Summary {
    events: u64,
    kernel: String,
    began: String,
    /// By role and manner.
    closed: BTreeMap<String, BTreeMap<String, u64>>,
    /// By cause.
    time_wait_ended: BTreeMap<String, u64>,
    /// By cause.
    fin_wait2_ended: BTreeMap<String, u64>,
    transitions: u64,
}

impl Out {
    fn begin(&mut self, transitions: bool) -> io::Result<()> {
        match self {
            Self::Lines(printer) => printer.header(transitions),
            Self::Summary(_) => Ok(()),
        }
    }

    fn take(&mut self, lines: &[Line]) -> io::Result<ControlFlow<()>> {
        match self {
            Self::Lines(_) if lines.is_empty() => Ok(ControlFlow::Continue(())),
            Self::Lines(printer) => printer.lines(lines),
            Self::Summary(summary) => {
                for line in lines {
                    summary.add(line);
                }
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    fn end(self, output: Output, header: &Header, events: u64) -> io::Result<()> {
        let Self::Summary(summary) = self else {
            return Ok(());
        };
        let summary =
            Summary { events, kernel: header.kernel.clone(), began: header.began.to_string(), ..*summary };
        let text = match output {
            Output::Table => summary.text(),
            Output::Json => serde_json::to_string(&summary)? + "\n",
        };
        io::stdout().lock().write_all(text.as_bytes())
    }
}

impl Summary {
    fn add(&mut self, line: &Line) {
        match line {
            Line::Closed(closed) => {
                let role = closed.story.role.map_or("unknown", |role| role.label());
                let manner = closed.story.manner.map_or("unknown", |manner| manner.label());
                *self.closed.entry(role.to_owned()).or_default().entry(manner.to_owned()).or_default() += 1;
            }
            Line::TimeWaitEnded(ended) => {
                *self.time_wait_ended.entry(ended.time_wait.cause.label().to_owned()).or_default() += 1;
            }
            Line::FinWait2Ended(ended) => {
                *self.fin_wait2_ended.entry(ended.cause.label().to_owned()).or_default() += 1;
            }
            Line::Transition(_) => self.transitions += 1,
        }
    }

    fn text(&self) -> String {
        let Self { events, kernel, began, closed, time_wait_ended, fin_wait2_ended, transitions } = self;
        let mut lines = vec![format!("{events} events on Linux {kernel}, from {began} on")];
        for (role, manners) in closed {
            lines
                .extend(manners.iter().map(|(manner, count)| format!("{count:>9} closed, {role}, {manner}")));
        }
        lines.extend(
            time_wait_ended.iter().map(|(cause, count)| format!("{count:>9} TIME-WAITs ended, {cause}")),
        );
        lines.extend(
            fin_wait2_ended.iter().map(|(cause, count)| format!("{count:>9} FIN-WAIT-2s ended, {cause}")),
        );
        if *transitions > 0 {
            lines.push(format!("{transitions:>9} changes of state"));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}
