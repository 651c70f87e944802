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
    /// Only tests whose name contains this.
    filter: Option<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    if !options.live {
        unit(&sh, options.filter.as_deref())?;
    }
    if !options.unit {
        live(&sh, options.filter.as_deref())?;
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

pub(crate) fn live(sh: &Shell, filter: Option<&str>) -> anyhow::Result<()> {
    println!("live tests on this kernel");
    let failed = live_tests(sh, &["--test-threads", "8"], filter.as_slice())?;
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// [`live`], but that what fails gets a second chance, alone, and is named.
///
/// Kernels without trampolines were seen to run no program for up to 3 of 1000 events in softirqs while the machine
/// is busy, and to count no miss: a test of such an event is right to fail, and says nothing about us.
/// In `vm` there is no second chance.
pub(crate) fn live_with_second_chance(sh: &Shell) -> anyhow::Result<()> {
    println!("live tests on this kernel");
    let failed = live_tests(sh, &["--test-threads", "8"], &[])?;
    if failed.is_empty() {
        return Ok(());
    }
    let names = failed.join(", ");
    ensure!(failed.len() <= MOST_SECOND_CHANCES, "failed: {names}");
    println!("\nfailed beside others, now alone: {names}");
    let tests: Vec<&str> = failed.iter().map(String::as_str).collect();
    let failed = live_tests(sh, &["--test-threads", "1", "--exact"], &tests)?;
    ensure!(failed.is_empty(), "failed twice: {}", failed.join(", "));
    println!("failed beside others and passed alone: {names}");
    Ok(())
}

/// More failures than these are no accident.
const MOST_SECOND_CHANCES: usize = 2;

/// Runs live tests; gives back the names of those that failed.
fn live_tests(sh: &Shell, options: &[&str], tests: &[&str]) -> anyhow::Result<Vec<String>> {
    let root = rustix::process::geteuid().is_root();
    ensure!(
        root || cmd!(sh, "sudo --version").quiet().ignore_stdout().ignore_stderr().run().is_ok(),
        "the live tests load programs into the kernel: run `cargo xtask test --live` as root"
    );
    cmd!(sh, "cargo build --release --package tcp-close-daemon --bin tcp-close").run()?;
    let program = workspace::target_dir(sh)?.join("release/tcp-close");
    // cargo itself stays unprivileged, so that no file in the target directory becomes root's.
    let runner = ["--config", "target.'cfg(all())'.runner = ['sudo', '-E']"];
    let runner = if root { &[][..] } else { &runner[..] };
    let command = cmd!(
        sh,
        "cargo {runner...} test --release --package tcp-close-test --no-fail-fast -- {options...} {tests...}"
    )
    .env("TCP_CLOSE_BIN", program);
    println!("$ {command}");
    let mut cargo = Command::from(command).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut failed = Vec::new();
    for line in BufReader::new(cargo.stdout.take().context("its stdout is a pipe")?).lines() {
        let line = line?;
        println!("{line}");
        failed.extend(failed_test(&line).map(str::to_owned));
    }
    let status = cargo.wait()?;
    ensure!(status.success() || !failed.is_empty(), "the live tests did not come to an end: {status}");
    Ok(failed)
}

/// The name of the test that a line of libtest says failed.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_is_known_by_its_line() {
        for (line, expected) in [
            ("test time_wait::the_table_is_full ... FAILED", Some("time_wait::the_table_is_full")),
            ("test time_wait::the_table_is_full ... ok", None),
            ("test result: FAILED. 97 passed; 1 failed", None),
            ("    time_wait::the_table_is_full", None),
        ] {
            assert_eq!(failed_test(line), expected);
        }
    }
}
