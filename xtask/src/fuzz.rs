//! `cargo xtask fuzz`: fuzzers of what tcp-close reads from strangers, for as long as is wanted.
//!
//! They lie in `fuzz/`, one file each. cargo-fuzz asks the compiler for coverage, which stable Rust gives; a sanitizer it
//! would not give, and there is no unsafe code behind them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use xshell::{Shell, cmd};

use crate::workspace;

/// How long CI runs each, in seconds: no more than that each still runs, and finds what lies at hand.
const IN_CI: u32 = 15;

/// The longest input, in bytes: a few steps of a recording, or a filter that is as long as people type them.
const LONGEST: u32 = 4096;

/// What one input may take, in seconds and in MiB: a fuzzer that takes more has found something too.
const MOST_TIME: u32 = 10;
const MOST_MEMORY: u32 = 1024;

/// How fuzzers are built: for what runs for seconds, what takes least time to build is best.
const BUILT: [&str; 3] = ["--dev", "--sanitizer", "none"];
const PROFILE: [(&str, &str); 2] = [
    // Function names stay, which is what a backtrace needs.
    ("CARGO_PROFILE_DEV_DEBUG", "false"),
    // It would help the next build, and slow down this one.
    ("CARGO_INCREMENTAL", "0"),
];

#[derive(Args)]
pub(crate) struct Options {
    /// How long to run each, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = IN_CI)]
    seconds: u32,
    /// Only these; without any, all.
    fuzzers: Vec<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    let fuzz = Fuzz::new(&sh)?;
    let fuzzers = if options.fuzzers.is_empty() { fuzz.all()? } else { options.fuzzers.clone() };
    fuzz.build()?;
    fuzzers.iter().try_for_each(|fuzzer| fuzz.run(fuzzer, options.seconds))
}

/// All of them, as CI does it.
pub(crate) fn run_each(sh: &Shell) -> anyhow::Result<()> {
    let fuzz = Fuzz::new(sh)?;
    fuzz.build()?;
    fuzz.all()?.iter().try_for_each(|fuzzer| fuzz.run(fuzzer, IN_CI))
}

/// What it takes.
struct Fuzz<'a> {
    sh: &'a Shell,
    /// cargo-fuzz.
    tool: PathBuf,
    /// A target directory of its own: what is built for fuzzers is of use to nothing else.
    target: PathBuf,
}

impl<'a> Fuzz<'a> {
    fn new(sh: &'a Shell) -> anyhow::Result<Self> {
        let target = workspace::target_dir(sh)?;
        let tool = workspace::tool(sh, &target, "cargo-fuzz", workspace::CARGO_FUZZ)
            .context("cargo-fuzz is not here; run `cargo xtask setup --ci`")?;
        Ok(Self { sh, tool, target: target.join("fuzz") })
    }

    fn all(&self) -> anyhow::Result<Vec<String>> {
        let files = self.sh.read_dir(workspace::root().join("fuzz/fuzz_targets"))?;
        Ok(files.iter().filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned())).collect())
    }

    /// Builds all of them at once.
    fn build(&self) -> anyhow::Result<()> {
        let Self { sh, tool, target } = self;
        cmd!(sh, "{tool} build {BUILT...} --target-dir {target}")
            .envs(PROFILE)
            .run()
            .context("cannot build the fuzzers")
    }

    fn run(&self, fuzzer: &str, seconds: u32) -> anyhow::Result<()> {
        let Self { sh, tool, target } = self;
        // What is found goes into the first folder, and is the beginning of the next run; seeds are committed.
        let folders = [target.join("found").join(fuzzer), Path::new("fuzz/seeds").join(fuzzer)];
        sh.create_dir(&folders[0])?;
        let mut limits = vec![
            format!("-max_total_time={seconds}"),
            format!("-max_len={LONGEST}"),
            format!("-timeout={MOST_TIME}"),
            format!("-rss_limit_mb={MOST_MEMORY}"),
        ];
        // Not every input that led somewhere new; only what it came to.
        limits.extend(["-verbosity=0", "-print_final_stats=1"].map(str::to_owned));
        let dictionary = Path::new("fuzz").join(fuzzer).with_extension("dict");
        if sh.path_exists(&dictionary) {
            limits.push(format!("-dict={}", dictionary.display()));
        }
        cmd!(sh, "{tool} run {BUILT...} --target-dir {target} {fuzzer} {folders...} -- {limits...}")
            .envs(PROFILE)
            .run()
            .with_context(|| {
                format!("the fuzzer {fuzzer} found something; it lies in fuzz/artifacts/{fuzzer}")
            })
    }
}
