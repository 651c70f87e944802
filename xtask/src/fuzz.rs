//! `cargo xtask fuzz`: fuzzers of what tcp-close reads from strangers, for as long as is wanted.
//!
//! They lie in `fuzz/`, one file each. cargo-fuzz asks the compiler for coverage, which stable Rust gives; a sanitizer it
//! would not give, and there is no unsafe code behind them.

use std::{fs, path::Path};

use anyhow::Context as _;
use clap::Args;
use xshell::{Shell, cmd};

use crate::workspace;

/// How long CI runs each, in seconds: no more than that each still runs, and finds what lies at hand.
const IN_CI: u32 = 30;

/// The longest input, in bytes: a few steps of a recording, or a filter that is as long as people type them.
const LONGEST: u32 = 4096;

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
    let fuzzers = if options.fuzzers.is_empty() { all(&sh)? } else { options.fuzzers.clone() };
    for fuzzer in &fuzzers {
        run_for(&sh, fuzzer, options.seconds)?;
    }
    Ok(())
}

/// All of them, as CI does it.
pub(crate) fn run_each(sh: &Shell) -> anyhow::Result<()> {
    all(sh)?.iter().try_for_each(|fuzzer| run_for(sh, fuzzer, IN_CI))
}

fn all(sh: &Shell) -> anyhow::Result<Vec<String>> {
    let files = sh.read_dir(workspace::root().join("fuzz/fuzz_targets"))?;
    Ok(files.iter().filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned())).collect())
}

fn run_for(sh: &Shell, fuzzer: &str, seconds: u32) -> anyhow::Result<()> {
    let target = workspace::target_dir(sh)?;
    let cargo_fuzz = workspace::tool(sh, &target, "cargo-fuzz", workspace::CARGO_FUZZ)
        .context("cargo-fuzz is not here; run `cargo xtask setup --ci`")?;
    let seeds = workspace::root().join("fuzz/seeds").join(fuzzer);
    // What is found goes into the first folder, and is the beginning of the next run; seeds are committed.
    let found = target.join("fuzz").join(fuzzer);
    fs::create_dir_all(&found)?;
    let dictionary = Path::new("fuzz").join(fuzzer).with_extension("dict");
    let mut limits = vec![format!("-max_total_time={seconds}"), format!("-max_len={LONGEST}")];
    // Not every input that led somewhere new; only what it came to.
    limits.extend(["-verbosity=0", "-print_final_stats=1"].map(str::to_owned));
    if sh.path_exists(&dictionary) {
        limits.push(format!("-dict={}", dictionary.display()));
    }
    // All of it optimised at once takes longer than the run.
    cmd!(sh, "{cargo_fuzz} run --sanitizer none {fuzzer} {found} {seeds} -- {limits...}")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .run()
        .with_context(|| format!("the fuzzer {fuzzer} found something; it lies in fuzz/artifacts/{fuzzer}"))
}
