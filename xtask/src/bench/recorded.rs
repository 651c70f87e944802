//! What a tracked minisock takes of memory: `tcp-close replay` is told of so many that are all there at the end.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use super::process;
use crate::clock::wait_for;

/// How long all of them may take to be read.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many looks in a row find that no time was taken.
const QUIET: u32 = 3;

/// What was found.
#[derive(Serialize)]
pub(super) struct Recorded {
    pub(super) minisocks: u32,
    /// With all of them.
    pub(super) resident_bytes: f64,
    /// What each adds.
    pub(super) bytes_each: f64,
}

impl Recorded {
    /// With this many minisocks, and with one to begin with.
    pub(super) fn measure(programs: &Path, minisocks: u32) -> anyhow::Result<Self> {
        println!("a recording of {minisocks} TIME-WAITs");
        let one = resident_bytes(programs, 1)?;
        let resident_bytes = resident_bytes(programs, minisocks)?;
        Ok(Self { minisocks, resident_bytes, bytes_each: (resident_bytes - one) / f64::from(minisocks) })
    }
}

/// What `replay` has once it has read of so many.
fn resident_bytes(programs: &Path, minisocks: u32) -> anyhow::Result<f64> {
    let mut recording = Recording::make(programs, minisocks)?;
    recording.is_written()?;
    let (mut before, mut looks) = (f64::NAN, 0);
    // What is left in the pipe is read once it takes no time any more.
    let quiet = wait_for(PATIENCE, || {
        let seconds = process::seconds_of(recording.replay.id())?;
        looks = if seconds.total_cmp(&before).is_eq() { looks + 1 } else { 0 };
        before = seconds;
        Ok((looks == QUIET).then_some(()))
    })?;
    quiet.context("the recording is not read to its end")?;
    process::resident_bytes_of(recording.replay.id())
}

/// A recording that has no end yet, and who reads it.
struct Recording {
    writer: Child,
    /// It ends with this.
    input: Option<ChildStdin>,
    replay: Child,
}

impl Recording {
    fn make(programs: &Path, minisocks: u32) -> anyhow::Result<Self> {
        let mut writer = Command::new(programs.join("time-waits"))
            .arg(minisocks.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start time-waits")?;
        let (input, recording) = (writer.stdin.take(), writer.stdout.take().context("its output")?);
        let replay = Command::new(programs.join("tcp-close"))
            .args(["replay", "--summary", "-"])
            .stdin(recording)
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start tcp-close")?;
        Ok(Self { writer, input, replay })
    }

    /// Waits until all of it is written; who reads it keeps the writer waiting.
    fn is_written(&mut self) -> anyhow::Result<()> {
        let mut said = String::new();
        BufReader::new(self.writer.stderr.take().context("its words")?).read_line(&mut said)?;
        ensure!(said == "all are written\n", "time-waits says: {said}");
        Ok(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Each ends as the one before does.
        drop(self.input.take());
        let _statuses = [self.writer.wait(), self.replay.wait()];
    }
}
