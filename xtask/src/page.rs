//! `cargo xtask ci page`: the daemon's page at `/`, in a real browser: what is on it, and pictures of it to look at.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::ensure;
use xshell::{Shell, cmd};

use crate::{
    cache, clock,
    debian::{self, Mirrors, PrivateApt},
    running::{Running, User, free_port},
    workspace,
};

/// Pictures that are taken: on a desk by day and by night, and as narrow as a browser's window can be.
const PICTURES: [(&str, &str, &str); 3] = [
    ("light", "--window-size=1280,800", LIGHT),
    ("dark", "--window-size=1280,800", "--blink-settings=preferredColorScheme=0"),
    ("narrow", "--window-size=400,800", LIGHT),
];
const LIGHT: &str = "--blink-settings=preferredColorScheme=1";

/// What a browser does that nobody uses: it sees one page of loopback, and nothing else.
const QUIET: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=3000",
];

/// All hooks, whatever became of them here.
const HOOKS: [&str; 6] =
    ["state_change", "minisock", "witness", "fin_retransmit", "reset_sent", "reset_received"];

/// What a hook may hang on.
const RUNGS: [&str; 4] = ["tp_btf", "fentry", "kprobe", "none"];

pub(crate) fn check(sh: &Shell) -> anyhow::Result<()> {
    let browser = Browser::provide(sh)?;
    cmd!(sh, "cargo build --release --package tcp-close-daemon --bin tcp-close").run()?;
    let target = workspace::target_dir(sh)?;
    let folder = target.join("page");
    let address = format!("127.0.0.1:{}", free_port()?);
    let socket = folder.join("tcp-close.sock").display().to_string();
    let arguments = ["daemon", "--web.listen-address", &address, "--socket", &socket];
    let program = workspace::release_dir(sh)?.join("tcp-close");
    let daemon = Running::start(User::Root, &program, &arguments, folder.join("daemon.log"))?;
    wait_until_ready(&daemon)?;

    let url = format!("http://{address}/");
    let version = env!("CARGO_PKG_VERSION");
    let page = browser.run(sh, &["--dump-dom", &url])?;
    ensure!(page.contains(&format!("Version {version}.")), "the page does not say version {version}: {page}");
    for link in ["/metrics", "/healthz", "/readyz"] {
        ensure!(page.contains(&format!("<a href=\"{link}\">")), "the page has no link to {link}: {page}");
    }
    for hook in HOOKS {
        let on = |rung| page.contains(&format!("<td><code>{hook}</code></td><td><code>{rung}</code></td>"));
        ensure!(RUNGS.into_iter().any(on), "the page says no rung of {hook}: {page}");
    }
    for (name, size, scheme) in PICTURES {
        let picture = folder.join(format!("{name}.png"));
        sh.remove_path(&picture)?;
        browser.run(sh, &[size, scheme, &format!("--screenshot={}", picture.display()), &url])?;
        ensure!(picture.exists(), "no picture was taken");
        println!("{}", picture.display());
    }
    Ok(())
}

fn wait_until_ready(daemon: &Running) -> anyhow::Result<()> {
    let is_ready = || Ok(fs::read_to_string(&daemon.log)?.contains("ready").then_some(()));
    let ready = clock::wait_for(Duration::from_secs(10), is_ready)?;
    ensure!(ready.is_some(), "the daemon does not become ready: {}", daemon.last_words());
    Ok(())
}

/// Debian's Chromium with what it needs, unpacked beside what is installed.
struct Browser {
    program: PathBuf,
    /// Where the libraries are, as the linker is told.
    libraries: String,
    fonts: PathBuf,
}

impl Browser {
    fn provide(sh: &Shell) -> anyhow::Result<Self> {
        let folder = workspace::target_dir(sh)?.join("page");
        let unpacked = cache::folder(&folder.join("unpacked"), |to| {
            println!("Chromium: downloading");
            let suite = debian::codename()?;
            let sources = Mirrors::of_this_machine(sh)?.sources(&[&suite], &[&suite]);
            let apt = PrivateApt::new(sh, folder.join("apt"), &sources)?.beside_what_is_installed();
            apt.update()?;
            apt.unpack_what_is_missing(&["chromium", "fonts-dejavu-core"], to)
        })?;
        let fonts = folder.join("fonts.conf");
        sh.write_file(&fonts, fonts_in(&unpacked, &folder))?;
        let program = unpacked.join("usr/lib/chromium/chromium");
        // Where it is installed itself, nothing of it was unpacked.
        let program = if program.exists() { program } else { "/usr/lib/chromium/chromium".into() };
        let libraries = unpacked.join(format!("usr/lib/{}-linux-gnu", env::consts::ARCH));
        // Those of PulseAudio find each other by a path of the system.
        let libraries = format!("{0}:{0}/pulseaudio", libraries.display());
        Ok(Self { program, libraries, fonts })
    }

    fn run(&self, sh: &Shell, arguments: &[&str]) -> anyhow::Result<String> {
        let Self { program, libraries, fonts } = self;
        let profile = tempfile::tempdir()?;
        let data = profile.path();
        // It complains of a bus that it does not need.
        Ok(cmd!(sh, "{program} {QUIET...} --user-data-dir={data} {arguments...}")
            .env("LD_LIBRARY_PATH", libraries)
            .env("FONTCONFIG_FILE", fonts)
            .quiet()
            .ignore_stderr()
            .read()?)
    }
}

/// Fonts of the machine, and those that were unpacked; whatever is asked for, it is one that is there for certain.
fn fonts_in(unpacked: &Path, folder: &Path) -> String {
    let font = |asked: &str, font: &str| {
        format!(
            "<match>{asked}<edit name=\"family\" mode=\"prepend\"><string>{font}</string></edit></match>\n"
        )
    };
    format!(
        "<fontconfig>\n<dir>/usr/share/fonts</dir>\n<dir>{}/usr/share/fonts</dir>\n<cachedir>{}/fonts</cachedir>\n{}{}</fontconfig>\n",
        unpacked.display(),
        folder.display(),
        font("", "DejaVu Sans"),
        font("<test name=\"family\"><string>monospace</string></test>", "DejaVu Sans Mono"),
    )
}
