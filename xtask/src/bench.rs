//! `cargo xtask bench`: what it costs to watch connections, beside others who watch them, on this machine and in one run.
//!
//! Whoever watches sees the whole host: anybody else's connections are a part of what it costs. The connections that
//! are measured are of a program of our own, `churn`, on loopback, both ends of them.

mod figures;
mod observer;
mod page;
mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

use self::{
    figures::{Figure, Verdict},
    observer::{Daemon, Observer, Watching},
};
use crate::{debian::Unpacked, vm::static_build, workspace};

/// Switches the kernel's accounting of programs on, which costs some 50 ns for each time that one runs.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Where libbpf looks for the tracepoints that the peers hang on.
const TRACEFS: &str = "/sys/kernel/tracing";

/// How long what was left behind, a namespace full of TIME-WAITs, takes to go away.
const SETTLES: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Options {
    /// How often to measure each rate, with and without the observer in turn.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Connections at a time, fewer than there are ephemeral ports.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..28_000))]
    connections: u32,
    /// Threads that make them.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: u32,
    /// Over IPv6.
    #[arg(long)]
    ipv6: bool,
    /// Write the results into docs/overhead.md.
    #[arg(long)]
    write: bool,
}

/// What was measured.
#[derive(Serialize)]
struct Results {
    kernel: String,
    processor: String,
    processors: usize,
    connections: u32,
    threads: u32,
    ipv6: bool,
    rounds: u32,
    /// Without anybody who watches.
    bare: Figure,
    observers: Vec<Costs>,
    daemon: Daemon,
    verdicts: Vec<Verdict>,
}

/// What an observer costs.
#[derive(Serialize)]
struct Costs {
    name: String,
    /// Connections a second, as a part of what there are without it just before.
    rate: Figure,
    /// Nanoseconds that its programs run for each connection, less what the accounting of their runs takes.
    kernel: Figure,
    /// How often they run for each connection.
    runs: f64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "programs are loaded into the kernel: run this as root");
    // What is shipped is what is measured.
    let sh = static_build::shell()?;
    let bench = Bench::set_up(&sh, options)?;
    let results = bench.measure()?;
    let folder = workspace::target_dir(&sh)?.join("bench");
    let json = folder.join("results.json");
    fs::write(&json, serde_json::to_string_pretty(&results)?)?;
    let table = page::table(&results);
    println!("\n{table}\nas JSON: {}", json.display());
    if options.write {
        page::write(&sh, &table)?;
    }
    let missed: Vec<&str> =
        results.verdicts.iter().filter(|verdict| !verdict.is_met).map(|verdict| &*verdict.bound).collect();
    ensure!(missed.is_empty(), "not met: {}", missed.join("; "));
    Ok(())
}

struct Bench<'a> {
    sh: &'a Shell,
    options: &'a Options,
    tools: Unpacked,
    /// Where the programs of ours are.
    programs: PathBuf,
}

/// A line of `churn`'s.
#[derive(Deserialize)]
struct Churned {
    connections: u32,
    seconds: f64,
}

impl<'a> Bench<'a> {
    fn set_up(sh: &'a Shell, options: &'a Options) -> anyhow::Result<Self> {
        let folder = workspace::target_dir(sh)?.join("bench");
        fs::create_dir_all(&folder)?;
        let tools = Unpacked::provide(sh, &folder, &["libbpf-tools"])?;
        if !Path::new(TRACEFS).join("events").exists() {
            cmd!(sh, "mount -t tracefs tracefs {TRACEFS}").run()?;
        }
        cmd!(sh, "cargo build --release --package tcp-close-daemon --bin tcp-close").run()?;
        cmd!(sh, "cargo build --release --package tcp-close-test --bin churn").run()?;
        Ok(Self { sh, options, tools, programs: workspace::release_dir(sh)? })
    }

    fn measure(&self) -> anyhow::Result<Results> {
        // The first one of all is slower than any other.
        self.churn()?;
        let mut bare = Vec::new();
        let mut observers = Vec::new();
        for observer in Observer::all(&self.tools, &self.programs) {
            if Watching::start_if_offered(&observer)?.is_none() {
                println!("{}: not on this kernel", observer.name);
                continue;
            }
            println!("{}", observer.name);
            let rate = self.rate(&observer, &mut bare)?;
            let (kernel, runs) = self.kernel(&observer)?;
            observers.push(Costs { name: observer.name.to_owned(), rate, kernel, runs });
        }
        let ours = observers.first().context("tcp-close is the first of them")?;
        let daemon = Daemon::measure(&self.programs, || self.churn().map(|churned| churned.connections))?;
        let verdicts = figures::verdicts(ours, &daemon);
        let &Options { connections, threads, ipv6, rounds, .. } = self.options;
        Ok(Results {
            kernel: cmd!(self.sh, "uname -r").quiet().read()?,
            processor: processor()?,
            processors: std::thread::available_parallelism()?.get(),
            connections,
            threads,
            ipv6,
            rounds,
            bare: Figure::of(bare)?,
            observers,
            daemon,
            verdicts,
        })
    }

    /// Connections a second with the observer, as parts of those without it; without it go to `bare`.
    fn rate(&self, observer: &Observer, bare: &mut Vec<f64>) -> anyhow::Result<Figure> {
        let mut parts = Vec::new();
        for _ in 0..self.options.rounds {
            let without = self.churn()?.rate();
            let watching = Watching::start(observer)?;
            let with = self.churn()?.rate();
            drop(watching);
            bare.push(without);
            parts.push(with / without);
        }
        Figure::of(parts)
    }

    /// Nanoseconds of the observer's programs for each connection, less the accounting, and how often they run.
    fn kernel(&self, observer: &Observer) -> anyhow::Result<(Figure, f64)> {
        let was = fs::read_to_string(STATISTICS).context("the kernel keeps no accounts of programs")?;
        fs::write(STATISTICS, "1")?;
        let measured = self.with_statistics(observer);
        fs::write(STATISTICS, was.trim())?;
        measured
    }

    fn with_statistics(&self, observer: &Observer) -> anyhow::Result<(Figure, f64)> {
        let (mut nanoseconds, mut runs) = (Vec::new(), Vec::new());
        let watching = Watching::start(observer)?;
        for _ in 0..3 {
            let before = programs::of(watching.pid())?;
            let connections = f64::from(self.churn()?.connections);
            let after = programs::of(watching.pid())?;
            let spent = programs::between(&before, &after);
            nanoseconds.push(spent.nanoseconds_less_accounting() / connections);
            runs.push(spent.runs() / connections);
        }
        Ok((Figure::of(nanoseconds)?, Figure::of(runs)?.median))
    }

    /// Connections, and what they took, once what was before has settled.
    fn churn(&self) -> anyhow::Result<Churned> {
        std::thread::sleep(SETTLES);
        let churn = self.programs.join("churn");
        let connections = self.options.connections.to_string();
        let threads = self.options.threads.to_string();
        let ipv6 = self.options.ipv6.then_some("--ipv6");
        let line = cmd!(self.sh, "{churn} --connections {connections} --threads {threads} {ipv6...}")
            .quiet()
            .read()?;
        serde_json::from_str(&line).context("churn says how many connections there were")
    }
}

impl Churned {
    fn rate(&self) -> f64 {
        f64::from(self.connections) / self.seconds
    }
}

/// What the machine calls its processor.
fn processor() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let name =
        text.lines().find_map(|line| line.strip_prefix("model name").or(line.strip_prefix("CPU part")));
    Ok(name.map_or_else(|| "unknown".to_owned(), |name| name.trim_start_matches([' ', '\t', ':']).to_owned()))
}
