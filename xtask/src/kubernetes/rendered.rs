//! Objects as they would be sent to a cluster: what Helm makes of the chart, and kustomize of the bases.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use xshell::{Shell, cmd};

use super::{CHART, KUSTOMIZE, VERSIONS, copied, kind, tools::Tools};

/// A dashboard that every rendering may have, as the dashboards of this project come and go: Grafana's braces are not Helm's.
pub(super) const DASHBOARD: &str = "{\n  \"title\": \"{{instance}}\"\n}";

/// An overlay that no folder has.
const LEAST: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../base]
components: [../../components/least-privilege]
";

/// What came of a chart or a base.
pub(super) struct Rendered {
    pub(super) name: String,
    /// Of Kubernetes: those that it is meant for.
    pub(super) versions: Vec<&'static str>,
    pub(super) objects: Vec<Value>,
    /// The values that it was made of; none of a base.
    pub(super) values: Value,
    /// What Helm says to whoever installs it.
    pub(super) notes: String,
    /// What Chart.yaml says.
    pub(super) about: Value,
}

impl Rendered {
    /// The one object of this kind.
    pub(super) fn one(&self, wanted: &str) -> anyhow::Result<&Value> {
        let mut found = self.objects.iter().filter(|object| kind(object) == wanted);
        let one = found.next().filter(|_| found.next().is_none());
        one.with_context(|| format!("{} has not one {wanted}", self.name))
    }

    /// What runs on each node.
    pub(super) fn pod(&self) -> anyhow::Result<&Value> {
        Ok(&self.one("DaemonSet")?["spec"]["template"]["spec"])
    }

    /// Its one container.
    pub(super) fn container(&self) -> anyhow::Result<&Value> {
        Ok(&self.pod()?["containers"][0])
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "chart")]
    about: Value,
    values: Value,
    notes: String,
    objects: Vec<Value>,
}

pub(super) struct Renderer<'a> {
    sh: &'a Shell,
    tools: &'a Tools,
    chart: PathBuf,
    kustomize: PathBuf,
}

impl<'a> Renderer<'a> {
    /// Renders copies of the chart and of the bases, which are in `folder` and have more than these.
    pub(super) fn new(sh: &'a Shell, tools: &'a Tools, folder: &Path) -> anyhow::Result<Self> {
        let (chart, kustomize) = (folder.join("chart"), folder.join("kustomize"));
        copied(sh, CHART, &chart)?;
        copied(sh, KUSTOMIZE, &kustomize)?;
        sh.write_file(chart.join("files/dashboards/of-a-test.json"), DASHBOARD)?;
        sh.write_file(kustomize.join("overlays/least/kustomization.yaml"), LEAST)?;
        Ok(Self { sh, tools, chart, kustomize })
    }

    pub(super) fn chart(
        &self,
        name: &str,
        version: &'static str,
        values: Option<&Path>,
    ) -> anyhow::Result<Rendered> {
        let Self { sh, chart, tools, .. } = self;
        let (render, full_version) = (&tools.render, format!("{version}.0"));
        let json = cmd!(sh, "{render} chart {chart} {full_version} {values...}").quiet().read()?;
        let Answer { about, values, notes, objects } = serde_json::from_str(&json)?;
        Ok(Rendered { name: name.to_owned(), versions: vec![version], objects, values, notes, about })
    }

    /// The base, the overlay that is an example, and one of least privilege.
    pub(super) fn bases(&self) -> anyhow::Result<BTreeMap<&'static str, Rendered>> {
        let bases = ["base", "overlays/example", "overlays/least"];
        bases.into_iter().map(|name| Ok((name, self.base(name)?))).collect()
    }

    fn base(&self, name: &str) -> anyhow::Result<Rendered> {
        let Self { sh, tools, kustomize, .. } = self;
        let (program, render, folder) = (&tools.kustomize, &tools.render, kustomize.join(name));
        let yaml = cmd!(sh, "{program} build {folder}").quiet().read()?;
        let json = cmd!(sh, "{render} objects").stdin(yaml).quiet().read()?;
        Ok(Rendered {
            name: format!("kustomize-{}", name.replace('/', "-")),
            // The base has AppArmor's profile as a field.
            versions: VERSIONS[1..].to_vec(),
            objects: serde_json::from_str(&json)?,
            values: Value::Null,
            notes: String::new(),
            about: Value::Null,
        })
    }
}
