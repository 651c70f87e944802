//! What tcp-close says of real connections, held against the kernel's own counters and the wire.
//!
//! Each test makes its own namespaces, watches only those, and asks the kernel about only those, so tests run
//! beside each other and beside whatever else this host does.

#![expect(clippy::panic, reason = "helpers of a test fail as the test itself does")]
#![expect(clippy::float_cmp, reason = "samples of counters are whole numbers")]
#![expect(clippy::cast_precision_loss, reason = "and far below 2^52")]

use std::{env, io::Read as _, net::TcpStream};

use tcp_close_test::{
    address::Family,
    clock::PATIENCE,
    journal::LoggedSegment,
    netns::Netns,
    oracle::{self, Socket},
    segment::Direction,
    stream,
    wire::Wire,
};

#[path = "live/aborts.rs"]
mod aborts;
#[path = "live/bench.rs"]
mod bench;
#[path = "live/census.rs"]
mod census;
#[path = "live/close_wait.rs"]
mod close_wait;
#[path = "live/crowd.rs"]
mod crowd;
#[path = "live/documented.rs"]
mod documented;
#[path = "live/end_causes.rs"]
mod end_causes;
#[path = "live/families.rs"]
mod families;
#[path = "live/feed.rs"]
mod feed;
#[path = "live/full_ring.rs"]
mod full_ring;
#[path = "live/hidden_addresses.rs"]
mod hidden_addresses;
#[path = "live/list.rs"]
mod list;
#[path = "live/lost.rs"]
mod lost;
#[path = "live/not_closes.rs"]
mod not_closes;
#[path = "live/observer.rs"]
mod observer;
#[path = "live/orderly.rs"]
mod orderly;
#[path = "live/owner.rs"]
mod owner;
#[path = "live/ports.rs"]
mod ports;
#[path = "live/program.rs"]
mod program;
#[path = "live/reconcile.rs"]
mod reconcile;
#[path = "live/record.rs"]
mod record;
#[path = "live/recorder.rs"]
mod recorder;
#[path = "live/service.rs"]
mod service;
#[path = "live/snapshot.rs"]
mod snapshot;
#[path = "live/special_sockets.rs"]
mod special_sockets;
#[path = "live/storm.rs"]
mod storm;
#[path = "live/stuck.rs"]
mod stuck;
#[path = "live/time_wait.rs"]
mod time_wait;
#[path = "live/web.rs"]
mod web;

use observer::Observer;

/// Two kernels, the wire between them, and tcp-close watching both.
struct Lab {
    client: Netns,
    server: Netns,
    wire: Wire,
    observer: Observer,
}

impl Lab {
    fn new() -> Self {
        let (client, server) = (Netns::new(), Netns::new());
        let wire = Wire::between(&client, &server);
        let observer = Observer::attach(&[&client, &server]);
        Self { client, server, wire, observer }
    }

    /// A connection between the two kernels.
    #[track_caller]
    fn pair(&self, family: Family) -> (TcpStream, TcpStream) {
        stream::pair(&self.client, &self.server, family.server())
    }

    #[track_caller]
    fn wait_for(&self, predicate: impl FnMut(&LoggedSegment) -> bool) -> LoggedSegment {
        self.wire.wait_for(predicate, PATIENCE).expect("the segment goes over the wire")
    }

    /// The FINs that went this way, in order.
    fn fins(&self, direction: Direction) -> Vec<LoggedSegment> {
        let sent = |entry: &LoggedSegment| entry.segment.is_fin() && entry.segment.direction == direction;
        self.wire.log().into_iter().filter(sent).collect()
    }

    /// Waits until the server's socket is gone: its FIN was acknowledged.
    #[track_caller]
    fn server_is_gone(&self) {
        oracle::wait_until(&self.server, PATIENCE, <[Socket]>::is_empty);
    }
}

/// How many connections a test makes that is about many of them.
///
/// Ten thousand are promised, and a slow machine may ask for fewer.
fn many_connections() -> u32 {
    match env::var("TCP_CLOSE_TEST_CONNECTIONS") {
        Ok(count) => count.parse().expect("TCP_CLOSE_TEST_CONNECTIONS is a number"),
        Err(_) => 10_000,
    }
}

/// Reads to the end of the stream: the peer's FIN.
#[track_caller]
fn read_to_fin(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("read to the peer's FIN");
    bytes
}
