//! `cargo xtask test`: the tests that need nothing, then the live tests, which need root.

use anyhow::ensure;
use clap::Args;
use xshell::{Shell, cmd};

use crate::workspace;

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Only the live tests: real sockets on this kernel, as root or through sudo.
    #[arg(long, conflicts_with = "unit")]
    live: bool,
    /// Only the tests that need no privilege.
    #[arg(long)]
    unit: bool,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    if !options.live {
        unit(&sh, options.filter.as_deref())?;
    }
    if !options.unit {
        live(&sh, options.filter.as_deref())?;
    }
    Ok(())
}

pub(crate) fn unit(sh: &Shell, filter: Option<&str>) -> anyhow::Result<()> {
    println!("unit tests and documentation tests");
    cmd!(
        sh,
        "cargo test --workspace --exclude tcp-close-ebpf --exclude tcp-close-test --no-fail-fast -- {filter...}"
    )
    .run()?;
    Ok(())
}

pub(crate) fn live(sh: &Shell, filter: Option<&str>) -> anyhow::Result<()> {
    println!("live tests on this kernel");
    let root = rustix::process::geteuid().is_root();
    ensure!(
        root || cmd!(sh, "sudo --version").quiet().ignore_stdout().ignore_stderr().run().is_ok(),
        "the live tests load programs into the kernel: run `cargo xtask test --live` as root"
    );
    cmd!(sh, "cargo build --release --package tcp-close-daemon --bin tcp-close").run()?;
    let program = workspace::target_dir(sh)?.join("release/tcp-close");
    // cargo itself stays unprivileged, so that no file in the target directory becomes root's.
    let runner = ["--config", "target.'cfg(all())'.runner = ['sudo', '-E']"];
    let runner = if root { &[][..] } else { &runner[..] };
    cmd!(
        sh,
        "cargo {runner...} test --release --package tcp-close-test --no-fail-fast -- --test-threads 8 {filter...}"
    )
    .env("TCP_CLOSE_BIN", program)
    .run()?;
    Ok(())
}
