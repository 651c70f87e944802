//! Connections, opened and closed as fast as it goes, for who measures what it costs to watch them:
//! `churn --connections 20000 --threads 2`. With `--requests` they are kept, and a byte goes to and fro instead.
//!
//! They live in network namespaces of their own, both ends of them. The client closes first, so each leaves one
//! TIME-WAIT, and goes away with the namespace; with `--hold` that is there until standard input ends, and the program
//! lives in it. A line of JSON says how many there were, how long that took, and how much of the processor.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use tcp_close_test::{
    address::{SERVER_V4, SERVER_V6},
    clock,
    netns::Netns,
    veth,
};

/// Connections to one server: where half of all ports are in use, the kernel looks long for another.
const TO_ONE_SERVER: u32 = 20_000;

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
    /// From one namespace to another, over a pair of virtual Ethernet devices.
    #[arg(long)]
    veth: bool,
    /// One connection for each thread, and so many requests and responses of a byte over all of them together.
    #[arg(long, value_name = "N", conflicts_with = "connections")]
    requests: Option<u32>,
    /// Keep what is left until standard input ends, however many TIME-WAITs that is.
    #[arg(long)]
    hold: bool,
}

/// Where connections begin and end.
struct Road {
    client: Arc<Netns>,
    server: Arc<Netns>,
    address: IpAddr,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let Options { threads, requests, .. } = options;
    let road = Road::build(&options);
    let whole = requests.unwrap_or(options.connections);
    let share = |thread| whole / threads + u32::from(thread < whole % threads);
    let (begun, processor) = (clock::now(), processor_time());
    let workers: Vec<_> = (0..threads)
        .map(share)
        .map(|share| {
            let (server, address) = (Arc::clone(&road.server), road.address);
            road.client.spawn(move || match requests {
                Some(_) => converse(&server, address, share),
                None => churn(&server, address, share),
            })
        })
        .collect();
    for worker in workers {
        worker.join().ok().context("a thread panicked")??;
    }
    let seconds = clock::now().saturating_sub(begun).as_secs_f64();
    let processor_seconds = processor_time().saturating_sub(processor).as_secs_f64();
    let connections = if requests.is_some() { threads } else { options.connections };
    let requests = requests.unwrap_or_default();
    let mut out = io::stdout();
    writeln!(
        out,
        "{{\"connections\":{connections},\"requests\":{requests},\"seconds\":{seconds},\
         \"processor_seconds\":{processor_seconds}}}"
    )?;
    if options.hold {
        out.flush()?;
        io::copy(&mut io::stdin(), &mut io::sink())?;
    }
    Ok(())
}

/// What all threads have had of the processor so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec.try_into().unwrap_or_default())
}

impl Road {
    fn build(options: &Options) -> Self {
        let &Options { ipv6, veth, hold, .. } = options;
        let client = Arc::new(Netns::new());
        let (server, address): (_, IpAddr) = if veth {
            let server = Arc::new(Netns::new());
            veth::join(&client, &server);
            (server, if ipv6 { SERVER_V6.into() } else { SERVER_V4.into() })
        } else {
            let address = if ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
            (Arc::clone(&client), address)
        };
        if hold {
            client.enter();
            client.sysctl("net/ipv4/tcp_max_tw_buckets", "4000000");
            client.sysctl("net/ipv4/tcp_tw_reuse", "0");
            client.sysctl("net/ipv4/ip_local_port_range", "1024 65535");
        }
        Self { client, server, address }
    }
}

fn listen(server: &Netns, address: IpAddr) -> anyhow::Result<TcpListener> {
    server.run(move || TcpListener::bind((address, 0))).context("listen")
}

/// Opens and closes so many connections, one after the other.
fn churn(server: &Netns, address: IpAddr, connections: u32) -> anyhow::Result<()> {
    let mut left = connections;
    while left > 0 {
        let some = left.min(TO_ONE_SERVER);
        churn_at(&listen(server, address)?, some)?;
        left -= some;
    }
    Ok(())
}

fn churn_at(server: &TcpListener, connections: u32) -> anyhow::Result<()> {
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

/// Sends so many requests of a byte over one connection, and gets a byte for each.
fn converse(server: &Netns, address: IpAddr, requests: u32) -> anyhow::Result<()> {
    let server = listen(server, address)?;
    let mut client = TcpStream::connect(server.local_addr()?)?;
    let (mut accepted, _) = server.accept()?;
    for end in [&client, &accepted] {
        end.set_nodelay(true)?;
    }
    let mut byte = [0];
    for _ in 0..requests {
        client.write_all(&byte)?;
        accepted.read_exact(&mut byte)?;
        accepted.write_all(&byte)?;
        client.read_exact(&mut byte)?;
    }
    Ok(())
}
