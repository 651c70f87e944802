//! What is watched: connections of a program of our own, `churn`, both ends of them.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

/// How long what was left behind, a namespace full of TIME-WAITs, takes to go away.
const SETTLES: Duration = Duration::from_secs(2);

/// What there is to watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Load {
    pub(super) connections: u32,
    pub(super) threads: u32,
    pub(super) ipv6: bool,
    /// From one namespace to another, and not over loopback.
    pub(super) veth: bool,
    /// Connections are kept, one for each thread, and this is how often they are used.
    pub(super) requests: Option<u32>,
}

/// A line of `churn`'s.
#[derive(Deserialize)]
pub(super) struct Churned {
    pub(super) connections: u32,
    pub(super) requests: u32,
    seconds: f64,
}

impl Churned {
    /// Connections, or requests, a second.
    pub(super) fn rate(&self) -> f64 {
        self.done() / self.seconds
    }

    /// How many there were of what the load is of.
    pub(super) fn done(&self) -> f64 {
        f64::from(self.connections.max(self.requests))
    }
}

impl Load {
    /// What there was, and what it took, once what was before has settled.
    pub(super) fn churn(&self, sh: &Shell, programs: &Path) -> anyhow::Result<Churned> {
        thread::sleep(SETTLES);
        let (churn, arguments) = (programs.join("churn"), self.arguments());
        let line = cmd!(sh, "{churn} {arguments...}").quiet().read()?;
        serde_json::from_str(&line).context("churn says how many connections there were")
    }

    fn arguments(&self) -> Vec<String> {
        let &Self { connections, threads, ipv6, veth, requests } = self;
        let of = requests.map_or(("--connections", connections), |requests| ("--requests", requests));
        let numbers = [of, ("--threads", threads)];
        let numbers = numbers.iter().flat_map(|(name, number)| [(*name).to_owned(), number.to_string()]);
        let flags = [("--ipv6", ipv6), ("--veth", veth)];
        let flags = flags.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (*name).to_owned());
        numbers.chain(flags).collect()
    }

    /// As it is called in a table.
    pub(super) fn title(&self) -> String {
        let &Self { threads, ipv6, veth, requests, .. } = self;
        let place = if veth { "veth" } else { "loopback" };
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        let what = if requests.is_some() { "requests" } else { "connections" };
        format!("{what}, {threads} thread(s), {place}, {family}")
    }
}

/// TIME-WAITs that stay, as long as the kernel lets them, until this goes away.
pub(super) struct Held {
    child: Child,
    /// Their namespace, as a file.
    pub(super) netns: String,
}

impl Held {
    /// Makes so many; once they are all there.
    pub(super) fn make(programs: &Path, load: Load) -> anyhow::Result<Self> {
        thread::sleep(SETTLES);
        let mut child = Command::new(programs.join("churn"))
            .args(load.arguments())
            .arg("--hold")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start churn")?;
        let mut line = String::new();
        let out = child.stdout.take().context("churn's standard output")?;
        BufReader::new(out).read_line(&mut line)?;
        // Whoever fails says so, and nothing on standard output.
        ensure!(!line.is_empty(), "churn ended: {}", child.wait()?);
        let netns = format!("/proc/{}/ns/net", child.id());
        Ok(Self { child, netns })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // What there was to learn from it is learned by now.
        let _status = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_told_to_churn() {
        let load = Load { connections: 10, threads: 2, ipv6: true, ..Load::default() };
        assert_eq!(load.arguments(), ["--connections", "10", "--threads", "2", "--ipv6"]);
        assert_eq!(load.title(), "connections, 2 thread(s), loopback, IPv6");
        let kept = Load { threads: 1, veth: true, requests: Some(5), ..Load::default() };
        assert_eq!(kept.arguments(), ["--requests", "5", "--threads", "1", "--veth"]);
        assert_eq!(kept.title(), "requests, 1 thread(s), veth, IPv4");
    }
}
