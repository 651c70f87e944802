//! Those who do not watch and look from time to time: what a look takes while there are many TIME-WAITs.
//!
//! They see what is there when they look. A state that lasts for less than that is seen by chance, and how and why anything
//! ended is not seen at all.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use xshell::Shell;

use super::{
    load::{Held, Load},
    observer::{Observer, Watching},
    process,
};
use crate::{clock::wait_for, debian::Unpacked};

/// How often each looks.
const LOOKS: u32 = 20;

/// A port that no connection takes for its own end: nobody can listen where a TIME-WAIT is.
const EXPORTER: &str = "127.0.0.1:910";

/// How long it may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a look takes.
#[derive(Serialize)]
pub(super) struct Poll {
    pub(super) name: &'static str,
    /// Of processor time.
    pub(super) seconds: f64,
}

/// With so many TIME-WAITs in a namespace, of each who looks into it.
pub(super) fn measure(
    sh: &Shell,
    tools: &Unpacked,
    programs: &Path,
    load: Load,
) -> anyhow::Result<Vec<Poll>> {
    println!("who looks at {} TIME-WAITs", load.connections);
    let daemon = Watching::start(&Observer::ours(programs, &[]))?;
    let held = Held::make(programs, load)?;
    let inside = Inside { sh, tools, netns: format!("--net={}", held.netns) };
    let seen = inside.read(&["ss", "-tanH", "state", "time-wait"])?.lines().count();
    ensure!(seen > 0, "ss sees none of {} TIME-WAITs", load.connections);
    Ok(vec![
        Poll { name: "ss -tan", seconds: inside.by_children(&["ss", "-tanH"])? },
        Poll { name: "node_exporter --collector.tcpstat", seconds: inside.exporter()? },
        Poll { name: "tcp-close daemon", seconds: by_daemon(&daemon)? },
    ])
}

/// What a scrape takes of the daemon, which is not in the namespace, and does not look at its table for that.
fn by_daemon(daemon: &Watching) -> anyhow::Result<f64> {
    let before = daemon.processor_seconds()?;
    for _ in 0..LOOKS {
        daemon.scrape()?;
    }
    Ok((daemon.processor_seconds()? - before) / f64::from(LOOKS))
}

/// Whatever is started in a network namespace.
struct Inside<'a> {
    sh: &'a Shell,
    tools: &'a Unpacked,
    /// As nsenter(1) is told.
    netns: String,
}

impl Inside<'_> {
    fn read(&self, command: &[&str]) -> anyhow::Result<String> {
        let nsenter = self.sh.cmd("nsenter").arg(&self.netns).args(command);
        Ok(self.tools.find(nsenter).ignore_stderr().read()?)
    }

    /// What a command takes that ends when it has looked.
    fn by_children(&self, command: &[&str]) -> anyhow::Result<f64> {
        let before = process::seconds_of_children()?;
        for _ in 0..LOOKS {
            self.read(command)?;
        }
        Ok((process::seconds_of_children()? - before) / f64::from(LOOKS))
    }

    /// What a scrape takes of an exporter that dumps the table each time, and does nothing else.
    fn exporter(&self) -> anyhow::Result<f64> {
        let exporter = Exporter::start(self)?;
        let url = format!("http://{EXPORTER}/metrics");
        let scrape = || self.read(&["curl", "-sSf", &url]);
        wait_for(PATIENCE, || Ok(scrape().ok()))?.context("the exporter does not answer")?;
        let before = process::seconds_of(exporter.0.id())?;
        for _ in 0..LOOKS {
            let metrics = scrape()?;
            ensure!(
                metrics.contains("node_tcp_connection_states"),
                "the exporter says nothing of connections"
            );
        }
        Ok((process::seconds_of(exporter.0.id())? - before) / f64::from(LOOKS))
    }
}

/// `node_exporter` with its tcpstat collector alone, ended with this.
struct Exporter(Child);

impl Exporter {
    fn start(inside: &Inside<'_>) -> anyhow::Result<Self> {
        // nsenter becomes what it starts.
        let child = Command::new("nsenter")
            .arg(&inside.netns)
            .args(["prometheus-node-exporter", "--collector.disable-defaults", "--collector.tcpstat"])
            .arg(format!("--web.listen-address={EXPORTER}"))
            .envs(inside.tools.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start nsenter")?;
        Ok(Self(child))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _status = self.0.wait();
    }
}
