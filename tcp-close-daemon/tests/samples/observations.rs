//! Observations for tables of tests: plain ones, to be changed where a test cares.

use std::{net::SocketAddr, time::Duration};

use tcp_close::{
    event::{CgroupId, Comm, ConnectionId, Monotonic, Pair, Process, TcpState},
    lifecycle::{
        Observation,
        observation::{
            Bytes, Closed, EndCause, Fin, Manner, MinisockBegan, MinisockEnded, Role, Schedule, States,
            Story, Then, TimeWait, Transition, Verdict, Witness,
        },
    },
};

pub(crate) const NOMINAL: Duration = Duration::from_secs(60);
pub(crate) const SLACK: Duration = Duration::from_millis(2056);

pub(crate) fn at(milliseconds: u64) -> Monotonic {
    Monotonic::default() + Duration::from_millis(milliseconds)
}

pub(crate) const fn id() -> ConnectionId {
    ConnectionId { netns: 4_026_531_840, socket: 17 }
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

pub(crate) fn pair() -> Pair {
    Pair { local: address("10.0.0.1:51234"), remote: address("10.0.0.2:443") }
}

/// A process of this name, which the kernel cuts to fifteen bytes.
pub(crate) fn process(pid: u32, name: &[u8]) -> Process {
    let mut comm = [0; 16];
    for (place, &byte) in comm.iter_mut().take(15).zip(name) {
        *place = byte;
    }
    Process { pid, comm: Comm::from_bytes(comm) }
}

pub(crate) fn states(visits: &[(TcpState, Option<u64>)]) -> States {
    let mut states = States::default();
    for &(state, microseconds) in visits {
        states.push(state, microseconds.map(Duration::from_micros));
    }
    states
}

/// An active close by curl that got as far as FIN-WAIT-2.
pub(crate) fn story() -> Story {
    Story {
        id: id(),
        pair: pair(),
        role: Role::Active,
        manner: Some(Manner::Graceful),
        segments: Some(4),
        opener: Some(process(4242, b"curl")),
        closer: Some(process(4242, b"curl")),
        cgroup: CgroupId::new(2345),
        uid: Some(1000),
        states: states(&[(TcpState::FinWait1, Some(210)), (TcpState::FinWait2, Some(48_200))]),
        fin: Fin {
            seq: Some(1001),
            ack_of_fin: Some(1002),
            peer_seq: Some(5001),
            retransmits: 0,
            schedule: Schedule::default(),
        },
        bytes: Bytes {
            sent: Some(512),
            received: Some(2048),
            after_our_fin: Some(0),
            after_peer_fin: Some(0),
        },
        reset: None,
        gap: false,
    }
}

/// A story of which nothing is known but that it was one.
pub(crate) fn unknown_story() -> Story {
    Story {
        role: Role::None,
        manner: None,
        segments: None,
        opener: None,
        closer: None,
        cgroup: None,
        uid: None,
        states: States::default(),
        fin: Fin::default(),
        bytes: Bytes::default(),
        ..story()
    }
}

pub(crate) fn passive_story() -> Story {
    Story {
        role: Role::Passive,
        segments: Some(3),
        closer: Some(process(80, b"nginx")),
        states: states(&[(TcpState::CloseWait, Some(1_500_000)), (TcpState::LastAck, Some(44))]),
        ..story()
    }
}

#[expect(clippy::large_types_passed_by_value, reason = "it becomes part of the observation")]
pub(crate) fn closed(story: Story, then: Option<Then>) -> Observation {
    Observation::Closed(Closed { at: at(1000), story, then })
}

pub(crate) fn began(substate: TcpState) -> Observation {
    Observation::MinisockBegan(MinisockBegan { at: at(1000), substate, nominal: NOMINAL, slack: SLACK })
}

pub(crate) const fn time_wait() -> TimeWait {
    TimeWait {
        dwell: Duration::from_millis(60_420),
        since_last_restart: Duration::from_millis(60_420),
        nominal: NOMINAL,
        slack: SLACK,
        restarts: 0,
        final_acks_lost: Some(0),
        strays: Some(0),
        needed: Some(Duration::from_secs(30)),
        witness: Witness::Exact,
        verdict: Verdict::Nominal,
    }
}

/// A minisock of a whole life in TIME-WAIT.
pub(crate) fn minisock() -> MinisockEnded {
    MinisockEnded {
        flip_is_told: false,
        at: at(61_470),
        id: id(),
        pair: pair(),
        story: Some(story()),
        began_in: Some(TcpState::TimeWait),
        minisock: Some(Duration::from_millis(60_420)),
        fin_wait2: Some(Duration::from_micros(48_200)),
        cause: EndCause::Expired,
        by: None,
        time_wait: Some(time_wait()),
        peer_fin: Some(5001),
        gap: false,
    }
}

/// A TIME-WAIT of which segments were not seen.
pub(crate) const fn inferred() -> TimeWait {
    TimeWait { final_acks_lost: None, strays: None, needed: None, witness: Witness::Inferred, ..time_wait() }
}

/// A minisock that began in FIN-WAIT-2, and whose full socket was there for a part of that.
pub(crate) fn fin_wait2_story() -> Story {
    Story { states: states(&[(TcpState::FinWait1, Some(210)), (TcpState::FinWait2, None)]), ..story() }
}

pub(crate) fn transition(from: TcpState, to: TcpState, dwell: Option<Duration>) -> Transition {
    Transition {
        at: at(1000),
        id: id(),
        pair: pair(),
        from,
        to,
        dwell,
        process: Some(process(4242, b"curl")),
        uid: 1000,
    }
}
