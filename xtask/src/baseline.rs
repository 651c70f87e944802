//! Figures that somebody wrote down, and what has become of them.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};

/// How much more is too much, and how much less should be written down, in percent.
const TOLERATED: u64 = 10;

/// Holds what was counted against what was written down, and prints a line for each; fails where something takes too much
/// more. `unit` is what they are figures of.
pub(crate) fn hold<N: AsRef<str> + Ord>(
    before: &BTreeMap<String, u64>,
    counted: &BTreeMap<N, u64>,
    unit: &str,
) -> anyhow::Result<()> {
    let more = compare(before, counted, unit)?;
    ensure!(more.is_empty(), "more {unit} than before for {}", more.join(", "));
    Ok(())
}

fn compare<'c, N: AsRef<str> + Ord>(
    before: &BTreeMap<String, u64>,
    counted: &'c BTreeMap<N, u64>,
    unit: &str,
) -> anyhow::Result<Vec<&'c str>> {
    let longest = counted.keys().map(|name| name.as_ref().len()).max().unwrap_or_default();
    let mut more = Vec::new();
    for (name, &count) in counted {
        let name = name.as_ref();
        let &before = before
            .get(name)
            .with_context(|| format!("nothing is written down of {name}: the command has --write"))?;
        let verdict = if count * 100 > before * (100 + TOLERATED) {
            more.push(name);
            "TOO MANY"
        } else if count * 100 < before * (100 - TOLERATED) {
            "fewer: write that down"
        } else {
            "as before"
        };
        println!("{name:<longest$} {count:>8} {unit}, {before:>8} before: {verdict}");
    }
    Ok(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_is_too_much() {
        let before = [("a".to_owned(), 1000), ("b".to_owned(), 1000), ("c".to_owned(), 1000)].into();
        let counted = [("a", 1101), ("b", 1100), ("c", 500)].into();
        assert_eq!(compare(&before, &counted, "of them").expect("all are known"), ["a"]);
        assert!(hold(&before, &counted, "of them").is_err());
        assert!(compare(&BTreeMap::new(), &counted, "of them").is_err(), "what nobody wrote down");
    }
}
