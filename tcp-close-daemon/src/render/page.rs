//! The page at `/`.

use crate::probe::{HookReport, Rung};

/// Looks right on a desk and on a telephone, by day and by night; asks for nothing from elsewhere.
const STYLE: &str = include_str!("page.css");

/// What this is, how its hooks hang, and where to go from here.
pub fn index(telemetry_path: &str, hooks: &[HookReport]) -> String {
    let rows: String = hooks.iter().map(row).collect();
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>tcp-close</title>
<link rel="icon" href="data:,">
<style>
{STYLE}</style>
</head>
<body>
<h1>tcp-close</h1>
<p>How every TCP connection on this host ends. <span class="faint">Version {version}.</span></p>
<nav><a href="{path}">Metrics</a> <a href="/healthz">Alive</a> <a href="/readyz">Ready</a></nav>
<h2>Hooks</h2>
<p class="faint">What is asked of the kernel, by which of the ways to attach, and whether all is heard.</p>
<table>
<thead><tr><th>Hook</th><th>Rung</th><th>Verdict</th><th>Why no better</th></tr></thead>
<tbody>
{rows}</tbody>
</table>
</body>
</html>
"#,
        version = env!("CARGO_PKG_VERSION"),
        path = escaped(telemetry_path),
    )
}

fn row(report: &HookReport) -> String {
    let words = [report.lost.map(|lost| format!("Lost: {lost}.")), report.detail.clone()];
    let words: Vec<String> = words.into_iter().flatten().collect();
    format!(
        "<tr><td><code>{}</code></td><td><code>{}</code></td><td class=\"{verdict}\">{verdict}</td><td class=\"faint\">{}</td></tr>\n",
        report.hook.name(),
        report.rung.map_or("none", Rung::name),
        escaped(&words.join(" ")),
        verdict = report.verdict.name(),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
