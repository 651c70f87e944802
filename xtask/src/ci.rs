//! `cargo xtask ci`: everything a change has to pass, here as in CI.
//!
//! A step that fails does not stop the others, so one run tells all.

use std::{fmt, time::Duration};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use xshell::{Shell, cmd};

use crate::{
    bytecode::{self, Kernel},
    clock, container, dist, fuzz, grafana, instructions, kubernetes, page, programs, prometheus, test, units,
    vm::{self, static_build},
    workspace,
};

#[derive(Args)]
pub(crate) struct Options {
    /// Only these steps, in the order given; without any, all.
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Step {
    /// The formatting is rustfmt's.
    Fmt,
    /// clippy has nothing to say of the user side, its tests and xtask.
    Clippy,
    /// clippy has nothing to say of the kernel side, on both architectures.
    ClippyBpf,
    /// The documentation builds, and its links lead somewhere.
    Doc,
    /// Dependencies: licenses, sources, bans.
    Deny,
    /// The committed bytecode is what its sources give.
    Bytecode,
    /// Unit tests, architecture tests and documentation tests.
    Unit,
    /// Rules and alerts for Prometheus, by promtool.
    Prometheus,
    /// How much of the host the systemd units lay open.
    Units,
    /// Packages, archives and the image are made.
    Dist,
    /// The image runs with the capabilities that are documented.
    Container,
    /// The package on a Debian with systemd, from its installation to its end.
    System,
    /// The chart and the bases for Kubernetes, by its schemas and models.
    Kubernetes,
    /// Dashboards: by Grafana's own types, and every query by a real Prometheus that watches real closes.
    Grafana,
    /// The page at `/`, in a real browser.
    Page,
    /// What strangers may hand in breaks nothing: a short run of each fuzzer.
    Fuzz,
    /// No part of the user side takes a tenth more instructions for a close than it did.
    Instructions,
    /// No program takes the verifier a tenth more steps than it did, nor a tenth more stack.
    Programs,
    /// The live tests on this kernel.
    Live,
    /// The live tests on real kernels, old and new, in emulated machines: the brief matrix.
    Vm,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    let steps =
        if options.steps.is_empty() { Step::value_variants().to_vec() } else { options.steps.clone() };
    let mut outcomes = Vec::new();
    for step in &steps {
        let name = step.name();
        println!("\n=== {name}");
        let start = clock::now();
        let outcome = step.run(&sh);
        if let Err(error) = &outcome {
            println!("=== {name} failed: {error:#}");
        }
        outcomes.push(Outcome { name, took: clock::now().saturating_sub(start), error: outcome.err() });
    }
    println!();
    for outcome in &outcomes {
        println!("{outcome}");
    }
    let failed: Vec<&str> =
        outcomes.iter().filter(|outcome| outcome.error.is_some()).map(|outcome| &*outcome.name).collect();
    ensure!(failed.is_empty(), "{} of {} steps failed: {}", failed.len(), steps.len(), failed.join(", "));
    println!("all {} steps passed", steps.len());
    Ok(())
}

/// How a step ended: told once more at the end, for whoever reads no more than that.
struct Outcome {
    name: String,
    took: Duration,
    error: Option<anyhow::Error>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, took, error } = self;
        write!(f, "{name:<12} {:>5} s  ", took.as_secs())?;
        match error {
            Some(error) => write!(f, "FAILED: {error:#}"),
            None => f.write_str("passed"),
        }
    }
}

impl Step {
    /// As it is typed, to run the step again.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn run(self, sh: &Shell) -> anyhow::Result<()> {
        match self {
            Self::Fmt => cmd!(sh, "cargo fmt --all --check").run()?,
            Self::Clippy => {
                cmd!(sh, "cargo clippy --workspace --exclude tcp-close-ebpf --all-targets -- -D warnings")
                    .run()?;
            }
            Self::ClippyBpf => clippy_bpf(sh)?,
            Self::Doc => {
                cmd!(sh, "cargo doc --workspace --exclude tcp-close-ebpf --no-deps")
                    .env("RUSTDOCFLAGS", "-D warnings")
                    .run()?;
            }
            Self::Deny => deny(sh)?,
            Self::Bytecode => bytecode::verify()?,
            Self::Unit => test::unit(sh, None)?,
            Self::Prometheus => prometheus::check(sh)?,
            Self::Units => units::check(sh)?,
            Self::Dist => dist::run(&dist::Options::default())?,
            Self::Container => container::check(sh)?,
            Self::System => vm::system::run(&vm::system::Options::default())?,
            Self::Kubernetes => kubernetes::check(sh)?,
            Self::Grafana => grafana::check(&static_build::shell()?)?,
            Self::Page => page::check(&static_build::shell()?)?,
            Self::Fuzz => fuzz::run_each(sh)?,
            Self::Instructions => instructions::run(&instructions::Options::default())?,
            Self::Programs => programs::run(&programs::Options::default())?,
            Self::Live => test::live_with_second_chance(&static_build::shell()?)?,
            Self::Vm => vm::run_briefly()?,
        }
        Ok(())
    }
}

fn clippy_bpf(sh: &Shell) -> anyhow::Result<()> {
    let target = workspace::target_dir(sh)?;
    let kernel = Kernel::new(sh, &target)?;
    for arch in bytecode::ARCHITECTURES {
        kernel.clippy(sh, arch, &target.join("bpf"))?;
    }
    Ok(())
}

fn deny(sh: &Shell) -> anyhow::Result<()> {
    let target = workspace::target_dir(sh)?;
    let deny = workspace::tool(sh, &target, "cargo-deny", workspace::CARGO_DENY)
        .context("cargo-deny is not here; run `cargo xtask setup --ci`")?;
    // Not `advisories`: they come from the network and change without us; CONTRIBUTING.md has the command.
    cmd!(sh, "{deny} --all-features check bans licenses sources").run()?;
    Ok(())
}
