//! A Debian with systemd on a disk: small, without udev, and with nothing of ours but how it begins and ends.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use crate::{
    cache,
    debian::{self, Mirrors, PrivateApt},
};

/// What is in it beside what every Debian has.
const PACKAGES: &str =
    "systemd,systemd-sysv,libnss-systemd,dbus,curl,iproute2,netcat-openbsd,procps,init-system-helpers";

/// The size of the disk; what is not written takes no room.
const SIZE: &str = "600M";

/// What begins by itself on a Debian, and would only take time here.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-binfmt.service",
    "systemd-random-seed.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp.service",
];

/// Lets the system begin with the job, once all else runs, and turns the machine off after it.
const UNITS: &[(&str, &str)] = &[
    ("vm.target", "[Unit]\nRequires=multi-user.target\nAfter=multi-user.target\nWants=job.service\n"),
    (
        "job.service",
        "[Unit]\nAfter=multi-user.target\n\n\
         [Service]\nType=exec\nExecStart=/bin/bash /job/job.sh\n\
         ExecStopPost=/bin/sh -c 'echo \"VM-EXIT $${EXIT_STATUS:-126}\"; sync; exec systemctl poweroff -ff'\n\
         StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\n",
    ),
];

/// The disk, made now if it was not before.
pub(super) fn provide(sh: &Shell, mirrors: &Mirrors, folder: &Path) -> anyhow::Result<PathBuf> {
    // By what it is made of, so that another one is made when that changes.
    let kept = cache::folder(&folder.join(name()), |kept| {
        println!("Debian with systemd: downloading");
        let suite = debian::codename()?;
        let sources = kept.join("debian.sources");
        fs::write(&sources, mirrors.sources(&[&suite], &[&suite]))?;
        let tools = Tools::provide(sh, mirrors, folder)?;
        let root = kept.join("root");
        tools.install(sh, &suite, &sources, &root)?;
        configure(&root)?;
        tools.make_disk(sh, &root, &kept.join("disk"))?;
        sh.remove_path(&root)?;
        Ok(())
    })?;
    Ok(kept.join("disk"))
}

fn name() -> String {
    use sha2::{Digest as _, Sha256};

    let made_of = format!("{PACKAGES}{SIZE}{MASKED:?}{UNITS:?}");
    hex::encode(&Sha256::digest(made_of)[..6])
}

/// How such a disk is made.
struct Tools {
    folder: PathBuf,
}

impl Tools {
    fn provide(sh: &Shell, mirrors: &Mirrors, folder: &Path) -> anyhow::Result<Self> {
        let unpacked = cache::folder(&folder.join("tools"), |to| {
            let suite = debian::codename()?;
            let sources = mirrors.sources(&[&suite], &[&suite]);
            let apt = PrivateApt::new(sh, folder.join("apt"), &sources)?.beside_what_is_installed();
            apt.update()?;
            apt.unpack_what_is_missing(&["mmdebstrap", "e2fsprogs"], to)
        })?;
        Ok(Self { folder: unpacked })
    }

    /// Installs Debian's packages into a folder.
    fn install(&self, sh: &Shell, suite: &str, sources: &Path, root: &Path) -> anyhow::Result<()> {
        // How this machine reaches its mirrors: proxies and the like.
        let transport = cmd!(sh, "apt-config dump").quiet().read()?;
        let of_transport = |line: &&str| line.starts_with("Acquire::http");
        let options = sh.create_temp_dir()?;
        let options = options.path().join("transport.conf");
        fs::write(&options, transport.lines().filter(of_transport).collect::<Vec<_>>().join("\n") + "\n")?;
        let left_out = ["man", "doc", "locale", "info"]
            .map(|part| format!("--dpkgopt=path-exclude=/usr/share/{part}/*"));
        cmd!(sh, "mmdebstrap --mode=root --variant=minbase --quiet --include={PACKAGES} --aptopt={options}")
            .args(left_out)
            // What is tried is whether all of ours is there.
            .arg("--dpkgopt=path-include=/usr/share/*tcp-close*")
            .args([suite.as_ref(), root.as_os_str(), sources.as_os_str()])
            .env("PATH", self.path()?)
            .env("LD_LIBRARY_PATH", self.libraries())
            .quiet()
            .run()
            .context("mmdebstrap installed nothing")
    }

    fn make_disk(&self, sh: &Shell, root: &Path, disk: &Path) -> anyhow::Result<()> {
        cmd!(sh, "mke2fs -q -t ext4 -O ^has_journal -m 0 -d {root} {disk} {SIZE}")
            .env("PATH", self.path()?)
            .env("LD_LIBRARY_PATH", self.libraries())
            .quiet()
            .run()?;
        Ok(())
    }

    fn path(&self) -> anyhow::Result<std::ffi::OsString> {
        let theirs = env::var_os("PATH").unwrap_or_default();
        let ours = ["usr/bin", "sbin", "usr/sbin"].map(|part| self.folder.join(part));
        let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        Ok(env::join_paths(ours.into_iter().chain(env::split_paths(&theirs)).chain(system))?)
    }

    fn libraries(&self) -> PathBuf {
        self.folder.join(format!("lib/{}-linux-gnu", env::consts::ARCH))
    }
}

/// Has it do the job, and nothing else.
fn configure(root: &Path) -> anyhow::Result<()> {
    let units = root.join("etc/systemd/system");
    for (name, text) in UNITS {
        fs::write(units.join(name), text)?;
    }
    symlink("vm.target", units.join("default.target"))?;
    for unit in MASKED {
        let unit = units.join(unit);
        // Some are switched on there.
        if unit.symlink_metadata().is_ok() {
            fs::remove_file(&unit)?;
        }
        symlink("/dev/null", unit)?;
    }
    let journal = root.join("etc/systemd/journald.conf.d");
    fs::create_dir_all(&journal)?;
    fs::write(journal.join("vm.conf"), "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n")?;
    fs::create_dir_all(root.join("job"))?;
    fs::write(root.join("etc/hostname"), "vm\n")?;
    // apt's own lists are of no use there.
    fs::remove_dir_all(root.join("var/lib/apt/lists"))?;
    Ok(())
}
