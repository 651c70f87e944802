//! Debian's kernel packages: the newest of a series, its image and its modules.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::Arch;
use crate::{cache, debian::PrivateApt};

/// The suites that have kernels of the series of the matrix, old and new, for a machine of any age.
///
/// The names of the packages tell the series, so nothing here says which suite has which.
pub(super) const SUITES: &[&str] = &["bullseye", "bookworm", "bookworm-backports", "trixie-backports"];

/// The suites whose security updates are looked at: they have the last kernels of an old series.
pub(super) const UPDATED: &[&str] = &["bullseye", "bookworm"];

/// A kernel that can be started.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As `6.12.117+deb12-cloud-amd64`.
    pub(super) release: String,
    /// The image that boots.
    pub(super) image: PathBuf,
    /// Its modules by name, compressed or not.
    pub(super) modules: BTreeMap<String, PathBuf>,
}

impl Kernel {
    /// The newest kernel of a series, from the archive or from an earlier run.
    pub(super) fn provide(
        apt: &PrivateApt<'_>,
        kernels: &Path,
        arch: Arch,
        series: &str,
    ) -> anyhow::Result<Self> {
        let names = apt.names("linux-image-")?;
        let package = newest(&names, series, arch).with_context(|| {
            format!("the Debian mirror has no kernel of series {series} for {}", arch.name())
        })?;
        let release = package.trim_start_matches(IMAGE).to_owned();
        // A package may change and keep its name.
        let version = apt.version(package)?.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
        let folder = cache::folder(&kernels.join(format!("{release}_{version}")), |folder| {
            println!("kernel {release}: downloading");
            apt.unpack(package, folder)?;
            // Since 7.2 the package of the image only depends on those of its parts.
            let parts = apt.dependencies(package)?;
            let is_part =
                |name: &&String| name.starts_with("linux-binary-") || name.starts_with("linux-modules-");
            parts.iter().filter(is_part).try_for_each(|part| apt.unpack(part, folder))
        })?;
        let mut kernel = Self { release, image: PathBuf::new(), modules: BTreeMap::new() };
        kernel.look_around(&folder)?;
        anyhow::ensure!(kernel.image.exists(), "package {package} has no image; delete {}", folder.display());
        Ok(kernel)
    }

    /// Finds image and modules: they moved from /boot and /lib to /usr/lib in the course of time.
    fn look_around(&mut self, folder: &Path) -> anyhow::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                self.look_around(&path)?;
            } else if name.starts_with("vmlinuz") {
                self.image = path;
            } else if let Some((module, "ko" | "ko.xz")) = name.split_once('.') {
                self.modules.insert(module.replace('-', "_"), path);
            }
        }
        Ok(())
    }
}

const IMAGE: &str = "linux-image-";

/// The package of the newest kernel of a series that is made for virtual machines.
fn newest<'n>(names: &'n [String], series: &str, arch: Arch) -> Option<&'n String> {
    let ending = format!("-cloud-{}", arch.debian());
    let version = |name: &String| -> Option<Vec<u64>> {
        let version = name.strip_prefix(IMAGE)?.strip_suffix(&ending)?;
        // `6.1` is not the beginning of `6.12`.
        version.strip_prefix(series)?.strip_prefix('.')?;
        Some(numbers(version))
    };
    let numbered = names.iter().filter_map(|name| Some((version(name)?, name)));
    let found = numbered.max().map(|(_, name)| name);
    // A series that was short-lived is not kept long; its successor is what people run then.
    found.or_else(|| if series == "6.18" { newest(names, "6.19", arch) } else { None })
}

/// The numbers in a version, by which kernels of a series can be told older and newer.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], series: &str, arch: Arch, expected: Option<&str>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(newest(&names, series, arch).map(String::as_str), expected, "{series}");
    }

    #[test]
    fn the_newest_kernel_of_a_series_is_found_by_its_name() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.1.0-57-amd64",
            "linux-image-6.1.0-57-rt-amd64",
            "linux-image-6.1.0-58-cloud-arm64",
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.118+deb12-cloud-amd64-dbg",
            "linux-image-6.19.14+deb13-cloud-amd64",
            "linux-image-cloud-amd64",
        ];
        check(&names, "6.1", Arch::X86_64, Some("linux-image-6.1.0-56-cloud-amd64"));
        check(&names, "6.1", Arch::Aarch64, Some("linux-image-6.1.0-58-cloud-arm64"));
        check(&names, "6.12", Arch::X86_64, Some("linux-image-6.12.117+deb12-cloud-amd64"));
        check(&names, "6.18", Arch::X86_64, Some("linux-image-6.19.14+deb13-cloud-amd64"));
        check(&names, "7.2", Arch::X86_64, None);
    }
}
