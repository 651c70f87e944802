//! The programs that the lab needs on this machine: the emulator, and for another architecture its compiler.
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

    /// How to compile C and link programs for `arch`, unless the machine's own compiler does that.
    pub(super) fn cross_compiler(&self, arch: Arch) -> anyhow::Result<Option<CrossCompiler>> {
        if arch.name() == env::consts::ARCH {
            return Ok(None);
        }
        let triplet = format!("{}-linux-gnu", arch.name());
        let target = arch.target().replace('-', "_");
        let libc = self.folder.join("usr").join(&triplet);
        let option = |letter: &str, part: &str| {
            let mut option = OsString::from(letter);
            option.push(libc.join(part));
            option
        };
        let program = |name: &str| {
            let name = format!("{triplet}-{name}");
            let ours = self.folder.join("usr/bin").join(&name);
            // What this machine has installed is not unpacked a second time.
            if ours.exists() { ours.into_os_string() } else { name.into() }
        };
        Ok(Some(CrossCompiler {
            variables: vec![
                (format!("CARGO_TARGET_{}_LINKER", target.to_uppercase()), program("gcc")),
                // For the C that some crates have; the headers of the C library are not where it looks by itself.
                (format!("CC_{target}"), program("gcc")),
                (format!("CFLAGS_{target}"), option("-isystem", "include")),
                (format!("AR_{target}"), program("ar")),
                // Where its own libraries are.
                ("LD_LIBRARY_PATH".to_owned(), before("LD_LIBRARY_PATH", self.libraries())?),
            ],
            // Where the beginning of every program is, and where the C library.
            link: vec![option("-B", "lib"), option("-L", "lib")],
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

/// A compiler of C for another architecture.
pub(super) struct CrossCompiler {
    /// What tells cargo and build scripts of it.
    pub(super) variables: Vec<(String, OsString)>,
    /// What it is told when it links.
    pub(super) link: Vec<OsString>,
}

/// The value of a variable that lists folders, with ours before those it has.
fn before<const N: usize>(variable: &str, ours: [PathBuf; N]) -> anyhow::Result<OsString> {
    let theirs = env::var_os(variable).unwrap_or_default();
    let all = ours.into_iter().chain(env::split_paths(&theirs).filter(|path| !path.as_os_str().is_empty()));
    env::join_paths(all).with_context(|| format!("cannot extend {variable}"))
}
