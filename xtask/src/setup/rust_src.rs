//! The source of the standard library, of exactly the compiler's version, where `-Z build-std` looks for it.
//!
//! rustup's own component comes first.
//! Where rustup cannot download, Debian's `rust-src` package holds the same source; it is read through a private
//! apt tree, so the machine's own package configuration and state stay as they are.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use xshell::{Shell, cmd};

use crate::workspace::Rustc;

/// Debian suites to look in, the likeliest and smallest first.
const SUITES: [&str; 5] = ["trixie-backports", "trixie", "forky-backports", "forky", "sid"];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Beside `library`: the version that we put there. rustup's component has no such file.
const MARKER: &str = "version-of-library";

pub(super) fn provide(sh: &Shell) -> anyhow::Result<()> {
    let rustc = Rustc::ask(sh)?;
    let release = &rustc.release;
    if is_here(&rustc) {
        println!("rust-src {release}: is here");
        return Ok(());
    }

    println!("rust-src {release}: asking rustup");
    if marker(&rustc).exists() {
        // Ours, and of another version; rustup would not write over files that it does not know.
        fs::remove_dir_all(rustc.library())?;
        fs::remove_file(marker(&rustc))?;
    }
    let rustup = cmd!(sh, "rustup component add rust-src").env("RUST_BACKTRACE", "0").quiet().run();
    if rustup.is_ok() && is_here(&rustc) {
        return Ok(());
    }

    println!("rust-src {release}: rustup cannot; asking Debian's package");
    from_debian(sh, &rustc).with_context(|| {
        format!(
            "cannot provide rust-src {release}; put the compiler's `library` folder at {}",
            rustc.library().display()
        )
    })
}

fn is_here(rustc: &Rustc) -> bool {
    // What rustup manages follows the compiler; what we put there does not, when rustup updates the compiler.
    let ours = fs::read_to_string(marker(rustc)).ok();
    rustc.library().join("Cargo.lock").exists() && ours.is_none_or(|version| version.trim() == rustc.release)
}

fn marker(rustc: &Rustc) -> PathBuf {
    rustc.library().with_file_name(MARKER)
}

fn from_debian(sh: &Shell, rustc: &Rustc) -> anyhow::Result<()> {
    ensure!(
        cmd!(sh, "apt-get --version").quiet().ignore_stdout().run().is_ok(),
        "this machine has no apt-get"
    );
    ensure!(Path::new(KEYRING).exists(), "{KEYRING} is missing; install the package debian-archive-keyring");
    let mirror = mirror(sh)?;
    let scratch = tempfile::tempdir()?;
    for suite in SUITES {
        let apt = PrivateApt::new(sh, scratch.path().join(suite), &mirror, suite)?;
        if let Some(version) = apt.rust_src(&rustc.release)? {
            println!("rust-src {}: {version} in {suite}", rustc.release);
            let unpacked = apt.unpack(&version)?;
            return put(sh, rustc, &unpacked.join(format!("usr/src/rustc-{}/library", rustc.release)));
        }
    }
    bail!("the machine's Debian mirror has no rust-src {} in any of {}", rustc.release, SUITES.join(", "))
}

/// The address of the mirror that this machine's apt is configured for.
fn mirror(sh: &Shell) -> anyhow::Result<String> {
    let ask = || -> anyhow::Result<Option<String>> {
        let list = cmd!(sh, "apt-get indextargets --format '$(REPO_URI)'").quiet().read()?;
        Ok(list.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian")).map(str::to_owned))
    };
    if let Some(mirror) = ask()? {
        return Ok(mirror);
    }
    // apt tells only of lists that it has: on a new machine there are none.
    ensure!(
        rustix::process::geteuid().is_root(),
        "apt knows no Debian mirror yet; run `apt-get update` as root, then this command again"
    );
    cmd!(sh, "apt-get update --quiet").quiet().run()?;
    ask()?.context("no Debian mirror is configured for apt")
}

/// An apt of our own beside the machine's: other sources, other lists; proxy and credentials are the machine's.
struct PrivateApt<'a> {
    sh: &'a Shell,
    folder: PathBuf,
    options: Vec<OsString>,
}

impl<'a> PrivateApt<'a> {
    fn new(sh: &'a Shell, folder: PathBuf, mirror: &str, suite: &str) -> anyhow::Result<Self> {
        for part in ["sources", "preferences", "state/lists/partial", "cache/archives/partial", "unpacked"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(
            folder.join("sources/debian.sources"),
            format!("Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n"),
        )?;
        let folder_options = [
            ("Dir::Etc::sourceparts", "sources"),
            ("Dir::Etc::preferencesparts", "preferences"),
            ("Dir::State", "state"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ];
        let plain_options = [
            "Dir::Etc::sourcelist=/dev/null",
            "Dir::Etc::preferences=/dev/null",
            "Acquire::Languages=none",
            "APT::Update::Post-Invoke-Success=",
            // The sandbox user of apt cannot enter a private temporary folder.
            "APT::Sandbox::User=root",
        ];
        let mut options = Vec::new();
        for (name, part) in folder_options {
            let mut option = OsString::from(format!("{name}="));
            option.push(folder.join(part));
            options.extend(["-o".into(), option]);
        }
        for option in plain_options {
            options.extend(["-o".into(), option.into()]);
        }
        Ok(Self { sh, folder, options })
    }

    /// The package version whose upstream version is `release`; none too where the suite is not on the mirror.
    fn rust_src(&self, release: &str) -> anyhow::Result<Option<String>> {
        let Self { sh, options, .. } = self;
        if cmd!(sh, "apt-get {options...} -qq update").quiet().ignore_stderr().run().is_err() {
            return Ok(None);
        }
        let table = cmd!(sh, "apt-cache {options...} madison rust-src").quiet().ignore_stderr().read()?;
        Ok(table
            .lines()
            .filter_map(|line| line.split('|').nth(1))
            .map(str::trim)
            .find(|version| version.split(['+', '-', '~']).next() == Some(release))
            .map(str::to_owned))
    }

    /// Downloads that version, signature checked by apt, and unpacks it without installing it.
    fn unpack(&self, version: &str) -> anyhow::Result<PathBuf> {
        let Self { sh, folder, options } = self;
        let _inside = sh.push_dir(folder);
        cmd!(sh, "apt-get {options...} -qq download rust-src={version}").quiet().run()?;
        let package = fs::read_dir(folder)?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get download left no package")?;
        let unpacked = folder.join("unpacked");
        cmd!(sh, "dpkg -x {package} {unpacked}").quiet().run()?;
        Ok(unpacked)
    }
}

/// Copies `library` into the sysroot; it appears there whole or not at all.
fn put(sh: &Shell, rustc: &Rustc, library: &Path) -> anyhow::Result<()> {
    let place = rustc.library();
    let partial = place.with_file_name("library.partial");
    let folder = place.parent().context("the sysroot has no parent folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    cmd!(sh, "rm -rf {partial}").quiet().run()?;
    cmd!(sh, "cp -a {library} {partial}").quiet().run()?;
    cmd!(sh, "rm -rf {place}").quiet().run()?;
    fs::rename(&partial, &place)?;
    fs::write(marker(rustc), format!("{}\n", rustc.release))?;
    println!("rust-src {}: copied to {}", rustc.release, place.display());
    Ok(())
}
