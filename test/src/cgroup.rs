//! A cgroup of a test's own, and sockets made in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::Context as _;

use crate::breakage::OrGiveUp as _;

/// Where cgroup v2 is mounted: alone, or beside v1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// A process is in one cgroup at a time, with all its threads.
static MOVING: Mutex<()> = Mutex::new(());

/// A cgroup below the root, removed when this is dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    name: String,
}

impl Cgroup {
    /// Makes one that is called like a service of systemd's.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it is not made without cause")]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tcp-close-test-{}-{number}.service", process::id());
        let path = root().or_give_up().join(&name);
        fs::create_dir(&path).with_context(|| format!("make cgroup {}", path.display())).or_give_up();
        Self { path, name }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does something while this process is in the cgroup. What other tests do meanwhile is in it too.
    #[track_caller]
    pub fn run<T>(&self, job: impl FnOnce() -> T) -> T {
        let moving = MOVING.lock().unwrap_or_else(PoisonError::into_inner);
        let before = own().or_give_up();
        enter(&self.path).or_give_up();
        let result = job();
        enter(&before).or_give_up();
        drop(moving);
        result
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that just ended may not have left yet; an empty directory does no harm.
        let _removed = fs::remove_dir(&self.path);
    }
}

fn root() -> anyhow::Result<&'static Path> {
    let root = ROOTS.map(Path::new).into_iter().find(|root| root.join("cgroup.procs").exists());
    root.context("cgroup v2 is not mounted")
}

/// The cgroup that this process is in.
fn own() -> anyhow::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(root()?.join(path.context("this process is in no cgroup v2")?))
}

fn enter(cgroup: &Path) -> anyhow::Result<()> {
    let written: io::Result<()> = fs::write(cgroup.join("cgroup.procs"), "0");
    written.with_context(|| format!("enter cgroup {}", cgroup.display()))
}
