//! Prints lines as they come, and notices when nobody reads them.

use std::{
    io::{self, BufWriter, ErrorKind, StdoutLock, Write as _},
    ops::ControlFlow,
    time::Duration,
};

use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::seen::Seen;
use crate::{
    api::{self, AskError},
    cli::Output,
    line::Line,
    render::Table,
    settings::Lines,
};

/// How often it is looked whether anybody reads what is printed.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// Whether stdout is a pipe that nobody reads any more; on a quiet host it may be long until a write tells.
pub(super) fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled.iter().any(|fd| fd.revents().contains(PollFlags::ERR))
}

/// Prints lines, until there are enough.
pub(super) struct Printer {
    output: Output,
    with_header: bool,
    table: Table,
    out: BufWriter<StdoutLock<'static>>,
    left: Option<u64>,
}

impl Printer {
    /// In this form, at most so many lines.
    pub(super) fn new(lines: Lines, count: Option<u64>) -> Self {
        Self {
            output: lines.output,
            with_header: lines.header,
            table: Table::new(lines.wide, TimeZone::system()),
            out: BufWriter::new(io::stdout().lock()),
            left: count,
        }
    }

    /// Prints what is seen, and tells whether that is enough.
    pub(super) fn seen(&mut self, seen: Seen, transitions: bool) -> io::Result<ControlFlow<()>> {
        match seen {
            Seen::Attached => self.header(transitions).map(|()| ControlFlow::Continue(())),
            Seen::Lines(lines) => self.lines(&lines),
        }
    }

    pub(super) fn header(&mut self, transitions: bool) -> io::Result<()> {
        if self.output == Output::Table && self.with_header {
            let header = if transitions { self.table.transitions_header() } else { self.table.header() };
            writeln!(self.out, "{header}")?;
        }
        self.out.flush()
    }

    /// Prints lines, if anybody reads them, and tells whether that is enough.
    pub(super) fn lines(&mut self, lines: &[Line]) -> io::Result<ControlFlow<()>> {
        if reader_is_gone() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        lines.iter().try_for_each(|line| self.line(line))?;
        self.flush()
    }

    /// Prints a line, if there have not been enough.
    fn line(&mut self, line: &Line) -> io::Result<()> {
        if self.is_enough() {
            return Ok(());
        }
        match self.output {
            Output::Table => writeln!(self.out, "{}", self.table.line(line))?,
            Output::Json => writeln!(self.out, "{}", line.json())?,
        }
        self.left = self.left.map(|left| left - 1);
        Ok(())
    }

    /// Prints what a daemon has told; what is to be JSON is printed as it came.
    pub(super) fn told(&mut self, told: &[Vec<u8>]) -> Result<io::Result<ControlFlow<()>>, AskError> {
        for line in told {
            let printed = if self.output == Output::Table {
                self.line(&api::told(line)?)
            } else if self.is_enough() {
                Ok(())
            } else {
                self.left = self.left.map(|left| left - 1);
                self.out.write_all(line)
            };
            if let Err(error) = printed {
                return Ok(Err(error));
            }
        }
        Ok(self.flush())
    }

    /// Makes sure that what was printed can be read, and tells whether that is enough.
    fn flush(&mut self) -> io::Result<ControlFlow<()>> {
        self.out.flush()?;
        Ok(if self.is_enough() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn is_enough(&self) -> bool {
        self.left == Some(0)
    }
}
