//! What a dashboard speaks of is there: metrics, variables, chapters, other dashboards; and its panels have their places.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use serde_json::Value;
use xshell::Shell;

use super::dashboard::{Dashboard, Panel, Place, Target};
use crate::prometheus::{METRICS, PATTERNS, RULES, chapters, metric_names, without_suffix};

/// How wide a dashboard is, in the units of places.
const COLUMNS: u32 = 24;

/// What Prometheus makes itself.
const OF_PROMETHEUS: [&str; 3] = ["ALERTS", "scrape_duration_seconds", "scrape_samples_scraped"];

/// Times that a query may look back: one that fits the scrape interval and the zoom, and all that is shown.
const WINDOWS: [&str; 2] = ["$__rate_interval", "$__range"];

/// Grafana's names of the units that are used here. Another one is shown as it is written, misspelt or not.
const UNITS: [&str; 9] = ["bytes", "cps", "dateTimeAsIso", "eps", "ms", "none", "percentunit", "s", "short"];

/// Where a link's chapter stands; the variable has the address of the page.
const CHAPTER: &str = "${runbooks:raw}";

pub(super) fn check(sh: &Shell, dashboards: &[Dashboard]) -> anyhow::Result<()> {
    let known = Known {
        metrics: sh.read_file(METRICS)?,
        rules: sh.read_file(RULES)?,
        chapters: chapters(sh)?,
        variables: dashboards
            .iter()
            .map(|dashboard| (dashboard.uid.as_str(), variables(dashboard)))
            .collect(),
    };
    let mut wrong = Vec::new();
    for dashboard in dashboards {
        let of_dashboard = known.wrong_with(dashboard);
        wrong.extend(of_dashboard.into_iter().map(|what| format!("{}: {what}", dashboard.uid)));
    }
    if !wrong.is_empty() {
        bail!("dashboards:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn variables(dashboard: &Dashboard) -> BTreeSet<&str> {
    dashboard.templating.list.iter().map(|variable| variable.name.as_str()).collect()
}

struct Known<'a> {
    metrics: String,
    rules: String,
    chapters: BTreeSet<String>,
    /// By the uid of their dashboard.
    variables: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl Known<'_> {
    fn wrong_with(&self, dashboard: &Dashboard) -> Vec<String> {
        let mut wrong = Vec::new();
        let ids: BTreeSet<u32> = dashboard.panels.iter().map(|panel| panel.id).collect();
        if ids.len() < dashboard.panels.len() {
            wrong.push("two panels have one id".to_owned());
        }
        wrong.extend(misplaced(&dashboard.panels));
        for panel in dashboard.drawn() {
            wrong.extend(wrong_with(panel).into_iter().map(|what| format!("{}: {what}", panel.title)));
        }
        for query in dashboard.queries() {
            wrong.extend(self.wrong_with_query(query.expr).map(|what| format!("{}: {what}", query.of)));
        }
        for variable in dashboard.templating.list.iter().filter(|variable| variable.kind == "query") {
            match variable.label_values() {
                Some((_, metric)) if self.is_metric(metric) => {}
                _ => wrong.push(format!("variable {}: its query asks for no metric", variable.name)),
            }
        }
        for url in urls(&dashboard.whole) {
            wrong.extend(self.wrong_with_link(dashboard, url).map(|what| format!("{url}: {what}")));
        }
        wrong
    }

    fn wrong_with_query(&self, query: &str) -> Option<String> {
        let selectors = selectors(query);
        let of_no_host = selectors.iter().find(|(_, labels)| !labels.contains("\"$instance\""));
        let unknown = selectors.iter().map(|(name, _)| *name).chain(metric_names(query));
        let unknown = unknown.into_iter().find(|name| !self.is_metric(name));
        let windows = query.split('[').skip(1).filter_map(|rest| Some(rest.split_once(']')?.0));
        let window = windows.into_iter().find(|window| !WINDOWS.contains(window));
        match (selectors.is_empty(), of_no_host, unknown, window) {
            (true, ..) => Some("it asks for nothing".to_owned()),
            (_, Some((name, _)), ..) => Some(format!("{name} is not of the chosen host")),
            (_, _, Some(name), _) => Some(format!("neither {METRICS} nor {RULES} has {name}")),
            (.., Some(window)) => Some(format!("[{window}] is none of {WINDOWS:?}")),
            _ => None,
        }
    }

    fn is_metric(&self, name: &str) -> bool {
        OF_PROMETHEUS.contains(&name)
            || self.metrics.contains(&format!("| `{}` |", without_suffix(name)))
            || self.metrics.contains(&format!("| `{name}` |"))
            || self.rules.lines().any(|line| line.trim().strip_prefix("- record: ") == Some(name))
    }

    fn wrong_with_link(&self, from: &Dashboard, url: &str) -> Option<String> {
        if let Some(chapter) = url.strip_prefix(CHAPTER) {
            let chapter = chapter.strip_prefix('#').unwrap_or_default();
            return (!chapter.is_empty() && !self.chapters.contains(chapter))
                .then(|| format!("{PATTERNS} has no such chapter"));
        }
        let (uid, values) = url.strip_prefix("/d/")?.split_once('?')?;
        let Some(there) = self.variables.get(uid) else {
            return Some("there is no such dashboard".to_owned());
        };
        values.split('&').find_map(|value| {
            let handed_on = value.strip_prefix("${").and_then(|rest| rest.strip_suffix(":queryparam}"));
            let named = value.strip_prefix("var-").and_then(|rest| Some(rest.split_once('=')?.0));
            match handed_on.or(named) {
                Some(name) if !there.contains(name) => Some(format!("it has no variable {name}")),
                None if value != "${__url_time_range}" => Some(format!("what is {value}?")),
                _ if handed_on.is_some_and(|name| from.variable(name).is_none()) => {
                    Some(format!("there is no {value} to hand on"))
                }
                _ => None,
            }
        })
    }
}

/// What is wrong with a panel by itself.
fn wrong_with(panel: &Panel) -> Vec<String> {
    let mut wrong = Vec::new();
    if !panel.description.ends_with('.') {
        wrong.push("no sentence says what it means".to_owned());
    }
    if panel.targets.is_empty() {
        wrong.push("it asks for nothing".to_owned());
    }
    let of_axis = panel.options.pointer("/yAxis/unit").filter(|_| panel.kind == "heatmap");
    if of_axis.or(panel.field_config.pointer("/defaults/unit")).is_none() {
        wrong.push("its figures have no unit".to_owned());
    }
    for unit in units(panel) {
        if !UNITS.contains(&unit) {
            wrong.push(format!("is {unit:?} a unit?"));
        }
    }
    if panel.targets.iter().any(|target| target.instant == target.range) {
        wrong.push("a query is either of a moment or of a range".to_owned());
    }
    let names: BTreeSet<&str> = panel.targets.iter().map(|Target { ref_id, .. }| ref_id.as_str()).collect();
    if names.len() < panel.targets.len() {
        wrong.push("two queries have one name".to_owned());
    }
    wrong
}

fn units(panel: &Panel) -> Vec<&str> {
    let overrides = panel.field_config.pointer("/overrides").and_then(Value::as_array);
    let properties = overrides.into_iter().flatten().filter_map(|one| one.get("properties")?.as_array());
    let of_overrides = properties.flatten().filter(|one| one.get("id").is_some_and(|id| id == "unit"));
    [panel.options.pointer("/yAxis/unit"), panel.field_config.pointer("/defaults/unit")]
        .into_iter()
        .flatten()
        .chain(of_overrides.filter_map(|one| one.get("value")))
        .filter_map(Value::as_str)
        .collect()
}

/// Panels that stick out, or lie on others.
fn misplaced(panels: &[Panel]) -> Vec<String> {
    let out = panels.iter().filter(|panel| {
        let Place { x, w, h, .. } = panel.grid_pos;
        w == 0 || h == 0 || x + w > COLUMNS
    });
    let mut wrong: Vec<String> = out.map(|panel| format!("{} sticks out", panel.title)).collect();
    for (number, one) in panels.iter().enumerate() {
        for other in panels.iter().skip(number + 1) {
            if overlap(one.grid_pos, other.grid_pos) {
                wrong.push(format!("{} lies on {}", one.title, other.title));
            }
        }
    }
    wrong
}

const fn overlap(one: Place, other: Place) -> bool {
    one.x < other.x + other.w
        && other.x < one.x + one.w
        && one.y < other.y + other.h
        && other.y < one.y + one.h
}

/// Names of metrics and what stands in the braces behind them.
fn selectors(query: &str) -> Vec<(&str, &str)> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    query
        .match_indices('{')
        .filter_map(|(at, _)| {
            let (before, rest) = query.split_at_checked(at)?;
            let name = before.trim_end_matches(is_of_a_name);
            Some((before.strip_prefix(name)?, rest.strip_prefix('{')?.split_once('}')?.0))
        })
        .collect()
}

/// Every address that something in there leads to.
fn urls(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => {
            let own = members.get("url").and_then(Value::as_str);
            own.into_iter().chain(members.values().flat_map(urls)).collect()
        }
        Value::Array(items) => items.iter().flat_map(urls).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_found() {
        let query = r#"a_total{instance="$instance"} / on (x) b:c{state="y"} + 1"#;
        assert_eq!(selectors(query), [("a_total", "instance=\"$instance\""), ("b:c", "state=\"y\"")]);
    }

    #[test]
    fn places_that_overlap_are_known() {
        let place = |x, y, w, h| Place { x, y, w, h };
        let check = |one, other, expected| {
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected));
        };
        check(place(0, 0, 12, 8), place(12, 0, 12, 8), false);
        check(place(0, 0, 12, 8), place(0, 8, 12, 8), false);
        check(place(0, 0, 12, 8), place(11, 7, 1, 1), true);
        check(place(0, 0, 24, 8), place(5, 2, 1, 1), true);
    }
}
