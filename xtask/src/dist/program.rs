//! tcp-close as it is shipped: one file that needs no other, of the same bytes wherever the compilers and the C library
//! are the same.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use crate::{
    debian::Mirrors,
    vm::{Arch, Tools, static_build},
    workspace,
};

/// Builds it; gives back where it is.
pub(super) fn build(sh: &Shell, arch: Arch) -> anyhow::Result<PathBuf> {
    let vm = workspace::target_dir(sh)?.join("vm");
    fs::create_dir_all(vm.join("apt"))?;
    let tools = Tools::provide(sh, &Mirrors::of_this_machine(sh)?, &vm, arch)?;
    println!("building tcp-close for {}", arch.name());
    let build = cmd!(sh, "cargo build --package tcp-close-daemon --bin tcp-close");
    let messages = static_build::command(sh, build, arch, &tools)?.read()?;
    static_build::executable(&messages, "tcp-close").context("cargo names no program that it built")
}
