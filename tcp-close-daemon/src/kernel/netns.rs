//! Network namespaces by the names people use for them.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Where `ip netns` keeps its names.
const NAMED: &str = "/run/netns";

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

/// Inode number of a namespace given as such a number, as a name of `ip netns`, or as a path.
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
            Err(NetnsError::NotFound { name: name.to_owned(), path: path.display().to_string(), error })
        }
    }
}

/// Whether a file is a handle of the kernel's namespace filesystem.
fn is_namespace(path: &Path) -> bool {
    /// `NSFS_MAGIC` (`include/uapi/linux/magic.h`).
    const NSFS: u64 = 0x6e73_6673;
    rustix::fs::statfs(path).is_ok_and(|filesystem| u64::try_from(filesystem.f_type) == Ok(NSFS))
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
}
