//! The lab's own tests: before it may judge tcp-close, it has to show that it does what it says.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use tcp_close_test::address::Family;
use tcp_close_test::clock::PATIENCE;
use tcp_close_test::journal::LoggedSegment;
use tcp_close_test::netns::Netns;
use tcp_close_test::oracle::{self, Socket, TcpState};
use tcp_close_test::segment::Direction;
use tcp_close_test::stream;
use tcp_close_test::wire::Wire;
use tcp_close_test::wire::policy::fin_from;

#[path = "lab/closing.rs"]
mod closing;
#[path = "lab/netns.rs"]
mod netns;
#[path = "lab/peer.rs"]
mod peer;
#[path = "lab/sockets.rs"]
mod sockets;
#[path = "lab/wire.rs"]
mod wire;

/// Two kernels and the wire between them.
struct Lab {
    client: Netns,
    server: Netns,
    wire: Wire,
}

impl Lab {
    fn new() -> Self {
        let (client, server) = (Netns::new(), Netns::new());
        let wire = Wire::between(&client, &server);
        Self { client, server, wire }
    }

    fn pair(&self, family: Family) -> (TcpStream, TcpStream) {
        stream::pair(&self.client, &self.server, family.server())
    }

    #[track_caller]
    fn wait_for(&self, predicate: impl FnMut(&LoggedSegment) -> bool) -> LoggedSegment {
        self.wire.wait_for(predicate, PATIENCE).expect("the segment goes over the wire")
    }

    /// Ends a connection from the client, then from the server, and waits until the server's socket is gone.
    #[track_caller]
    fn close(&self, client: TcpStream, mut server: TcpStream) {
        drop(client);
        assert_eq!(server.read(&mut [0; 1]).expect("read the end of the stream"), 0);
        drop(server);
        oracle::wait_until(&self.server, PATIENCE, <[Socket]>::is_empty);
    }

    /// The log from the first FIN on, one line per segment.
    fn closing(&self) -> Vec<String> {
        self.wire.log().iter().skip_while(|entry| !entry.segment.is_fin()).map(ToString::to_string).collect()
    }

    /// Time between the first two FINs that go this way.
    #[track_caller]
    fn between_fins(&self, direction: Direction) -> Duration {
        let mut fins = fin_from(direction);
        let times: Vec<_> =
            self.wire.log().iter().filter(|entry| fins(&entry.segment)).map(|entry| entry.at).collect();
        assert_eq!(times.len(), 2, "{}", self.wire.transcript());
        times[1].saturating_sub(times[0])
    }
}

fn is_in(state: TcpState) -> impl Fn(&[Socket]) -> bool {
    move |sockets| sockets.iter().any(|socket| socket.state == state)
}

#[track_caller]
fn wait_for_state(netns: &Netns, state: TcpState) -> Socket {
    let table = oracle::wait_until(netns, PATIENCE, is_in(state));
    table.into_iter().find(|socket| socket.state == state).expect("just seen")
}
