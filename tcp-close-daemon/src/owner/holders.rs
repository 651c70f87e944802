//! Which processes hold a socket: one look at every descriptor of every process.
//!
//! It takes some microseconds for each of them, so it is done when somebody asks, never for an event.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use procfs::process::{FDTarget, Process as Entry, all_processes};

use crate::event::Process;

/// Descriptors that are looked at, at most; a host with more holders than that does not name them all.
const MOST_DESCRIPTORS: usize = 1 << 20;

/// A descriptor of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The process.
    #[serde(flatten)]
    pub by: Process,
    /// The descriptor's number.
    pub fd: i32,
}

/// The descriptors of some sockets.
#[derive(Debug, Default)]
pub struct Holders {
    by_inode: HashMap<u32, Vec<Held>>,
    /// Not every process shows what it holds, or there were too many to look at.
    pub incomplete: bool,
}

impl Holders {
    /// Looks for the holders of the sockets with these inodes.
    pub fn of(inodes: &HashSet<u32>) -> Self {
        let mut holders = Self::default();
        if inodes.is_empty() {
            return holders;
        }
        let Ok(processes) = all_processes() else {
            return Self { incomplete: true, ..holders };
        };
        let mut left = MOST_DESCRIPTORS;
        // One that has ended meanwhile holds nothing.
        for process in processes.flatten() {
            let Ok(descriptors) = process.fd() else {
                holders.incomplete |= process.is_alive();
                continue;
            };
            for descriptor in descriptors.flatten() {
                if left == 0 {
                    return Self { incomplete: true, ..holders };
                }
                left -= 1;
                if let FDTarget::Socket(inode) = descriptor.target
                    && let Ok(inode) = u32::try_from(inode)
                    && inodes.contains(&inode)
                    && let Some(by) = named(&process)
                {
                    holders.by_inode.entry(inode).or_default().push(Held { by, fd: descriptor.fd });
                }
            }
        }
        holders
    }

    /// The descriptors of the socket with this inode.
    pub fn get(&self, inode: u32) -> &[Held] {
        self.by_inode.get(&inode).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A process by its number and the kernel's name of it.
fn named(process: &Entry) -> Option<Process> {
    let Ok(comm) = process.stat().ok()?.comm.parse();
    Some(Process { pid: u32::try_from(process.pid).ok()?, comm })
}
