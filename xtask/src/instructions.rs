//! `cargo xtask instructions`: what each part of the user side takes for one close, in instructions of the processor, held
//! against what it took when somebody last looked.
//!
//! Times are those of a machine and a moment; instructions, which valgrind counts, are those of the program. What hashes
//! differ in from run to run is far below what is tolerated.

use std::{collections::BTreeMap, fs};

use anyhow::Context as _;
use clap::Args;
use xshell::{Shell, cmd};

use crate::{baseline, debian, vm::static_build, workspace};

/// What each part took.
const BASELINE: &str = "bench/instructions.toml";

const HEAD: &str = "\
# Instructions that each part of the user side takes for one close: `cargo xtask instructions --write`.
# CI fails where a part takes a tenth more. Whoever changes a figure says why.
";

/// The parts, and how often each is done, in a short run and in a long one; what only the beginning takes is in both.
const PARTS: &[(&str, [u64; 2])] = &[
    ("decode", [500, 2500]),
    ("follow", [500, 2500]),
    ("count", [500, 2500]),
    ("remember", [500, 2500]),
    ("filter", [500, 2500]),
    ("scrape", [2, 12]),
];

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Write down what they take now.
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let sh = static_build::shell()?;
    let counted = count(&sh)?;
    if options.write {
        let lines = counted.iter().map(|(name, count)| format!("{name} = {count}\n"));
        return Ok(sh.write_file(BASELINE, format!("{HEAD}{}", lines.collect::<String>()))?);
    }
    let text = sh.read_file(BASELINE).context("`cargo xtask instructions --write` makes it")?;
    let before: BTreeMap<String, u64> = toml::from_str(&text).context(BASELINE)?;
    baseline::hold(&before, &counted, "instructions for a close")
}

fn count(sh: &Shell) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let target = workspace::target_dir(sh)?;
    let valgrind = debian::unpacked(sh, &target.join("valgrind"), "valgrind")?.join("usr");
    cmd!(sh, "cargo build --release --package tcp-close-bench --bin instructions").run()?;
    let program = workspace::release_dir(sh)?.join("instructions");
    let out = target.join("callgrind.out");
    let run = |part: &str, times: u64| -> anyhow::Result<u64> {
        let (times, binary, library) =
            (times.to_string(), valgrind.join("bin/valgrind"), valgrind.join("libexec/valgrind"));
        cmd!(sh, "{binary} --tool=callgrind --callgrind-out-file={out} --quiet {program} {part} {times}")
            .env("VALGRIND_LIB", library)
            .quiet()
            .run()?;
        let counted = fs::read_to_string(&out).with_context(|| format!("cannot read {}", out.display()))?;
        total(&counted).with_context(|| format!("{} has no total", out.display()))
    };
    let each = PARTS.iter().map(|&(part, [few, many])| {
        let more = run(part, many)?.saturating_sub(run(part, few)?);
        Ok((part, more / (many - few)))
    });
    each.collect()
}

/// All instructions, by callgrind's output.
fn total(counted: &str) -> Option<u64> {
    counted.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        assert_eq!(total("version: 1\nevents: Ir\nfn=(0) a\n1 2\ntotals: 1234\n"), Some(1234));
        assert_eq!(total("events: Ir\n"), None);
    }
}
