//! What a package puts where.
//!
//! Debian's places, which are those of the Filesystem Hierarchy Standard; where another format has other customs, it
//! says so itself.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path};

use anyhow::Context as _;
use flate2::{Compression, GzBuilder};
use xshell::{Shell, cmd};

/// Files of the checkout and their places; a folder means every file in it.
const FILES: &[(&str, &str, Kind)] = &[
    ("packaging/systemd/tcp-close.service", "usr/lib/systemd/system/", Kind::Data),
    ("packaging/systemd/tcp-close.socket", "usr/lib/systemd/system/", Kind::Data),
    ("packaging/systemd/tcp-close.sysusers", "usr/lib/sysusers.d/tcp-close.conf", Kind::Data),
    ("packaging/systemd/tcp-close.default", "etc/default/tcp-close", Kind::Setting),
    ("packaging/systemd/least-privilege.conf", "usr/share/doc/tcp-close/examples/", Kind::Document),
    ("packaging/prometheus/tcp-close.rules.yml", "usr/share/tcp-close/prometheus/", Kind::Data),
    ("packaging/grafana/tcp-close-exporter.json", "usr/share/tcp-close/grafana/", Kind::Data),
    ("packaging/grafana/tcp-close-fleet.json", "usr/share/tcp-close/grafana/", Kind::Data),
    ("packaging/grafana/tcp-close-host.json", "usr/share/tcp-close/grafana/", Kind::Data),
    ("packaging/oci/seccomp.json", "usr/share/tcp-close/", Kind::Data),
    ("LICENSE-APACHE", "usr/share/doc/tcp-close/", Kind::Document),
    ("LICENSE-GPL2", "usr/share/doc/tcp-close/", Kind::Document),
    ("LICENSE-MIT", "usr/share/doc/tcp-close/", Kind::Document),
    ("README.md", "usr/share/doc/tcp-close/", Kind::Document),
    ("ARCHITECTURE.md", "usr/share/doc/tcp-close/", Kind::Document),
    ("CONTRIBUTING.md", "usr/share/doc/tcp-close/", Kind::Document),
    // They lead to what is beside them in the checkout.
    ("docs", "usr/share/doc/tcp-close/docs/", Kind::Document),
    ("packaging", "usr/share/doc/tcp-close/packaging/", Kind::Document),
];

/// What somebody who installs it is told of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Program,
    /// Whoever runs the host may have changed it, and keeps the changes.
    Setting,
    Document,
    Data,
}

pub(super) struct File {
    /// From the root, without a slash before it.
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
}

impl File {
    pub(super) const fn mode(&self) -> u16 {
        match self.kind {
            Kind::Program => 0o755,
            Kind::Setting | Kind::Document | Kind::Data => 0o644,
        }
    }
}

/// All files, in the order of their paths.
pub(super) struct Contents(Vec<File>);

impl Contents {
    pub(super) fn of(sh: &Shell, program: &[u8], manual: &Manual) -> anyhow::Result<Self> {
        let mut files =
            vec![File { path: "usr/bin/tcp-close".to_owned(), kind: Kind::Program, bytes: program.to_vec() }];
        for (from, to, kind) in FILES {
            add(&mut files, &sh.current_dir().join(from), to, *kind)?;
        }
        for (name, text) in &manual.pages {
            let section = name.rsplit_once('.').map(|(_, section)| section).unwrap_or_default();
            let path = format!("usr/share/man/man{section}/{name}.gz");
            files.push(File { path, kind: Kind::Document, bytes: gzip(text)? });
        }
        for (path, script) in &manual.completions {
            files.push(File { path: (*path).to_owned(), kind: Kind::Data, bytes: script.clone() });
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Self(files))
    }

    pub(super) fn files(&self) -> &[File] {
        &self.0
    }
}

fn add(files: &mut Vec<File>, from: &Path, to: &str, kind: Kind) -> anyhow::Result<()> {
    let name = from.file_name().context("it has a name")?.to_string_lossy();
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let to = if entry.file_type()?.is_dir() {
                format!("{to}{}/", entry.file_name().to_string_lossy())
            } else {
                to.to_owned()
            };
            add(files, &entry.path(), &to, kind)?;
        }
        return Ok(());
    }
    let path = if to.ends_with('/') { format!("{to}{name}") } else { to.to_owned() };
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    files.push(File { path, kind, bytes });
    Ok(())
}

/// Compressed so that the same text gives the same bytes.
pub(super) fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    writer.write_all(bytes)?;
    Ok(writer.finish()?)
}

/// The program's help in other forms.
pub(super) struct Manual {
    /// By the names of their files, as `tcp-close-watch.1`.
    pages: BTreeMap<String, Vec<u8>>,
    /// By their places.
    completions: BTreeMap<&'static str, Vec<u8>>,
}

impl Manual {
    /// As the program itself gives it.
    pub(super) fn of(sh: &Shell, program: &Path) -> anyhow::Result<Self> {
        let folder = sh.create_temp_dir()?;
        let folder = folder.path();
        cmd!(sh, "{program} man {folder}").quiet().run()?;
        let mut pages = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            pages.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
        }
        let mut completions = BTreeMap::new();
        for (shell, path) in [
            ("bash", "usr/share/bash-completion/completions/tcp-close"),
            ("fish", "usr/share/fish/vendor_completions.d/tcp-close.fish"),
            ("zsh", "usr/share/zsh/vendor-completions/_tcp-close"),
        ] {
            let script = cmd!(sh, "{program} completions {shell}").quiet().output()?.stdout;
            completions.insert(path, script);
        }
        Ok(Self { pages, completions })
    }
}
