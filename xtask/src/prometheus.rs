//! `cargo xtask ci prometheus`: what is written for Prometheus, by Prometheus' own word.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::ensure;
use xshell::{Shell, cmd};

use crate::{debian, workspace};

pub(crate) const RULES: &str = "packaging/prometheus/tcp-close.rules.yml";
const TESTS: &str = "packaging/prometheus/tcp-close.test.yml";
/// What a daemon that has seen nothing yet answers, as a test of its own has it.
const EXPOSITION: &str = "tcp-close-daemon/tests/metrics/fresh.prom";
pub(crate) const METRICS: &str = "docs/metrics.md";
pub(crate) const PATTERNS: &str = "docs/patterns.md";

/// Rules are well-formed, and fire when they should; they ask for metrics that there are, and lead to pages that there are.
pub(crate) fn check(sh: &Shell) -> anyhow::Result<()> {
    let Programs { promtool, .. } = Programs::provide(sh)?;
    cmd!(sh, "{promtool} check rules --lint=all --lint-fatal {RULES}").run()?;
    cmd!(sh, "{promtool} test rules {TESTS}").run()?;
    cmd!(sh, "{promtool} check metrics").stdin(sh.read_file(EXPOSITION)?).run()?;
    let rules = sh.read_file(RULES)?;
    let metrics = sh.read_file(METRICS)?;
    let folder = sh.create_temp_dir()?;
    let queries = folder.path().join("examples.yml");
    sh.write_file(&queries, as_rules(&metrics))?;
    cmd!(sh, "{promtool} check rules {queries}").run()?;
    let unknown: Vec<&str> = metric_names(&rules)
        .into_iter()
        .filter(|name| !metrics.contains(&format!("`{}`", without_suffix(name))))
        .collect();
    ensure!(unknown.is_empty(), "{RULES} asks for metrics that there are not: {}", unknown.join(", "));
    let tests = sh.read_file(TESTS)?;
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        ensure!(
            tests.contains(&format!("alertname: {alert}\n        exp_alerts:")),
            "no test sees {alert} fire"
        );
    }
    let anchors = chapters(sh)?;
    for line in rules.lines() {
        if let Some((_, named)) = line.split_once(&format!("runbook_url: {PATTERNS}#")) {
            ensure!(anchors.contains(named), "{PATTERNS} has no chapter {named}");
        }
    }
    Ok(())
}

/// Debian's, unpacked beside what is installed.
pub(crate) struct Programs {
    pub(crate) prometheus: PathBuf,
    pub(crate) promtool: PathBuf,
}

impl Programs {
    pub(crate) fn provide(sh: &Shell) -> anyhow::Result<Self> {
        let folder = workspace::target_dir(sh)?.join("prometheus");
        let unpacked = debian::unpacked(sh, &folder, "prometheus")?;
        let [prometheus, promtool] =
            ["prometheus", "promtool"].map(|name| unpacked.join("usr/bin").join(name));
        ensure!(promtool.exists(), "Debian's package prometheus has no promtool");
        Ok(Self { prometheus, promtool })
    }
}

/// The examples of the table of metrics, as rules, of which promtool knows whether they make sense.
fn as_rules(metrics: &str) -> String {
    let rows = metrics.lines().filter(|line| line.starts_with("| `tcp_close_"));
    let examples = rows.filter_map(|row| row.strip_suffix("` |")?.rsplit_once("| `"));
    let rules = examples.enumerate().map(|(number, (_, query))| {
        format!("      - record: example:{number}\n        expr: |\n          {query}\n")
    });
    format!("groups:\n  - name: examples\n    rules:\n{}", rules.collect::<String>())
}

/// Names of our metrics in a text; recorded ones, whose names have colons, are not among them.
pub(crate) fn metric_names(text: &str) -> BTreeSet<&str> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c: char| !is_of_a_name(c));
    words.filter(|word| word.starts_with("tcp_close_")).collect()
}

/// A histogram is one metric, and has three names.
pub(crate) fn without_suffix(name: &str) -> &str {
    ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// What the chapters of the page of symptoms are linked by.
pub(crate) fn chapters(sh: &Shell) -> anyhow::Result<BTreeSet<String>> {
    Ok(sh.read_file(PATTERNS)?.lines().filter_map(anchor).collect())
}

/// What a chapter is linked by, as forges have it.
fn anchor(line: &str) -> Option<String> {
    let title = line.strip_prefix("## ")?;
    let kept = title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect();
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_anchors_are_read() {
        let text = "rate(tcp_close_a_total[5m]) / instance:tcp_close_b:ratio > tcp_close_c_bucket{le=\"1\"}";
        assert_eq!(Vec::from_iter(metric_names(text)), ["tcp_close_a_total", "tcp_close_c_bucket"]);
        assert_eq!(without_suffix("tcp_close_c_bucket"), "tcp_close_c");
        assert_eq!(anchor("## FIN-WAIT-2, or LAST-ACK").as_deref(), Some("fin-wait-2-or-last-ack"));
        assert_eq!(anchor("# The page"), None);
    }
}
