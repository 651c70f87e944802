//! Those who watch connections: tcp-close, and its peers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Pid, Signal, kill_process},
};
use serde::Serialize;
use xshell::{Shell, cmd};

use crate::{
    clock::{self, wait_for},
    debian::Unpacked,
    running::free_port,
};

/// How long an observer may take to attach.
const PATIENCE: Duration = Duration::from_secs(30);

/// The status of tcp-close where a privilege or something of the kernel is missing.
const UNSUPPORTED: i32 = 3;

/// How long one that does not say so is given to attach.
const ATTACHES: Duration = Duration::from_secs(3);

/// How long nothing happens, when that is measured.
const IDLE: Duration = Duration::from_secs(60);

/// How often the metrics are asked for, when that is measured.
const SCRAPES: usize = 20;

/// A program that watches every connection of the host.
pub(super) struct Observer {
    pub(super) name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
    environment: Vec<(&'static str, String)>,
    /// It answers at a port that it is told.
    answers: bool,
}

impl Observer {
    /// tcp-close as it is started, by each kind of hook, and the peers.
    pub(super) fn all(tools: &Unpacked, programs: &Path) -> Vec<Self> {
        let ours = |name, arguments| Self {
            name,
            program: programs.join("tcp-close"),
            arguments,
            environment: Vec::new(),
            answers: true,
        };
        let peer = |name: &'static str| Self {
            name,
            program: name.into(),
            arguments: &[],
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
pub(super) struct Watching {
    child: Child,
    port: u16,
}

impl Watching {
    /// Starts it, and waits until it is attached.
    pub(super) fn start(observer: &Observer) -> anyhow::Result<Self> {
        Self::start_if_offered(observer)?.with_context(|| format!("{} is not on this kernel", observer.name))
    }

    /// The same; none, if it says that the kernel does not offer what it takes.
    pub(super) fn start_if_offered(observer: &Observer) -> anyhow::Result<Option<Self>> {
        let port = free_port()?;
        let mut command = Command::new(&observer.program);
        if observer.answers {
            command.args(["daemon", "--web.listen-address", &format!("127.0.0.1:{port}")]);
            command.args(["--socket", &format!("/run/tcp-close-bench-{port}.sock")]);
        }
        command.args(observer.arguments).envs(observer.environment.iter().cloned());
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

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn is_ready(&self) -> bool {
        self.ask("readyz", &[]).is_ok()
    }

    /// What the daemon answers, or with these options of curl's what that says.
    fn ask(&self, path: &str, options: &[&str]) -> anyhow::Result<String> {
        let sh = Shell::new()?;
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        Ok(cmd!(sh, "curl -sSf {options...} {url}").quiet().ignore_stderr().read()?)
    }

    /// The sum of a metric's series.
    fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let metrics = self.ask("metrics", &[])?;
        let of = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<f64>().ok())?
        };
        Ok(metrics.lines().filter_map(of).sum())
    }

    /// Seconds of processor time so far.
    fn processor_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // Behind the name, which may have anything in it (proc_pid_stat(5)): the 14th and 15th field are times.
        let (_, fields) = stat.rsplit_once(") ").context("a process has a name")?;
        let ticks: u32 =
            fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
        Ok(f64::from(ticks) / f64::from(u32::try_from(clock_ticks_per_second())?))
    }

    /// Memory that it has, in bytes.
    fn resident_bytes(&self) -> anyhow::Result<f64> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid()))?;
        let pages: u32 = statm.split(' ').nth(1).context("pages that are resident")?.parse()?;
        Ok(f64::from(pages) * f64::from(u32::try_from(page_size())?))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _status = self.child.wait();
    }
}

/// What the daemon costs besides.
#[derive(Serialize)]
pub(super) struct Daemon {
    /// From its start until it is ready.
    pub(super) start_seconds: f64,
    /// Before the first connection.
    pub(super) resident_bytes: f64,
    /// With all TIME-WAITs of a run, and everything it remembers.
    pub(super) resident_bytes_after: f64,
    /// The part of a processor that it takes while nothing happens.
    pub(super) idle_part: f64,
    pub(super) events: f64,
    pub(super) nanoseconds_per_event: f64,
    pub(super) events_lost: f64,
    /// What a scrape takes, of several the one in the middle.
    pub(super) scrape_seconds: f64,
}

impl Daemon {
    pub(super) fn measure(programs: &Path, churn: impl Fn() -> anyhow::Result<u32>) -> anyhow::Result<Self> {
        println!("the daemon");
        let observer = Observer {
            name: "tcp-close",
            program: programs.join("tcp-close"),
            arguments: &[],
            environment: Vec::new(),
            answers: true,
        };
        let begun = clock::now();
        let daemon = Watching::start(&observer)?;
        let start_seconds = clock::now().saturating_sub(begun).as_secs_f64();
        thread::sleep(ATTACHES);
        let resident_bytes = daemon.resident_bytes()?;
        let before_idling = daemon.processor_seconds()?;
        thread::sleep(IDLE);
        let idle_part = (daemon.processor_seconds()? - before_idling) / IDLE.as_secs_f64();
        let (events, seconds) = (daemon.metric("tcp_close_events_total")?, daemon.processor_seconds()?);
        churn()?;
        thread::sleep(ATTACHES);
        let seconds = daemon.processor_seconds()? - seconds;
        let resident_bytes_after = daemon.resident_bytes()?;
        let events = daemon.metric("tcp_close_events_total")? - events;
        let mut scrapes = Vec::new();
        for _ in 0..SCRAPES {
            let taken = daemon.ask("metrics", &["-o", "/dev/null", "-w", "%{time_total}"])?;
            scrapes.push(taken.trim().parse::<f64>()?);
        }
        Ok(Self {
            start_seconds,
            resident_bytes,
            resident_bytes_after,
            idle_part,
            events,
            nanoseconds_per_event: seconds * 1e9 / events.max(1.0),
            events_lost: daemon.metric("tcp_close_events_lost_total")?,
            scrape_seconds: super::figures::Figure::of(scrapes)?.median,
        })
    }
}
