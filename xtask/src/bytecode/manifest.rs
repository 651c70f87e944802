//! `MANIFEST.toml`: says of the committed objects what they were built from, by what, and what they hold.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{object, sources};
use crate::workspace::{self, BPF_LINKER, Rustc};

pub(super) const FILE: &str = "MANIFEST.toml";

const HEAD: &str = "# Written by `cargo xtask bytecode build`; do not edit.\n\n";

/// The file name of the object for `arch`.
pub(super) fn object_file(arch: &str) -> String {
    format!("tcp-close.{arch}.bpf.o")
}

#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The version of the contract with the user side.
    abi_version: u32,
    bpf_linker: String,
    rustc: String,
    /// The hash of everything that the objects were made from.
    sources: String,
    /// By file name.
    objects: BTreeMap<String, Object>,
}

#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
struct Object {
    sha256: String,
    size: usize,
    /// By program; a review of a change sees here what it costs.
    instructions: BTreeMap<String, u64>,
}

impl Manifest {
    /// Describes `objects`, just built by `rustc` from the workspace's sources.
    pub(super) fn describe(rustc: &Rustc, objects: &[(String, Vec<u8>)]) -> anyhow::Result<Self> {
        let root = workspace::root();
        Ok(Self {
            abi_version: abi_version(&root)?,
            bpf_linker: BPF_LINKER.to_owned(),
            rustc: rustc.line.clone(),
            sources: sources::hash(&root)?,
            objects: objects
                .iter()
                .map(|(file, bytes)| Ok((file.clone(), Object::describe(bytes)?)))
                .collect::<anyhow::Result<_>>()?,
        })
    }

    pub(super) fn to_text(&self) -> anyhow::Result<String> {
        Ok(format!("{HEAD}{}", toml::to_string(self)?))
    }
}

impl Object {
    fn describe(bytes: &[u8]) -> anyhow::Result<Self> {
        Ok(Self {
            sha256: sources::sha256(bytes),
            size: bytes.len(),
            instructions: object::instructions(bytes)?,
        })
    }
}

/// Reads `ABI_VERSION` off the source of the contract, since xtask shall build when that does not.
fn abi_version(root: &Path) -> anyhow::Result<u32> {
    let source = fs::read_to_string(root.join("tcp-close-abi/src/lib.rs"))?;
    source
        .lines()
        .find_map(|line| line.strip_prefix("pub const ABI_VERSION: u32 = ")?.strip_suffix(';')?.parse().ok())
        .context("tcp-close-abi/src/lib.rs defines no ABI_VERSION")
}

/// That the committed bytecode is current, as far as can be told without building it.
#[cfg(test)]
mod tests {
    use super::{super::ARCHITECTURES, *};

    const STALE: &str = "the committed bytecode is stale: run `cargo xtask bytecode build`";

    fn committed(file: &str) -> Vec<u8> {
        let path = workspace::root().join(super::super::COMMITTED).join(file);
        fs::read(&path).unwrap_or_else(|error| panic!("{STALE} ({}: {error})", path.display()))
    }

    fn manifest() -> Manifest {
        let text = String::from_utf8(committed(FILE)).expect("the manifest is text");
        toml::from_str(&text).expect("the manifest is one of this version")
    }

    #[test]
    fn bytecode_is_current() {
        let root = workspace::root();
        let manifest = manifest();
        assert_eq!(manifest.sources, sources::hash(&root).expect("the sources can be read"), "{STALE}");
        assert_eq!(manifest.abi_version, abi_version(&root).expect("the contract has a version"), "{STALE}");
        assert_eq!(manifest.bpf_linker, BPF_LINKER, "{STALE}");
    }

    #[test]
    fn objects_are_the_ones_of_the_manifest() {
        let manifest = manifest();
        let files: Vec<_> = manifest.objects.keys().cloned().collect();
        assert_eq!(files, ARCHITECTURES.map(object_file), "{STALE}");
        for (file, object) in &manifest.objects {
            assert_eq!(*object, Object::describe(&committed(file)).expect("an ELF file"), "{file}: {STALE}");
        }
    }

    #[test]
    fn objects_have_btf_and_no_dwarf() {
        for arch in ARCHITECTURES {
            let bytes = committed(&object_file(arch));
            let object = aya_obj::Object::parse(&bytes).expect("the loader reads it");
            assert!(object.btf.is_some() && object.btf_ext.is_some(), "{arch}");
            assert!(!object.programs.is_empty() && !object.maps.is_empty(), "{arch}");
            let again = object::without_dwarf(&bytes).expect("an ELF file");
            assert!(again == bytes, "{arch}: stripping it again changes it");
        }
    }
}
