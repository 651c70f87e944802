//! How the kernel side is compiled, on stable Rust, to the same bytes on every machine.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use xshell::{Cmd, Shell, cmd};

use crate::workspace::{self, BPF_LINKER, Rustc};

/// One object each: the registers that a kprobe reads its arguments from differ.
pub(crate) const ARCHITECTURES: [&str; 2] = ["aarch64", "x86_64"];

/// Every 64-bit processor that the tool supports runs its BPF in little-endian.
const TARGET: &str = "bpfel-unknown-none";

/// Compiler flags, apart from the architecture and the path remapping.
///
/// BTF is made from the debug information, so that must be full; the DWARF is taken off the linked object.
const RUSTFLAGS: [&str; 2] = ["-Cdebuginfo=2", "-Clink-arg=--btf"];

/// The profile as far as it decides about bytes, apart from what the root `Cargo.toml` says of the package.
///
/// By environment, so that tuning the profile of the daemon leaves the kernel side alone.
const PROFILE: [(&str, &str); 7] = [
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
    ("CARGO_PROFILE_RELEASE_INCREMENTAL", "false"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "none"),
];

/// Everything of this file that the bytes depend on, for the hash of the sources.
pub(crate) fn fingerprint() -> String {
    format!("{TARGET} {RUSTFLAGS:?} {PROFILE:?} bpf-linker {BPF_LINKER}")
}

/// Whether the recipe sets `key` of the release profile, so that `Cargo.toml` has no say in it.
pub(crate) fn overrides(key: &str) -> bool {
    let suffix = key.replace('-', "_").to_uppercase();
    PROFILE.iter().any(|(variable, _)| variable.strip_prefix("CARGO_PROFILE_RELEASE_") == Some(&suffix))
}

/// The toolchain of the kernel side, found and checked.
pub(crate) struct Kernel {
    pub(crate) rustc: Rustc,
    linker: PathBuf,
    remaps: Vec<OsString>,
}

impl Kernel {
    pub(crate) fn new(sh: &Shell, target: &Path) -> anyhow::Result<Self> {
        let rustc = Rustc::ask(sh)?;
        ensure!(
            rustc.library().join("Cargo.lock").exists(),
            "the source of the standard library is not here; run `cargo xtask setup`"
        );
        let linker = workspace::tool(sh, target, "bpf-linker", BPF_LINKER)
            .with_context(|| format!("bpf-linker {BPF_LINKER} is not here; run `cargo xtask setup`"))?;
        let remaps = remaps(&rustc)?;
        Ok(Self { rustc, linker, remaps })
    }

    /// Builds the object for `arch` and returns where it is; it still carries DWARF.
    pub(crate) fn build(&self, sh: &Shell, arch: &str, build_dir: &Path) -> anyhow::Result<PathBuf> {
        println!("building the {arch} object");
        let command =
            cmd!(sh, "cargo build --package tcp-close-ebpf --bin tcp-close --release --locked --quiet");
        self.on_target(command, arch, build_dir).run()?;
        Ok(build_dir.join(TARGET).join("release/tcp-close"))
    }

    /// Runs clippy over the kernel side, as it is built for `arch`.
    pub(crate) fn clippy(&self, sh: &Shell, arch: &str, build_dir: &Path) -> anyhow::Result<()> {
        let command =
            cmd!(sh, "cargo clippy --package tcp-close-ebpf --bin tcp-close --release --locked --quiet");
        Ok(self.on_target(command, arch, build_dir).args(["--", "-D", "warnings"]).run()?)
    }

    fn on_target<'a>(&self, command: Cmd<'a>, arch: &str, build_dir: &Path) -> Cmd<'a> {
        let mut flags: Vec<OsString> = RUSTFLAGS.iter().map(OsString::from).collect();
        // aya-ebpf picks the registers by this; cargo tells its build scripts as CARGO_CFG_BPF_TARGET_ARCH.
        flags.push(format!("--cfg=bpf_target_arch=\"{arch}\"").into());
        flags.extend(self.remaps.iter().cloned());
        command
            .args(["--target", TARGET, "-Zbuild-std=core", "--target-dir"])
            .arg(build_dir)
            // `-Z` flags on the stable compiler.
            .env("RUSTC_BOOTSTRAP", "1")
            // It goes before RUSTFLAGS and every configuration file, and knows no spaces.
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\x1f")))
            // Not as a flag: the path would become part of the symbols' hashes.
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            .envs(PROFILE)
            .env_remove("CARGO_BUILD_RUSTC_WRAPPER")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .quiet()
    }
}

/// Gives every path that the compiler could write into the object a name that is the same everywhere.
fn remaps(rustc: &Rustc) -> anyhow::Result<Vec<OsString>> {
    let cargo_home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => env::home_dir().context("there is no home directory")?.join(".cargo"),
    };
    // rustc takes the last match, so the general comes before the particular.
    let mut pairs = vec![
        (cargo_home.clone(), "/cargo"),
        (rustc.sysroot.clone(), "/rust"),
        (workspace::root(), "/tcp-close"),
    ];
    // A registry's folder is named after its address: a mirror would give another name.
    if let Ok(registries) = fs::read_dir(cargo_home.join("registry/src")) {
        pairs.extend(registries.filter_map(Result::ok).map(|registry| (registry.path(), "/cargo/registry")));
    }
    Ok(pairs
        .into_iter()
        .map(|(from, to)| {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(from);
            flag.push("=");
            flag.push(to);
            flag
        })
        .collect())
}
