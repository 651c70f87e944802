//! `cargo xtask bench`: what it costs to watch connections, beside others who watch them, on this machine and in one run.
//!
//! Whoever watches sees the whole host: anybody else's connections are a part of what it costs. The connections that
//! are measured are of a program of our own, `churn`, both ends of them.

mod daemon;
mod empty;
mod figures;
mod load;
pub(crate) mod observer;
mod page;
mod polls;
mod process;
mod programs;
mod recorded;
mod tracked;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Serialize;
use xshell::{Shell, cmd};

use self::{
    daemon::Daemon,
    figures::{Figure, Verdict},
    load::{Churned, Load},
    observer::{Observer, Watching},
    polls::Poll,
    programs::Statistics,
    recorded::Recorded,
    tracked::Tracked,
};
use crate::{
    bytecode,
    debian::Unpacked,
    programs::verified,
    vm::{
        counted::{self, Counted},
        static_build,
    },
    workspace,
};

/// Where libbpf looks for the tracepoints that the peers hang on.
const TRACEFS: &str = "/sys/kernel/tracing";

/// What is downloaded of Debian's: the peers.
const PEERS: [&str; 3] = ["libbpf-tools", "iproute2", "prometheus-node-exporter"];

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
    /// A hundredth of everything else but the emulated machine's, and no verdict: whether it all runs, for who changes it.
    #[arg(long, conflicts_with = "write")]
    brief: bool,
    /// Write the results into docs/overhead.md.
    #[arg(long)]
    write: bool,
}

/// How much there is of what no option says.
#[derive(Clone, Copy)]
struct Extent {
    /// Pairs of rates of each further load.
    pairs: u32,
    /// Connections of it.
    connections: u32,
    /// Requests over connections that are kept.
    requests: u32,
    /// TIME-WAITs that are tracked while the daemon is asked.
    tracked: [u32; 3],
    /// TIME-WAITs that are there while others look.
    looked_at: u32,
    /// TIME-WAITs of the recording.
    recorded: u32,
    /// After that nothing is left of connections that were: a TIME-WAIT, and the slack of its timer.
    left: Duration,
    /// How long nothing happens.
    idle: Duration,
}

const IN_FULL: Extent = Extent {
    pairs: 3,
    connections: 10_000,
    requests: 100_000,
    tracked: [0, 100_000, 1_000_000],
    looked_at: 20_000,
    recorded: 1_000_000,
    left: Duration::from_secs(66),
    idle: Duration::from_secs(60),
};

const IN_BRIEF: Extent = Extent {
    pairs: 1,
    connections: 500,
    requests: 1000,
    tracked: [0, 1000, 10_000],
    looked_at: 1000,
    recorded: 10_000,
    left: Duration::ZERO,
    idle: Duration::from_secs(2),
};

/// What was measured, and where.
#[derive(Serialize)]
struct Results {
    kernel: String,
    processor: String,
    processors: u32,
    rounds: u32,
    load: Load,
    measured: Measured,
    verdicts: Vec<Verdict>,
}

/// What was measured.
#[derive(Serialize)]
struct Measured {
    /// Nanoseconds that the kernel accounts for a run of a program that does nothing.
    empty_run: Figure,
    /// Without anybody who watches.
    bare: Figure,
    observers: Vec<Costs>,
    /// What tcp-close costs with other loads.
    loads: Vec<(Load, Figure, Costs)>,
    daemon: Daemon,
    tracked: Vec<Tracked>,
    polls: Vec<Poll>,
    recorded: Recorded,
    programs: Programs,
    counted: Counted,
}

/// What an observer costs.
#[derive(Serialize)]
struct Costs {
    name: String,
    /// Connections, or requests, a second, as a part of what there are without it just before.
    rate: Figure,
    /// Nanoseconds that its programs run for each, less what the accounting of their runs takes.
    kernel: Figure,
    /// How often they run for each.
    runs: f64,
}

/// What the dearest of the programs takes.
#[derive(Serialize)]
struct Programs {
    /// Steps of the verifier.
    verified: f64,
    /// Bytes of stack.
    stack: f64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "programs are loaded into the kernel: run this as root");
    // What is shipped is what is measured.
    let sh = static_build::shell()?;
    let bench = Bench::set_up(&sh, options)?;
    let results = bench.results()?;
    let folder = workspace::target_dir(&sh)?.join("bench");
    let json = folder.join("results.json");
    fs::write(&json, serde_json::to_string_pretty(&results)?)?;
    let tables = page::tables(&results);
    println!("\n{tables}\nas JSON: {}", json.display());
    if options.write {
        page::write(&sh, &tables)?;
    }
    let missed: Vec<&str> =
        results.verdicts.iter().filter(|verdict| !verdict.is_met).map(|verdict| &*verdict.bound).collect();
    ensure!(options.brief || missed.is_empty(), "not met: {}", missed.join("; "));
    Ok(())
}

struct Bench<'a> {
    sh: &'a Shell,
    rounds: u32,
    load: Load,
    extent: Extent,
    processors: u32,
    tools: Unpacked,
    /// Where the programs of ours are.
    programs: PathBuf,
}

impl<'a> Bench<'a> {
    fn set_up(sh: &'a Shell, options: &Options) -> anyhow::Result<Self> {
        let &Options { rounds, connections, threads, ipv6, brief, .. } = options;
        ensure!(
            brief || !Statistics::are_on()?,
            "kernel.bpf_stats_enabled is on, and costs everybody who watches: switch it off first"
        );
        let folder = workspace::target_dir(sh)?.join("bench");
        fs::create_dir_all(&folder)?;
        let tools = Unpacked::provide(sh, &folder.join("peers"), &PEERS)?;
        if !Path::new(TRACEFS).join("events").exists() {
            cmd!(sh, "mount -t tracefs tracefs {TRACEFS}").run()?;
        }
        for (package, program) in [
            ("tcp-close-daemon", "tcp-close"),
            ("tcp-close-test", "churn"),
            ("tcp-close-bench", "time-waits"),
        ] {
            cmd!(sh, "cargo build --release --package {package} --bin {program}").run()?;
        }
        Ok(Self {
            sh,
            rounds,
            load: Load { connections, threads, ipv6, ..Load::default() },
            extent: if brief { IN_BRIEF } else { IN_FULL },
            processors: std::thread::available_parallelism()?.get().try_into()?,
            tools,
            programs: workspace::release_dir(sh)?,
        })
    }

    fn results(&self) -> anyhow::Result<Results> {
        let measured = self.measure()?;
        Ok(Results {
            kernel: cmd!(self.sh, "uname -r").quiet().read()?,
            processor: processor()?,
            processors: self.processors,
            rounds: self.rounds,
            load: self.load,
            verdicts: figures::verdicts(&measured)?,
            measured,
        })
    }

    fn measure(&self) -> anyhow::Result<Measured> {
        let Self { sh, programs, extent, load, processors, .. } = self;
        let churn = || self.churn(*load);
        // The first one of all is slower than any other.
        churn()?;
        println!("programs that do nothing");
        let empty_run = empty::run(churn)?;
        let mut bare = Vec::new();
        let mut observers = Vec::new();
        for observer in Observer::all(&self.tools, programs) {
            if Watching::start_if_offered(&observer)?.is_none() {
                println!("{}: not on this kernel", observer.name);
                continue;
            }
            println!("{}", observer.name);
            let rate = self.rate(&observer, (*load, self.rounds), &mut bare)?;
            observers.push(self.costs(&observer, (*load, 3), empty_run.median, rate)?);
        }
        Ok(Measured {
            bare: Figure::of(bare)?,
            observers,
            loads: self.loads(empty_run.median)?,
            empty_run,
            daemon: Daemon::measure(programs, (extent.left, extent.idle), churn)?,
            tracked: extent
                .tracked
                .iter()
                .map(|&connections| Tracked::measure(programs, connections, *processors))
                .collect::<anyhow::Result<_>>()?,
            polls: polls::measure(
                sh,
                &self.tools,
                programs,
                Load { connections: extent.looked_at, ..*load },
            )?,
            recorded: Recorded::measure(programs, extent.recorded)?,
            programs: self.dearest()?,
            counted: self.counted()?,
        })
    }

    /// What tcp-close costs with other loads: by one thread and by as many as there are processors, from place to place.
    fn loads(&self, empty_run: f64) -> anyhow::Result<Vec<(Load, Figure, Costs)>> {
        let Extent { pairs, connections, requests, .. } = self.extent;
        let mut loads = Vec::new();
        for (veth, ipv6) in [(false, false), (false, true), (true, false), (true, true)] {
            loads.extend([1, self.processors].map(|threads| Load {
                connections,
                threads,
                ipv6,
                veth,
                requests: None,
            }));
        }
        let kept = Load { threads: 1, requests: Some(requests), ..Load::default() };
        loads.extend([kept, Load { veth: true, ..kept }]);
        let observer = Observer::ours(&self.programs, &[]);
        let measure = |load: Load| {
            println!("{}", load.title());
            let mut bare = Vec::new();
            let rate = self.rate(&observer, (load, pairs), &mut bare)?;
            let costs = self.costs(&observer, (load, 1), empty_run, rate)?;
            Ok((load, Figure::of(bare)?, costs))
        };
        loads.into_iter().map(measure).collect()
    }

    /// The rate with the observer, as parts of that without it; without it they go to `bare`.
    fn rate(
        &self,
        observer: &Observer,
        (load, pairs): (Load, u32),
        bare: &mut Vec<f64>,
    ) -> anyhow::Result<Figure> {
        let mut parts = Vec::new();
        for _ in 0..pairs {
            let without = self.churn(load)?.rate();
            let watching = Watching::start(observer)?;
            let with = self.churn(load)?.rate();
            drop(watching);
            bare.push(without);
            parts.push(with / without);
        }
        Figure::of(parts)
    }

    /// That rate, and nanoseconds of the observer's programs for each connection or request, and how often they run.
    fn costs(
        &self,
        observer: &Observer,
        (load, times): (Load, u32),
        empty_run: f64,
        rate: Figure,
    ) -> anyhow::Result<Costs> {
        let _statistics = Statistics::on()?;
        let (mut nanoseconds, mut runs) = (Vec::new(), Vec::new());
        let watching = Watching::start(observer)?;
        for _ in 0..times {
            let before = programs::of(watching.pid())?;
            let done = self.churn(load)?.done();
            let spent = programs::between(&before, &programs::of(watching.pid())?);
            nanoseconds.push(spent.less(empty_run) / done);
            runs.push(spent.runs / done);
        }
        let (kernel, runs) = (Figure::of(nanoseconds)?, Figure::of(runs)?.median);
        Ok(Costs { name: observer.name.to_owned(), rate, kernel, runs })
    }

    fn dearest(&self) -> anyhow::Result<Programs> {
        let daemon = Watching::start(&Observer::ours(&self.programs, &[]))?;
        let most = |figures: std::collections::BTreeMap<String, u64>| -> anyhow::Result<f64> {
            let most = figures.into_values().max().context("there are programs")?;
            Ok(f64::from(u32::try_from(most)?))
        };
        Ok(Programs { verified: most(verified(daemon.pid())?)?, stack: most(bytecode::stack_depths()?)? })
    }

    fn counted(&self) -> anyhow::Result<Counted> {
        println!("instructions, on an emulated processor");
        counted::measure(self.sh, &self.programs, &self.tools)
    }

    fn churn(&self, load: Load) -> anyhow::Result<Churned> {
        load.churn(self.sh, &self.programs)
    }
}

/// What the machine calls its processor.
fn processor() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let name =
        text.lines().find_map(|line| line.strip_prefix("model name").or(line.strip_prefix("CPU part")));
    Ok(name.map_or_else(|| "unknown".to_owned(), |name| name.trim_start_matches([' ', '\t', ':']).to_owned()))
}
