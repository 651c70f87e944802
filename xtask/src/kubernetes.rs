//! What is packaged for Kubernetes: `cargo xtask ci kubernetes` renders the chart and the bases, and holds what comes out
//! against schemas, models and each other; `cargo xtask kubernetes` copies what they take from elsewhere.
//!
//! No cluster sees any of it.

mod copies;
mod documented;
mod expected;
mod judges;
mod rendered;
mod tools;
mod wrong;

use std::collections::BTreeMap;

use anyhow::ensure;
use serde_json::Value;
use xshell::{Shell, cmd};

use self::{
    judges::Judges,
    rendered::{Rendered, Renderer},
    tools::Tools,
};
use crate::workspace;

const CHART: &str = "packaging/helm/tcp-close";
const KUSTOMIZE: &str = "packaging/kustomize";
/// Values to render the chart with; each file is a case.
const VALUES: &str = "xtask/src/kubernetes/values";

/// Each case is rendered for these: the oldest that the chart supports, the first that has a field for `AppArmor`, the newest
/// that there are schemas of.
const VERSIONS: [&str; 3] = ["1.25", "1.30", "1.37"];

/// Copies what charts and bases take from elsewhere.
pub(crate) fn write() -> anyhow::Result<()> {
    copies::write(&workspace::shell()?)
}

pub(crate) fn check(sh: &Shell) -> anyhow::Result<()> {
    copies::check(sh)?;
    let tools = Tools::provide(sh)?;
    let folder = sh.create_temp_dir()?;
    let renderer = Renderer::new(sh, &tools, folder.path())?;
    let cases = cases(sh, &renderer)?;
    let bases = renderer.bases()?;
    let judges = Judges::new(sh, &tools, folder.path())?;
    let all: Vec<&Rendered> = cases.values().chain(bases.values()).collect();
    judges.accept(&all)?;
    wrong::is_refused(&judges, &cases)?;
    for rendered in cases.values() {
        expected::of_every(sh, rendered)?;
    }
    expected::of_each(sh, &cases)?;
    expected::of_bases(&bases, &cases)?;
    let default = &case(&cases, "default")?.values;
    documented::check(sh, default)?;
    println!(
        "{} renderings of the chart and {} of the bases hold on Kubernetes {}",
        cases.len(),
        bases.len(),
        VERSIONS.join(", ")
    );
    Ok(())
}

/// The chart with each set of values, for each version; by name, as in `least` for the newest and `least-1.25`.
fn cases(sh: &Shell, renderer: &Renderer<'_>) -> anyhow::Result<BTreeMap<String, Rendered>> {
    let mut sets = vec![("default".to_owned(), None)];
    for path in sh.read_dir(VALUES)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        sets.push((name, Some(path)));
    }
    ensure!(sets.len() > 1, "{VALUES} has no values");
    let mut cases = BTreeMap::new();
    for (set, values) in sets {
        for version in VERSIONS {
            let is_newest = Some(&version) == VERSIONS.last();
            let name = if is_newest { set.clone() } else { format!("{set}-{version}") };
            let rendered = renderer.chart(&name, version, values.as_deref())?;
            cases.insert(name, rendered);
        }
    }
    Ok(cases)
}

fn case<'a>(cases: &'a BTreeMap<String, Rendered>, name: &str) -> anyhow::Result<&'a Rendered> {
    cases.get(name).ok_or_else(|| anyhow::anyhow!("{VALUES} has no {name}"))
}

/// The kind of an object.
fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

/// A copy of a folder, to put more into.
fn copied(sh: &Shell, from: &str, to: &std::path::Path) -> anyhow::Result<()> {
    Ok(cmd!(sh, "cp -r {from} {to}").quiet().run()?)
}
