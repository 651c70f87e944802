//! Those who watch connections: tcp-close, and its peers.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use xshell::{Shell, cmd};

use super::process;
use crate::{clock::wait_for, debian::Unpacked, running::free_port};

/// How long an observer may take to attach.
const PATIENCE: Duration = Duration::from_secs(30);

/// The status of tcp-close where a privilege or something of the kernel is missing.
const UNSUPPORTED: i32 = 3;

/// How long one that does not say so is given to attach.
pub(super) const ATTACHES: Duration = Duration::from_secs(3);

/// A program that watches every connection of the host.
pub(crate) struct Observer {
    pub(super) name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// It answers at a port that it is told.
    answers: bool,
}

impl Observer {
    /// tcp-close, with these arguments.
    pub(crate) fn ours(programs: &Path, arguments: &[&str]) -> Self {
        Self {
            name: "tcp-close",
            program: programs.join("tcp-close"),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            environment: Vec::new(),
            answers: true,
        }
    }

    /// tcp-close as it is started, by each kind of hook, and the peers.
    pub(super) fn all(tools: &Unpacked, programs: &Path) -> Vec<Self> {
        let ours = |name, arguments: &[&str]| Self { name, ..Self::ours(programs, arguments) };
        let peer = |name: &'static str| Self {
            name,
            program: name.into(),
            arguments: Vec::new(),
            environment: tools.environment().into(),
            answers: false,
        };
        vec![
            ours("tcp-close", &[]),
            ours("tcp-close --probe tracepoint", &["--probe", "tracepoint"]),
            ours("tcp-close --probe fentry", &["--probe", "fentry"]),
            ours("tcp-close --probe kprobe", &["--probe", "kprobe"]),
            peer("tcpstates"),
            peer("tcplife"),
        ]
    }
}

/// An observer at work, ended with this.
pub(crate) struct Watching {
    child: Child,
    port: u16,
}

impl Watching {
    /// Starts it, and waits until it is attached.
    pub(crate) fn start(observer: &Observer) -> anyhow::Result<Self> {
        Self::start_if_offered(observer)?.with_context(|| format!("{} is not on this kernel", observer.name))
    }

    /// The same; none, if it says that the kernel does not offer what it takes.
    pub(super) fn start_if_offered(observer: &Observer) -> anyhow::Result<Option<Self>> {
        let port = free_port()?;
        let mut command = Command::new(&observer.program);
        if observer.answers {
            command.args(["daemon", "--web.listen-address", &format!("127.0.0.1:{port}")]);
            command.args(["--socket", &socket(port)]);
        }
        command.args(&observer.arguments).envs(observer.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            command.spawn().with_context(|| format!("cannot start {}", observer.program.display()))?;
        let mut watching = Self { child, port };
        if observer.answers {
            let ready = wait_for(PATIENCE, || {
                let ended = watching.child.try_wait()?;
                Ok(ended.map(Err).or_else(|| watching.is_ready().then_some(Ok(()))))
            })?;
            match ready.with_context(|| format!("{} is not ready", observer.name))? {
                Ok(()) => {}
                Err(ended) if ended.code() == Some(UNSUPPORTED) => return Ok(None),
                Err(ended) => bail!("{} ended at once: {ended}", observer.name),
            }
        } else {
            thread::sleep(ATTACHES);
            ensure!(watching.child.try_wait()?.is_none(), "{} ended at once", observer.name);
        }
        Ok(Some(watching))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn is_ready(&self) -> bool {
        self.ask("readyz", &[]).is_ok()
    }

    /// What the daemon answers, or with these options of curl's what that says.
    pub(super) fn ask(&self, path: &str, options: &[&str]) -> anyhow::Result<String> {
        let sh = Shell::new()?;
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        Ok(cmd!(sh, "curl -sSf {options...} {url}").quiet().ignore_stderr().read()?)
    }

    /// Seconds until the metrics are all here.
    pub(super) fn scrape(&self) -> anyhow::Result<f64> {
        Ok(self.ask("metrics", &["-o", "/dev/null", "-w", "%{time_total}"])?.trim().parse()?)
    }

    /// Seconds until the answer to a question at its socket is all here.
    pub(super) fn question(&self, path: &str) -> anyhow::Result<f64> {
        let sh = Shell::new()?;
        let (socket, url) = (socket(self.port), format!("http://localhost/{path}"));
        let arguments = ["-sSf", "--unix-socket", &socket, "-o", "/dev/null", "-w", "%{time_total}"];
        let taken = cmd!(sh, "curl {arguments...} {url}").quiet().read()?;
        Ok(taken.trim().parse()?)
    }

    /// The sum of a metric's series, or the value of one of them.
    pub(super) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let metrics = self.ask("metrics", &[])?;
        let of = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<f64>().ok())?
        };
        Ok(metrics.lines().filter_map(of).sum())
    }

    /// Seconds of processor time so far.
    pub(super) fn processor_seconds(&self) -> anyhow::Result<f64> {
        process::seconds_of(self.pid())
    }

    /// Memory that it has, in bytes.
    pub(super) fn resident_bytes(&self) -> anyhow::Result<f64> {
        process::resident_bytes_of(self.pid())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _status = self.child.wait();
    }
}

/// Where the daemon answers other commands.
fn socket(port: u16) -> String {
    format!("/run/tcp-close-bench-{port}.sock")
}
