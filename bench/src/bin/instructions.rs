//! Does one part of the work so often, and nothing else: `instructions decode 1000`. Whoever counts its instructions, for
//! two numbers, knows what once takes.

use std::env;

use anyhow::{Context as _, bail};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, times] = arguments.as_slice() else {
        bail!("it takes the name of a part, and how often to do it");
    };
    let times: u64 = times.parse().context("it takes a number")?;
    let mut parts = tcp_close_bench::parts()?;
    let part = parts.iter_mut().find(|part| part.name == *name).context("there is no such part")?;
    for _ in 0..times {
        part.work();
    }
    Ok(())
}
