//! `cargo xtask ci grafana`: the dashboards, by Grafana's own types and by a real Prometheus that scrapes real daemons.
//!
//! Nothing here draws a dashboard: Grafana itself is in no archive that this would take it from.

mod dashboard;
mod data;
mod references;
mod stage;
mod types;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use xshell::Shell;

use crate::workspace;
use dashboard::Dashboard;
use stage::Stage;

const FOLDER: &str = "packaging/grafana";

/// Dashboards are what Grafana takes them for, fit together, and have something to show.
pub(crate) fn check(sh: &Shell) -> anyhow::Result<()> {
    let files = files(sh)?;
    let dashboards = files
        .iter()
        .map(|file| Dashboard::read(sh, file).with_context(|| format!("{}", file.display())))
        .collect::<anyhow::Result<Vec<Dashboard>>>()?;
    references::check(sh, &dashboards)?;
    // A TIME-WAIT takes its minute, which is enough for the types.
    let stage = Stage::set(sh)?;
    types::check(sh, &files)?;
    stage.wait_for_a_whole_life()?;
    data::check(&stage, &dashboards)
}

fn files(sh: &Shell) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = sh.read_dir(workspace::root().join(FOLDER))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    ensure!(!files.is_empty(), "{FOLDER} has no dashboards");
    Ok(files)
}

/// A file's name without folder and extension.
fn stem(file: &Path) -> &str {
    file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}
