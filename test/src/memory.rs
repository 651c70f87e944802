//! A cgroup whose processes may have only so much memory.
//!
//! The controller is on version 2 of cgroups or on version 1, wherever the host has it.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, bail};
use rustix::process::Pid;

use crate::breakage::OrGiveUp as _;

/// Where version 1 has the controller, and where version 2 is mounted.
const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// Such a cgroup, removed when this is dropped.
#[derive(Debug)]
pub struct LittleMemory {
    path: PathBuf,
    /// The file that counts the processes that were killed for want of memory.
    killed: &'static str,
}

impl LittleMemory {
    /// Makes one with this limit. Gives up with a clear sentence where there is no controller.
    #[track_caller]
    pub fn of(bytes: u64) -> Self {
        Self::make(bytes).or_give_up()
    }

    fn make(bytes: u64) -> anyhow::Result<Self> {
        let (root, limit, swap, killed) = if Path::new(V1).join("memory.limit_in_bytes").exists() {
            (V1, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control")
        } else {
            let controllers = Path::new(V2).join("cgroup.controllers");
            let controllers = fs::read_to_string(controllers).unwrap_or_default();
            if !controllers.split_whitespace().any(|controller| controller == "memory") {
                bail!("no cgroup of this host has a controller of memory, in version 1 or 2");
            }
            let control = Path::new(V2).join("cgroup.subtree_control");
            fs::write(&control, "+memory").with_context(|| format!("write {}", control.display()))?;
            (V2, "memory.max", "memory.swap.max", "memory.events")
        };
        let path = Path::new(root).join(format!("tcp-close-test-{}-little", process::id()));
        fs::create_dir(&path).with_context(|| format!("make cgroup {}", path.display()))?;
        let made = Self { path, killed };
        made.write(limit, &bytes.to_string())?;
        // A host may have none to account for. Version 1 counts memory in.
        if made.path.join(swap).exists() {
            made.write(swap, &if root == V1 { bytes } else { 0 }.to_string())?;
        }
        Ok(made)
    }

    fn write(&self, file: &str, value: &str) -> anyhow::Result<()> {
        let path = self.path.join(file);
        fs::write(&path, value).with_context(|| format!("write {}", path.display()))
    }

    /// Takes a process in; what it has by now counts where it was before.
    #[track_caller]
    pub fn take_in(&self, pid: Pid) {
        self.write("cgroup.procs", &pid.to_string()).or_give_up();
    }

    /// How many processes the kernel has killed here for want of memory.
    #[track_caller]
    pub fn killed(&self) -> u64 {
        let path = self.path.join(self.killed);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display())).or_give_up();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
        count.with_context(|| format!("{} counts no kills", path.display())).or_give_up()
    }
}

impl Drop for LittleMemory {
    fn drop(&mut self) {
        // A process that just ended may not have left yet; an empty directory does no harm.
        let _removed = fs::remove_dir(&self.path);
    }
}
