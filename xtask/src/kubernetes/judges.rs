//! Who says whether an object is one: the schemas of several versions of Kubernetes, and the models of each kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::ensure;
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use super::{CHART, kind, rendered::Rendered, tools::Tools};

/// The kinds that no version of Kubernetes has by itself.
const OF_THE_OPERATOR: [&str; 2] = ["PrometheusRule", "ServiceMonitor"];

/// Complaints, by the name of what they are of.
pub(super) type Complaints = BTreeMap<String, Vec<String>>;

pub(super) struct Judges<'a> {
    sh: &'a Shell,
    tools: &'a Tools,
    folder: PathBuf,
    /// Of the chart's values.
    schema: Value,
}

impl<'a> Judges<'a> {
    /// Judges that write into `folder` what others are to read.
    pub(super) fn new(sh: &'a Shell, tools: &'a Tools, folder: &Path) -> anyhow::Result<Self> {
        let schema = serde_json::from_str(&sh.read_file(format!("{CHART}/values.schema.json"))?)?;
        Ok(Self { sh, tools, folder: folder.join("judged"), schema })
    }

    /// Nobody has anything to say of these.
    pub(super) fn accept(&self, all: &[&Rendered]) -> anyhow::Result<()> {
        let (mut objects, mut values) = (BTreeMap::new(), BTreeMap::new());
        let mut by_version: BTreeMap<&str, BTreeMap<String, &Value>> = BTreeMap::new();
        for rendered in all {
            ensure!(!rendered.objects.is_empty(), "{} is empty", rendered.name);
            if !rendered.values.is_null() {
                values.insert(rendered.name.clone(), &rendered.values);
            }
            for object in &rendered.objects {
                let name = format!("{}-{}-{}", rendered.name, kind(object), objects.len());
                objects.insert(name.clone(), object);
                for version in &rendered.versions {
                    by_version.entry(version).or_default().insert(name.clone(), object);
                }
            }
        }
        let mut complaints = self.by_models(&objects, &values)?;
        for (version, objects) in by_version {
            complaints.extend(self.by_schemas(version, &objects)?);
        }
        ensure!(complaints.is_empty(), "objects or values that make no sense: {complaints:#?}");
        Ok(())
    }

    /// What the models say of objects, and the chart's schema of values.
    pub(super) fn by_models(
        &self,
        objects: &BTreeMap<String, &Value>,
        values: &BTreeMap<String, &Value>,
    ) -> anyhow::Result<Complaints> {
        let Self { sh, tools, schema, .. } = self;
        let (models, schema) = (&tools.models, schema.clone());
        let question = json!({ "objects": objects, "schema": schema, "values": values }).to_string();
        let answer = cmd!(sh, "node {models}").stdin(question).quiet().read()?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// What the schemas of a version say of objects, unknown fields included; the first thing of each.
    pub(super) fn by_schemas(
        &self,
        version: &str,
        objects: &BTreeMap<String, &Value>,
    ) -> anyhow::Result<Complaints> {
        let Self { sh, tools, folder, .. } = self;
        let objects: Vec<_> =
            objects.iter().filter(|(_, object)| !OF_THE_OPERATOR.contains(&kind(object))).collect();
        for (name, object) in &objects {
            sh.write_file(folder.join(format!("{name}.json")), object.to_string())?;
        }
        let python = &tools.python;
        let inside = sh.push_dir(folder);
        let files = objects.iter().map(|(name, _)| format!("{name}.json"));
        let answer = cmd!(sh, "{python} -m kubernetes_validate -k {version} --strict {files...}")
            .ignore_status()
            .quiet()
            .output()?;
        drop(inside);
        let answer = [answer.stdout, answer.stderr].concat();
        let answer = String::from_utf8_lossy(&answer);
        let mut complaints = Complaints::new();
        let mut passed = BTreeSet::new();
        for line in answer.lines() {
            if let Some((name, _)) =
                line.strip_prefix("INFO ").and_then(|rest| rest.split_once(".json passed "))
            {
                passed.insert(name);
            }
        }
        for (name, _) in &objects {
            // Who did not pass has a line that says why; without one, all of them do.
            if !passed.contains(name.as_str()) {
                let about = answer.lines().filter(|line| line.contains(&format!("{name}.json")));
                let about: Vec<String> = about.map(str::to_owned).collect();
                let about = if about.is_empty() { vec![answer.clone().into_owned()] } else { about };
                complaints.insert(format!("{name} on {version}"), about);
            }
        }
        Ok(complaints)
    }
}
