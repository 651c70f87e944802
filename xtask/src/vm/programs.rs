//! What runs inside: the live tests and tcp-close itself, each as one file that needs no other.

use std::fs;

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::{Arch, static_build, tools::Tools};

/// The programs of one architecture.
pub(super) struct Programs {
    pub(super) tcp_close: Vec<u8>,
    /// Where a machine wants them.
    pub(super) tests: Option<Tests>,
}

/// What is built with the live tests.
pub(super) struct Tests {
    pub(super) live: Vec<u8>,
    /// What is done to a machine as a whole.
    pub(super) faults: Vec<u8>,
    /// Much at once, and for long.
    pub(super) endurance: Vec<u8>,
    /// Runs another with fewer capabilities.
    pub(super) with_capabilities: Vec<u8>,
}

impl Programs {
    pub(super) fn build(sh: &Shell, arch: Arch, tools: &Tools, with_tests: bool) -> anyhow::Result<Self> {
        let tests = if with_tests { Some(Tests::build(sh, arch, tools)?) } else { None };
        let tcp_close = cmd!(sh, "cargo build --package tcp-close-daemon --bin tcp-close");
        let tcp_close = static_build::command(sh, tcp_close, arch, tools)?.read()?;
        Ok(Self { tcp_close: built(&tcp_close, "tcp-close")?, tests })
    }
}

impl Tests {
    fn build(sh: &Shell, arch: Arch, tools: &Tools) -> anyhow::Result<Self> {
        println!("building the live tests for {}", arch.name());
        let live = cmd!(
            sh,
            "cargo test --package tcp-close-test --test live --test faults --test endurance --no-run"
        );
        // cargo builds the programs of a package with its tests.
        let test = static_build::command(sh, live, arch, tools)?.read()?;
        Ok(Self {
            live: built(&test, "live")?,
            faults: built(&test, "faults")?,
            endurance: built(&test, "endurance")?,
            with_capabilities: built(&test, "with-capabilities")?,
        })
    }
}

/// A program that cargo says it built.
fn built(messages: &str, name: &str) -> anyhow::Result<Vec<u8>> {
    let path = static_build::executable(messages, name)
        .with_context(|| format!("cargo names no program {name} that it built"))?;
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
