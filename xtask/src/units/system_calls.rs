//! The seccomp profile for containers: the system calls that the unit for systemd allows, in the form that container
//! runtimes read.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use serde_json::json;

/// What systemd allows to whoever may make any system call.
const ALWAYS: &str = "@default";

/// The profile for the unit of this text, with systemd's groups of system calls as `systemd-analyze syscall-filter`
/// lists them.
pub(super) fn profile(unit: &str, groups: &str) -> anyhow::Result<String> {
    let calls = allowed(unit, &Groups::read(groups))?;
    let errno = 1; // EPERM, as the unit has it: it leads to the next best way to attach.
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno,
        "archMap": [
            { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": [] },
            { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": [] },
        ],
        "syscalls": [{ "action": "SCMP_ACT_ALLOW", "names": calls }],
    });
    Ok(serde_json::to_string_pretty(&profile)? + "\n")
}

/// The calls that are left when each line of the filter has had its say.
fn allowed<'t>(unit: &'t str, groups: &Groups<'t>) -> anyhow::Result<BTreeSet<&'t str>> {
    let lines: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
    ensure!(
        lines.first().is_some_and(|line| !line.starts_with('~')),
        "the unit does not say what is allowed"
    );
    let mut allowed = groups.members(ALWAYS)?;
    for line in lines {
        let (denied, words) = line.strip_prefix('~').map_or((false, line), |words| (true, words));
        for word in words.split_whitespace() {
            let members = groups.members(word)?;
            if denied {
                allowed.retain(|call| !members.contains(call));
            } else {
                allowed.extend(members);
            }
        }
    }
    Ok(allowed)
}

/// Names of system calls, and of other groups, by the name of the group that they are in.
struct Groups<'t>(BTreeMap<&'t str, Vec<&'t str>>);

impl<'t> Groups<'t> {
    fn read(text: &'t str) -> Self {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut group = None;
        for line in text.lines() {
            match line.strip_prefix("    ") {
                None => group = Some(line.trim()).filter(|name| name.starts_with('@')),
                Some(word) if word.starts_with('#') => {}
                Some(word) => groups.entry(group.unwrap_or_default()).or_default().push(word.trim()),
            }
        }
        Self(groups)
    }

    /// The calls that a word stands for, which may be a group, or a call itself.
    fn members(&self, word: &'t str) -> anyhow::Result<BTreeSet<&'t str>> {
        if !word.starts_with('@') {
            return Ok(BTreeSet::from([word]));
        }
        let words = self.0.get(word).with_context(|| format!("systemd knows no group {word}"))?;
        let mut members = BTreeSet::new();
        for word in words {
            members.extend(self.members(word)?);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "@default\n    # Always\n    exit\n\n@service\n    # Some\n    @io\n    bpf\n    reboot\n\n@io\n    # To read\n    read\n\n# Ungrouped:\n#   other\n";

    #[track_caller]
    fn check(unit: &str, expected: &[&str]) {
        assert_eq!(Vec::from_iter(allowed(unit, &Groups::read(GROUPS)).unwrap()), expected);
    }

    #[test]
    fn the_last_word_counts() {
        check("SystemCallFilter=@io", &["exit", "read"]);
        check("SystemCallFilter=@service", &["bpf", "exit", "read", "reboot"]);
        check("SystemCallFilter=@service\nSystemCallFilter=~reboot bpf", &["exit", "read"]);
        check(
            "SystemCallFilter=@service\nSystemCallFilter=~@service\nSystemCallFilter=bpf",
            &["bpf", "exit"],
        );
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        for unit in ["", "SystemCallFilter=~@io", "SystemCallFilter=@nothing"] {
            assert!(allowed(unit, &Groups::read(GROUPS)).is_err(), "{unit}");
        }
    }
}
