//! The invariants of the architecture that the source text itself can show, mostly absences.
//!
//! ARCHITECTURE.md states them and says why.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Each crate that has one door into the user side, and the modules that are the door.
const DOORS: [(&str, &[&str]); 15] = [
    ("aya", &["probe"]),
    ("aya_log", &["probe"]),
    ("aya_obj", &["probe"]),
    ("netlink_packet_core", &["snapshot"]),
    ("netlink_packet_sock_diag", &["snapshot"]),
    ("netlink_sys", &["snapshot"]),
    ("prometheus", &["metrics"]),
    ("hyper", &["api", "http"]),
    ("hyper_util", &["api", "http"]),
    ("http_body_util", &["api", "http"]),
    ("bcrypt", &["http"]),
    ("rustls", &["http"]),
    ("tokio_rustls", &["http"]),
    ("axum", &["api", "http"]),
    ("tower", &["api", "http"]),
];

/// What the lifecycle core never names: time arrives inside events, and it does no I/O.
const NOT_IN_LIFECYCLE: [&str; 9] = [
    "aya",
    "prometheus",
    "std::fs",
    "std::io",
    "std::time::Instant",
    "Instant::now",
    "SystemTime",
    "tokio",
    "tracing",
];

/// A source file without its comments, so that prose may name what the code may not.
struct Source {
    /// Below the root of the workspace.
    path: PathBuf,
    tokens: Vec<String>,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(root().join(path)).expect("a source file is text");
        Self { path: path.to_owned(), tokens: tokens(&code(&text)) }
    }

    /// Whether this is module `name` of the user side, in `name.rs`, `name_*.rs` or `name/`.
    fn is_module(&self, name: &str) -> bool {
        let below = self.path.strip_prefix("tcp-close-daemon/src").ok();
        let first =
            below.and_then(|path| path.components().next()).map(|part| part.as_os_str().to_string_lossy());
        first.is_some_and(|first| {
            first == name || first == format!("{name}.rs") || first.starts_with(&format!("{name}_"))
        })
    }
}

fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs its tests with it");
    Path::new(&manifest).parent().expect("xtask is in the workspace").to_owned()
}

/// Every Rust file of the workspace, below its root.
fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder of the workspace") {
            let entry = entry.expect("an entry of a folder");
            let (name, path) = (entry.file_name(), folder.join(entry.file_name()));
            if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && name != "target"
                && !name.to_string_lossy().starts_with('.')
            {
                folders.push(path);
            }
        }
    }
    files.sort();
    files
}

fn user_side() -> Vec<Source> {
    let files = rust_files();
    files
        .iter()
        .filter(|path| path.starts_with("tcp-close-daemon/src"))
        .map(|path| Source::read(path))
        .collect()
}

/// The text without comments; a `//` behind a colon is taken for an address.
fn code(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let mut parts = line.split("//");
        let mut kept = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            if !kept.ends_with(':') {
                break;
            }
            kept = format!("{kept}//{part}");
        }
        code.push_str(&kept);
        code.push('\n');
    }
    code
}

/// The words and signs of `code`; `::` is one sign.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut joins = false;
    for c in code.chars() {
        let in_word = is_word(c);
        match tokens.last_mut() {
            Some(last) if joins && (in_word && last.ends_with(is_word) || c == ':' && last == ":") => {
                last.push(c);
            }
            _ if c.is_whitespace() => {}
            _ => tokens.push(c.to_string()),
        }
        joins = !c.is_whitespace();
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether the code of `tokens` names `path`, written out or from within the braces of a `use`.
fn names(tokens: &[String], path: &str) -> bool {
    let wanted = self::tokens(path);
    let group = path.rsplit_once("::").map(|(parent, last)| (self::tokens(&format!("{parent}::{{")), last));
    (0..tokens.len()).any(|at| {
        let (before, here) = tokens.split_at(at);
        // Behind a parent, it is another thing of the same name; behind `use ::` there is no parent.
        if let [.., parent, sign] = before
            && sign == "::"
            && parent.ends_with(is_word)
            && parent != "use"
        {
            return false;
        }
        let written_out = here.strip_prefix(wanted.as_slice()).is_some_and(|after| {
            // A crate's name is one in a path or a `use`; elsewhere the word may be anybody's variable.
            let is_type = path.starts_with(char::is_uppercase);
            wanted.len() > 1
                || is_type
                || starts(after, "::")
                || matches!(before, [.., word] if word == "use" || word == "crate")
        });
        let grouped = group.as_ref().is_some_and(|(parent, last)| {
            here.strip_prefix(parent.as_slice())
                .is_some_and(|items| first_segments(items).any(|item| item == *last))
        });
        written_out || grouped
    })
}

fn starts(tokens: &[String], sign: &str) -> bool {
    tokens.first().is_some_and(|token| token == sign)
}

/// The first segment of each item of the group whose opening brace is behind us.
fn first_segments(tokens: &[String]) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let mut begins = true;
    tokens
        .iter()
        .map_while(move |token| {
            let first = begins && depth == 0;
            begins = token == ",";
            match token.as_str() {
                "{" => depth += 1,
                "}" => depth = depth.checked_sub(1)?,
                _ => {}
            }
            Some(first.then_some(token.as_str()))
        })
        .flatten()
}

#[test]
fn each_outer_crate_has_one_door() {
    for source in user_side() {
        for (name, doors) in DOORS {
            assert!(
                !names(&source.tokens, name) || doors.iter().any(|door| source.is_module(door)),
                "{} names `{name}`; only {} may",
                source.path.display(),
                doors.join(", ")
            );
        }
    }
}

#[test]
fn the_lifecycle_core_is_pure() {
    for source in user_side().iter().filter(|source| source.is_module("lifecycle")) {
        for name in NOT_IN_LIFECYCLE {
            assert!(!names(&source.tokens, name), "{} names `{name}`", source.path.display());
        }
    }
}

#[test]
fn no_module_is_called_mod() {
    for path in rust_files() {
        assert!(!path.ends_with("mod.rs"), "{}: write `name.rs` beside `name/`", path.display());
    }
}

#[test]
fn no_test_is_ignored() {
    let attribute = ["#", "[", "ignore"];
    for path in rust_files() {
        let ignores = Source::read(&path).tokens.windows(3).any(|tokens| tokens == attribute);
        assert!(!ignores, "{}: a test that does not run rots; make it run or take it out", path.display());
    }
}

#[test]
fn names_are_seen_where_they_are() {
    for (code, path, expected) in [
        ("use aya::Ebpf;", "aya", true),
        ("use aya as bpf;", "aya", true),
        ("let ebpf = aya::Ebpf::load(bytes);", "aya", true),
        ("let map: &aya::maps::MapData = map;", "aya", true),
        ("use ::aya::Ebpf;", "aya", true),
        ("use aya_obj::Object;", "aya", false),
        ("use papaya::HashMap;", "aya", false),
        ("use crate::probe::aya::Thing;", "aya", false),
        ("let metrics = prometheus.text();", "prometheus", false),
        ("mod prometheus { }", "prometheus", false),
        ("use std::fs;", "std::fs", true),
        ("use std::fs::File;", "std::fs", true),
        ("use std::{collections::BTreeMap, fs};", "std::fs", true),
        ("use std::{\n    fmt,\n    io::{self, Read as _},\n};", "std::io", true),
        ("use std::{collections::{BTreeMap, btree_map}, fmt};", "std::fs", false),
        ("use std::{other::{fs}, fmt};", "std::fs", false),
        ("let now = Instant::now();", "Instant::now", true),
        ("fn at(time: SystemTime) {}", "SystemTime", true),
        ("struct SystemTimes;", "SystemTime", false),
    ] {
        assert_eq!(names(&tokens(code), path), expected, "`{path}` in `{code}`");
    }
    assert_eq!(
        code("let a = 1; // aya::Ebpf\n//! aya::\nlet url = \"http://aya\";"),
        "let a = 1; \n\nlet url = \"http://aya\";\n"
    );
}
