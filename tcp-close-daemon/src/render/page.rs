//! The page at `/`.

use crate::probe::{HookReport, Rung};

/// What this is, how its hooks hang, and where to go from here.
pub fn index(telemetry_path: &str, hooks: &[HookReport]) -> String {
    let rows: Vec<String> = hooks.iter().map(row).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>tcp-close</title>\n\
         <style>body{{font-family:sans-serif;margin:2em}}td,th{{padding:.2em 1em .2em 0;text-align:left}}</style></head>\n\
         <body>\n<h1>tcp-close</h1>\n<p>How every TCP connection on this host ends. Version {version}.</p>\n\
         <ul><li><a href=\"{path}\">Metrics</a></li><li><a href=\"/healthz\">Alive</a></li>\
         <li><a href=\"/readyz\">Ready</a></li></ul>\n\
         <table>\n<tr><th>Hook</th><th>Rung</th><th>Verdict</th><th></th></tr>\n{}</table>\n</body>\n</html>\n",
        rows.concat(),
        version = env!("CARGO_PKG_VERSION"),
        path = escaped(telemetry_path),
    )
}

fn row(report: &HookReport) -> String {
    format!(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        report.hook.name(),
        report.rung.map_or("none", Rung::name),
        report.verdict.name(),
        escaped(report.detail.as_deref().unwrap_or_default())
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
