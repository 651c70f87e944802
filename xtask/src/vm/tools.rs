//! The programs that the lab needs on this machine: the emulator, and for another architecture its linker.
//!
//! They come from the machine's own release of Debian, so that they fit the libraries that it has; what it lacks is
//! unpacked beside them.
//! Nothing is installed.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use xshell::Shell;

use super::Arch;
use crate::{
    cache,
    debian::{self, Mirrors, PrivateApt},
};

pub(crate) struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// What it takes to run machines of `arch`.
    pub(crate) fn provide(sh: &Shell, mirrors: &Mirrors, vm: &Path, arch: Arch) -> anyhow::Result<Self> {
        let folder = cache::folder(&vm.join(format!("tools-{}", arch.name())), |folder| {
            println!("tools for {}: downloading", arch.name());
            let codename = debian::codename()?;
            let suites = [codename.as_str(), &format!("{codename}-updates")];
            let apt = PrivateApt::new(sh, vm.join("apt/tools"), &mirrors.sources(&suites, &[&codename]))?
                .beside_what_is_installed();
            apt.update_if_old()?;
            apt.unpack_what_is_missing(arch.tools(), folder)
        })?;
        Ok(Self { folder })
    }

    /// A command that finds the tools and their libraries, and otherwise what the machine has.
    ///
    /// It is killed when the thread that starts it ends, so that nothing is left behind however we end.
    pub(super) fn command(&self, program: &str) -> anyhow::Result<Command> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]);
        command.env("PATH", before("PATH", [self.folder.join("usr/bin")])?);
        command.env("LD_LIBRARY_PATH", before("LD_LIBRARY_PATH", self.libraries())?);
        Ok(command)
    }

    /// How to link programs for `arch`, unless the machine's own linker does that.
    pub(super) fn cross_linker(&self, arch: Arch) -> anyhow::Result<Option<CrossLinker>> {
        if arch.name() == env::consts::ARCH {
            return Ok(None);
        }
        let triplet = format!("{}-linux-gnu", arch.name());
        let libc = self.folder.join("usr").join(&triplet).join("lib");
        let option = |letter: &str| {
            let mut option = OsString::from(letter);
            option.push(&libc);
            option
        };
        Ok(Some(CrossLinker {
            variable: format!("CARGO_TARGET_{}_LINKER", arch.target().replace('-', "_").to_uppercase()),
            program: Some(self.folder.join(format!("usr/bin/{triplet}-gcc")))
                .filter(|ours| ours.exists())
                // What this machine has installed is not unpacked a second time.
                .unwrap_or_else(|| format!("{triplet}-gcc").into()),
            // Where the beginning of every program is, and where the C library.
            arguments: vec![option("-B"), option("-L")],
            libraries: before("LD_LIBRARY_PATH", self.libraries())?,
        }))
    }

    fn libraries(&self) -> [PathBuf; 2] {
        let triplet = format!("{}-linux-gnu", env::consts::ARCH);
        [self.folder.join("usr/lib").join(&triplet), self.folder.join("lib").join(triplet)]
    }

    /// Where the emulator looks for firmware.
    pub(super) fn firmware(&self) -> [PathBuf; 2] {
        ["usr/share/qemu", "usr/share/seabios"].map(|folder| self.folder.join(folder))
    }
}

/// A linker for programs of another architecture.
pub(super) struct CrossLinker {
    /// The variable that tells cargo of it.
    pub(super) variable: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// Where its own libraries are, in the form of `LD_LIBRARY_PATH`.
    pub(super) libraries: OsString,
}

/// The value of a variable that lists folders, with ours before those it has.
fn before<const N: usize>(variable: &str, ours: [PathBuf; N]) -> anyhow::Result<OsString> {
    let theirs = env::var_os(variable).unwrap_or_default();
    let all = ours.into_iter().chain(env::split_paths(&theirs).filter(|path| !path.as_os_str().is_empty()));
    env::join_paths(all).with_context(|| format!("cannot extend {variable}"))
}
