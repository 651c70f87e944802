//! `cargo xtask dist`: everything that a release consists of, the same bytes wherever it is made with the same compilers
//! and the same C library.
//!
//! What goes into a package is said once, in `contents`; the formats are files of their own.

mod contents;
mod deb;
mod image;
mod program;
mod rpm;
mod sbom;
mod tarball;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use sha2::{Digest as _, Sha256};
use xshell::{Shell, cmd};

use self::contents::{Contents, Manual};
use crate::{vm::Arch, workspace};

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Only for this architecture; without it, for all.
    #[arg(long, value_enum)]
    arch: Vec<Arch>,
    /// Make all of it a second time, from a clone in another folder, and fail where a byte differs.
    #[arg(long)]
    verify: bool,
}

/// What all of a release has in common.
struct Release {
    version: String,
    /// One sentence, without a period.
    description: String,
    /// In the words of SPDX.
    license: String,
    /// The one time that anything in it bears: of its last commit, in seconds since 1970, or `SOURCE_DATE_EPOCH`.
    time: u32,
    /// The last commit.
    revision: String,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    ensure!(
        !options.verify || cmd!(sh, "git status --porcelain --untracked-files=no").quiet().read()?.is_empty(),
        "what is not committed is not in a clone"
    );
    let folder = make(options)?;
    let checksums = fs::read_to_string(folder.join(CHECKSUMS))?;
    println!("\n{}:", folder.display());
    print!("{checksums}");
    if options.verify {
        let again = checksums_of_a_clone(options)?;
        let differing: Vec<&str> = again.lines().filter(|line| !checksums.contains(line)).collect();
        ensure!(again == checksums, "made in another folder it differs:\n{}", differing.join("\n"));
        println!("made in another folder it is the same, byte for byte");
    }
    Ok(())
}

/// The checksums of what the last commit gives, in a folder of its own, with nothing built before.
fn checksums_of_a_clone(options: &Options) -> anyhow::Result<String> {
    let sh = workspace::shell()?;
    let folder = tempfile::tempdir_in(workspace::target_dir(&sh)?)?;
    let (root, clone) = (workspace::root(), folder.path().join("a clone"));
    cmd!(sh, "git clone --quiet {root} {clone}").run()?;
    sh.change_dir(&clone);
    let target = folder.path().join("target");
    let arches = options.arch.iter().flat_map(|arch| ["--arch", arch.name()]);
    cmd!(sh, "cargo run --quiet --package xtask -- dist {arches...}")
        .env("CARGO_TARGET_DIR", &target)
        // The running cargo has told of its own manifest.
        .env_remove("CARGO_MANIFEST_DIR")
        .run()?;
    Ok(fs::read_to_string(target.join("dist").join(CHECKSUMS))?)
}

/// The name of the file that has the checksums of all others.
const CHECKSUMS: &str = "SHA256SUMS";

/// Makes all of it; gives back the folder.
pub(crate) fn make(options: &Options) -> anyhow::Result<PathBuf> {
    let sh = workspace::shell()?;
    let target = workspace::target_dir(&sh)?;
    let release = Release::of_this_checkout(&sh)?;
    let folder = target.join("dist");
    // Nothing of an earlier release may be taken for a part of this one.
    sh.remove_path(&folder)?;
    fs::create_dir_all(&folder)?;
    let arches = if options.arch.is_empty() { &[Arch::X86_64, Arch::Aarch64][..] } else { &options.arch };
    // Help in other forms is asked of the program, so of one that runs here.
    let here = program::build(&sh, Arch::X86_64)?;
    let manual = Manual::of(&sh, &here)?;
    let mut images = Vec::new();
    for &arch in arches {
        println!("packages for {}", arch.name());
        let program = if arch == Arch::X86_64 { here.clone() } else { program::build(&sh, arch)? };
        let program = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
        let contents = Contents::of(&sh, &program, &manual)?;
        deb::write(&sh, &release, arch, &contents, &folder)?;
        rpm::write(&release, arch, &contents, &folder)?;
        tarball::write(&release, arch, &contents, &folder)?;
        images.push((arch, program));
    }
    image::write(&release, &images, &folder)?;
    tarball::for_kubernetes(&release, &folder)?;
    sh.copy_file("packaging/oci/seccomp.json", folder.join("seccomp.json"))?;
    sbom::write(&release, &folder)?;
    write_checksums(&folder)?;
    Ok(folder)
}

/// Makes nothing but the package for Debian, for this architecture, in `folder`.
pub(crate) fn package(sh: &Shell, folder: &Path) -> anyhow::Result<PathBuf> {
    let release = Release::of_this_checkout(sh)?;
    let program = program::build(sh, Arch::X86_64)?;
    let contents = Contents::of(sh, &fs::read(&program)?, &Manual::of(sh, &program)?)?;
    deb::write(sh, &release, Arch::X86_64, &contents, folder)
}

/// Makes nothing but the image, with the variant for this architecture, in `folder`.
pub(crate) fn image(sh: &Shell, folder: &Path) -> anyhow::Result<PathBuf> {
    let release = Release::of_this_checkout(sh)?;
    let program = fs::read(program::build(sh, Arch::X86_64)?)?;
    image::write(&release, &[(Arch::X86_64, program)], folder)
}

impl Release {
    fn of_this_checkout(sh: &Shell) -> anyhow::Result<Self> {
        let metadata =
            cargo_metadata::MetadataCommand::new().no_deps().current_dir(workspace::root()).exec()?;
        let daemon = metadata.packages.iter().find(|package| package.name.as_str() == "tcp-close-daemon");
        let daemon = daemon.context("the workspace has no tcp-close-daemon")?;
        let time = match env::var("SOURCE_DATE_EPOCH") {
            Ok(time) => time,
            Err(_) => cmd!(sh, "git log -1 --format=%ct").quiet().read()?,
        };
        Ok(Self {
            version: daemon.version.to_string(),
            description: daemon.description.clone().context("tcp-close-daemon has no description")?,
            license: daemon.license.clone().context("tcp-close-daemon has no license")?,
            time: time.trim().parse().with_context(|| format!("no time in seconds: {time}"))?,
            revision: cmd!(sh, "git rev-parse HEAD").quiet().read()?,
        })
    }
}

fn write_checksums(folder: &Path) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("all names are ours")?;
        let sum = hex::encode(Sha256::digest(fs::read(entry.path())?));
        lines.push(format!("{sum}  {name}\n"));
    }
    lines.sort_by(|one, other| one.split_whitespace().last().cmp(&other.split_whitespace().last()));
    ensure!(!lines.is_empty(), "nothing was made");
    fs::write(folder.join(CHECKSUMS), lines.concat())?;
    Ok(())
}
