//! The package for Debian and what is derived from it, put together by dpkg itself.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, fmt::rfc2822, tz::TimeZone};
use md5::{Digest as _, Md5};
use xshell::{Shell, cmd};

use super::{
    Release,
    contents::{Contents, File, Kind, gzip},
};
use crate::vm::Arch;

/// What dpkg runs before and after.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// As packaging/deb/control has it.
const MAINTAINER: &str = "The tcp-close authors <tcp-close@localhost.invalid>";

/// The first package of a version; a packager who changes nothing but the package counts on from here.
pub(super) const REVISION: &str = "1";

/// Gives back where it is.
pub(super) fn write(
    sh: &Shell,
    release: &Release,
    arch: Arch,
    contents: &Contents,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let root = sh.create_temp_dir()?;
    let root = root.path();
    let of_debian = [
        ("copyright", sh.read_file("packaging/deb/copyright")?.into_bytes()),
        ("changelog.Debian.gz", gzip(changelog(release)?.as_bytes())?),
        ("changelog.gz", gzip(sh.read_file("CHANGELOG.md")?.as_bytes())?),
    ];
    let of_debian: Vec<File> = of_debian
        .map(|(name, bytes)| File {
            path: format!("usr/share/doc/tcp-close/{name}"),
            kind: Kind::Document,
            bytes,
        })
        .into();
    let (mut sums, mut settings, mut size) = (Vec::new(), Vec::new(), 0);
    for file in contents.files().iter().chain(&of_debian) {
        put(root, &file.path, file.mode().into(), &file.bytes)?;
        size += file.bytes.len().div_ceil(1024);
        if file.kind == Kind::Setting {
            settings.push(format!("/{}\n", file.path));
        } else {
            sums.push(format!("{}  {}\n", hex::encode(Md5::digest(&file.bytes)), file.path));
        }
    }
    let control = sh
        .read_file("packaging/deb/control")?
        .replace("@version@", &format!("{}-{REVISION}", release.version))
        .replace("@architecture@", arch.debian())
        .replace("@size@", &size.to_string());
    put(root, "DEBIAN/control", 0o644, control.as_bytes())?;
    put(root, "DEBIAN/md5sums", 0o644, sums.concat().as_bytes())?;
    put(root, "DEBIAN/conffiles", 0o644, settings.concat().as_bytes())?;
    for script in SCRIPTS {
        put(
            root,
            &format!("DEBIAN/{script}"),
            0o755,
            sh.read_file(format!("packaging/deb/{script}"))?.as_bytes(),
        )?;
    }
    let package = folder.join(format!("tcp-close_{}-{REVISION}_{}.deb", release.version, arch.debian()));
    // Everything is root's, and of the release's time.
    cmd!(sh, "dpkg-deb --root-owner-group -Zxz --build {root} {package}")
        .env("SOURCE_DATE_EPOCH", release.time.to_string())
        .quiet()
        .ignore_stdout()
        .run()?;
    Ok(package)
}

fn put(root: &Path, path: &str, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
    let path = root.join(path);
    for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(root)) {
        fs::create_dir_all(folder)?;
        // Whatever whoever builds keeps from others.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Debian's own changelog, which tells of packages; what changed in the program is in the other.
fn changelog(release: &Release) -> anyhow::Result<String> {
    let time = Timestamp::from_second(release.time.into())?;
    let time = rfc2822::to_string(&time.to_zoned(TimeZone::UTC))?;
    Ok(format!(
        "tcp-close ({}-{REVISION}) unstable; urgency=medium\n\n  * New release: see changelog.gz.\n\n -- {MAINTAINER}  {time}\n",
        release.version
    ))
}
