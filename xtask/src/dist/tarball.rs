//! Archives: a folder with everything, for hosts without a package manager; what Kubernetes is told.

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

/// What is packed by itself: a folder, and the name of its archive before the version.
const FOLDERS: [(&str, &str, &str); 2] = [
    ("packaging/helm/tcp-close", "tcp-close-", ".tgz"),
    ("packaging/kustomize", "tcp-close-kustomize-", ".tar.gz"),
];

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

/// For Kubernetes: the chart, as `helm package` packs it, and the bases for kustomize.
pub(super) fn for_kubernetes(release: &Release, folder: &Path) -> anyhow::Result<()> {
    for (packed, before, behind) in FOLDERS {
        let packed = workspace::root().join(packed);
        let mut archive = Builder::new(Vec::new());
        for path in files_in(&packed)? {
            let name = path.strip_prefix(packed.parent().unwrap_or(&packed))?;
            append(&mut archive, release, &name.to_string_lossy(), 0o644, &fs::read(&path)?)?;
        }
        let name = format!("{before}{}{behind}", release.version);
        fs::write(folder.join(name), gzip(&archive.into_inner()?)?)?;
    }
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
