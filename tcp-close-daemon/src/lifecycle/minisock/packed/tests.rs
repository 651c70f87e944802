use std::net::{IpAddr, SocketAddr};

use proptest::{option, prelude::*, sample::select};

use super::*;
use crate::{
    event::{CgroupId, Comm, Process},
    lifecycle::observation::{
        Bytes, Fin, Manner, ResetSeen, Role, Schedule, States,
        packed::{
            tests::{ID, any_story, pair, time},
            untold,
        },
    },
};

prop_compose! {
    fn any_absorbed()(counts in any::<[u32; 2]>(), flags in any::<[bool; 3]>(), last_fin in time()) -> AbsorbedSegments {
        AbsorbedSegments {
            fins_again: counts[0],
            strays: counts[1],
            restart_awaits_segment: flags[0],
            flip_awaits_fin: flags[1],
            first_fin_due: flags[2],
            last_fin,
        }
    }
}

/// At rest, whatever else it is.
fn minisock() -> impl Strategy<Value = Minisock> {
    let substate = || select(vec![TcpState::FinWait2, TcpState::TimeWait]);
    let times = (time(), time(), time(), time(), time(), time());
    let short = || any::<u32>().prop_map(|milliseconds| Duration::from_millis(milliseconds.into()));
    let wait = option::of((short(), short()).prop_map(|(nominal, slack)| Wait { nominal, slack }));
    let rest = (any::<[bool; 5]>(), any::<u32>(), substate(), substate(), option::of(any_absorbed()));
    (pair(), times, wait, rest).prop_flat_map(|(pair, times, wait, rest)| {
        option::of(any_story(pair).boxed()).prop_map(move |story| {
            let (flags, restarts, substate, began_in, absorbed) = rest;
            let minisock = Minisock {
                pair,
                nameless: flags[0],
                // Of one that was seen to begin, the story is told before it rests.
                began: times.0.map(|at| (at, began_in)),
                substate,
                fin_wait2_since: times.1,
                entered: times.2,
                last_start: times.3,
                nominal_end: times.4,
                fires_at: times.5,
                wait,
                restarts,
                sees_starts: flags[1],
                tells_segments_first: flags[2],
                flip_is_told: flags[3],
                gap: flags[4],
                absorbed,
                story,
                ..blank(ID)
            };
            Minisock { owner: minisock.owner_by_story(), ..minisock }
        })
    })
}

proptest! {
    #[test]
    fn a_minisock_comes_out_as_it_went_in(minisock in minisock(), since in time()) {
        let since = since.unwrap_or(NEVER);
        let packed = Packed::of(&mut minisock.clone(), since).expect("it is at rest");
        prop_assert_eq!(packed.identity(), (minisock.pair, minisock.nameless));
        prop_assert_eq!(packed.unpacked(since, minisock.id, minisock.gap), minisock);
    }
}

fn packed(mut minisock: Minisock) -> Option<Packed> {
    let since = minisock.entered.unwrap_or(NEVER);
    Packed::of(&mut minisock, since)
}

/// There is room for all that there can be.
#[test]
fn the_largest_is_packed() {
    let late = Some(Monotonic::from_nanos(u64::MAX - 1));
    let (long, wait) = (Duration::from_nanos(u64::MAX - 1), Duration::new(u32::MAX.into(), 999_999_999));
    let process = |pid| Some(Process { pid, comm: Comm::from_bytes([b'x'; 16]) });
    let address = |octets: u8| SocketAddr::new(IpAddr::V6([octets; 16].into()), u16::MAX);
    let pair = |octets| Pair { local: address(octets), remote: address(octets) };
    let mut states = States::default();
    (0..4).for_each(|_| states.push(TcpState::Closing, Some(long)));
    let mut schedule = Schedule::default();
    (0..16).for_each(|_| schedule.push(Duration::from_micros(u32::MAX.into())));
    let fin = Fin { seq: Some(7), ack_of_fin: Some(7), peer_seq: Some(7), retransmits: u32::MAX, schedule };
    let most = Some(u64::MAX);
    let story = Story {
        role: Role::None,
        manner: Some(Manner::Killed),
        segments: Some(3),
        opener: process(u32::MAX),
        closer: process(u32::MAX - 1),
        cgroup: CgroupId::new(u64::MAX),
        uid: Some(u32::MAX),
        states,
        fin,
        bytes: Bytes { sent: most, received: most, after_our_fin: most, after_peer_fin: most },
        reset: Some(ResetSeen { sent: true, reason: Some(u32::MAX) }),
        gap: true,
        ..untold(ConnectionId { netns: u32::MAX, socket: u64::MAX }, pair(1))
    };
    let absorbed = AbsorbedSegments {
        fins_again: u32::MAX,
        strays: u32::MAX,
        restart_awaits_segment: true,
        flip_awaits_fin: true,
        first_fin_due: true,
        last_fin: late,
    };
    let minisock = Minisock {
        pair: pair(2),
        nameless: true,
        began: late.map(|at| (at, TcpState::FinWait2)),
        fin_wait2_since: Some(NEVER),
        entered: late,
        last_start: Some(NEVER),
        nominal_end: late,
        fires_at: Some(NEVER),
        wait: Some(Wait { nominal: wait, slack: wait }),
        restarts: u32::MAX,
        absorbed: Some(absorbed),
        story: Some(story),
        owner: story.owner(),
        gap: true,
        ..blank(ID)
    };
    let packed = Packed::of(&mut minisock.clone(), NEVER).expect("it is at rest");
    assert!(matches!(packed, Packed::Long { .. }));
    assert_eq!(packed.unpacked(NEVER, ID, true), minisock);
}

/// One of a client that asked for a page, and closed first.
#[test]
fn most_over_ipv4_are_short() {
    let at = |nanoseconds: u64| Some(Monotonic::from_nanos(1_234_567_890_123_456 + nanoseconds));
    let closer = Some(Process { pid: 4_194_303, comm: Comm::from_bytes(*b"a-name-of-its-o\0") });
    let pair = Pair { local: ([192, 0, 2, 1], 50_000).into(), remote: ([198, 51, 100, 1], 443).into() };
    let mut states = States::default();
    states.push(TcpState::FinWait1, Some(Duration::from_nanos(25_123_456)));
    states.push(TcpState::FinWait2, Some(Duration::from_nanos(125_123_456)));
    let fin =
        Fin { seq: Some(u32::MAX - 1), ack_of_fin: Some(u32::MAX), peer_seq: Some(77), ..Fin::default() };
    let bytes =
        Bytes { sent: Some(2_000), received: Some(2_000_000), after_our_fin: Some(0), after_peer_fin: None };
    let story = Story {
        role: Role::Active,
        manner: Some(Manner::Graceful),
        segments: Some(4),
        opener: closer,
        closer,
        cgroup: CgroupId::new(12_345),
        uid: Some(1000),
        states,
        fin,
        bytes,
        ..untold(ID, pair)
    };
    let minisock = Minisock {
        pair,
        began: at(150_246_912).map(|at| (at, TcpState::TimeWait)),
        fin_wait2_since: at(25_123_456),
        entered: at(150_246_912),
        last_start: at(150_246_912),
        nominal_end: at(60_150_246_912),
        fires_at: at(63_614_246_912),
        wait: Some(Wait { nominal: Duration::from_secs(60), slack: Duration::from_millis(4098) }),
        absorbed: Some(AbsorbedSegments::default()),
        story: Some(story),
        owner: story.owner(),
        ..blank(ID)
    };
    let packed = packed(minisock).expect("it is at rest");
    assert!(matches!(packed, Packed::Short { .. }), "{packed:?}");
}

#[test]
fn what_goes_on_is_not_packed() {
    assert!(packed(blank(ID)).is_some(), "it was there before anybody looked");
    let due = Minisock { story_is_due: true, ..blank(ID) };
    assert!(packed(due).is_none(), "its full socket is about to be told");
    let wait = Some(Wait { nominal: Duration::ZERO, slack: Duration::from_secs(100_000_000_000) });
    assert!(packed(Minisock { wait, ..blank(ID) }).is_none(), "it does not fit");
    assert!(packed(Minisock { syn_is_due: true, ..blank(ID) }).is_none());
}
