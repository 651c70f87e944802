//! `cargo xtask system`: the package on a Debian with systemd, from its installation to its end.
//!
//! A whole system boots in an emulated machine, is told to install the package, and asserts by itself what becomes of
//! it; a Prometheus of this machine scrapes it meanwhile.

mod root;
mod scrape;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;

use super::{
    Arch,
    initramfs::Initramfs,
    kernel::Kernel,
    machine::{End, Machine, News, Processors},
    modules,
    supplies::{self, Supplies},
};
use crate::{dist, prometheus::Programs, running::free_port, workspace};

/// Debian 12's own.
const KERNEL: &str = "6.1";

/// Its disk and its network, and what the tests of every machine need.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "virtio_net", "inet_diag", "tcp_diag"];

const CMDLINE: &str = "systemd.show_status=0 systemd.log_target=journal audit=0";

/// The first process: finds the disk, and leaves the rest to systemd.
const INIT: &str = include_str!("system/init.sh");

/// What is done in the system, and what must come of it.
const JOB: &str = include_str!("system/job.sh");

/// Where the daemon is scraped, as the job has its socket listen.
const METRICS: u16 = 10060;

/// Where the job waits for the word that it was scraped.
const WORD: u16 = 9999;

#[derive(Args, Default)]
pub(crate) struct Options {
    /// The package; without it, one is made.
    #[arg(long, value_name = "FILE")]
    package: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a system is put together with root's files: run this as root"
    );
    let sh = workspace::shell()?;
    let folder = supplies::folder(&sh)?.join("system");
    fs::create_dir_all(&folder)?;
    let package = match &options.package {
        Some(package) => package.clone(),
        None => dist::package(&sh, &folder)?,
    };
    let arch = Arch::X86_64;
    let supplies = Supplies::provide(&sh, arch)?;
    let kernel = supplies.kernel(KERNEL)?;
    let disk = root::provide(&sh, &supplies.mirrors, &folder)?;
    let initramfs = folder.join("initramfs");
    fs::write(&initramfs, self::initramfs(&supplies.busybox, &kernel, &package)?)?;
    // Now, since the machine does not wait for a download.
    let prometheus = Programs::provide(&sh)?.prometheus;
    let (metrics, word) = (free_port()?, free_port()?);
    let machine = Machine {
        arch,
        tools: &supplies.tools,
        image: &kernel.image,
        initramfs: &initramfs,
        cmdline: CMDLINE,
        processors: Processors::OneOfOurTime,
        disk: Some(&disk),
        ports: &[(metrics, METRICS), (word, WORD)],
        overtime: Duration::ZERO,
        log: &folder.join("console.log"),
    };
    follow(&machine, || scrape::run(&sh, &prometheus, &folder, metrics, word))
}

/// What the machine starts from: its modules, and what it is to do.
fn initramfs(busybox: &[u8], kernel: &Kernel, package: &Path) -> anyhow::Result<Vec<u8>> {
    let mut files = Initramfs::new();
    for folder in ["bin", "dev", "job", "modules", "new", "proc", "sys"] {
        files.folder(folder)?;
    }
    files.file("init", INIT.as_bytes())?;
    files.file("bin/busybox", busybox)?;
    for (number, module) in modules::in_load_order(&kernel.modules, MODULES)?.iter().enumerate() {
        files.file(&format!("modules/{number:02}-{}.ko", module.name), &module.bytes)?;
    }
    files.file("job/job.sh", JOB.as_bytes())?;
    let package = fs::read(package).with_context(|| format!("cannot read {}", package.display()))?;
    files.file("job/tcp-close.deb", &package)?;
    let drop_in = fs::read(workspace::root().join("packaging/systemd/least-privilege.conf"))?;
    files.file("job/least-privilege.conf", &drop_in)?;
    Ok(files.finish()?)
}

/// Shows what the system says, and judges it.
fn follow(machine: &Machine<'_>, scrape: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (mut status, mut scraped) = (None, None);
    let (end, wall) = machine.run(|news| {
        if let News::Line(line) = news {
            println!("{line}");
            if line == "VM-SCRAPE" {
                scraped = Some(scrape());
            }
            if let Some(code) = line.strip_prefix("VM-EXIT ") {
                status = Some(code.trim().to_owned());
            }
        }
    })?;
    println!("kernel {KERNEL}, {} s", wall.as_secs());
    ensure!(end == End::Off, "the system hung: see {}", machine.log.display());
    let status = status.with_context(|| format!("the system died: see {}", machine.log.display()))?;
    scraped.context("the job never asked to be scraped")??;
    ensure!(status == "0", "{status} assertions failed: see {}", machine.log.display());
    Ok(())
}
