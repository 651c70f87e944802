//! Dashboards by Grafana's own types: `packaging/grafana/check`, run by node.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use xshell::{Shell, cmd};

use super::FOLDER;
use crate::{cache, workspace};

/// What is installed, and what it is asked by.
const PACKAGES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];
const CHECK: &str = "check.mjs";

pub(super) fn check(sh: &Shell, dashboards: &[PathBuf]) -> anyhow::Result<()> {
    let check = workspace::root().join(FOLDER).join("check");
    let installed = install(sh, &check)?;
    sh.copy_file(check.join(CHECK), &installed)?;
    let inside = sh.push_dir(&installed);
    let write = env::var_os("UPDATE_EXPECT").map(|_| "--write");
    cmd!(sh, "node {CHECK} {write...} {dashboards...}").quiet().run()?;
    drop(inside);
    Ok(())
}

/// The packages in exactly the versions of the lock file; other versions are another folder.
fn install(sh: &Shell, check: &Path) -> anyhow::Result<PathBuf> {
    let lock = sh.read_file(check.join("package-lock.json"))?;
    // npm takes whatever registry this machine is set up for; the name of one is nobody else's business.
    ensure!(!lock.contains("\"resolved\""), "the lock file names a registry; see {FOLDER}/check/.npmrc");
    let hash = hex::encode(&<sha2::Sha256 as sha2::Digest>::digest(lock)[..6]);
    let folder = workspace::target_dir(sh)?.join("grafana").join(hash);
    sh.create_dir(folder.parent().context("it is below the target directory")?)?;
    cache::folder(&folder, |to| {
        println!("Grafana's types: installing");
        cmd!(sh, "npm --version")
            .quiet()
            .ignore_stdout()
            .ignore_stderr()
            .run()
            .context("npm is not here; install Debian's packages nodejs and npm, or newer ones")?;
        for file in PACKAGES {
            sh.copy_file(check.join(file), to)?;
        }
        let inside = sh.push_dir(to);
        cmd!(sh, "npm ci --ignore-scripts --no-audit --no-fund --loglevel=error")
            .quiet()
            .ignore_stdout()
            .run()?;
        drop(inside);
        Ok(())
    })
}
