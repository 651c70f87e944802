//! `cargo xtask test`: the tests that need nothing, then the live tests, which need root.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use xshell::{Shell, cmd};

use crate::workspace;

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Only the live tests: real sockets on this kernel, as root or through sudo.
    #[arg(long, conflicts_with = "unit")]
    live: bool,
    /// Only the tests that need no privilege.
    #[arg(long)]
    unit: bool,
    /// The live tests as long as is promised, where they are shorter by default.
    #[arg(long, conflicts_with = "unit")]
    full: bool,
    /// Only tests whose name contains this; of the live tests also the name of a file in test/tests, which means all in it.
    filter: Option<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    if !options.live {
        unit(&sh, options.filter.as_deref())?;
    }
    if !options.unit {
        live(&sh, options.filter.as_deref(), options.full)?;
    }
    Ok(())
}

pub(crate) fn unit(sh: &Shell, filter: Option<&str>) -> anyhow::Result<()> {
    println!("unit tests and documentation tests");
    cmd!(
        sh,
        "cargo test --workspace --exclude tcp-close-ebpf --exclude tcp-close-test --no-fail-fast -- {filter...}"
    )
    .run()?;
    Ok(())
}

fn live(sh: &Shell, filter: Option<&str>, full: bool) -> anyhow::Result<()> {
    println!("live tests on this kernel");
    let is_file = |name: &&str| sh.path_exists(format!("test/tests/{name}.rs"));
    let (file, name) = (filter.filter(is_file), filter.filter(|name| !is_file(name)));
    let chosen = Chosen { full, file, tests: name.as_slice() };
    let Outcome { failed, .. } = live_tests(sh, &["--test-threads", "8"], &chosen)?;
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// [`live`], but that what fails gets a second chance, alone, and is named.
///
/// Some kernels run no tracing program while a certain process runs, nor in softirqs that interrupt it, and count no miss
/// (docs/limitations.md): a test of such an event is right to fail, and says nothing about us.
/// In `vm` there is no second chance.
pub(crate) fn live_with_second_chance(sh: &Shell) -> anyhow::Result<()> {
    println!("live tests on this kernel");
    let Outcome { failed, .. } = live_tests(sh, &["--test-threads", "8"], &Chosen::default())?;
    if failed.is_empty() {
        return Ok(());
    }
    let names = failed.join(", ");
    ensure!(failed.len() <= MOST_SECOND_CHANCES, "failed: {names}");
    println!("\nfailed beside others, now alone: {names}");
    let tests: Vec<&str> = failed.iter().map(String::as_str).collect();
    let chosen = Chosen { tests: &tests, ..Chosen::default() };
    let again = live_tests(sh, &["--test-threads", "1", "--exact"], &chosen)?;
    ensure!(again.failed.is_empty(), "failed twice: {}", again.failed.join(", "));
    ensure!(again.passed == tests.len(), "not all of them were run again: {names}");
    println!("failed beside others and passed alone: {names}");
    Ok(())
}

/// Live tests that are wanted; by default all, as long as CI has time for.
#[derive(Default)]
struct Chosen<'a> {
    full: bool,
    /// All in this file.
    file: Option<&'a str>,
    /// Those whose names have these in them.
    tests: &'a [&'a str],
}

/// Tests that are for a machine of their own, which `vm` has.
const NOT_HERE: &str = "machine::";

/// Tests of endurance, in which thousands of timers expire: for who asks for them, and in `vm`. A kernel that keeps programs
/// away from some softirqs fails them (docs/limitations.md).
const NOT_UNASKED: &[&str] = &["churn::", "highest_rate::"];

/// More failures than these are no accident.
const MOST_SECOND_CHANCES: usize = 2;

/// What came of the live tests.
#[derive(Default)]
struct Outcome {
    passed: usize,
    /// By their names.
    failed: Vec<String>,
    /// Programs of tests that began, and those that came to their end.
    begun: usize,
    ended: usize,
}

impl Outcome {
    /// Takes a line of libtest's.
    fn hear(&mut self, line: &str) {
        if let Some(test) = line.strip_prefix("test ") {
            self.passed += usize::from(test.ends_with(" ... ok"));
            self.failed.extend(test.strip_suffix(" ... FAILED").map(str::to_owned));
            self.ended += usize::from(test.starts_with("result: "));
        }
        self.begun +=
            usize::from(line.starts_with("running ") && line.trim_end_matches('s').ends_with(" test"));
    }
}

/// Runs live tests. That some fail is no error, but that a program of them dies.
fn live_tests(sh: &Shell, options: &[&str], chosen: &Chosen<'_>) -> anyhow::Result<Outcome> {
    let root = rustix::process::geteuid().is_root();
    ensure!(
        root || cmd!(sh, "sudo --version").quiet().ignore_stdout().ignore_stderr().run().is_ok(),
        "the live tests load programs into the kernel: run `cargo xtask test --live` as root"
    );
    cmd!(sh, "cargo build --release --package tcp-close-daemon --bin tcp-close").run()?;
    let program = workspace::release_dir(sh)?.join("tcp-close");
    // cargo itself stays unprivileged, so that no file in the target directory becomes root's.
    let runner = ["--config", "target.'cfg(all())'.runner = ['sudo', '-E']"];
    let runner = if root { &[][..] } else { &runner[..] };
    let &Chosen { full, file, tests } = chosen;
    let unasked = if !full && file.is_none() && tests.is_empty() { NOT_UNASKED } else { &[] };
    let skipped: Vec<&str> = [NOT_HERE].iter().chain(unasked).flat_map(|name| ["--skip", name]).collect();
    let file = file.map(|name| ["--test", name]);
    let file = file.iter().flatten();
    let mut command = cmd!(
        sh,
        "cargo {runner...} test --release --package tcp-close-test --no-fail-fast {file...} -- {options...} {skipped...} {tests...}"
    )
    .env("TCP_CLOSE_BIN", program);
    if full {
        command = command.env("TCP_CLOSE_TEST_FULL", "1");
    }
    println!("$ {command}");
    let mut cargo = Command::from(command).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut outcome = Outcome::default();
    for line in BufReader::new(cargo.stdout.take().context("its stdout is a pipe")?).lines() {
        let line = line?;
        println!("{line}");
        outcome.hear(&line);
    }
    let status = cargo.wait()?;
    let came_to_an_end = outcome.begun == outcome.ended && (status.success() || !outcome.failed.is_empty());
    ensure!(came_to_an_end, "the live tests did not come to an end: {status}");
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libtest_says_is_counted() {
        let mut outcome = Outcome::default();
        for line in [
            "running 3 tests",
            "test time_wait::the_table_is_full ... FAILED",
            "test time_wait::linger2_bounds_fin_wait2 ... ok",
            "test crowd::no_change_is_lost has been running for over 60 seconds",
            "test crowd::no_change_is_lost ... ok",
            "    time_wait::the_table_is_full",
            "test result: FAILED. 2 passed; 1 failed",
            "running 1 test",
        ] {
            outcome.hear(line);
        }
        assert_eq!(outcome.failed, ["time_wait::the_table_is_full"]);
        assert_eq!((outcome.passed, outcome.begun, outcome.ended), (2, 2, 1), "the second one died");
    }
}
