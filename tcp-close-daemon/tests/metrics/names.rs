//! The names, by <https://prometheus.io/docs/practices/naming/> and what `promtool check metrics` asks for.

use crate::exposition::{families, fresh};

/// Units that Prometheus wants as others, with what it wants.
const NOT_BASE_UNITS: &[&str] = &[
    "ns",
    "nanoseconds",
    "us",
    "microseconds",
    "ms",
    "milliseconds",
    "sec",
    "secs",
    "min",
    "minutes",
    "hours",
    "days",
    "kb",
    "mb",
    "gb",
    "kilobytes",
    "megabytes",
    "bits",
    "percent",
    "jiffies",
    "ticks",
];

/// Units that, where a name has one, end it.
const BASE_UNITS: &[&str] = &["seconds", "bytes", "ratio"];

/// Metrics named after a label of theirs, because it is what they count or measure: the seconds in a state, the
/// segments of a close, the seconds and runs of a program, what there is to know of a hook.
const NAMED_AFTER_A_LABEL: &[(&str, &str)] = &[
    ("tcp_close_hook_info", "hook"),
    ("tcp_close_state_seconds", "state"),
    ("tcp_close_close_segments_total", "segments"),
    ("tcp_close_program_seconds_total", "program"),
    ("tcp_close_program_runs_total", "program"),
    ("tcp_close_service_endpoints_closed_total", "service"),
    ("tcp_close_service_sockets", "service"),
];

#[test]
fn names_are_lower_snake_case_with_our_prefix() {
    for family in families(&fresh()) {
        let name = &family.name;
        assert!(name.starts_with("tcp_close_") || name.starts_with("process_"), "{name}");
        assert!(is_snake_case(name), "{name}");
        for (label, _) in &family.labels {
            assert!(is_snake_case(label) && !label.starts_with('_'), "{name}: label {label}");
        }
    }
}

#[test]
fn counters_and_only_counters_end_in_total() {
    for family in families(&fresh()) {
        assert_eq!(family.kind == "counter", family.name.ends_with("_total"), "{}", family.name);
    }
}

#[test]
fn no_name_says_what_the_type_says() {
    for family in families(&fresh()) {
        for suffix in ["_count", "_sum", "_bucket"] {
            assert!(!family.name.ends_with(suffix), "{}", family.name);
        }
        for word in family.name.split('_') {
            let of_type = ["counter", "gauge", "histogram", "summary"];
            assert!(!of_type.contains(&word), "{}", family.name);
        }
        let has_reserved_label =
            family.labels.iter().any(|(label, _)| ["le", "quantile"].contains(&label.as_str()));
        assert!(!has_reserved_label, "{}", family.name);
    }
}

#[test]
fn units_are_base_units_and_come_last() {
    for family in families(&fresh()) {
        let name = family.name.strip_suffix("_total").unwrap_or(&family.name);
        let words: Vec<&str> = name.split('_').collect();
        for (place, word) in words.iter().enumerate() {
            assert!(!NOT_BASE_UNITS.contains(word), "{name}");
            assert!(!BASE_UNITS.contains(word) || place + 1 == words.len(), "{name}");
        }
        assert!(family.kind != "histogram" || BASE_UNITS.iter().any(|unit| name.ends_with(unit)), "{name}");
    }
}

#[test]
fn no_name_repeats_a_label() {
    for family in families(&fresh()) {
        for (label, _) in &family.labels {
            let excepted = NAMED_AFTER_A_LABEL.contains(&(family.name.as_str(), label.as_str()));
            let repeats = family.name.split('_').any(|word| word == label);
            assert_eq!(repeats, excepted, "{}: label {label}", family.name);
        }
    }
}

#[test]
fn help_is_a_sentence() {
    for family in families(&fresh()).iter().filter(|family| family.name.starts_with("tcp_close_")) {
        let begins_well = family.help.starts_with(|first: char| first.is_uppercase() || first == '1');
        assert!(begins_well && family.help.ends_with('.'), "{}: {:?}", family.name, family.help);
    }
}

/// Whoever can open connections can choose these.
#[test]
fn no_label_carries_what_an_outsider_chooses() {
    for family in families(&fresh()) {
        for (label, _) in &family.labels {
            let chosen = ["address", "addr", "ip", "port", "pid", "cookie", "comm", "inode"];
            assert!(!chosen.contains(&label.as_str()), "{}: label {label}", family.name);
        }
    }
}

fn is_snake_case(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.contains("__")
        && !name.ends_with('_')
}
