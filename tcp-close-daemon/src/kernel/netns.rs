//! Network namespaces: by the names people use for them, and all that can be found.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use procfs::process::Process;

/// Where `ip netns` keeps its names.
const NAMED: &str = "/run/netns";

/// The end of that: it may be reached by another way, too.
const NAMED_IN: &str = "run/netns";

/// What the namespace is called that the host began with.
const HOST: &str = "host";

/// The namespace of the thread that looks.
pub const OWN: &str = "/proc/thread-self/ns/net";

/// The initial PID namespace's inode (`PID_NS_INIT_INO`, `include/uapi/linux/nsfs.h`).
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// A network namespace cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// There is no such name.
    #[error("cannot look up network namespace {name:?} at {path:?}: {error}")]
    NotFound {
        /// As it was given.
        name: String,
        /// Where it was looked for.
        path: String,
        /// Why it was not found.
        error: io::Error,
    },
    /// It is a file of another kind, which would match nothing.
    #[error("{name:?} is no network namespace: {path:?} is another kind of file")]
    NoNamespace {
        /// As it was given.
        name: String,
        /// What it led to.
        path: String,
    },
    /// The inode number does not fit.
    #[error("{0:?} is no network namespace: an inode number has 32 bits")]
    NoInode(String),
}

/// Inode number of a namespace given as such a number, as a name of `ip netns`, as a path, or as `host`, unless that is such a
/// name.
pub fn inode(name: &str) -> Result<u32, NetnsError> {
    if name.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() {
        return name
            .parse()
            .ok()
            .filter(|&inode| inode != 0)
            .ok_or_else(|| NetnsError::NoInode(name.to_owned()));
    }
    let path = if name.contains('/') { PathBuf::from(name) } else { PathBuf::from(NAMED).join(name) };
    match fs::metadata(&path) {
        Ok(metadata) if is_namespace(&path) => {
            u32::try_from(metadata.ino()).ok().ok_or_else(|| NetnsError::NoInode(name.to_owned()))
        }
        Ok(_) => Err(NetnsError::NoNamespace { name: name.to_owned(), path: path.display().to_string() }),
        Err(error) => {
            if name == HOST
                && let Some(inode) = host()
            {
                return Ok(inode);
            }
            Err(NetnsError::NotFound { name: name.to_owned(), path: path.display().to_string(), error })
        }
    }
}

/// Namespaces that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// A file that leads to each, by inode number.
    pub namespaces: BTreeMap<u32, PathBuf>,
    /// There may be more: not every process on this host shows where it lives.
    pub hidden: bool,
}

/// Looks for namespaces: this thread's own, those of every process, those that a file keeps.
///
/// With inode numbers, looks for these alone, and, if it has to, among the namespaces of all threads.
pub fn find(wanted: &[u32]) -> Found {
    let mut search = Search::new(wanted);
    search.look_at("/proc/thread-self".into());
    for process in entries("/proc").filter(|path| is_number(path)) {
        search.look_at(process);
    }
    for (inode, path) in bound() {
        search.keep(inode, path);
    }
    if search.is_missing_some() {
        for thread in
            entries("/proc").filter(|path| is_number(path)).flat_map(|process| entries(process.join("task")))
        {
            search.look_at(thread);
        }
    }
    search.end()
}

/// Namespaces that are kept by a file of their own, which is how `ip netns` and container runtimes keep them, and those
/// files.
fn bound() -> impl Iterator<Item = (u32, PathBuf)> {
    let mounts = Process::myself().and_then(|own| own.mountinfo()).map(|mounts| mounts.0).unwrap_or_default();
    mounts.into_iter().filter(|mount| mount.fs_type == "nsfs").filter_map(|mount| {
        let inode = mount.root.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()?;
        Some((inode, mount.mount_point))
    })
}

/// What people call the namespaces that have a name: that of ip-netns(8), or `host` for the one this host began with.
pub fn names() -> HashMap<u32, String> {
    let name = |path: &Path| {
        let named = path.parent().is_some_and(|folder| folder.ends_with(NAMED_IN));
        Some(path.file_name()?.to_string_lossy().into_owned()).filter(|_| named)
    };
    let mut names: HashMap<u32, String> =
        bound().filter_map(|(inode, path)| Some((inode, name(&path)?))).collect();
    names.extend(host().map(|host| (host, HOST.to_owned())));
    names
}

/// Where the host's first process lives: in a container nobody knows.
fn host() -> Option<u32> {
    let (init, own) = (Path::new("/proc/1"), Path::new("/proc/self"));
    let number = |process: &Path| number_of(&process.join("ns/net")).ok().flatten();
    // That it lives where this process does can be told without a privilege.
    let same = net_of(init).is_some_and(|net| net_of(own) == Some(net));
    let host = number(init).or_else(|| same.then(|| number(own)).flatten());
    host.filter(|_| sees_every_process())
}

/// Whether a process, by its directory below /proc, lives in the namespace with this inode number.
pub fn lives_in(process: &Path, netns: u32) -> bool {
    number_of(&process.join("ns/net")).is_ok_and(|number| number == Some(netns))
}

/// Inode number of the namespace that a file is a handle of; `None` if it is none.
pub fn inode_of(file: &File) -> Option<u32> {
    let is_namespace = rustix::fs::fstatfs(file.as_fd()).is_ok_and(|filesystem| is_nsfs(&filesystem));
    let inode = file.metadata().ok().and_then(|metadata| u32::try_from(metadata.ino()).ok());
    inode.filter(|_| is_namespace)
}

struct Search<'a> {
    /// Inode numbers; empty for all.
    wanted: &'a [u32],
    namespaces: BTreeMap<u32, PathBuf>,
    /// Every namespace that was seen, wanted or not.
    seen: HashSet<u32>,
    /// What their /proc/PID/net is.
    nets: HashSet<u64>,
    /// Processes and threads that do not show their namespace.
    denied: Vec<PathBuf>,
}

impl<'a> Search<'a> {
    fn new(wanted: &'a [u32]) -> Self {
        let namespaces = BTreeMap::new();
        Self { wanted, namespaces, seen: HashSet::new(), nets: HashSet::new(), denied: Vec::new() }
    }

    /// At a process or thread, by its directory below /proc.
    fn look_at(&mut self, task: PathBuf) {
        let path = task.join("ns/net");
        match number_of(&path) {
            Ok(Some(inode)) => {
                if self.seen.insert(inode) {
                    self.nets.extend(net_of(&task));
                    self.keep(inode, path);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.denied.push(task),
            // It has just ended.
            Ok(None) | Err(_) => {}
        }
    }

    fn keep(&mut self, inode: u32, path: PathBuf) {
        if self.wanted.is_empty() || self.wanted.contains(&inode) {
            self.namespaces.entry(inode).or_insert(path);
        }
    }

    fn is_missing_some(&self) -> bool {
        self.wanted.iter().any(|inode| !self.namespaces.contains_key(inode))
    }

    fn end(self) -> Found {
        let is_satisfied = !self.wanted.is_empty() && !self.is_missing_some();
        let is_hidden = |task: &PathBuf| match net_of(task) {
            Some(net) => !self.nets.contains(&net),
            // The kernel denies access to one that has ended, too.
            None => task.exists(),
        };
        let hidden = !is_satisfied && (!sees_every_process() || self.denied.iter().any(is_hidden));
        Found { namespaces: self.namespaces, hidden }
    }
}

/// Inode number of the namespace that a link leads to; `None` if it is larger than any.
fn number_of(path: &Path) -> io::Result<Option<u32>> {
    Ok(u32::try_from(fs::metadata(path)?.ino()).ok())
}

/// Which network a task sees, as a number that is another in each namespace: the inode of a file in its /proc/PID/net.
/// It is not the namespace's own, which takes a privilege to see; this takes none.
fn net_of(task: &Path) -> Option<u64> {
    Some(fs::metadata(task.join("net/dev")).ok()?.ino())
}

/// Whether /proc shows the processes of all users, and of the whole host.
fn sees_every_process() -> bool {
    let whole_host = fs::metadata("/proc/self/ns/pid").is_ok_and(|own| own.ino() == INITIAL_PID_NAMESPACE);
    whole_host && Path::new("/proc/1").exists()
}

/// What there is in a directory; nothing, if that is gone or there is none.
fn entries(path: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

fn is_number(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
}

/// Whether a file is a handle of the kernel's namespace filesystem.
fn is_namespace(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|filesystem| is_nsfs(&filesystem))
}

fn is_nsfs(filesystem: &rustix::fs::StatFs) -> bool {
    /// `NSFS_MAGIC` (`include/uapi/linux/magic.h`).
    const NSFS: u64 = 0x6e73_6673;
    u64::try_from(filesystem.f_type) == Ok(NSFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_an_inode_and_a_path_is_looked_up() {
        assert_eq!(inode("4026531840").expect("a number"), 4_026_531_840);
        let own = inode("/proc/self/ns/net").expect("our own namespace");
        assert!(own > 0);
        assert!(matches!(inode("99999999999"), Err(NetnsError::NoInode(_))));
        assert!(matches!(inode("0"), Err(NetnsError::NoInode(_))));
        assert!(matches!(inode("/etc/passwd"), Err(NetnsError::NoNamespace { .. })));
        let error = inode("nowhere").expect_err("no such name");
        assert!(error.to_string().contains("/run/netns/nowhere"));
    }

    #[test]
    fn the_hosts_namespace_has_a_name() {
        let names = names();
        let host = inode(HOST).expect("it is found by its name");
        assert_eq!(names.get(&host).map(String::as_str), Some(HOST), "{names:?}");
    }

    #[test]
    fn our_own_namespace_is_found_by_looking_and_by_number() {
        let own = inode(OWN).expect("our own namespace");
        assert!(find(&[]).namespaces.contains_key(&own));
        let found = find(&[own]);
        assert_eq!(found.namespaces.keys().collect::<Vec<_>>(), [&own]);
        assert!(!found.hidden, "what is looked for was found");
        let file = File::open(OWN).expect("it can be opened");
        assert_eq!(inode_of(&file), Some(own));
        assert_eq!(inode_of(&File::open("/proc/self/status").expect("it can be opened")), None);
    }

    /// It can be told without a privilege that a process lives where another does.
    #[test]
    fn processes_of_one_namespace_see_one_network() {
        let own = net_of(Path::new("/proc/self"));
        assert!(own.is_some());
        assert_eq!(net_of(Path::new("/proc/thread-self")), own);
        assert_eq!(net_of(Path::new("/proc/0")), None);
    }

    /// The number of no namespace: nothing is found, and nothing is an error.
    #[test]
    fn a_namespace_that_is_gone_is_not_found() {
        assert_eq!(find(&[1]).namespaces, BTreeMap::new());
    }
}
