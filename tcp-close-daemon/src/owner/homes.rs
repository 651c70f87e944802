//! From the id of a cgroup to its path: what the directories of cgroup v2 are numbered by.

use std::{
    fs, io,
    num::NonZeroUsize,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use lru::LruCache;

use super::Home;
use crate::event::{CgroupId, Monotonic};

/// How long nobody looks again, for each unit of time that looking took: it is to cost a hundredth of a processor.
const REST: u32 = 100;

/// The root of cgroup v2: the whole of it, or on a host that has v1 too, beside that.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Room for more cgroups than a host has; of those that are gone, the ones that nobody asked for make room.
const ROOM: NonZeroUsize = NonZeroUsize::new(1 << 14).expect("not zero");

/// The homes of this host by their ids.
pub struct Homes {
    root: Option<PathBuf>,
    by_id: LruCache<u64, Arc<Home>>,
    /// When it may be looked again.
    rested: Monotonic,
}

impl Homes {
    /// Of the running host. Nothing is looked at yet.
    pub fn of_this_host() -> Self {
        let root = ROOTS.map(Path::new).into_iter().find(|root| root.join("cgroup.procs").exists());
        Self { root: root.map(Path::to_owned), by_id: LruCache::new(ROOM), rested: Monotonic::default() }
    }

    /// The home with this id, if it is there or was when somebody looked. `now` tells the time before and after a look.
    pub fn get(&mut self, id: CgroupId, now: impl Fn() -> Monotonic) -> Option<Arc<Home>> {
        if !self.by_id.contains(&id.get()) {
            self.look(now);
        }
        self.by_id.get(&id.get()).cloned()
    }

    /// Looks for all homes, unless that was done a short while ago. What is gone stays known: its sockets outlive it.
    fn look(&mut self, now: impl Fn() -> Monotonic) {
        let begun = now();
        let Some(root) = self.root.as_deref().filter(|_| begun >= self.rested) else {
            return;
        };
        let mut left: Vec<(u64, PathBuf)> =
            fs::metadata(root).into_iter().map(|metadata| (metadata.ino(), root.to_owned())).collect();
        while let Some((id, directory)) = left.pop() {
            let path = directory.strip_prefix(root).unwrap_or(&directory);
            self.by_id.get_or_insert(id, || Arc::new(Home::of_path(&path.to_string_lossy())));
            // One that is gone meanwhile has nothing below it.
            left.extend(children(&directory).unwrap_or_default());
        }
        self.rested = begun + now().since(begun) * REST;
    }
}

/// The cgroups below one, with their ids: `kernfs_node.id` is the inode number wherever that has 64 bits.
fn children(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut children = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            children.push((entry.ino(), entry.path()));
        }
    }
    Ok(children)
}
