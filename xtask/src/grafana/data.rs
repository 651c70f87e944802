//! Every query that a dashboard asks is answered, and by something that can be seen.

use std::{collections::BTreeSet, time::Duration};

use anyhow::bail;
use serde_json::Value;

use super::{
    dashboard::{Dashboard, Format, Panel, Query, Transformation, Variable},
    stage::{HOST, Stage, WINDOW},
};
use crate::clock;

/// How long a query may go without an answer once there was a TIME-WAIT from its begin to its end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Metrics that are 0 as long as all is well, or as long as nobody waits for an hour; queries for these are answered by
/// zeros, and for all others there has to be something.
const MAY_BE_ZERO: [&str; 7] = [
    "instance:tcp_close_close_wait_older_than_1h:ratio",
    "tcp_close_events_late_total",
    "tcp_close_events_lost_total",
    "tcp_close_hook_info{instance=~\"$instance\",verdict!=",
    "tcp_close_kernel_difference",
    "tcp_close_ports_exhaustion_seconds",
    "tcp_close_series_dropped_total",
];

pub(super) fn check(stage: &Stage<'_>, dashboards: &[Dashboard]) -> anyhow::Result<()> {
    let until = clock::now() + PATIENCE;
    let mut asked = 0;
    let mut wrong = Vec::new();
    for dashboard in dashboards {
        for variable in &dashboard.templating.list {
            wrong.extend(
                wrong_with_variable(stage, variable)?.map(|what| format!("{}: {what}", dashboard.uid)),
            );
        }
        for query in dashboard.queries() {
            asked += 1;
            // What is wrong now may be right a moment later, but not for ever.
            let mut answer = None;
            let _answered = clock::wait_for(until.saturating_sub(clock::now()), || {
                answer = wrong_with_query(stage, dashboard, &query);
                Ok(answer.is_none().then_some(()))
            })?;
            wrong.extend(answer.map(|what| format!("{}: {what}", query.of)));
        }
        for panel in dashboard.drawn().filter(|panel| panel.kind == "table") {
            let of_panel = wrong_with_table(stage, dashboard, panel)?;
            wrong.extend(
                of_panel.into_iter().map(|what| format!("{}, {}: {what}", dashboard.uid, panel.title)),
            );
        }
    }
    if !wrong.is_empty() {
        bail!("of {asked} queries:\n  {}\n{}", wrong.join("\n  "), stage.last_words());
    }
    println!("{asked} queries, each answered by something");
    Ok(())
}

fn wrong_with_variable(stage: &Stage<'_>, variable: &Variable) -> anyhow::Result<Option<String>> {
    let Some((label, metric)) = variable.label_values() else { return Ok(None) };
    let hosts = stage.values(label, metric)?;
    Ok((hosts.len() != 2 || !hosts.iter().any(|host| host == HOST))
        .then(|| format!("variable {} has the values {hosts:?}", variable.name)))
}

fn wrong_with_query(stage: &Stage<'_>, dashboard: &Dashboard, query: &Query<'_>) -> Option<String> {
    let expr = filled_in(dashboard, query.expr);
    let answer = if query.is_instant { stage.now(&expr) } else { stage.lately(&expr) };
    let found = match answer {
        Ok(found) => found,
        Err(error) => return Some(format!("{error:#}: {expr}")),
    };
    let figures: Vec<f64> = found.iter().flat_map(figures).filter(|figure| !figure.is_nan()).collect();
    if figures.is_empty() {
        return Some(format!("no data: {expr}"));
    }
    let may_be_zero = MAY_BE_ZERO.iter().any(|name| query.expr.contains(name));
    if !may_be_zero && figures.iter().all(|figure| *figure == 0.0) {
        return Some(format!("nothing but 0: {expr}"));
    }
    let labels = labels(&found);
    let named = query.legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0));
    let unknown = named.into_iter().find(|name| !labels.contains(*name));
    unknown.map(|name| format!("its legend says {name}, which is none of {labels:?}"))
}

/// What a table speaks of is among its columns.
fn wrong_with_table(stage: &Stage<'_>, dashboard: &Dashboard, panel: &Panel) -> anyhow::Result<Vec<String>> {
    let mut columns = BTreeSet::from(["Time".to_owned()]);
    for target in panel.targets.iter().filter(|target| target.format == Format::Table) {
        columns.extend(labels(&stage.now(&filled_in(dashboard, &target.expr))?));
        // Grafana tells values of several queries apart by the queries' names.
        columns.insert(match &panel.targets[..] {
            [_] => "Value".to_owned(),
            _ => format!("Value #{}", target.ref_id),
        });
    }
    let mut shown: BTreeSet<&str> = columns.iter().map(String::as_str).collect();
    let mut wrong = Vec::new();
    for transformation in &panel.transformations {
        let Transformation::Organize(organize) = transformation else { continue };
        let named = [&organize.exclude, &organize.index, &organize.rename];
        let missing = named.into_iter().flat_map(|map| map.keys()).filter(|name| !columns.contains(*name));
        wrong.extend(missing.map(|name| format!("it has no column {name}")));
        shown.retain(|name| !organize.exclude.contains_key(*name));
        let nameless = shown.iter().filter(|name| !organize.index.contains_key(**name));
        wrong.extend(nameless.map(|name| format!("column {name} has no place")));
        let renamed =
            shown.iter().map(|name| organize.rename.get(*name).and_then(Value::as_str).unwrap_or(name));
        shown = renamed.collect();
    }
    let overrides = panel.field_config.pointer("/overrides").and_then(Value::as_array);
    let matched = overrides.into_iter().flatten().filter_map(|one| one.pointer("/matcher/options")?.as_str());
    let sorted = panel.options.pointer("/sortBy/0/displayName").and_then(Value::as_str);
    let missing = matched.chain(sorted).filter(|name| !shown.contains(name));
    wrong.extend(missing.map(|name| format!("it shows no column {name}")));
    Ok(wrong)
}

/// As Grafana fills its variables in.
fn filled_in(dashboard: &Dashboard, query: &str) -> String {
    let all = dashboard.variable("instance").and_then(|variable| variable.all.as_deref());
    query
        .replace("$instance", all.unwrap_or(HOST))
        .replace("$__rate_interval", "20s")
        .replace("$__range", &format!("{}s", WINDOW.as_secs()))
}

/// The figures of a series, of a moment or of many.
fn figures(series: &Value) -> Vec<f64> {
    let many = series.get("values").and_then(Value::as_array).into_iter().flatten();
    let figure = |sample: &Value| sample.get(1)?.as_str()?.parse().ok();
    many.chain(series.get("value")).filter_map(figure).collect()
}

fn labels(found: &[Value]) -> BTreeSet<String> {
    let labels = found.iter().filter_map(|series| series.get("metric")?.as_object());
    labels.flat_map(|labels| labels.keys().cloned()).collect()
}
