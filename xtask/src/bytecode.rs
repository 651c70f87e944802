//! `cargo xtask bytecode`: the kernel objects in `tcp-close-ebpf/bytecode/`.
//!
//! They are committed, so that building `tcp-close` takes nothing but stable Rust and the object that was
//! reviewed is the one that runs.
//! In return CI builds them anew and compares byte for byte.

mod manifest;
mod object;
mod recipe;
mod sources;
mod stack;

use std::{collections::BTreeMap, env, fs, path::Path};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use xshell::Shell;

use self::manifest::Manifest;
pub(crate) use self::recipe::{ARCHITECTURES, Kernel};
use crate::workspace;

/// Where the committed objects are, below the root.
const COMMITTED: &str = "tcp-close-ebpf/bytecode";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Build the objects and write them and their manifest to tcp-close-ebpf/bytecode/.
    Build,
    /// Build the objects elsewhere and fail where they differ from the committed ones.
    Verify,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Build => build(),
        Command::Verify => verify(),
    }
}

fn build() -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    let target = workspace::target_dir(&sh)?;
    let fresh = Bytecode::build(&sh, &target, &target.join("bpf"))?;
    let folder = workspace::root().join(COMMITTED);
    fresh.write(&folder)?;
    println!("wrote {}", folder.display());
    for (file, bytes) in &fresh.files {
        println!("{file}: {} bytes", bytes.len());
    }
    Ok(())
}

/// As [`build`], from nothing and into a folder that is thrown away, and compared.
pub(crate) fn verify() -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    let target = workspace::target_dir(&sh)?;
    fs::create_dir_all(&target)?;
    // Beside the target directory, not in the system's temporary one: that may be small, or memory.
    let scratch = tempfile::tempdir_in(&target)?;
    let fresh = Bytecode::build(&sh, &target, scratch.path())?;

    let committed = workspace::root().join(COMMITTED);
    let differing: Vec<_> = fresh
        .files
        .iter()
        .filter(|(file, bytes)| fs::read(committed.join(file)).ok().as_ref() != Some(bytes))
        .map(|(file, _)| file.as_str())
        .collect();
    if differing.is_empty() {
        println!("the committed bytecode is what its sources give");
        return Ok(());
    }
    let folder = target.join("bytecode-fresh");
    fresh.write(&folder)?;
    bail!(
        "{} in {COMMITTED} {} not what the sources give; the fresh files are in {}: review and commit them, \
         or run `cargo xtask bytecode build`",
        differing.join(", "),
        if differing.len() == 1 { "is" } else { "are" },
        folder.display()
    )
}

/// Bytes of the kernel's stack that each committed program takes at most, of those for this machine.
pub(crate) fn stack_depths() -> anyhow::Result<BTreeMap<String, u64>> {
    let path = workspace::root().join(COMMITTED).join(manifest::object_file(env::consts::ARCH));
    stack::depths(&fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?)
}

/// What the folder of the committed bytecode holds: file names and contents.
struct Bytecode {
    files: Vec<(String, Vec<u8>)>,
}

impl Bytecode {
    fn build(sh: &Shell, target: &Path, build_dir: &Path) -> anyhow::Result<Self> {
        let kernel = Kernel::new(sh, target)?;
        let mut files = Vec::new();
        for arch in ARCHITECTURES {
            let linked = kernel.build(sh, arch, build_dir)?;
            let linked = fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))?;
            let stripped =
                object::without_dwarf(&linked).with_context(|| format!("cannot strip the {arch} object"))?;
            files.push((manifest::object_file(arch), stripped));
        }
        let manifest = Manifest::describe(&kernel.rustc, &files)?;
        files.push((manifest::FILE.to_owned(), manifest.to_text()?.into_bytes()));
        Ok(Self { files })
    }

    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        for (file, bytes) in &self.files {
            let path = folder.join(file);
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
