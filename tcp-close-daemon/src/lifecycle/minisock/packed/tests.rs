use proptest::{array::uniform16, collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::lifecycle::observation::Schedule;

const ID: ConnectionId = ConnectionId { netns: 4_026_531_840, socket: 1_234_567 };

fn time() -> impl Strategy<Value = Option<Monotonic>> {
    let near = 1_000_000_000_000..1_100_000_000_000_u64;
    option::of(prop_oneof![near, any::<u64>()].prop_map(Monotonic::from_nanos))
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        any::<u32>().prop_map(|ms| Duration::from_millis(ms.into())),
        any::<u64>().prop_map(Duration::from_nanos)
    ]
}

fn process() -> impl Strategy<Value = Option<Process>> {
    let name = prop_oneof![Just(*b"nginx\0\0\0\0\0\0\0\0\0\0\0"), uniform16(any::<u8>())];
    option::of((any::<u32>(), name).prop_map(|(pid, name)| Process { pid, comm: Comm::from_bytes(name) }))
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

fn pair() -> impl Strategy<Value = Pair> {
    (address(), address()).prop_map(|(local, remote)| Pair { local, remote })
}

fn states() -> impl Strategy<Value = States> {
    vec((select(TcpState::ALL.to_vec()), option::of(duration())), 0..=4).prop_map(|visits| {
        let mut states = States::default();
        for (state, dwell) in visits {
            states.push(state, dwell);
        }
        states
    })
}

prop_compose! {
    fn fin()(
        seq in option::of(any::<u32>()),
        next in any::<bool>(),
        ack in option::of(any::<u32>()),
        peer_seq in option::of(any::<u32>()),
        retransmits in prop_oneof![Just(0), any::<u32>()],
        times in vec(any::<u32>(), 0..=16),
    ) -> Fin {
        let mut schedule = Schedule::default();
        for time in times {
            schedule.push(Duration::from_micros(time.into()));
        }
        let ack_of_fin = if next { seq.map(|seq| seq.wrapping_add(1)) } else { ack };
        Fin { seq, ack_of_fin, peer_seq, retransmits, schedule }
    }
}

prop_compose! {
    fn bytes()(all in [option::of(any::<u64>()), option::of(any::<u64>()), option::of(any::<u64>()), option::of(any::<u64>())]) -> Bytes {
        let [sent, received, after_our_fin, after_peer_fin] = all;
        Bytes { sent, received, after_our_fin, after_peer_fin }
    }
}

prop_compose! {
    fn any_story(pair: Pair)(
        (same_id, socket, same_pair, other) in (any::<bool>(), any::<u64>(), any::<bool>(), self::pair()),
        role in select(Role::ALL.to_vec()),
        manner in option::of(select(Manner::ALL.to_vec())),
        segments in option::of(any::<u8>()),
        (opener, same_closer, closer) in (process(), any::<bool>(), process()),
        cgroup in any::<u64>().prop_map(CgroupId::new),
        uid in option::of(any::<u32>()),
        states in states(),
        (fin, bytes) in (fin(), bytes()),
        reset in option::of((any::<bool>(), option::of(any::<u32>()))),
        gap in any::<bool>(),
    ) -> Story {
        let reset = reset.map(|(sent, reason)| ResetSeen { sent, reason });
        Story {
            id: if same_id { ID } else { ConnectionId { socket, ..ID } },
            pair: if same_pair { pair } else { other },
            closer: if same_closer { opener } else { closer },
            role, manner, segments, opener, cgroup, uid, states, fin, bytes, reset, gap,
        }
    }
}

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
    let wait = option::of((duration(), duration()).prop_map(|(nominal, slack)| Wait { nominal, slack }));
    let rest = (any::<[bool; 5]>(), any::<u32>(), substate(), substate(), option::of(any_absorbed()));
    (pair(), times, wait, rest).prop_flat_map(|(pair, times, wait, rest)| {
        option::of(any_story(pair).boxed()).prop_map(move |story| {
            let (flags, restarts, substate, began_in, absorbed) = rest;
            let minisock = Minisock {
                pair,
                nameless: flags[0],
                // Of one that was seen to begin, the story is told before it rests.
                began: times.0.filter(|_| story.is_some()).map(|at| (at, began_in)),
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
        let packed = Packed::of(&minisock, since).expect("it is at rest");
        prop_assert_eq!(packed.pair(), minisock.pair);
        prop_assert_eq!(packed.unpacked(since, minisock.id, minisock.gap), minisock);
    }
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
    let packed = Packed::of(&minisock, minisock.entered.expect("it was seen")).expect("it is at rest");
    assert!(matches!(packed, Packed::Short { .. }), "{} bytes", packed.bytes().len());
}

#[test]
fn what_goes_on_is_not_packed() {
    assert!(Packed::of(&blank(ID), NEVER).is_some(), "it was there before anybody looked");
    let began = Some((NEVER, TcpState::TimeWait));
    assert!(
        Packed::of(&Minisock { began, ..blank(ID) }, NEVER).is_none(),
        "its full socket is about to be told"
    );
    assert!(Packed::of(&Minisock { syn_is_due: true, ..blank(ID) }, NEVER).is_none());
}
