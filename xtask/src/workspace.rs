//! Where things are: the checkout, its target directory, the tools that `cargo xtask setup` put there.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;
use xshell::{Shell, cmd};

/// The version of bpf-linker that the committed objects are linked with.
///
/// 0.10.3 is the last that uses the compiler's own LLVM; later ones want a system LLVM.
pub(crate) const BPF_LINKER: &str = "0.10.3";

/// The version of cargo-deny that CI runs.
pub(crate) const CARGO_DENY: &str = "0.20.2";

/// The version of cargo-fuzz that CI runs.
pub(crate) const CARGO_FUZZ: &str = "0.13.2";

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    // The running cargo's word comes first: a target directory shared by two checkouts holds one binary.
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// A shell that stands in the root of the workspace.
pub(crate) fn shell() -> anyhow::Result<Shell> {
    let sh = Shell::new()?;
    sh.change_dir(root());
    Ok(sh)
}

/// Cargo's target directory, wherever configuration or environment put it.
pub(crate) fn target_dir(sh: &Shell) -> anyhow::Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }

    let json = cmd!(sh, "cargo metadata --format-version 1 --no-deps").quiet().read()?;
    let metadata: Metadata =
        serde_json::from_str(&json).context("cannot read the output of cargo metadata")?;
    Ok(metadata.target_directory)
}

/// The variable that tells cargo what to build for, if not for this machine as it is.
pub(crate) const TARGET: &str = "CARGO_BUILD_TARGET";

/// Where cargo puts programs of the release profile.
pub(crate) fn release_dir(sh: &Shell) -> anyhow::Result<PathBuf> {
    let target = target_dir(sh)?;
    Ok(sh.var_os(TARGET).map_or(target.clone(), |triple| target.join(triple)).join("release"))
}

/// Where `cargo xtask setup` installs programs; they are in `bin/` below.
pub(crate) fn tools(target: &Path) -> PathBuf {
    target.join("tools")
}

/// The program `name` in version `version` where setup installed it, if it is there.
pub(crate) fn tool(sh: &Shell, target: &Path, name: &str, version: &str) -> Option<PathBuf> {
    let path = tools(target).join("bin").join(name);
    if !path.exists() {
        return None;
    }
    let answer = cmd!(sh, "{path} --version").quiet().ignore_stderr().read().ok()?;
    (answer.split_whitespace().nth(1) == Some(version)).then_some(path)
}

/// The compiler in use.
#[derive(Debug)]
pub(crate) struct Rustc {
    /// Its first line of `--version`, as `rustc 1.95.0 (59807616e 2026-04-14)`.
    pub(crate) line: String,
    /// Its version alone, as `1.95.0`.
    pub(crate) release: String,
    /// The folder it is installed in.
    pub(crate) sysroot: PathBuf,
}

impl Rustc {
    /// Asks the `rustc` that cargo would use in the workspace.
    pub(crate) fn ask(sh: &Shell) -> anyhow::Result<Self> {
        let line = cmd!(sh, "rustc --version").quiet().read()?;
        let release = line.split_whitespace().nth(1).context("rustc --version names no version")?.to_owned();
        let sysroot = cmd!(sh, "rustc --print sysroot").quiet().read()?.into();
        Ok(Self { line, release, sysroot })
    }

    /// Where `-Z build-std` looks for the source of the standard library.
    pub(crate) fn library(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }
}
