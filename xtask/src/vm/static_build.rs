//! Programs that need no file but their own, for this machine's architecture or another.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;
use xshell::{Cmd, Shell};

use super::{Arch, tools::Tools};
use crate::workspace::{self, Rustc};

/// A cargo command that builds that way, in the release profile; it prints messages for [`executable`].
///
/// What is shipped and what runs in the lab are built alike, and so but once.
pub(crate) fn command<'a>(
    sh: &Shell,
    command: Cmd<'a>,
    arch: Arch,
    tools: &Tools,
) -> anyhow::Result<Cmd<'a>> {
    let mut flags = flags(sh)?;
    let mut command = command
        .args(["--release", "--locked", "--quiet", "--message-format", "json-render-diagnostics"])
        // With a target named, the flags are for it alone: what runs on this machine while building stays dynamic.
        .args(["--target", arch.target()])
        .quiet();
    if let Some(compiler) = tools.cross_compiler(arch)? {
        flags.extend(compiler.link.into_iter().map(|argument| prefixed("-Clink-arg=", &argument)));
        command = command
            .envs(compiler.variables)
            // rustc comes with the standard library of this machine's target only; setup provided its source.
            .arg("-Zbuild-std=std,panic_abort")
            .env("RUSTC_BOOTSTRAP", "1")
            // Macros are built anew whenever that variable comes or goes, and with them whatever uses them.
            .arg("--target-dir")
            .arg(workspace::target_dir(sh)?.join("cross"));
    }
    Ok(command.env(FLAGS, flags.join(SEPARATOR.as_ref())))
}

/// A shell in which cargo builds that way whatever it builds for this machine, so that what is tested here is what is
/// shipped, and nothing has to be built a second time.
pub(crate) fn shell() -> anyhow::Result<Shell> {
    let sh = workspace::shell()?;
    if env::consts::ARCH != Arch::X86_64.name() {
        // What is shipped is built on machines of that architecture.
        return Ok(sh);
    }
    sh.set_var(FLAGS, flags(&sh)?.join(SEPARATOR.as_ref()));
    sh.set_var(workspace::TARGET, Arch::X86_64.target());
    Ok(sh)
}

/// Where cargo looks for flags of the compiler before it looks at RUSTFLAGS or into a file; and what is between them, since
/// there may be spaces in them.
const FLAGS: &str = "CARGO_ENCODED_RUSTFLAGS";
const SEPARATOR: &str = "\x1f";

fn flags(sh: &Shell) -> anyhow::Result<Vec<OsString>> {
    let mut flags = vec![OsString::from("-Ctarget-feature=+crt-static")];
    for (from, to) in nowhere(sh)? {
        let mut flag = prefixed("--remap-path-prefix=", from.as_os_str());
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    Ok(flags)
}

fn prefixed(prefix: &str, word: &OsStr) -> OsString {
    let mut prefixed = OsString::from(prefix);
    prefixed.push(word);
    prefixed
}

/// What paths of this machine are called in the program, which tells where a panic was.
fn nowhere(sh: &Shell) -> anyhow::Result<Vec<(PathBuf, &'static str)>> {
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let cargo = cargo.context("there is neither CARGO_HOME nor HOME")?;
    let mut paths = vec![
        (workspace::root(), "/tcp-close"),
        (workspace::target_dir(sh)?, "/target"),
        (Rustc::ask(sh)?.library(), "/rust/library"),
    ];
    // A folder for each registry: which one it was does not matter, since Cargo.lock has the checksums.
    for registry in fs::read_dir(cargo.join("registry/src")).context("cargo has no crates yet")? {
        paths.push((registry?.path(), "/crates"));
    }
    Ok(paths)
}

/// The program of this name among cargo's messages.
pub(crate) fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        target: Target,
        executable: Option<PathBuf>,
    }

    #[derive(Deserialize)]
    struct Target {
        name: String,
    }

    let of = |line: &str| {
        let message: Message = serde_json::from_str(line).ok()?;
        message.executable.filter(|_| message.target.name == name)
    };
    messages.lines().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_name() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"live"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"live"},"executable":"/target/release/deps/live-1"}
{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/target/release/other"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "live"), Some("/target/release/deps/live-1".into()));
        assert_eq!(executable(messages, "tcp-close"), None);
    }
}
