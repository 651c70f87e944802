//! What the chart and the bases take from elsewhere: rules and dashboards, which can be packaged only where they are.
//!
//! Copies and no links: `helm package` and `kustomize` take nothing from outside of their folders.

use anyhow::ensure;
use xshell::Shell;

use super::{CHART, KUSTOMIZE};

const RULES: &str = "packaging/prometheus/tcp-close.rules.yml";
/// There may be none.
const DASHBOARDS: &str = "packaging/grafana";

const HEAD: &str = "# Made of packaging/prometheus/tcp-close.rules.yml by `cargo xtask kubernetes`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: tcp-close
  labels:
    app.kubernetes.io/name: tcp-close
    app.kubernetes.io/instance: tcp-close
spec:
";

/// What stands where, below the root.
struct Copy {
    path: String,
    text: String,
}

pub(super) fn write(sh: &Shell) -> anyhow::Result<()> {
    for Copy { path, text } in copies(sh)? {
        sh.write_file(&path, text)?;
        println!("wrote {path}");
    }
    Ok(())
}

pub(super) fn check(sh: &Shell) -> anyhow::Result<()> {
    let copies = copies(sh)?;
    for Copy { path, text } in &copies {
        let is_same = sh.path_exists(path) && sh.read_file(path)? == *text;
        ensure!(is_same, "{path} is not what it is made of; `cargo xtask kubernetes` makes it anew");
    }
    // One that has no origin any more.
    for path in dashboards(sh, &format!("{CHART}/files/dashboards"))? {
        ensure!(copies.iter().any(|copy| copy.path == path), "{path} is a copy of nothing; remove it");
    }
    Ok(())
}

fn copies(sh: &Shell) -> anyhow::Result<Vec<Copy>> {
    let rules = sh.read_file(RULES)?;
    let mut copies = vec![
        Copy {
            path: format!("{KUSTOMIZE}/components/prometheus-operator/prometheusrule.yaml"),
            text: as_object(&rules),
        },
        Copy { path: format!("{CHART}/files/tcp-close.rules.yml"), text: rules },
    ];
    for path in dashboards(sh, DASHBOARDS)? {
        let text = sh.read_file(&path)?;
        copies.push(Copy { path: path.replacen(DASHBOARDS, &format!("{CHART}/files/dashboards"), 1), text });
    }
    Ok(copies)
}

fn dashboards(sh: &Shell, folder: &str) -> anyhow::Result<Vec<String>> {
    if !sh.path_exists(folder) {
        return Ok(Vec::new());
    }
    let files = sh.read_dir(folder)?;
    let files = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let names = files.filter_map(|path| path.file_name()?.to_str());
    Ok(names.map(|name| format!("{folder}/{name}")).collect())
}

/// The rules as an object for the Prometheus operator.
fn as_object(rules: &str) -> String {
    let indented = rules.lines().map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("  {line}\n"),
    });
    HEAD.to_owned() + &indented.collect::<String>()
}
