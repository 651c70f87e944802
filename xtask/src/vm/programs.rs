//! What runs inside: the live tests and tcp-close itself, each as one file that needs no other.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
};

use anyhow::Context as _;
use serde::Deserialize;
use xshell::{Cmd, Shell, cmd};

use super::{Arch, tools::Tools};

/// How the release profile is changed for what runs inside.
const PROFILE: [(&str, &str); 3] = [
    // It takes as long as everything else, and nothing inside is so fast that it would show.
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    // As tests are built, so that they and the program share what they are built from.
    ("CARGO_PROFILE_RELEASE_PANIC", "unwind"),
    // Less to unpack at each start. Symbols are for debuggers, and there is none inside.
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
];

/// The programs of one architecture.
pub(super) struct Programs {
    pub(super) live: Vec<u8>,
    pub(super) tcp_close: Vec<u8>,
    /// Runs another with fewer capabilities.
    pub(super) with_capabilities: Vec<u8>,
}

impl Programs {
    pub(super) fn build(sh: &Shell, arch: Arch, tools: &Tools) -> anyhow::Result<Self> {
        println!("building the live tests for {}", arch.name());
        let live = cmd!(sh, "cargo test --package tcp-close-test --test live --no-run");
        // cargo builds the programs of a package with its tests.
        let test = for_machine(live, arch, tools)?.read()?;
        let tcp_close = cmd!(sh, "cargo build --package tcp-close-daemon --bin tcp-close");
        let tcp_close = for_machine(tcp_close, arch, tools)?.read()?;
        Ok(Self {
            live: built(&test, "live")?,
            tcp_close: built(&tcp_close, "tcp-close")?,
            with_capabilities: built(&test, "with-capabilities")?,
        })
    }
}

fn for_machine<'a>(command: Cmd<'a>, arch: Arch, tools: &Tools) -> anyhow::Result<Cmd<'a>> {
    let mut flags = vec![OsString::from("-Ctarget-feature=+crt-static")];
    let mut command = command
        .args(["--release", "--locked", "--quiet", "--message-format", "json-render-diagnostics"])
        // With a target named, the flags are for it alone: what runs on this machine while building stays dynamic.
        .args(["--target", arch.target()])
        .envs(PROFILE)
        .quiet();
    if let Some(compiler) = tools.cross_compiler(arch)? {
        flags.extend(compiler.link.into_iter().map(|argument| prefixed("-Clink-arg=", &argument)));
        command = command
            .envs(compiler.variables)
            // rustc comes with the standard library of this machine's target only; setup provided its source.
            .arg("-Zbuild-std")
            .env("RUSTC_BOOTSTRAP", "1");
    }
    // It goes before RUSTFLAGS and every configuration file, and knows no spaces.
    Ok(command.env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\x1f"))))
}

fn prefixed(prefix: &str, word: &OsStr) -> OsString {
    let mut prefixed = OsString::from(prefix);
    prefixed.push(word);
    prefixed
}

/// A program that cargo says it built.
fn built(messages: &str, name: &str) -> anyhow::Result<Vec<u8>> {
    let path =
        executable(messages, name).with_context(|| format!("cargo names no program {name} that it built"))?;
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The program of this name among cargo's messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
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
