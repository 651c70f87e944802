use std::net::{IpAddr, SocketAddr};

use proptest::{array::uniform16, collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    event::{Comm, Monotonic, Process},
    lifecycle::observation::Schedule,
};

/// What is told of a socket that is known by this.
pub(in crate::lifecycle) const ID: ConnectionId = ConnectionId { netns: 4_026_531_840, socket: 1_234_567 };

pub(in crate::lifecycle) fn time() -> impl Strategy<Value = Option<Monotonic>> {
    let near = 1_000_000_000_000..1_100_000_000_000_u64;
    option::of(prop_oneof![near, any::<u64>()].prop_map(Monotonic::from_nanos))
}

pub(in crate::lifecycle) fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        any::<u32>().prop_map(|ms| Duration::from_millis(ms.into())),
        any::<u64>().prop_map(Duration::from_nanos)
    ]
}

pub(in crate::lifecycle) fn process() -> impl Strategy<Value = Option<Process>> {
    let name = prop_oneof![Just(*b"nginx\0\0\0\0\0\0\0\0\0\0\0"), uniform16(any::<u8>())];
    option::of((any::<u32>(), name).prop_map(|(pid, name)| Process { pid, comm: Comm::from_bytes(name) }))
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

pub(in crate::lifecycle) fn pair() -> impl Strategy<Value = Pair> {
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
    pub(in crate::lifecycle) fn any_story(pair: Pair)(
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

fn state() -> impl Strategy<Value = TcpState> {
    select(TcpState::ALL.to_vec())
}

fn closed() -> impl Strategy<Value = Observation> {
    let story = pair().prop_flat_map(any_story).boxed();
    let then = option::of(select(Then::ALL.to_vec()));
    (time(), story, then)
        .prop_map(|(at, story, then)| Observation::Closed(Closed { at: at.unwrap_or(NEVER), story, then }))
}

prop_compose! {
    fn time_wait()(
        dwell in duration(),
        other in option::of(duration()),
        (nominal, slack) in (duration(), duration()),
        restarts in any::<u32>(),
        (final_acks_lost, strays) in (option::of(any::<u32>()), option::of(any::<u32>())),
        needed in option::of(duration()),
        witness in select(Witness::ALL.to_vec()),
        verdict in select(Verdict::ALL.to_vec()),
    ) -> TimeWait {
        TimeWait {
            dwell,
            since_last_restart: other.unwrap_or(dwell),
            nominal, slack, restarts, final_acks_lost, strays, needed, witness, verdict,
        }
    }
}

fn minisock_ended() -> impl Strategy<Value = Observation> {
    let of_story = pair().prop_flat_map(|pair| (Just(pair), option::of(any_story(pair).boxed()))).boxed();
    let durations = (option::of(duration()), option::of(duration()));
    let rest = (option::of(any::<u32>()), any::<bool>(), any::<bool>());
    let cause = select(EndCause::ALL.to_vec());
    let time_wait = option::of(time_wait()).boxed();
    (time(), of_story, option::of(state()), durations, cause, process(), time_wait, rest).prop_map(
        |(at, (pair, story), began_in, (minisock, fin_wait2), cause, by, time_wait, rest)| {
            let (peer_fin, flip_is_told, gap) = rest;
            Observation::MinisockEnded(MinisockEnded {
                at: at.unwrap_or(NEVER),
                id: ID,
                pair,
                story,
                began_in,
                minisock,
                fin_wait2,
                cause,
                by,
                time_wait,
                peer_fin,
                flip_is_told,
                gap,
            })
        },
    )
}

fn transition() -> impl Strategy<Value = Observation> {
    let rest = (option::of(duration()), process(), any::<u32>());
    (time(), pair(), state(), state(), rest).prop_map(|(at, pair, from, to, (dwell, process, uid))| {
        Observation::Transition(Transition {
            at: at.unwrap_or(NEVER),
            id: ID,
            pair,
            from,
            to,
            dwell,
            process,
            uid,
        })
    })
}

proptest! {
    #[test]
    fn an_observation_comes_out_as_it_went_in(told in prop_oneof![closed(), minisock_ended().boxed(), transition()]) {
        let packed = PackedObservation::of(&told).expect("it is of those that are kept");
        prop_assert_eq!(packed.unpacked(), told);
    }
}

#[test]
fn numbers_are_places() {
    for (place, cause) in EndCause::ALL.into_iter().enumerate() {
        assert_eq!(cause as usize, place, "{cause:?}");
    }
    assert!(Then::ALL.into_iter().map(|then| then as usize).eq(0..4));
    assert!(Verdict::ALL.into_iter().map(|verdict| verdict as usize).eq(0..3));
    assert!(Witness::ALL.into_iter().map(|witness| witness as usize).eq(0..2));
    assert!(Manner::ALL.into_iter().map(|manner| manner as usize).eq(0..5));
    assert!(Role::ALL.into_iter().map(|role| role as usize).eq(0..4));
    assert!(TcpState::ALL.into_iter().map(|state| state as usize).eq(1..12));
}

#[test]
fn what_is_not_kept_is_not_packed() {
    assert!(PackedObservation::of(&Observation::ResetNotReceived).is_none());
}
