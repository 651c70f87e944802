//! Writes a recording of so many TIME-WAITs that have not ended, and then waits until standard input does: `time-waits
//! 1000000 | tcp-close replay --summary -`. Who reads it has all of them by then.

use std::{
    env,
    io::{self, Write as _},
};

use anyhow::{Context as _, bail};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [closes] = arguments.as_slice() else {
        bail!("it takes how many there are to be");
    };
    tcp_close_bench::record(io::stdout().lock(), closes.parse().context("it takes a number")?)?;
    // Standard output is the recording.
    writeln!(io::stderr(), "all are written")?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
