//! The bill of materials: what the program is made of, the kernel side too, as a `CycloneDX` document.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Release;
use crate::{vm::Arch, workspace};

/// What the program is linked from, and what the objects in it are.
const ROOTS: [&str; 2] = ["tcp-close-daemon", "tcp-close-ebpf"];

pub(super) fn write(release: &Release, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(format!("tcp-close-{}.cdx.json", release.version));
    Ok(fs::write(path, serde_json::to_vec_pretty(&bill(release)?)?)?)
}

fn bill(release: &Release) -> anyhow::Result<Value> {
    let root = workspace::root();
    let mut needs: BTreeMap<PackageId, BTreeSet<PackageId>> = BTreeMap::new();
    let mut packages: BTreeMap<PackageId, Package> = BTreeMap::new();
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let platform = ["--filter-platform".to_owned(), arch.target().to_owned(), "--locked".to_owned()];
        let metadata = MetadataCommand::new().current_dir(&root).other_options(platform).exec()?;
        for (package, needed) in linked(&metadata)? {
            needs.entry(package).or_default().extend(needed);
        }
        packages.extend(metadata.packages.into_iter().map(|package| (package.id.clone(), package)));
    }
    let checksums = checksums(&root.join("Cargo.lock"))?;
    let package = |id: &PackageId| packages.get(id).context("cargo knows what it resolved");
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for (id, needed) in &needs {
        let this = package(id)?;
        components.push(component(this, &checksums));
        let needed = needed.iter().map(|id| package(id).map(url)).collect::<Result<Vec<_>, _>>()?;
        dependencies.push(json!({ "ref": url(this), "dependsOn": needed }));
    }
    // By name and version, whatever cargo's identifiers are.
    for list in [&mut components, &mut dependencies] {
        list.sort_by_key(|entry| entry["purl"].as_str().or(entry["ref"].as_str()).map(str::to_owned));
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": Timestamp::from_second(release.time.into())?.to_string(),
            "component": {
                "type": "application",
                "bom-ref": "tcp-close",
                "name": "tcp-close",
                "version": release.version,
                "description": release.description,
                "licenses": [{ "expression": release.license }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// Every package that is linked into the roots, with those that it needs for that.
fn linked(metadata: &Metadata) -> anyhow::Result<BTreeMap<PackageId, BTreeSet<PackageId>>> {
    let resolved = metadata.resolve.as_ref().context("cargo resolves dependencies")?;
    let nodes: BTreeMap<_, _> = resolved.nodes.iter().map(|node| (&node.id, node)).collect();
    let is_root = |package: &&Package| ROOTS.contains(&package.name.as_str());
    let mut to_see: Vec<&PackageId> = metadata.packages.iter().filter(is_root).map(|root| &root.id).collect();
    let mut seen = BTreeMap::new();
    while let Some(id) = to_see.pop() {
        if seen.contains_key(id) {
            continue;
        }
        let node = nodes.get(id).context("cargo resolved every package")?;
        let is_linked = |kind: &cargo_metadata::DepKindInfo| kind.kind == DependencyKind::Normal;
        let needed: Vec<_> =
            node.deps.iter().filter(|needed| needed.dep_kinds.iter().any(is_linked)).collect();
        to_see.extend(needed.iter().map(|needed| &needed.pkg));
        seen.insert(id.clone(), needed.iter().map(|needed| needed.pkg.clone()).collect());
    }
    Ok(seen)
}

fn component(package: &Package, checksums: &BTreeMap<(String, String), String>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": url(package),
        "name": package.name,
        "version": package.version,
        "purl": url(package),
    });
    if let Some(license) = &package.license {
        // Some still write a slash where SPDX has OR.
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    if let Some(sum) = checksums.get(&(package.name.to_string(), package.version.to_string())) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
    }
    component
}

fn url(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version.to_string().replace('+', "%2B"))
}

/// The checksums of what is downloaded, by name and version.
fn checksums(lock: &Path) -> anyhow::Result<BTreeMap<(String, String), String>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }

    #[derive(Deserialize)]
    struct Locked {
        name: String,
        version: String,
        checksum: Option<String>,
    }

    let lock: Lock = toml::from_str(&fs::read_to_string(lock)?)?;
    let sums = lock
        .package
        .into_iter()
        .filter_map(|package| Some(((package.name, package.version), package.checksum?)));
    Ok(sums.collect())
}

#[cfg(test)]
mod tests {
    use cyclonedx_bom::{models::bom::Bom, validation::Validate as _};

    use super::*;

    #[test]
    fn the_bill_is_what_the_format_says() {
        let release = Release {
            version: "1.2.3".to_owned(),
            description: "a description".to_owned(),
            license: "MIT OR Apache-2.0".to_owned(),
            time: 1,
            revision: String::new(),
        };
        let text = bill(&release).unwrap().to_string();
        let read = Bom::parse_from_json_v1_5(text.as_bytes()).unwrap();
        assert!(read.validate().passed(), "{:?}", read.validate());
        let components = read.components.unwrap().0;
        for name in ["aya", "aya-ebpf", "tokio"] {
            assert!(components.iter().any(|component| component.name.to_string() == name), "{name}");
        }
        // For building alone.
        assert!(components.iter().all(|component| component.name.to_string() != "proptest"));
    }
}
