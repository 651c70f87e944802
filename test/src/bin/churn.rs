//! Connections, opened and closed as fast as it goes, for who measures what it costs to watch them:
//! `churn --connections 20000 --threads 2`.
//!
//! They live in a network namespace of their own, both ends of them. The client closes first, so each leaves one
//! TIME-WAIT, and goes away with the namespace. A line of JSON says how many there were, and how long that took.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use tcp_close_test::{clock, netns::Netns};

#[derive(Parser)]
struct Options {
    /// How many connections, all threads together.
    #[arg(long, default_value_t = 20_000)]
    connections: u32,
    /// How many threads, each with a server of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Over IPv6.
    #[arg(long)]
    ipv6: bool,
}

fn main() -> anyhow::Result<()> {
    let Options { connections, threads, ipv6 } = Options::parse();
    let address = if ipv6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let netns = Netns::new();
    let begun = clock::now();
    let share = |thread| connections / threads + u32::from(thread < connections % threads);
    let workers: Vec<_> =
        (0..threads).map(share).map(|share| netns.spawn(move || churn(address, share))).collect();
    for worker in workers {
        worker.join().ok().context("a thread panicked")??;
    }
    let seconds = clock::now().saturating_sub(begun).as_secs_f64();
    writeln!(io::stdout(), "{{\"connections\":{connections},\"seconds\":{seconds}}}")?;
    Ok(())
}

/// Opens and closes so many connections, one after the other.
fn churn(address: IpAddr, connections: u32) -> anyhow::Result<()> {
    let server = TcpListener::bind((address, 0)).context("listen")?;
    let to = server.local_addr()?;
    for _ in 0..connections {
        let client = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
        let (mut accepted, _) = server.accept()?;
        drop(client);
        // To the client's FIN.
        ensure!(accepted.read(&mut [0])? == 0, "the client has sent nothing");
    }
    Ok(())
}
