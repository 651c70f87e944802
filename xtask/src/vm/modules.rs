//! Kernel modules: which are needed for others, in what order they go in, and their plain bytes.
//!
//! The packages come without the `modules.dep` that depmod makes, but each module says itself what it needs.

use std::{collections::BTreeMap, ffi::OsStr, fs, path::PathBuf};

use anyhow::Context as _;
use object::{Object as _, ObjectSection as _};

/// A module as the kernel takes it.
pub(super) struct Module {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// These modules and all they need, each behind what it needs.
///
/// A module that the kernel does not have is built into it.
pub(super) fn in_load_order(
    there: &BTreeMap<String, PathBuf>,
    wanted: &[&str],
) -> anyhow::Result<Vec<Module>> {
    let mut order = Vec::new();
    for name in wanted {
        add(name, there, &mut order)?;
    }
    Ok(order)
}

fn add(name: &str, there: &BTreeMap<String, PathBuf>, order: &mut Vec<Module>) -> anyhow::Result<()> {
    let Some(path) = there.get(name).filter(|_| order.iter().all(|module| module.name != name)) else {
        return Ok(());
    };
    let bytes = read(path).with_context(|| format!("cannot read {}", path.display()))?;
    for needed in needs(&bytes).with_context(|| format!("{} is no kernel module", path.display()))? {
        add(&needed, there, order)?;
    }
    order.push(Module { name: name.to_owned(), bytes });
    Ok(())
}

fn read(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    if path.extension() != Some(OsStr::new("xz")) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    lzma_rs::xz_decompress(&mut bytes.as_slice(), &mut plain)
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(plain)
}

/// The modules that this one says it needs.
fn needs(module: &[u8]) -> anyhow::Result<Vec<String>> {
    let elf = object::File::parse(module)?;
    let section = elf.section_by_name(".modinfo").context("it has no section .modinfo")?;
    Ok(depends(section.data()?))
}

/// `depends=` among the entries of `.modinfo`, which a zero byte ends.
fn depends(modinfo: &[u8]) -> Vec<String> {
    modinfo
        .split(|&byte| byte == 0)
        .filter_map(|entry| entry.strip_prefix(b"depends="))
        .flat_map(|names| names.split(|&byte| byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        for (modinfo, expected) in [
            (&b"license=GPL\0depends=inet_diag\0retpoline=Y\0"[..], &["inet_diag"][..]),
            (b"depends=nf-tables,nf_conntrack\0\0\0alias=depends=no\0", &["nf_tables", "nf_conntrack"]),
            (b"depends=\0license=GPL\0", &[]),
            (b"license=GPL\0", &[]),
        ] {
            assert_eq!(depends(modinfo), expected);
        }
    }
}
