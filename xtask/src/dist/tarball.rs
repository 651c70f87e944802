//! A folder with everything, for hosts without a package manager: unpack it over `/usr`, or anywhere.

use std::{fs, path::Path};

use tar::{Builder, Header};

use super::{
    Release,
    contents::{Contents, gzip},
};
use crate::vm::Arch;

pub(super) fn write(release: &Release, arch: Arch, contents: &Contents, folder: &Path) -> anyhow::Result<()> {
    let name = format!("tcp-close-{}-{}-linux", release.version, arch.name());
    let mut archive = Builder::new(Vec::new());
    for file in contents.files() {
        let path = format!("{name}/{}", file.path);
        append(&mut archive, release, &path, file.mode().into(), &file.bytes)?;
    }
    fs::write(folder.join(format!("{name}.tar.gz")), gzip(&archive.into_inner()?)?)?;
    Ok(())
}

/// Adds a file of root's, of the release's time.
pub(super) fn append(
    archive: &mut Builder<Vec<u8>>,
    release: &Release,
    path: &str,
    mode: u32,
    bytes: &[u8],
) -> anyhow::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(u64::try_from(bytes.len())?);
    header.set_mode(mode);
    header.set_mtime(release.time.into());
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}
