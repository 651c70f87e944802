//! A recording of closes whose TIME-WAITs have not ended, for who measures what so many of them take.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use jiff::Timestamp;
use tcp_close::{
    clock::Anchor,
    decode::{CancelSites, Decoder},
    event::{Event, EventKind, Pair},
    kernel::tick::Hz,
    lifecycle::Limits,
    recording::{Header, Host, Step, Writer},
};

use super::{LIMITS, SEES, WAIT, records};

/// From one close to the next: a million of them take a third of the time that a TIME-WAIT does.
const APART: Duration = Duration::from_micros(20);

/// Turns of the pipeline end after so many closes.
const TURN: u32 = 1000;

/// By when all is settled.
const SETTLED: Duration = Duration::from_secs(2);

/// Ports of one of our addresses, from this one on.
const PORTS: u16 = 50_000;
const FIRST_PORT: u16 = 10_000;

/// Writes a recording in which so many sockets close as the first, and all of their TIME-WAITs go on.
pub fn record(out: impl Write, closes: u32) -> anyhow::Result<()> {
    let decoder = Decoder::new(Hz::new(250), CancelSites::unknown());
    let events =
        records::of_a_close().iter().map(|record| decoder.decode(record)).collect::<Result<Vec<_>, _>>();
    let events = events.context("good records")?;
    let first = *events.first().context("a close has events")?;
    let of_the_first =
        |event: &&Event| event.id == first.id && !matches!(event.kind, EventKind::TimerExpired(_));
    let events: Vec<Event> = events.iter().filter(of_the_first).copied().collect();

    let mut writer = Writer::new(out, &header(closes)?)?;
    for number in 0..closes {
        for event in &events {
            writer.add(&Step::Event(another(event, number)?))?;
        }
        if number % TURN == 0 {
            writer.add(&Step::turn_ends(&Anchor::now()))?;
        }
    }
    writer.add(&Step::Advance(first.at + APART * closes + SETTLED))?;
    writer.add(&Step::turn_ends(&Anchor::now()))?;
    Ok(writer.flush()?)
}

/// Of no kernel in particular, with room for all.
fn header(closes: u32) -> io::Result<Header> {
    let unknown = || "unknown".to_owned();
    let host = Host { kernel: unknown(), architecture: unknown(), hz: 250, btf: unknown() };
    let minisocks = usize::try_from(closes).map_err(io::Error::other)?.max(LIMITS.minisocks);
    let limits = Limits { minisocks, ..LIMITS };
    Ok(Header::new(host, Timestamp::UNIX_EPOCH, (limits, WAIT, SEES), false, BTreeMap::new()))
}

/// The same, later and of another connection.
fn another(event: &Event, number: u32) -> anyhow::Result<Event> {
    let mut event = *event;
    event.at = event.at + APART * number;
    event.id.socket += u64::from(number);
    let (address, port) = (number / u32::from(PORTS), number % u32::from(PORTS));
    let local = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + address);
    let local = SocketAddr::from((local, FIRST_PORT + u16::try_from(port)?));
    match &mut event.kind {
        EventKind::StateChange(change) => change.pair = Pair { local, ..change.pair },
        EventKind::TimerStarted(timer) => {
            timer.pair = Pair { local, ..timer.pair };
            timer.minisock += u64::from(number) * 256;
        }
        _ => {}
    }
    Ok(event)
}
