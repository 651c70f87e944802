//! Archives: a folder with everything, for hosts without a package manager; the chart for Helm.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tar::{Builder, Header};

use super::{
    Release,
    contents::{Contents, gzip},
};
use crate::{vm::Arch, workspace};

const CHART: &str = "packaging/helm/tcp-close";

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

/// The chart for Helm, as `helm package` packs it.
pub(super) fn chart(release: &Release, folder: &Path) -> anyhow::Result<()> {
    let mut archive = Builder::new(Vec::new());
    for path in files_in(&workspace::root().join(CHART))? {
        let name = path.strip_prefix(workspace::root().join("packaging/helm"))?;
        append(&mut archive, release, &name.to_string_lossy(), 0o644, &fs::read(&path)?)?;
    }
    let name = format!("tcp-close-{}.tgz", release.version);
    fs::write(folder.join(name), gzip(&archive.into_inner()?)?)?;
    Ok(())
}

/// Every file below a folder, in the order of their paths.
fn files_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_in(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
