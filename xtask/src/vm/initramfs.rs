//! The file system that a kernel starts from: a cpio archive in the newc format, not compressed.

use std::io::{self, Write as _};

use cpio::newc::{self, ModeFileType};

/// An archive that is being written.
pub(super) struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
}

impl Initramfs {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), entries: 0 }
    }

    pub(super) fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, ModeFileType::Directory, &[])
    }

    /// A file that may be run.
    pub(super) fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.entry(name, ModeFileType::Regular, content)
    }

    fn entry(&mut self, name: &str, kind: ModeFileType, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        // The kernel takes files of one inode for links to one file.
        let header = newc::Builder::new(name).ino(self.entries).mode(0o755).set_mode_file_type(kind);
        let mut writer = header.write(&mut self.bytes, size);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        newc::trailer(&mut self.bytes)?;
        Ok(self.bytes)
    }
}
