//! Programs that run beside a step, and end with it however it ends.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;

/// Runs its arguments until its own standard input ends. Nobody has to be allowed to send a signal to what root runs.
const UNTIL_INPUT_ENDS: &str = r#""$@" </dev/null & cat >/dev/null; kill $!; wait $!"#;

/// Whose a program is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Root,
    Whoever,
}

/// A program that runs.
pub(crate) struct Running {
    child: Child,
    /// All that it says.
    pub(crate) log: PathBuf,
}

impl Running {
    /// Starts a program with these arguments, its log at this path.
    pub(crate) fn start(
        user: User,
        program: &Path,
        arguments: &[&str],
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let words = if user == User::Root && !rustix::process::geteuid().is_root() {
            &["sudo", "-E", "sh"][..]
        } else {
            &["sh"][..]
        };
        let (shell, options) = words.split_first().context("a shell")?;
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new(shell)
            .args(options)
            .args(["-c", UNTIL_INPUT_ENDS, "sh"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, log })
    }

    /// The end of what it has said.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // What there was to learn from it is learned by now.
        let _status = self.child.wait();
    }
}

/// A port of loopback at which nobody listens. Somebody else might take it before it is used; then its user says so.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
