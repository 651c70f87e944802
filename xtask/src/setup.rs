//! `cargo xtask setup`: provides the toolchain of the kernel side on a machine that has only Rust.
//!
//! Does nothing for what is there already, so it may be run at any time.

mod rust_src;

use std::path::Path;

use clap::Args;
use xshell::{Shell, cmd};

use crate::workspace::{self, BPF_LINKER, CARGO_DENY, CARGO_FUZZ};

#[derive(Args)]
pub(crate) struct Options {
    /// Install what only CI needs as well: cargo-deny and cargo-fuzz.
    #[arg(long)]
    ci: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    let target = workspace::target_dir(&sh)?;
    rust_src::provide(&sh)?;
    install(&sh, &target, "bpf-linker", BPF_LINKER)?;
    if options.ci {
        install(&sh, &target, "cargo-deny", CARGO_DENY)?;
        install(&sh, &target, "cargo-fuzz", CARGO_FUZZ)?;
    }
    Ok(())
}

fn install(sh: &Shell, target: &Path, name: &str, version: &str) -> anyhow::Result<()> {
    if workspace::tool(sh, target, name, version).is_some() {
        println!("{name} {version}: is here");
        return Ok(());
    }
    println!("{name} {version}: installing");
    let root = workspace::tools(target);
    // Optimised as their authors want them, they take longer to build than they save. Without CARGO_TARGET_DIR cargo
    // builds in a temporary folder and takes it away afterwards.
    cmd!(sh, "cargo install --locked {name} --version {version} --root {root} --force --quiet")
        .env_remove("CARGO_TARGET_DIR")
        .envs([
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
            ("CARGO_PROFILE_RELEASE_LTO", "off"),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        ])
        .quiet()
        .run()?;
    Ok(())
}
