//! An emulated machine: started, listened to on its serial line, and off again within a time limit.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, PipeReader, Read, Write as _},
    path::Path,
    process::{Child, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::Context as _;

use super::{Arch, tools::Tools};
use crate::clock::now;

/// The emulated processor: one thread of ours for all of it, since a thread per processor crashed kernels.
// The default size of the translation buffer is 1 GiB.
const PROCESSOR: &[&str] = &["-accel", "tcg,thread=single,tb-size=128"];

/// One processor, with a clock of its own: it counts instructions, 2 ns each, and when all are waiting it
/// goes on to what is waited for.
///
/// A minute of TIME-WAIT takes no time then, and how long things take inside does not depend on what else this
/// machine does.
/// With two, older kernels hang under such a clock.
const ONE_CPU: &[&str] = &["-smp", "1", "-icount", "shift=1,sleep=off", "-rtc", "clock=vm"];

/// What an instruction takes by that clock: `shift=1` is for two to the first.
pub(super) const NANOSECONDS_OF_AN_INSTRUCTION: f64 = 2.0;

/// Two processors, whose minutes are minutes.
const TWO_CPUS: &[&str] = &["-smp", "2"];

/// Enough for the tests that run at a time, each with tables and a kernel's BTF of its own.
const MEMORY: &[&str] = &["-m", "1024"];

const DEVICES: &[&str] = &["-nographic", "-no-reboot", "-vga", "none"];

/// One processor, whose minutes are minutes.
const ONE_CPU_OF_OUR_TIME: &[&str] = &["-smp", "1"];

/// A crash ends the machine at once; what the kernel says while it starts is of no interest.
const CMDLINE: &str = "quiet panic=-1 oops=panic";

/// What a machine takes depends on what else the host does: a quarter of an hour was not enough with six times as much
/// to do as it has processors.
const TIME_LIMIT: Duration = Duration::from_secs(2400);

/// No scenario takes as long as this, not even there. A machine that is silent for so long hangs.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);

/// How long to wait for the rest of what a machine said that was turned off.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often somebody who waits is told how far it is.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// What a machine is made of.
pub(super) struct Machine<'m> {
    pub(super) arch: Arch,
    pub(super) tools: &'m Tools,
    pub(super) image: &'m Path,
    /// Where its initramfs is.
    pub(super) initramfs: &'m Path,
    /// What is added to the kernel's command line.
    pub(super) cmdline: &'m str,
    pub(super) processors: Processors,
    /// Without one, all there is comes from the initramfs.
    pub(super) disk: Option<&'m Path>,
    /// Ports of this machine's loopback address, and the ports inside that they lead to. Nothing leads out.
    pub(super) ports: &'m [(u16, u16)],
    /// How much longer than others it may be silent, and take.
    pub(super) overtime: Duration,
    /// Where all of the console is kept.
    pub(super) log: &'m Path,
}

/// The processors of a machine, and whose time they keep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Processors {
    /// [`ONE_CPU`].
    One,
    /// [`ONE_CPU_OF_OUR_TIME`]: for what is talked to from outside.
    OneOfOurTime,
    /// [`TWO_CPUS`].
    Two,
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It turned itself off, or crashed.
    Off,
    /// It was turned off when its time was up.
    TimeIsUp,
}

/// Something to be told of a running machine.
pub(super) enum News<'l> {
    /// A line on its console, without control sequences.
    Line(&'l str),
    /// It has been running for this long; nothing else.
    Heartbeat(Duration),
}

impl Machine<'_> {
    /// Runs it to its end; gives back how that was, and after how long.
    pub(super) fn run(&self, mut tell: impl FnMut(News<'_>)) -> anyhow::Result<(End, Duration)> {
        let start = now();
        let mut log =
            File::create(self.log).with_context(|| format!("cannot make {}", self.log.display()))?;
        let (emulator, console) = self.start()?;
        let (lines, inbox) = mpsc::channel();
        thread::spawn(move || read_lines(console, &lines));
        let mut heartbeat = HEARTBEAT;
        let mut heard = Duration::ZERO;
        let end = loop {
            let age = now().saturating_sub(start);
            if age >= TIME_LIMIT + self.overtime || age.saturating_sub(heard) >= SILENCE_LIMIT + self.overtime
            {
                break End::TimeIsUp;
            }
            match inbox.recv_timeout(heartbeat.saturating_sub(age)) {
                Ok(line) => {
                    writeln!(log, "{line}")?;
                    tell(News::Line(&line));
                    // Whoever is told may take his time.
                    heard = now().saturating_sub(start);
                }
                Err(RecvTimeoutError::Timeout) => {
                    heartbeat += HEARTBEAT;
                    tell(News::Heartbeat(now().saturating_sub(start)));
                }
                Err(RecvTimeoutError::Disconnected) => break End::Off,
            }
        };
        drop(emulator);
        // The line it had begun, such as the name of the test that hangs.
        while let Ok(line) = inbox.recv_timeout(LAST_WORDS) {
            writeln!(log, "{line}")?;
            tell(News::Line(&line));
        }
        Ok((end, now().saturating_sub(start)))
    }

    fn network(&self) -> Vec<String> {
        if self.ports.is_empty() {
            return ["-nic", "none"].map(str::to_owned).into();
        }
        let forwarded = |(here, inside): &(u16, u16)| format!(",hostfwd=tcp:127.0.0.1:{here}-:{inside}");
        let forwarded: Vec<String> = self.ports.iter().map(forwarded).collect();
        let network = format!("user,id=network,restrict=on{}", forwarded.concat());
        ["-netdev", &network, "-device", "virtio-net-pci,netdev=network,romfile="].map(str::to_owned).into()
    }

    fn start(&self) -> anyhow::Result<(Running, PipeReader)> {
        let (program, arguments) = self.arch.emulator();
        let mut command = self.tools.command(program)?;
        let processors = match self.processors {
            Processors::One => ONE_CPU,
            Processors::OneOfOurTime => ONE_CPU_OF_OUR_TIME,
            Processors::Two => TWO_CPUS,
        };
        command.args(arguments).args(PROCESSOR).args(processors).args(MEMORY).args(DEVICES);
        for folder in self.tools.firmware() {
            command.arg("-L").arg(folder);
        }
        if let Some(disk) = self.disk {
            // What is written there is forgotten, so that the next machine finds it as this one did.
            let disk = format!("file={},format=raw,if=virtio,snapshot=on,cache=unsafe", disk.display());
            command.args(["-drive", &disk]);
        }
        command.args(self.network());
        command.arg("-kernel").arg(self.image).arg("-initrd").arg(self.initramfs);
        command.args(["-append", &format!("console={} {CMDLINE} {}", self.arch.console(), self.cmdline)]);
        // The emulator's own complaints belong to what the console shows.
        let (console, ours) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(ours.try_clone()?).stderr(ours);
        let emulator = command.spawn().with_context(|| format!("cannot start {program}"))?;
        Ok((Running(emulator), console))
    }
}

/// A running emulator, ended when nobody listens to it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Reads the console to its end, as long as somebody wants its lines.
fn read_lines(console: impl Read, lines: &mpsc::Sender<String>) {
    for line in BufReader::new(console).split(b'\n') {
        let Ok(line) = line else { return };
        if lines.send(plain(&String::from_utf8_lossy(&line))).is_err() {
            return;
        }
    }
}

/// The line without control characters and without the sequences that move a cursor or choose a color.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            // ECMA-48 §5.4: parameters, then one character that is a letter or near the letters.
            let end = |c: &char| ('@'..='~').contains(c) && *c != '[';
            rest.by_ref().find(end);
        } else if !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_without_control_sequences() {
        for (line, expected) in [
            ("test a::b ... ok\r", "test a::b ... ok"),
            ("\u{1b}c\u{1b}[?7l\u{1b}[2J\u{1b}[0mSeaBIOS", "SeaBIOS"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("ends in \u{1b}[", "ends in "),
        ] {
            assert_eq!(plain(line), expected, "{line:?}");
        }
    }
}
