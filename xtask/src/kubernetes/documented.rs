//! The table of values in the chart's README has every value, and no other.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::Value;
use xshell::Shell;

use super::CHART;

/// Values that are a whole of which Kubernetes, and not the chart, says what it is made of.
const WHOLE: [&str; 8] = [
    "seccompProfile",
    "resources",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "updateStrategy",
    "nodeSelector",
    "grafanaDashboards.labels",
];

pub(super) fn check(sh: &Shell, values: &Value) -> anyhow::Result<()> {
    let readme = format!("{CHART}/README.md");
    let text = sh.read_file(&readme)?;
    let documented = documented(&text);
    let there_are = paths(values, "");
    let missing: Vec<_> = there_are.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&there_are).collect();
    ensure!(missing.is_empty(), "{readme} says nothing of {missing:?}");
    ensure!(invented.is_empty(), "{readme} speaks of values that there are not: {invented:?}");
    Ok(())
}

/// The first column of the table.
fn documented(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.map(|(path, _)| path.to_owned()).collect()
}

/// The path of every value, as it is given to `--set`.
fn paths(values: &Value, above: &str) -> BTreeSet<String> {
    match values {
        Value::Object(map) if !map.is_empty() && !WHOLE.contains(&above) => {
            let below = map.iter().flat_map(|(key, value)| {
                paths(value, &if above.is_empty() { key.clone() } else { format!("{above}.{key}") })
            });
            below.collect()
        }
        _ => BTreeSet::from([above.to_owned()]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_values() {
        let values = json!({ "a": 1, "b": { "c": [], "d": {} }, "resources": { "limits": {} } });
        assert_eq!(Vec::from_iter(paths(&values, "")), ["a", "b.c", "b.d", "resources"]);
        assert_eq!(Vec::from_iter(documented("| value |\n|---|\n| `b.c` | `x` | y |\n")), ["b.c"]);
    }
}
