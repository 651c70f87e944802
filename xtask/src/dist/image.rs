//! The container image: an OCI layout in one archive, made without any container engine.
//!
//! Nothing is in it but the program, and the user that it runs as.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use caps::Capability;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{Release, contents::gzip, tarball};
use crate::vm::Arch;

/// As distroless images have it; nobody else's on most hosts.
const USER: u32 = 65532;

/// The capabilities that the program may have of those that it is run with: all that are of any use to it.
///
/// Without these on the file, another user than root would have none under Kubernetes.
const CAPABILITIES: [Capability; 7] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_SYSLOG,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_SYS_RESOURCE,
];

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// One image with a variant for each architecture, of these programs.
///
/// Gives back where it is.
pub(super) fn write(
    release: &Release,
    programs: &[(Arch, Vec<u8>)],
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let mut layout = Layout::default();
    let mut variants = Vec::new();
    for (arch, program) in programs {
        let mut variant = layout.variant(release, *arch, program)?;
        variant["platform"] = json!({ "architecture": arch.debian(), "os": "linux" });
        variants.push(variant);
    }
    let mut image = layout.document(
        INDEX,
        &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": variants, "annotations": labels(release)? }),
    )?;
    image["annotations"] = json!({ "org.opencontainers.image.ref.name": release.version });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [image] });
    layout.files.insert("index.json".to_owned(), serde_json::to_vec(&index)?);
    layout.files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    let mut archive = Builder::new(Vec::new());
    for (path, bytes) in &layout.files {
        tarball::append(&mut archive, release, path, 0o644, bytes)?;
    }
    let image = folder.join(format!("tcp-close-{}.oci.tar", release.version));
    fs::write(&image, archive.into_inner()?)?;
    Ok(image)
}

/// What an image is, in the words that registries show.
fn labels(release: &Release) -> anyhow::Result<Value> {
    Ok(json!({
        "org.opencontainers.image.created": created(release)?,
        "org.opencontainers.image.description": release.description,
        "org.opencontainers.image.licenses": release.license,
        "org.opencontainers.image.revision": release.revision,
        "org.opencontainers.image.title": "tcp-close",
        "org.opencontainers.image.version": release.version,
    }))
}

fn created(release: &Release) -> anyhow::Result<String> {
    Ok(Timestamp::from_second(release.time.into())?.to_string())
}

/// A folder of files by what is in them.
#[derive(Default)]
struct Layout {
    files: BTreeMap<String, Vec<u8>>,
}

impl Layout {
    /// Adds the image for one architecture; gives back what refers to it.
    fn variant(&mut self, release: &Release, arch: Arch, program: &[u8]) -> anyhow::Result<Value> {
        let layer = layer(release, program)?;
        let created = created(release)?;
        let config = json!({
            "created": created,
            "architecture": arch.debian(),
            "os": "linux",
            "config": {
                "User": format!("{USER}:{USER}"),
                "ExposedPorts": { "10060/tcp": {} },
                "Entrypoint": ["/usr/bin/tcp-close"],
                "Cmd": ["daemon"],
                "Labels": labels(release)?,
            },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
            "history": [{ "created": created, "comment": "tcp-close" }],
        });
        let config = self.document(CONFIG, &config)?;
        let layer = self.blob(LAYER, gzip(&layer)?);
        self.document(
            MANIFEST,
            &json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] }),
        )
    }

    fn document(&mut self, kind: &str, document: &Value) -> anyhow::Result<Value> {
        Ok(self.blob(kind, serde_json::to_vec(document)?))
    }

    /// Adds some bytes; gives back what refers to them.
    fn blob(&mut self, kind: &str, bytes: Vec<u8>) -> Value {
        let digest = digest(&bytes);
        let reference = json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
        self.files.insert(format!("blobs/{}", digest.replace(':', "/")), bytes);
        reference
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The file system of the image.
fn layer(release: &Release, program: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    let mut add = |path: &str, kind: EntryType, mode: u32, bytes: &[u8]| -> anyhow::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(u64::try_from(bytes.len())?);
        header.set_mode(mode);
        header.set_mtime(release.time.into());
        header.set_uid(0);
        header.set_gid(0);
        if mode & 0o111 != 0 && kind == EntryType::Regular {
            archive.append_pax_extensions([(
                "SCHILY.xattr.security.capability",
                permitted(&CAPABILITIES).as_slice(),
            )])?;
        }
        Ok(archive.append_data(&mut header, path, bytes)?)
    };
    add("etc/", EntryType::Directory, 0o755, &[])?;
    let user = format!("tcp-close:x:{USER}:{USER}::/nonexistent:/sbin/nologin\n");
    add("etc/passwd", EntryType::Regular, 0o644, user.as_bytes())?;
    add("etc/group", EntryType::Regular, 0o644, format!("tcp-close:x:{USER}:\n").as_bytes())?;
    add("usr/", EntryType::Directory, 0o755, &[])?;
    add("usr/bin/", EntryType::Directory, 0o755, &[])?;
    add("usr/bin/tcp-close", EntryType::Regular, 0o755, program)?;
    Ok(archive.into_inner()?)
}

/// Capabilities as a file has them, permitted and not effective: the program gets those of them that the container may
/// have, where effective ones would keep it from starting if any were missing.
///
/// `struct vfs_cap_data` of <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/capability.h#L72>,
/// in little-endian words: revision 2, then permitted and inheritable ones, the low halves first.
fn permitted(capabilities: &[Capability]) -> [u8; 20] {
    const REVISION_2: u32 = 0x0200_0000;
    let all = capabilities.iter().fold(0, |all, capability| all | capability.bitmask());
    let [low, high] = [all, all >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or_default());
    let mut value = [0; 20];
    for (place, word) in value.chunks_exact_mut(4).zip([REVISION_2, low, 0, high, 0]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_as_the_kernel_reads_them() {
        // As setcap(8) writes `cap_dac_read_search,cap_bpf=p`.
        let expected = "0000000204000000000000008000000000000000";
        assert_eq!(hex::encode(permitted(&[Capability::CAP_DAC_READ_SEARCH, Capability::CAP_BPF])), expected);
    }
}
