//! A dashboard, as far as Grafana's own types say nothing of it: what is asked of Prometheus, and what leads where.

use std::path::Path;

use anyhow::ensure;
use serde::Deserialize;
use serde_json::{Map, Value};
use xshell::Shell;

use super::stem;

#[derive(Deserialize)]
pub(super) struct Dashboard {
    pub(super) uid: String,
    pub(super) panels: Vec<Panel>,
    pub(super) templating: Templating,
    annotations: Annotations,
    /// The same once more, for what may be anywhere in it.
    #[serde(skip)]
    pub(super) whole: Value,
}

#[derive(Deserialize)]
pub(super) struct Templating {
    pub(super) list: Vec<Variable>,
}

#[derive(Deserialize)]
pub(super) struct Variable {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// A text, or for those that ask a data source an object with a text.
    pub(super) query: Value,
    /// What all of them is, where it may be chosen.
    #[serde(rename = "allValue")]
    pub(super) all: Option<String>,
}

#[derive(Deserialize)]
struct Annotations {
    list: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Annotation {
    name: String,
    target: AnnotationTarget,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnnotationTarget {
    #[serde(rename = "refId")]
    _id: String,
    expr: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Panel {
    pub(super) id: u32,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) title: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) grid_pos: Place,
    #[serde(default)]
    pub(super) targets: Vec<Target>,
    #[serde(default)]
    pub(super) transformations: Vec<Transformation>,
    #[serde(default)]
    pub(super) field_config: Value,
    #[serde(default)]
    pub(super) options: Value,
}

#[derive(Clone, Copy, Deserialize)]
pub(super) struct Place {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) w: u32,
    pub(super) h: u32,
}

/// What is asked of Prometheus, in the words of Grafana's data source, and no other words.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Target {
    pub(super) ref_id: String,
    pub(super) expr: String,
    pub(super) format: Format,
    #[serde(default)]
    pub(super) legend_format: String,
    pub(super) instant: bool,
    pub(super) range: bool,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    TimeSeries,
    Table,
    Heatmap,
}

#[derive(Deserialize)]
#[serde(tag = "id", content = "options", rename_all = "camelCase")]
pub(super) enum Transformation {
    /// Frames become one, a row for each combination of the columns that they share.
    Merge {},
    Organize(Organize),
}

/// Which columns there are, and what they are called.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Organize {
    #[serde(rename = "excludeByName")]
    pub(super) exclude: Map<String, Value>,
    #[serde(rename = "indexByName")]
    pub(super) index: Map<String, Value>,
    #[serde(rename = "renameByName")]
    pub(super) rename: Map<String, Value>,
}

/// A question to Prometheus, and where it stands.
pub(super) struct Query<'a> {
    pub(super) of: String,
    pub(super) expr: &'a str,
    pub(super) is_instant: bool,
    pub(super) legend: &'a str,
}

impl Dashboard {
    pub(super) fn read(sh: &Shell, file: &Path) -> anyhow::Result<Self> {
        let text = sh.read_file(file)?;
        let mut dashboard: Self = serde_json::from_str(&text)?;
        dashboard.whole = serde_json::from_str(&text)?;
        ensure!(dashboard.uid == stem(file), "its uid is {}, and links go by that", dashboard.uid);
        Ok(dashboard)
    }

    /// All that draws something.
    pub(super) fn drawn(&self) -> impl Iterator<Item = &Panel> {
        self.panels.iter().filter(|panel| panel.kind != "row")
    }

    /// All that is asked of Prometheus, but for the values of variables.
    pub(super) fn queries(&self) -> Vec<Query<'_>> {
        let annotations = self.annotations.list.iter().map(|annotation| Query {
            of: format!("{}, annotation {}", self.uid, annotation.name),
            expr: &annotation.target.expr,
            is_instant: false,
            legend: "",
        });
        let targets = self.drawn().flat_map(|panel| {
            panel.targets.iter().map(move |target| Query {
                of: format!("{}, {} {}", self.uid, panel.title, target.ref_id),
                expr: &target.expr,
                is_instant: target.instant,
                legend: &target.legend_format,
            })
        });
        annotations.chain(targets).collect()
    }

    pub(super) fn variable(&self, name: &str) -> Option<&Variable> {
        self.templating.list.iter().find(|variable| variable.name == name)
    }
}

impl Variable {
    /// The label whose values it has, and the metric.
    pub(super) fn label_values(&self) -> Option<(&str, &str)> {
        let query = self.query.get("query")?.as_str()?;
        let (metric, label) = query.strip_prefix("label_values(")?.strip_suffix(')')?.split_once(", ")?;
        Some((label, metric))
    }
}
