//! tcp-close as it is shipped: one file that needs no other, of the same bytes wherever the compilers and the C library
//! are the same.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use crate::{
    debian::Mirrors,
    vm::{Arch, Tools, static_build},
    workspace::{self, Rustc},
};

/// Builds it; gives back where it is.
pub(super) fn build(sh: &Shell, arch: Arch) -> anyhow::Result<PathBuf> {
    let vm = workspace::target_dir(sh)?.join("vm");
    fs::create_dir_all(vm.join("apt"))?;
    let tools = Tools::provide(sh, &Mirrors::of_this_machine(sh)?, &vm, arch)?;
    println!("building tcp-close for {}", arch.name());
    let mut flags = Vec::new();
    for (from, to) in nowhere(sh)? {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    // A folder of its own: what the lab builds has other flags, and would be built anew each time.
    let target = workspace::target_dir(sh)?.join("dist-build");
    let build = cmd!(sh, "cargo build --package tcp-close-daemon --bin tcp-close --target-dir {target}")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    let messages = static_build::command(build, arch, &tools, flags)?.read()?;
    static_build::executable(&messages, "tcp-close").context("cargo names no program that it built")
}

/// What paths of this machine are called in the program, which tells where a panic was.
fn nowhere(sh: &Shell) -> anyhow::Result<Vec<(PathBuf, &'static str)>> {
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let cargo = cargo.context("there is neither CARGO_HOME nor HOME")?;
    let mut paths = vec![
        (workspace::root(), "/tcp-close"),
        (workspace::target_dir(sh)?, "/target"),
        (Rustc::ask(sh)?.library(), "/rust/library"),
    ];
    // A folder for each registry: which one it was does not matter, since Cargo.lock has the checksums.
    for registry in fs::read_dir(cargo.join("registry/src")).context("cargo has no crates yet")? {
        paths.push((registry?.path(), "/crates"));
    }
    Ok(paths)
}
