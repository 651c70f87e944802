//! What every machine of an architecture is made of: the emulator's programs, a busybox, and Debian's kernels.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use xshell::Shell;

use super::{
    Arch,
    kernel::{self, Kernel},
    tools::Tools,
};
use crate::{
    cache,
    debian::{Mirrors, PrivateApt},
    workspace,
};

/// Everything that is downloaded.
pub(super) struct Supplies<'s> {
    /// Where it is kept, and what machines write.
    pub(super) folder: PathBuf,
    pub(super) mirrors: Mirrors,
    pub(super) tools: Tools,
    pub(super) busybox: Vec<u8>,
    arch: Arch,
    apt: PrivateApt<'s>,
}

impl<'s> Supplies<'s> {
    /// Downloads what is not here yet.
    pub(super) fn provide(sh: &'s Shell, arch: Arch) -> anyhow::Result<Self> {
        let folder = folder(sh)?;
        let mirrors = Mirrors::of_this_machine(sh)?;
        let tools = Tools::provide(sh, &mirrors, &folder, arch)?;
        let sources = mirrors.sources(kernel::SUITES, kernel::UPDATED);
        let apt = PrivateApt::new(sh, folder.join("apt").join(arch.name()), &sources)?
            .of_architecture(arch.debian());
        apt.update_if_old()?;
        let busybox = cache::folder(&folder.join(format!("busybox-{}", arch.name())), |folder| {
            apt.unpack("busybox-static", folder)
        })?;
        let busybox = fs::read(busybox.join("bin/busybox")).context("busybox-static has no bin/busybox")?;
        Ok(Self { folder, mirrors, tools, busybox, arch, apt })
    }

    /// The newest kernel of a series.
    pub(super) fn kernel(&self, series: &str) -> anyhow::Result<Kernel> {
        Kernel::provide(&self.apt, &self.folder.join("kernels"), self.arch, series)
    }
}

/// Where all that is kept.
pub(super) fn folder(sh: &Shell) -> anyhow::Result<PathBuf> {
    let folder = workspace::target_dir(sh)?.join("vm");
    for part in ["apt", "kernels", "logs", "initramfs"] {
        fs::create_dir_all(folder.join(part))?;
    }
    Ok(folder)
}
