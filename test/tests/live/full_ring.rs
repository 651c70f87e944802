//! The ring is full: records are lost, and said to be; counts are not.

use tcp_close::{event::TcpState, lifecycle::observation::Then};
use tcp_close_abi::RecordKind;
use tcp_close_test::{address::Family, netns::Netns, oracle, stream};

use crate::{observer::Observer, read_to_fin};

const CONNECTIONS: u64 = 100;

#[test]
fn counts_stay_exact_and_stories_are_marked() {
    let netns = Netns::new();
    // A page: some 25 records, where each of these connections makes 7.
    let observer = Observer::attach_with_ring(&[&netns], 4096);
    observer.stall(|| {
        for _ in 0..CONNECTIONS {
            let (client, server) = stream::pair(&netns, &netns, Family::V4.loopback());
            drop(client);
            assert_eq!(read_to_fin(&server), b"");
            drop(server);
        }
    });
    let told = observer.now();
    assert!(told.counters.lost_total() > 0, "some of it did not fit");
    let cells = [
        (TcpState::Established, TcpState::FinWait1),
        (TcpState::Established, TcpState::CloseWait),
        (TcpState::FinWait1, TcpState::FinWait2),
        (TcpState::CloseWait, TcpState::LastAck),
        (TcpState::LastAck, TcpState::Close),
        (TcpState::FinWait2, TcpState::Close),
    ];
    for (from, to) in cells {
        assert_eq!(told.transitions(from, to), CONNECTIONS, "{from:?} > {to:?}");
    }
    let of = |kind: RecordKind| told.counters.submitted_of(kind) + told.counters.lost[kind as usize];
    let minisocks_begun = of(RecordKind::TimerStart) + of(RecordKind::MinisockBegin);
    let minisocks = u64::try_from(oracle::sockstat(&netns)["tw"]).expect("none has ended");
    let listeners = told.transitions(TcpState::Close, TcpState::Listen);
    assert_eq!(of(RecordKind::StateChange), 6 * CONNECTIONS + listeners, "each is put or lost");
    assert_eq!(minisocks_begun, minisocks, "each is put or lost");

    // What was in the ring is told, what it lacks is marked, and nothing is made up.
    let told = observer.wait_until("what was in the ring is told", |told| !told.closed().is_empty());
    let closed = told.closed();
    assert!(closed.len() < 2 * usize::try_from(CONNECTIONS).expect("a hundred"));
    assert!(closed.iter().any(|closed| closed.story.gap), "{closed:#?}");
    assert!(closed.iter().all(|closed| closed.then != Some(Then::Refused)), "{closed:#?}");

    // Once the ring is read again, closes are told whole again.
    let (client, server) = stream::pair(&netns, &netns, Family::V6.loopback());
    let pair = (client.local_addr().expect("an address"), server.local_addr().expect("an address"));
    drop(client);
    assert_eq!(read_to_fin(&server), b"");
    drop(server);
    let whole = observer.wait_until("a close after the loss", |told| {
        told.closed()
            .iter()
            .filter(|closed| closed.story.pair.local == pair.0 || closed.story.pair.local == pair.1)
            .count()
            == 2
    });
    let after: Vec<_> =
        whole.closed().into_iter().filter(|closed| closed.story.pair.local.is_ipv6()).collect();
    assert!(after.iter().all(|closed| !closed.story.gap), "{after:#?}");
}
