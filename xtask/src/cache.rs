//! Folders that are filled once and kept.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// The folder, filled now if it was not before; it is there whole or not at all.
pub(crate) fn folder(path: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    if !path.exists() {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::create_dir_all(&partial)?;
        fill(&partial)?;
        fs::rename(&partial, path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(path.to_owned())
}
