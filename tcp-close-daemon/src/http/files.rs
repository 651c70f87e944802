//! The files that the server's rules are made of, and whether one of them is another by now.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The longest that is read, in bytes: certificates of every root there is are a fraction of it.
const LONGEST: u64 = 4 << 20;

/// Those that were read, as they were then.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<(PathBuf, Option<Stamp>)>);

/// What changes with a file: its time by whoever writes it, the kernel's own, which file it is, its length.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    inode: (u64, u64),
    length: u64,
}

impl Stamp {
    /// A file that cannot be looked at has none, which is a change from having one.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
        })
    }
}

impl Files {
    /// Reads a file, and remembers as what.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        // Before it is read: what changes meanwhile is seen the next time.
        self.0.push((path.to_owned(), Stamp::of(path)));
        let mut content = Vec::new();
        let file = File::open(path)?;
        // Whoever opens a pipe waits for its writer, but whoever reads /dev/zero would wait for ever.
        if file.take(LONGEST + 1).read_to_end(&mut content)? as u64 > LONGEST {
            return Err(io::Error::other("it is too long"));
        }
        Ok(content)
    }

    /// Whether one of them is another than the one that was read.
    pub(super) fn changed(&self) -> bool {
        self.0.iter().any(|(path, stamp)| Stamp::of(path) != *stamp)
    }
}
