//! `tcp-close record`: every event to a file, and what else it takes to print the same lines again.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufWriter, ErrorKind, IsTerminal as _, Write},
    ops::ControlFlow,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use super::{
    Failure, listen_for_signals, printed,
    printer::Printer,
    runtime,
    seen::{self, Recording, Seen},
    warn_of_missing,
};
use crate::{clock, event::Monotonic, recording::Host, settings::RecordSettings};

/// How often it is said how far it is.
const STATUS: Duration = Duration::from_secs(1);

pub(super) fn run(settings: &RecordSettings) -> Result<ExitCode, Failure> {
    warn_of_missing(&settings.wanted.probe.netns);
    runtime()?.block_on(record(settings))
}

async fn record(settings: &RecordSettings) -> Result<ExitCode, Failure> {
    let mut shutdown = listen_for_signals(settings.duration)?;
    let (out, _made) = create(&settings.file, settings.force).map_err(Failure::Other)?;
    let recording = Recording::new(out, Host::running().map_err(|error| Failure::Other(error.into()))?);
    let mut printer = settings.watch.as_ref().map(|print| Printer::new(print.lines, print.count));
    let mut failed = None;
    let mut status = Status::new();
    let told = recording.clone();
    let take = |seen: Seen| {
        status.show(&told);
        let Some(printer) = &mut printer else {
            return ControlFlow::Continue(());
        };
        printer.seen(seen, false).unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    };
    let followed =
        seen::follow("record", &settings.wanted, &mut shutdown, Some(recording.clone()), take).await;
    status.end();
    // Whatever comes, what was seen is kept.
    let finished = recording.finish();
    followed?;
    let (events, bytes) = match finished {
        Err(error) if is_stdout(&settings.file) => return printed(Err(error)),
        finished => finished.map_err(|error| cannot_write(&settings.file, error))?,
    };
    tracing::info!(events, bytes, "recorded to {}", settings.file.display());
    printed(failed.map_or(Ok(()), Err))
}

fn cannot_write(file: &Path, error: io::Error) -> Failure {
    Failure::Other(anyhow::Error::new(error).context(format!("cannot write {}", file.display())))
}

/// A recording says of everybody on this host whom they talk to.
const OWNERS_ALONE: u32 = 0o600;

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// The file, which must not be there yet, or stdout.
fn create(path: &Path, force: bool) -> anyhow::Result<(Box<dyn Write>, Made)> {
    if is_stdout(path) {
        return Ok((Box::new(BufWriter::new(io::stdout())), Made(None)));
    }
    let mut options = OpenOptions::new();
    let options = options.write(true).mode(OWNERS_ALONE);
    let is_new = path.symlink_metadata().is_err();
    // One that is there keeps what it has until there is something to write over it.
    let options = if force { options.create(true).truncate(false) } else { options.create_new(true) };
    let file: File = options.open(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{} is there already; --force writes over it", path.display())
        }
        _ => anyhow::Error::new(error).context(format!("cannot write {}", path.display())),
    })?;
    let made = Made(is_new.then(|| path.to_owned()));
    // One that was there may have been open to others.
    let keep_to_owner = |file: &File| match file.metadata()? {
        metadata if metadata.is_file() => file.set_permissions(Permissions::from_mode(OWNERS_ALONE)),
        _ => Ok(()),
    };
    keep_to_owner(&file).map_err(|error| {
        anyhow::Error::new(error).context(format!("cannot keep {} to its owner", path.display()))
    })?;
    Ok((Box::new(BufWriter::new(Over { file, emptied: false })), made))
}

/// A file that was made here, and goes again if nothing comes of the recording.
struct Made(Option<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0)
        {
            // Somebody may have been faster.
            let _gone = fs::remove_file(path);
        }
    }
}

/// A file that loses what it had when the first is written.
struct Over {
    file: File,
    emptied: bool,
}

impl Write for Over {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A device has no length.
        if !std::mem::replace(&mut self.emptied, true) && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A line on a terminal that says how far it is.
struct Status {
    next: Monotonic,
    shown: bool,
}

impl Status {
    fn new() -> Self {
        Self { next: clock::monotonic_now() + STATUS, shown: false }
    }

    fn show(&mut self, recording: &Recording) {
        let now = clock::monotonic_now();
        if now < self.next || !io::stderr().is_terminal() {
            return;
        }
        self.next = now + STATUS;
        self.shown = true;
        let (events, bytes) = recording.so_far();
        // Whoever closed the terminal does not read it.
        let _nobody_reads = write!(io::stderr(), "\r{events} events, {} KiB ", bytes / 1024);
    }

    fn end(&self) {
        if self.shown {
            let _nobody_reads = writeln!(io::stderr());
        }
    }
}
