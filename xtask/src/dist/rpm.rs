//! The package for Fedora, its relatives, and whoever else has rpm.

use std::path::Path;

use rpm::{BuildConfig, CompressionWithLevel, Dependency, FileOptions, PackageBuilder};

use super::{
    Release,
    contents::{Contents, Kind},
    deb::REVISION,
};
use crate::{vm::Arch, workspace};

/// Debian's place for what others add to zsh, and the one here.
const ZSH: [&str; 2] = ["usr/share/zsh/vendor-completions/", "usr/share/zsh/site-functions/"];

pub(super) fn write(release: &Release, arch: Arch, contents: &Contents, folder: &Path) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    let script = |name: &str| sh.read_file(format!("packaging/rpm/{name}.sh"));
    let mut package = PackageBuilder::new(
        "tcp-close",
        &release.version,
        &release.license,
        arch.name(),
        &release.description,
    );
    package
        // Old rpm reads gzip, and the program in it is small.
        .using_config(
            BuildConfig::v4().compression(CompressionWithLevel::Gzip(9)).source_date(release.time),
        )
        .release(REVISION)
        .description(DESCRIPTION)
        .build_host("localhost")
        .requires(Dependency::any("systemd"))
        .post_install_script(script("postinstall")?)
        .pre_uninstall_script(script("preuninstall")?)
        .post_uninstall_script(script("postuninstall")?);
    for folder in OURS {
        package.with_dir_entry(FileOptions::dir(folder).permissions(0o755))?;
    }
    for file in contents.files() {
        let place = file.path.replace(ZSH[0], ZSH[1]);
        let options = FileOptions::new(format!("/{place}")).permissions(file.mode());
        let options = match file.kind {
            Kind::Setting => options.config().noreplace(),
            Kind::Document => options.doc(),
            Kind::Program | Kind::Data => options,
        };
        package.with_file_contents(file.bytes.clone(), options)?;
    }
    let name = format!("tcp-close-{}-{REVISION}.{}.rpm", release.version, arch.name());
    package.build()?.write_file(folder.join(name))?;
    Ok(())
}

/// Folders that are nobody else's, and go with the package.
const OURS: [&str; 7] = [
    "/usr/share/doc/tcp-close",
    "/usr/share/doc/tcp-close/docs",
    "/usr/share/doc/tcp-close/docs/decisions",
    "/usr/share/doc/tcp-close/examples",
    "/usr/share/tcp-close",
    "/usr/share/tcp-close/grafana",
    "/usr/share/tcp-close/prometheus",
];

const DESCRIPTION: &str = "\
Follows every close of a TCP connection by eBPF programs: who sent the first FIN, how long each state lasted, what
became of the TIME-WAIT and why it ended, and which process was behind it.
It runs as a service that exports metrics for Prometheus, and answers at a terminal.";
