//! Packages of Debian's archive, without touching the machine: read through a private apt tree, unpacked and never
//! installed.
//!
//! Sources, lists and caches are the tree's own; proxy and credentials stay the machine's, and apt checks the
//! signatures as ever.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use xshell::{Cmd, Shell, cmd};

use crate::cache;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What dpkg has installed on this machine.
const INSTALLED: &str = "/var/lib/dpkg/status";

/// How long the lists of an archive are taken for its present state.
const LISTS_LAST: Duration = Duration::from_secs(12 * 60 * 60);

/// Where this machine's apt gets Debian from.
pub(crate) struct Mirrors {
    pub(crate) main: String,
    /// Security updates; not every machine has them.
    pub(crate) security: Option<String>,
}

impl Mirrors {
    pub(crate) fn of_this_machine(sh: &Shell) -> anyhow::Result<Self> {
        ensure!(
            cmd!(sh, "apt-get --version").quiet().ignore_stdout().run().is_ok(),
            "this machine has no apt-get"
        );
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing; install the package debian-archive-keyring"
        );
        if let Some(mirrors) = Self::known(sh)? {
            return Ok(mirrors);
        }
        // apt tells only of lists that it has: on a new machine there are none.
        ensure!(
            rustix::process::geteuid().is_root(),
            "apt knows no Debian mirror yet; run `apt-get update` as root, then this command again"
        );
        cmd!(sh, "apt-get update --quiet").quiet().run()?;
        Self::known(sh)?.context("no Debian mirror is configured for apt")
    }

    fn known(sh: &Shell) -> anyhow::Result<Option<Self>> {
        // Others may have a repository of the same name.
        let list = cmd!(sh, "apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian'").quiet().read()?;
        let ending = |end: &str| {
            list.lines().find(|address| address.trim_end_matches('/').ends_with(end)).map(str::to_owned)
        };
        Ok(ending("/debian").map(|main| Self { main, security: ending("/debian-security") }))
    }

    /// The sources of these suites and of their security updates.
    pub(crate) fn sources(&self, suites: &[&str], updated: &[&str]) -> String {
        let mut sources = source(&self.main, suites);
        if let Some(security) = &self.security {
            let suites: Vec<String> = updated.iter().map(|suite| format!("{suite}-security")).collect();
            let suites: Vec<&str> = suites.iter().map(String::as_str).collect();
            sources.push_str(&source(security, &suites));
        }
        sources
    }
}

/// The name of this machine's release of Debian.
pub(crate) fn codename() -> anyhow::Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release names no Debian release")?.trim_matches('"').to_owned())
}

/// A stanza of `sources.list(5)`.
pub(crate) fn source(address: &str, suites: &[&str]) -> String {
    if suites.is_empty() {
        return String::new();
    }
    format!(
        "Types: deb\nURIs: {address}\nSuites: {}\nComponents: main\nSigned-By: {KEYRING}\n\n",
        suites.join(" ")
    )
}

/// An apt of our own beside the machine's.
pub(crate) struct PrivateApt<'a> {
    sh: &'a Shell,
    folder: PathBuf,
    options: Vec<OsString>,
}

impl<'a> PrivateApt<'a> {
    /// A tree in `folder` that sees these sources.
    pub(crate) fn new(sh: &'a Shell, folder: PathBuf, sources: &str) -> anyhow::Result<Self> {
        for part in ["sources", "preferences", "state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("sources/debian.sources"), sources)?;
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

    /// The same for machines of another architecture, as Debian calls it.
    pub(crate) fn of_architecture(self, architecture: &str) -> Self {
        self.with_options(&[
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
        ])
    }

    /// The same, knowing what this machine has installed.
    pub(crate) fn beside_what_is_installed(self) -> Self {
        // The lock is for who installs, and needs root.
        self.with_options(&[format!("Dir::State::status={INSTALLED}"), "Debug::NoLocking=1".to_owned()])
    }

    fn with_options(mut self, options: &[String]) -> Self {
        for option in options {
            self.options.extend(["-o".into(), option.into()]);
        }
        self
    }

    /// Gets the lists of packages.
    pub(crate) fn update(&self) -> anyhow::Result<()> {
        let Self { sh, options, .. } = self;
        Ok(cmd!(sh, "apt-get {options...} -qq update").quiet().ignore_stderr().run()?)
    }

    /// [`Self::update`], unless that was done a short time ago; a suite that has left the mirror is no error.
    pub(crate) fn update_if_old(&self) -> anyhow::Result<()> {
        let stamp = self.folder.join("updated");
        let age =
            fs::metadata(&stamp).and_then(|stamp| stamp.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age < LISTS_LAST) {
            return Ok(());
        }
        // What is missing then will be named by who asks for it.
        if self.update().is_ok() {
            fs::write(stamp, "")?;
        }
        Ok(())
    }

    /// The version that apt would download of a package.
    pub(crate) fn version(&self, package: &str) -> anyhow::Result<String> {
        let versions = self.versions(package)?;
        versions.into_iter().next().with_context(|| format!("the Debian mirror has no package {package}"))
    }

    /// The versions of a package, in apt's order.
    pub(crate) fn versions(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let Self { sh, options, .. } = self;
        let table = cmd!(sh, "apt-cache {options...} madison {package}").quiet().ignore_stderr().read()?;
        Ok(table
            .lines()
            .filter_map(|line| line.split('|').nth(1))
            .map(|version| version.trim().to_owned())
            .collect())
    }

    /// The names of all packages that begin so.
    pub(crate) fn names(&self, beginning: &str) -> anyhow::Result<Vec<String>> {
        let Self { sh, options, .. } = self;
        let names = cmd!(sh, "apt-cache {options...} pkgnames {beginning}").quiet().ignore_stderr().read()?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The names of the packages that this one needs.
    pub(crate) fn dependencies(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let Self { sh, options, .. } = self;
        let table = cmd!(sh, "apt-cache {options...} depends --important {package}").quiet().read()?;
        let name =
            |line: &str| line.trim().trim_start_matches('|').strip_prefix("Depends: ").map(str::to_owned);
        Ok(table.lines().filter_map(name).collect())
    }

    /// Downloads a package, given by its name or as `name=version`, and unpacks it without installing it.
    pub(crate) fn unpack(&self, package: &str, to: &Path) -> anyhow::Result<()> {
        let Self { sh, folder, options } = self;
        let downloads = tempfile::tempdir_in(folder)?;
        let inside = sh.push_dir(downloads.path());
        cmd!(sh, "apt-get {options...} -qq download {package}").quiet().run()?;
        drop(inside);
        self.unpack_all(downloads.path(), to)
    }

    /// The same with all that these packages need and this machine lacks.
    pub(crate) fn unpack_what_is_missing(&self, packages: &[&str], to: &Path) -> anyhow::Result<()> {
        let Self { sh, folder, options } = self;
        let archives = folder.join("cache/archives");
        cmd!(
            sh,
            "apt-get {options...} -qq --yes --no-install-recommends --download-only install {packages...}"
        )
        .quiet()
        .ignore_stdout()
        .run()?;
        self.unpack_all(&archives, to)?;
        Ok(cmd!(sh, "apt-get {options...} -qq clean").quiet().run()?)
    }

    fn unpack_all(&self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let sh = self.sh;
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let package = entry?.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                cmd!(sh, "dpkg -x {package} {to}").quiet().run()?;
            }
        }
        Ok(())
    }
}

/// A package of this machine's release, unpacked below `folder` unless it is there already; by itself, whatever it needs.
pub(crate) fn unpacked(sh: &Shell, folder: &Path, package: &str) -> anyhow::Result<PathBuf> {
    cache::folder(&folder.join("unpacked"), |to| {
        println!("{package}: downloading");
        let sources = Mirrors::of_this_machine(sh)?.sources(&[&codename()?], &[]);
        let apt = PrivateApt::new(sh, folder.join("apt"), &sources)?;
        apt.update()?;
        apt.unpack(package, to)
    })
}

/// Programs of Debian's that are used without being installed, with what they need and this machine lacks.
pub(crate) struct Unpacked {
    folder: PathBuf,
}

impl Unpacked {
    /// Downloads these packages into `folder`, unless they are there.
    pub(crate) fn provide(sh: &Shell, folder: &Path, packages: &[&str]) -> anyhow::Result<Self> {
        let folder = cache::folder(&folder.join("tools"), |to| {
            println!("{}: downloading", packages.join(" and "));
            let suite = codename()?;
            let sources = Mirrors::of_this_machine(sh)?.sources(&[&suite], &[&suite]);
            let apt = PrivateApt::new(sh, folder.join("apt"), &sources)?.beside_what_is_installed();
            apt.update()?;
            fs::create_dir_all(to)?;
            apt.unpack_what_is_missing(packages, to)
        })?;
        Ok(Self { folder })
    }

    /// The same command, which finds them.
    pub(crate) fn find<'c>(&self, command: Cmd<'c>) -> Cmd<'c> {
        let [(path, programs), (loaded, libraries)] = self.environment();
        command.env(path, programs).env(loaded, libraries).quiet()
    }

    /// The variables by which programs and their libraries are found.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        let path = env::var("PATH").unwrap_or_default();
        let folder = self.folder.display();
        [
            ("PATH", format!("{folder}/usr/bin:{folder}/usr/sbin:{path}:/usr/sbin")),
            (
                "LD_LIBRARY_PATH",
                format!("{folder}/usr/lib/{0}-linux-gnu:{folder}/lib/{0}-linux-gnu", env::consts::ARCH),
            ),
        ]
    }
}
