//! `cargo xtask programs`: what each program takes of the kernel, held against what it took when somebody last looked: steps of
//! the verifier, which gives up after a million, and bytes of stack, of which there are 512.
//!
//! How the verifier goes about it differs from kernel to kernel, so its steps are compared on the kernel of which they were
//! written down; and it tells them of programs that were loaded there. Stack is the object's alone.

use std::{collections::BTreeMap, env, fs};

use anyhow::Context as _;
use aya::programs::loaded_programs;
use clap::Args;
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

use crate::{
    baseline,
    bench::observer::{Observer, Watching},
    bytecode,
    vm::static_build,
    workspace,
};

/// What each took.
const BASELINE: &str = "bench/programs.toml";

const HEAD: &str = "\
# What each program takes of the kernel: bytes of stack, and steps of the verifier on this kernel.
# Written by `cargo xtask programs --write`.
# CI fails where a program takes a tenth more. Whoever changes a figure says why.

";

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Write down what they take now.
    #[arg(long)]
    write: bool,
}

/// By program.
#[derive(Deserialize, Serialize)]
struct Baseline {
    /// As `6.18 x86_64`.
    kernel: String,
    /// Of every program for this architecture.
    stack: BTreeMap<String, u64>,
    /// Of those that are loaded on this kernel.
    verified: BTreeMap<String, u64>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let sh = static_build::shell()?;
    cmd!(sh, "cargo build --release --package tcp-close-daemon --bin tcp-close").run()?;
    let daemon = Watching::start(&Observer::ours(&workspace::release_dir(&sh)?, &[]))?;
    let (kernel, stack) = (kernel(&sh)?, bytecode::stack_depths()?);
    if options.write {
        let now = Baseline { kernel, stack, verified: verified(daemon.pid())? };
        return Ok(sh.write_file(BASELINE, format!("{HEAD}{}", toml::to_string(&now)?))?);
    }
    let text = sh.read_file(BASELINE).context("`cargo xtask programs --write` makes it")?;
    let before: Baseline = toml::from_str(&text).context(BASELINE)?;
    let stack = baseline::hold(&before.stack, &stack, "bytes of stack");
    if before.kernel != kernel {
        println!("steps of the verifier are known of Linux {}, and this is {kernel}", before.kernel);
        return stack;
    }
    let mut verified = verified(daemon.pid())?;
    verified.retain(|name, steps| {
        let is_known = before.verified.contains_key(name);
        if !is_known {
            println!("{name} takes {steps} steps here; where they were written down, it was not loaded");
        }
        is_known
    });
    baseline::hold(&before.verified, &verified, "steps of the verifier").and(stack)
}

/// The first two numbers of the release, and the architecture.
fn kernel(sh: &Shell) -> anyhow::Result<String> {
    let release = cmd!(sh, "uname -r").quiet().read()?;
    let numbers: Vec<&str> = release.split(['.', '-']).take(2).collect();
    Ok(format!("{} {}", numbers.join("."), env::consts::ARCH))
}

/// Steps that the verifier took for each program that a process has open.
pub(crate) fn verified(pid: u32) -> anyhow::Result<BTreeMap<String, u64>> {
    let names: Vec<String> = bytecode::stack_depths()?.into_keys().collect();
    let open = ids(pid)?;
    let mut verified = BTreeMap::new();
    for program in loaded_programs() {
        // Somebody else's may go away between being listed and being asked for.
        let Ok(program) = program else { continue };
        if open.contains(&program.id()) {
            let name = program.name_as_str().context("the name of a program")?;
            let steps = program.verified_instruction_count().context("Linux tells the steps since 5.16")?;
            // Where several have one name, the most of any.
            let most = verified.entry(in_full(&names, name).to_owned()).or_default();
            *most = u64::from(steps).max(*most);
        }
    }
    Ok(verified)
}

/// The ids of the programs that a process has open.
fn ids(pid: u32) -> anyhow::Result<Vec<u32>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let id = |info: String| info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
    Ok(entries.filter_map(|entry| id(fs::read_to_string(entry.ok()?.path()).ok()?)).collect())
}

/// The kernel keeps fifteen characters of a program's name; where several begin so, that is all that is known.
fn in_full<'n>(names: &'n [String], short: &'n str) -> &'n str {
    let mut of_ours = names.iter().filter(|name| name.starts_with(short));
    match (of_ours.next(), of_ours.next()) {
        (Some(name), None) => name,
        _ => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_whole() {
        let names = ["timer_start", "tcp_retransmit_skb", "fentry_tcp_set_state_1", "fentry_tcp_set_state_2"];
        let names = names.map(str::to_owned);
        assert_eq!(in_full(&names, "timer_start"), "timer_start");
        assert_eq!(in_full(&names, "tcp_retransmit_"), "tcp_retransmit_skb");
        assert_eq!(in_full(&names, "fentry_tcp_set_"), "fentry_tcp_set_");
    }

    #[test]
    fn every_program_has_room_on_the_stack() {
        for (program, depth) in bytecode::stack_depths().expect("the committed object can be read") {
            assert!(depth <= 512, "{program} takes {depth} bytes of stack");
        }
    }
}
