//! What makes no sense is refused: judges that were never seen to refuse anything prove little.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{VERSIONS, case, judges::Judges, kind, rendered::Rendered};

/// A mistake: of which kind of object, where, and what stands there instead.
type Mistake = (&'static str, &'static str, Value);

fn mistakes() -> Vec<Mistake> {
    vec![
        ("DaemonSet", "/spec/template/spec/containers/0/ports/0/containerPort", json!("10060")),
        ("DaemonSet", "/spec/template/spec/hostNetwrok", json!(true)),
        ("DaemonSet", "/spec/template/spec/containers/0/securityContext/capabilities/ad", json!(["BPF"])),
        ("DaemonSet", "/spec/template/spec/containers/0/readinessProbe/httpGet/port", json!([10060])),
        ("Service", "/spec/ports/0/port", json!("metrics")),
        ("ServiceAccount", "/automountToken", json!(false)),
        ("ServiceMonitor", "/spec/endpoints/0/interval", json!("30 s")),
        ("ServiceMonitor", "/spec/endpoints/0/port", json!(10060)),
        ("ServiceMonitor", "/spec/endpoints/0/honorLabel", json!(true)),
        ("ServiceMonitor", "/spec/endpoints", json!({})),
        ("PrometheusRule", "/spec/groups/1/rules/0/for", json!("10 minutes")),
        ("PrometheusRule", "/spec/groups/1/rules/0/labels", json!(["warning"])),
        ("PrometheusRule", "/spec/groups/1/rules/0/annotation", json!({})),
    ]
}

/// Values that the chart's schema has to refuse.
fn wrong_values() -> Vec<(&'static str, Value)> {
    vec![
        ("/privileges", json!("none")),
        ("/extraCapabilities", json!(["CAP_SYS_RESOURCE"])),
        ("/web/port", json!("10060")),
        ("/web/listenAddress", json!("2001:db8::1")),
        ("/webConfig/existingSecrets", json!("tcp-close-web")),
        ("/socket/hostPath", json!("run/tcp-close")),
        ("/serviceMonitor/interval", json!("30 s")),
        ("/servicemonitor", json!({})),
    ]
}

/// Of each mistake in what the chart makes, everybody complains who should.
pub(super) fn is_refused(judges: &Judges<'_>, cases: &BTreeMap<String, Rendered>) -> anyhow::Result<()> {
    let right = case(cases, "monitored")?;
    let mut objects = BTreeMap::new();
    for (number, (wanted, place, mistake)) in mistakes().into_iter().enumerate() {
        let mut object = right.one(wanted)?.clone();
        put(&mut object, place, mistake)?;
        objects.insert(format!("mistake-{number}-{wanted}{}", place.replace('/', "-")), object);
    }
    let mut values = BTreeMap::new();
    for (place, mistake) in wrong_values() {
        let mut wrong = right.values.clone();
        put(&mut wrong, place, mistake)?;
        values.insert(format!("mistake{}", place.replace('/', "-")), wrong);
    }
    let objects: BTreeMap<String, &Value> =
        objects.iter().map(|(name, object)| (name.clone(), object)).collect();
    let values: BTreeMap<String, &Value> = values.iter().map(|(name, value)| (name.clone(), value)).collect();
    let by_models = judges.by_models(&objects, &values)?;
    for name in objects.keys().chain(values.keys()) {
        ensure!(by_models.contains_key(name), "no model complains of {name}");
    }
    for version in VERSIONS {
        let by_schemas = judges.by_schemas(version, &objects)?;
        for (name, object) in &objects {
            let is_known = !["PrometheusRule", "ServiceMonitor"].contains(&kind(object));
            let complaint = by_schemas.get(&format!("{name} on {version}"));
            ensure!(complaint.is_some() == is_known, "the schema of {version} on {name}: {complaint:?}");
            // A schema's own word, and not that of a program that broke down.
            let is_word = complaint.is_none_or(|lines| lines.iter().all(|line| line.starts_with("ERROR ")));
            ensure!(is_word, "{complaint:?}");
        }
    }
    Ok(())
}

/// Puts something into an object or an array, whether something is there or not.
fn put(object: &mut Value, place: &str, what: Value) -> anyhow::Result<()> {
    let (parent, key) = place.rsplit_once('/').context("a place begins with /")?;
    let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
    parent.with_context(|| format!("there is nothing to put {place} into"))?.insert(key.to_owned(), what);
    Ok(())
}
