//! `cargo xtask ci units`: systemd's own word on how much of the host the units lay open, and containers held to the same.

mod system_calls;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::ensure;
use xshell::{Cmd, Shell, cmd};

use crate::{
    cache,
    debian::{self, Mirrors, PrivateApt},
    workspace,
};

const UNIT: &str = "packaging/systemd/tcp-close.service";
const DROP_IN: &str = "packaging/systemd/least-privilege.conf";

/// systemd's groups of system calls, as the version lists them that is in Debian 12: another's would be another profile.
const GROUPS: &str = "xtask/src/units/groups.txt";

/// What the unit allows, for containers.
const PROFILE: &str = "packaging/oci/seccomp.json";

/// The most that `systemd-analyze security` may count, in tenths: for the unit as it is, and with the drop-in.
const MOST: [u32; 2] = [21, 15];

pub(crate) fn check(sh: &Shell) -> anyhow::Result<()> {
    let unpacked = systemd(sh)?;
    let folder = sh.create_temp_dir()?;
    let unit_in = |name: &str| -> anyhow::Result<PathBuf> {
        let folder = sh.create_dir(folder.path().join(name))?;
        sh.copy_file(UNIT, &folder)?;
        Ok(folder.join("tcp-close.service"))
    };
    let [plain, least] = [unit_in("plain")?, unit_in("least")?];
    sh.copy_file(DROP_IN, sh.create_dir(least.with_extension("service.d"))?)?;
    for (unit, most) in [plain, least].iter().zip(MOST) {
        let most = most.to_string();
        let security = cmd!(sh, "systemd-analyze security --offline=true --threshold={most} {unit}");
        let verdict = unpacked_in(&unpacked, security).read()?;
        println!("{}", verdict.lines().last().unwrap_or_default());
    }
    let update = env::var_os("UPDATE_EXPECT").is_some();
    if update {
        let groups = cmd!(sh, "systemd-analyze syscall-filter --no-pager");
        sh.write_file(GROUPS, unpacked_in(&unpacked, groups).ignore_stderr().read()? + "\n")?;
    }
    let profile = system_calls::profile(&sh.read_file(UNIT)?, &sh.read_file(GROUPS)?)?;
    if update {
        sh.write_file(PROFILE, &profile)?;
    }
    ensure!(
        sh.read_file(PROFILE)? == profile,
        "{PROFILE} allows something else than {UNIT}: UPDATE_EXPECT=1 cargo xtask ci units"
    );
    Ok(())
}

/// A command that finds what was unpacked.
fn unpacked_in<'a>(unpacked: &Path, command: Cmd<'a>) -> Cmd<'a> {
    let path = env::var("PATH").unwrap_or_default();
    let libraries = unpacked.join(format!("usr/lib/{}-linux-gnu", env::consts::ARCH));
    command
        .env("PATH", format!("{}/usr/bin:{path}", unpacked.display()))
        .env("LD_LIBRARY_PATH", format!("{0}:{0}/systemd", libraries.display()))
        .quiet()
}

/// Debian's, unpacked beside what is installed, unless it is installed itself.
fn systemd(sh: &Shell) -> anyhow::Result<PathBuf> {
    let folder = workspace::target_dir(sh)?.join("systemd");
    cache::folder(&folder.join("unpacked"), |to| {
        println!("systemd: downloading");
        let suite = debian::codename()?;
        let sources = Mirrors::of_this_machine(sh)?.sources(&[&suite], &[&suite]);
        let apt = PrivateApt::new(sh, folder.join("apt"), &sources)?.beside_what_is_installed();
        apt.update()?;
        fs::create_dir_all(to)?;
        apt.unpack_what_is_missing(&["systemd"], to)
    })
}
