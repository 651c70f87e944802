//! The source of the standard library, of exactly the compiler's version, where `-Z build-std` looks for it.
//!
//! rustup's own component comes first.
//! Where rustup cannot download, Debian's `rust-src` package holds the same source.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use xshell::{Shell, cmd};

use crate::{
    debian::{self, Mirrors, PrivateApt},
    workspace::Rustc,
};

/// Debian suites to look in, the likeliest and smallest first.
const SUITES: [&str; 5] = ["trixie-backports", "trixie", "forky-backports", "forky", "sid"];

/// Beside `library`: the version that we put there. rustup's component has no such file.
const MARKER: &str = "version-of-library";

pub(super) fn provide(sh: &Shell) -> anyhow::Result<()> {
    let rustc = Rustc::ask(sh)?;
    let release = &rustc.release;
    if is_here(&rustc) {
        println!("rust-src {release}: is here");
        return Ok(());
    }

    println!("rust-src {release}: asking rustup");
    if marker(&rustc).exists() {
        // Ours, and of another version; rustup would not write over files that it does not know.
        fs::remove_dir_all(rustc.library())?;
        fs::remove_file(marker(&rustc))?;
    }
    let rustup = cmd!(sh, "rustup component add rust-src").env("RUST_BACKTRACE", "0").quiet().run();
    if rustup.is_ok() && is_here(&rustc) {
        return Ok(());
    }

    println!("rust-src {release}: rustup cannot; asking Debian's package");
    from_debian(sh, &rustc).with_context(|| {
        format!(
            "cannot provide rust-src {release}; put the compiler's `library` folder at {}",
            rustc.library().display()
        )
    })
}

fn is_here(rustc: &Rustc) -> bool {
    // What rustup manages follows the compiler; what we put there does not, when rustup updates the compiler.
    let ours = fs::read_to_string(marker(rustc)).ok();
    rustc.library().join("Cargo.lock").exists() && ours.is_none_or(|version| version.trim() == rustc.release)
}

fn marker(rustc: &Rustc) -> PathBuf {
    rustc.library().with_file_name(MARKER)
}

fn from_debian(sh: &Shell, rustc: &Rustc) -> anyhow::Result<()> {
    let mirrors = Mirrors::of_this_machine(sh)?;
    let scratch = tempfile::tempdir()?;
    for suite in SUITES {
        let apt = PrivateApt::new(sh, scratch.path().join(suite), &debian::source(&mirrors.main, &[suite]))?;
        // Not every suite is on every mirror.
        if apt.update().is_err() {
            continue;
        }
        let upstream = |version: &&String| version.split(['+', '-', '~']).next() == Some(&rustc.release);
        if let Some(version) = apt.versions("rust-src")?.iter().find(upstream) {
            println!("rust-src {}: {version} in {suite}", rustc.release);
            let unpacked = scratch.path().join("unpacked");
            apt.unpack(&format!("rust-src={version}"), &unpacked)?;
            return put(sh, rustc, &unpacked.join(format!("usr/src/rustc-{}/library", rustc.release)));
        }
    }
    bail!("the machine's Debian mirror has no rust-src {} in any of {}", rustc.release, SUITES.join(", "))
}

/// Copies `library` into the sysroot; it appears there whole or not at all.
fn put(sh: &Shell, rustc: &Rustc, library: &Path) -> anyhow::Result<()> {
    let place = rustc.library();
    let partial = place.with_file_name("library.partial");
    let folder = place.parent().context("the sysroot has no parent folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    cmd!(sh, "rm -rf {partial}").quiet().run()?;
    cmd!(sh, "cp -a {library} {partial}").quiet().run()?;
    cmd!(sh, "rm -rf {place}").quiet().run()?;
    fs::rename(&partial, &place)?;
    fs::write(marker(rustc), format!("{}\n", rustc.release))?;
    println!("rust-src {}: copied to {}", rustc.release, place.display());
    Ok(())
}
