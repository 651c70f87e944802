//! Programs that need no file but their own, for this machine's architecture or another.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use serde::Deserialize;
use xshell::Cmd;

use super::{Arch, tools::Tools};

/// A cargo command that builds that way, in the release profile, with these flags for the compiler; it prints messages
/// for [`executable`].
pub(crate) fn command<'a>(
    command: Cmd<'a>,
    arch: Arch,
    tools: &Tools,
    mut flags: Vec<OsString>,
) -> anyhow::Result<Cmd<'a>> {
    flags.push("-Ctarget-feature=+crt-static".into());
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
