//! One hash over everything that decides what the committed bytecode is.
//!
//! It can be recomputed in a moment and without a BPF toolchain, so that `cargo test` notices bytecode that was
//! forgotten.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

use super::recipe;

/// What is hashed as it is, below the root; of a folder every file.
const PATHS: [&str; 6] = [
    "tcp-close-abi/Cargo.toml",
    "tcp-close-abi/build.rs",
    "tcp-close-abi/src",
    "tcp-close-ebpf/Cargo.toml",
    "tcp-close-ebpf/build.rs",
    "tcp-close-ebpf/src",
];

/// The dependencies whose code is in the object, or writes what is.
const CRATES: [&str; 7] = [
    "aya-ebpf",
    "aya-ebpf-bindings",
    "aya-ebpf-cty",
    "aya-ebpf-macros",
    "aya-log-common",
    "aya-log-ebpf",
    "aya-log-ebpf-macros",
];

/// The hash of the sources of the bytecode in the workspace at `root`.
pub(super) fn hash(root: &Path) -> anyhow::Result<String> {
    let mut inputs = BTreeMap::new();
    for path in PATHS {
        collect(root, Path::new(path), &mut inputs)?;
    }
    let manifest = table(&root.join("Cargo.toml"))?;
    let lock = table(&root.join("Cargo.lock"))?;
    let toolchain = table(&root.join("rust-toolchain.toml"))?;
    // Names that no file has.
    inputs.insert("//compiler".into(), compiler(&toolchain).into_bytes());
    inputs.insert("//profile".into(), profile(&manifest).into_bytes());
    inputs.insert("//inherited".into(), inherited(&manifest).into_bytes());
    inputs.insert("//crates".into(), crates(&lock).into_bytes());
    inputs.insert("//recipe".into(), recipe::fingerprint().into_bytes());

    let mut hasher = Sha256::new();
    for (name, content) in &inputs {
        // With lengths, so that nothing can move from one input into the next unnoticed.
        hasher.update(format!("{name}\n{}\n", content.len()));
        hasher.update(content);
    }
    Ok(hex(&hasher.finalize()))
}

/// The SHA-256 of `bytes` as `sha256sum` writes it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Adds the file at `path`, or every file of the folder there; what is not there adds nothing.
fn collect(root: &Path, path: &Path, inputs: &mut BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let full = root.join(path);
    if full.is_dir() {
        for entry in fs::read_dir(&full).with_context(|| format!("cannot list {}", full.display()))? {
            collect(root, &path.join(entry?.file_name()), inputs)?;
        }
    } else if full.exists() {
        let content = fs::read(&full).with_context(|| format!("cannot read {}", full.display()))?;
        inputs.insert(path.to_string_lossy().into_owned(), content);
    }
    Ok(())
}

fn table(path: &PathBuf) -> anyhow::Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("cannot parse {}", path.display()))
}

fn compiler(toolchain: &Table) -> String {
    let channel = toolchain.get("toolchain").and_then(|toolchain| toolchain.get("channel"));
    channel.map(Value::to_string).unwrap_or_default()
}

/// The release profile as the kernel side sees it, without what the recipe overrides or other packages are told.
///
/// Of parsed tables, with sorted keys: comments and order make nothing stale.
fn profile(manifest: &Table) -> String {
    let release =
        manifest.get("profile").and_then(|profiles| profiles.get("release")).and_then(Value::as_table);
    let mut release = release.cloned().unwrap_or_default();
    release.retain(|key, _| !recipe::overrides(key));
    if let Some(packages) = release.get_mut("package").and_then(Value::as_table_mut) {
        packages.retain(|package, _| ["*", "tcp-close-abi", "tcp-close-ebpf"].contains(&package));
    }
    release.to_string()
}

/// What both packages inherit from the root: the edition, and which crates with which features.
fn inherited(manifest: &Table) -> String {
    let workspace = manifest.get("workspace");
    let edition = workspace.and_then(|workspace| workspace.get("package")?.get("edition"));
    let dependencies = workspace.and_then(|workspace| workspace.get("dependencies"));
    let ours = ["aya-ebpf", "aya-log-ebpf", "tcp-close-abi"].map(|name| {
        (name, dependencies.and_then(|dependencies| dependencies.get(name)).map(Value::to_string))
    });
    format!("{edition:?} {ours:?}")
}

/// Name, version and checksum of each of [`CRATES`] that the lock file holds.
fn crates(lock: &Table) -> String {
    let packages = lock.get("package").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<_> = packages
        .iter()
        .map(|package| {
            ["name", "version", "checksum"].map(|key| package.get(key).and_then(Value::as_str).unwrap_or(""))
        })
        .filter(|[name, ..]| CRATES.contains(name))
        .map(|fields| fields.join(" "))
        .collect();
    lines.sort();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = r#"
        [workspace.package]
        edition = "2024"
        [workspace.dependencies]
        aya-ebpf = "0.2.1"
        [profile.release]
        lto = "thin"
        overflow-checks = false
        [profile.release.package.tcp-close-ebpf]
        debug = 2
    "#;
    const LOCK: &str = r#"
        [[package]]
        name = "aya-ebpf"
        version = "0.2.1"
        checksum = "aa"
        [[package]]
        name = "syn"
        version = "2.0.0"
        checksum = "bb"
    "#;
    const FILES: [(&str, &str); 5] = [
        ("Cargo.toml", ROOT),
        ("Cargo.lock", LOCK),
        ("rust-toolchain.toml", "[toolchain]\nchannel = \"1.95.0\""),
        ("tcp-close-abi/src/lib.rs", "pub struct A;"),
        ("tcp-close-ebpf/src/hooks/one.rs", "fn one() {}"),
    ];

    /// The hash of a small workspace in which `old` in `file` was replaced by `new`.
    fn hash_with(file: &str, old: &str, new: &str) -> String {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, content) in FILES {
            let path_here = root.path().join(path);
            fs::create_dir_all(path_here.parent().expect("a file is in a folder")).expect("a folder");
            let content = if path == file { content.replace(old, new) } else { content.to_owned() };
            fs::write(path_here, content).expect("a file");
        }
        hash(root.path()).expect("a hash")
    }

    #[test]
    fn what_the_bytecode_depends_on_changes_the_hash() {
        let before = hash_with("", "", "");
        for (file, old, new) in [
            ("Cargo.lock", "0.2.1", "0.2.2"),
            ("Cargo.lock", "aa", "ab"),
            ("Cargo.toml", "2024", "2021"),
            ("Cargo.toml", "\"0.2.1\"", "{ version = \"0.2.1\", default-features = false }"),
            ("Cargo.toml", "debug = 2", "debug = 1"),
            ("Cargo.toml", "false", "true"),
            ("rust-toolchain.toml", "1.95.0", "1.96.0"),
            ("tcp-close-abi/src/lib.rs", "A", "B"),
            ("tcp-close-ebpf/src/hooks/one.rs", "{}", "{ }"),
        ] {
            assert_ne!(before, hash_with(file, old, new), "{file}: {old} -> {new}");
        }
    }

    #[test]
    fn what_it_does_not_depend_on_leaves_the_hash_alone() {
        let before = hash_with("", "", "");
        for (file, old, new) in [
            ("Cargo.lock", "2.0.0", "2.0.1"),
            ("Cargo.toml", "debug = 2", "debug = 2 # why"),
            // The recipe sets it for itself.
            ("Cargo.toml", "thin", "fat"),
            (
                "Cargo.toml",
                "[profile.release.package",
                "[profile.release.package.daemon]\nopt-level = 1\n[profile.release.package",
            ),
            ("Cargo.toml", "[profile.release]", "[profile.bench]\ndebug = 1\n[profile.release]"),
            ("Cargo.toml", "[workspace.package]", "[workspace.package]\nversion = \"0.9.0\""),
        ] {
            assert_eq!(before, hash_with(file, old, new), "{file}: {old} -> {new}");
        }
    }
}
