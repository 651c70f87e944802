//! What renderings must have that no schema knows: privileges as the units have them, versions, doors; and bases that say
//! what the chart says.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use xshell::Shell;

use super::{
    CHART, case, kind,
    rendered::{DASHBOARD, Rendered},
};

const UNIT: &str = "packaging/systemd/tcp-close.service";
const LEAST: &str = "packaging/systemd/least-privilege.conf";
/// What every command answers to `--help`, as a test of its own has it.
const HELP: &str = "tcp-close-daemon/tests/cli/help.trycmd";

/// What is so whatever the values are.
pub(super) fn of_every(sh: &Shell, rendered: &Rendered) -> anyhow::Result<()> {
    let Rendered { name, about, notes, .. } = rendered;
    let version = version(sh)?;
    for key in ["version", "appVersion"] {
        ensure!(
            about[key] == version.as_str(),
            "{CHART}/Chart.yaml: {key} is not the workspace's, {version}"
        );
    }
    ensure!(notes.contains("kubectl"), "{name}: the notes are empty");
    let (pod, container) = (rendered.pod()?, rendered.container()?);
    for key in ["hostNetwork", "hostPID"] {
        ensure!(pod[key] == true, "{name}: without {key} the node is not seen");
    }
    let security = &container["securityContext"];
    ensure!(
        security["allowPrivilegeEscalation"] == false
            && security["readOnlyRootFilesystem"] == true
            && security["capabilities"]["drop"] == json!(["ALL"])
            && security["privileged"].is_null(),
        "{name}: more is allowed than it takes: {security}"
    );
    // Kubernetes refuses CAP_SYS_ADMIN beside this, by that name (`ValidateSecurityContext`).
    let added = strings(&security["capabilities"]["add"])?;
    ensure!(added.iter().all(|added| !added.starts_with("CAP_")), "{name}: {added:?}");
    let help = sh.read_file(HELP)?;
    for argument in strings(&container["args"])?.iter().filter(|argument| argument.starts_with('-')) {
        let option = argument.split('=').next().unwrap_or_default();
        let is_known = help.contains(&format!(" {option} "));
        ensure!(is_known, "{name}: the daemon has no {option}");
    }
    for mount in array(&container["volumeMounts"])? {
        let has_volume = array(&pod["volumes"])?.iter().any(|volume| volume["name"] == mount["name"]);
        ensure!(has_volume, "{name}: no volume is mounted at {}", mount["mountPath"]);
    }
    Ok(())
}

/// What each set of values is for.
pub(super) fn of_each(sh: &Shell, cases: &BTreeMap<String, Rendered>) -> anyhow::Result<()> {
    let default = case(cases, "default")?;
    let mut kinds: Vec<&str> = default.objects.iter().map(kind).collect();
    kinds.sort_unstable();
    ensure!(kinds == ["DaemonSet", "Service", "ServiceAccount"], "by default there are {kinds:?}");
    for (name, unit) in [("default", UNIT), ("least", LEAST)] {
        let container = case(cases, name)?.container()?;
        let added = strings(&container["securityContext"]["capabilities"]["add"])?;
        let text = sh.read_file(unit)?;
        let ambient = ambient(&text);
        ensure!(added == ambient, "{name}: {added:?}, and in {unit} {ambient:?}");
        ensure!(container["securityContext"]["runAsNonRoot"] == true, "{name}: it is root");
        ensure!(
            container["readinessProbe"]["httpGet"]["path"] == "/readyz",
            "{name}: nobody asks whether it is ready"
        );
        ensure!(
            container["livenessProbe"]["httpGet"]["path"] == "/readyz",
            "{name}: nobody asks whether its pipeline goes on"
        );
    }
    // A node without AppArmor turns away whoever asks for the runtime's profile.
    for (name, profile, before_the_field) in
        [("default", "Unconfined".into(), "unconfined".into()), ("least", Value::Null, Value::Null)]
    {
        let field = &case(cases, name)?.container()?["securityContext"]["appArmorProfile"]["type"];
        ensure!(*field == profile, "{name}: {field}");
        let old = case(cases, &format!("{name}-1.25"))?;
        ensure!(old.container()?["securityContext"]["appArmorProfile"].is_null(), "1.25 knows no such field");
        let annotations = &old.one("DaemonSet")?["spec"]["template"]["metadata"]["annotations"];
        let annotation = &annotations["container.apparmor.security.beta.kubernetes.io/tcp-close"];
        ensure!(*annotation == before_the_field, "{name}-1.25: {annotation}");
    }
    let tls = case(cases, "tls")?;
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let probe = &tls.container()?[probe];
        // Whoever asks by HTTP would be asked for a password.
        let is_plain = probe["httpGet"].is_null() && probe["tcpSocket"]["host"] == "2001:db8::1";
        ensure!(is_plain, "tls: {probe}");
    }
    let arguments = strings(&tls.container()?["args"])?;
    ensure!(arguments.contains(&"--web.listen-address=[2001:db8::1]:10060"), "tls: {arguments:?}");
    let everything = case(cases, "everything")?;
    let mut dashboards = everything.objects.iter().filter(|object| kind(object) == "ConfigMap");
    ensure!(
        dashboards.any(|object| object["data"]["of-a-test.json"] == DASHBOARD),
        "everything: a dashboard is not what it was"
    );
    let image = &everything.container()?["image"];
    ensure!(image.as_str().is_some_and(|image| image.starts_with("localhost/tcp-close@sha256:")), "{image}");
    Ok(())
}

/// The bases say what the chart says, but for labels that only Helm gives.
pub(super) fn of_bases(
    bases: &BTreeMap<&'static str, Rendered>,
    cases: &BTreeMap<String, Rendered>,
) -> anyhow::Result<()> {
    for (base, name) in [("base", "default"), ("overlays/example", "monitored"), ("overlays/least", "least")]
    {
        let (base, chart) = (bases.get(base).context("it is rendered")?, case(cases, name)?);
        let namespaces = base.objects.iter().filter(|object| kind(object) == "Namespace").count();
        ensure!(
            base.objects.len() == chart.objects.len() + namespaces,
            "{}: {} objects, and the chart has {}",
            base.name,
            base.objects.len(),
            chart.objects.len()
        );
        for object in &chart.objects {
            let theirs = base.one(kind(object))?;
            for key in ["spec", "automountServiceAccountToken"] {
                if let Some(place) = difference(&object[key], &theirs[key]) {
                    bail!("{}: {} is not as the chart has it at {key}{place}", base.name, kind(object));
                }
            }
        }
    }
    Ok(())
}

/// The first place where two differ.
fn difference(one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys = one.keys().chain(other.keys());
            keys.find_map(|key| {
                let below =
                    difference(one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null))?;
                Some(format!("/{key}{below}"))
            })
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let mut pairs = one.iter().zip(other).enumerate();
            pairs.find_map(|(index, (one, other))| Some(format!("/{index}{}", difference(one, other)?)))
        }
        _ => (one != other).then(|| format!(": {one}, {other}")),
    }
}

/// Ambient capabilities of a unit, as Kubernetes spells them; an empty line begins anew.
fn ambient(unit: &str) -> Vec<&str> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix("AmbientCapabilities="));
    let words = lines.flat_map(str::split_ascii_whitespace);
    words.filter_map(|word| word.strip_prefix("CAP_")).collect()
}

/// The version of the workspace.
fn version(sh: &Shell) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Manifest {
        workspace: Workspace,
    }
    #[derive(Deserialize)]
    struct Workspace {
        package: Package,
    }
    #[derive(Deserialize)]
    struct Package {
        version: String,
    }

    let manifest: Manifest = toml::from_str(&sh.read_file("Cargo.toml")?)?;
    Ok(manifest.workspace.package.version)
}

fn array(value: &Value) -> anyhow::Result<&Vec<Value>> {
    value.as_array().with_context(|| format!("{value} is no list"))
}

fn strings(value: &Value) -> anyhow::Result<Vec<&str>> {
    array(value)?.iter().map(|one| one.as_str().with_context(|| format!("{one} is no text"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_two_differ() {
        let one = json!({ "a": [1, { "b": true }] });
        assert_eq!(difference(&one, &one), None);
        let place = difference(&one, &json!({ "a": [1, { "b": false }] }));
        assert_eq!(place.as_deref(), Some("/a/1/b: true, false"));
        assert_eq!(difference(&one, &json!({ "a": [1] })).as_deref(), Some("/a: [1,{\"b\":true}], [1]"));
        assert_eq!(difference(&json!({}), &json!({ "c": 1 })).as_deref(), Some("/c: null, 1"));
    }

    #[test]
    fn capabilities_of_units() {
        assert_eq!(
            ambient("AmbientCapabilities=\nAmbientCapabilities=CAP_BPF CAP_PERFMON\nUser=x"),
            ["BPF", "PERFMON"]
        );
    }
}
