//! Runs a program as root with these capabilities and no others: `with-capabilities CAP_BPF,CAP_PERFMON PROGRAM …`.
//!
//! For the machines of `cargo xtask vm`, which have no setpriv that can take anything from root.

use std::{env, os::unix::process::CommandExt as _, process::Command};

use anyhow::Context as _;
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set};

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let names = arguments.next().context("it takes the names of capabilities")?;
    let names = names.into_string().ok().context("capabilities have names")?;
    let mut kept = CapabilitySet::empty();
    for name in names.split(',') {
        kept |= name
            .strip_prefix("CAP_")
            .and_then(CapabilitySet::from_name)
            .with_context(|| format!("there is no capability {name}"))?;
    }
    // Root gets with a new program what is in its bounding set (capabilities(7)).
    for (_, capability) in CapabilitySet::all().difference(kept).iter_names() {
        // What an older kernel does not know, nobody has.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability).context("cannot give up a capability")?;
        }
    }
    let program = arguments.next().context("it takes a program")?;
    Err(Command::new(&program).args(arguments).exec())
        .with_context(|| format!("cannot run {}", program.display()))
}
