//! What holds for any events at all, and for any lives the kernel may lead.

use std::{collections::HashMap, net::Ipv4Addr, time::Duration};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    lives::{Hooks, Life, in_order, lives, lives_by, without_segments},
    notation::{BY_FUNCTION, LIMITS, WAIT, tracker, witness},
};
use crate::{
    event::{
        Cancel, CancelSite, Comm, ConnectionId, Event, EventKind, Listed, MinisockTimer, Monotonic, Pair,
        Process, ResetSent, Segment, SocketError, StateChange, TcpState,
    },
    lifecycle::{
        Limits, Observation, Sees, Sequencer, Tracker,
        observation::{Absorbed, Closed, EndCause, LINUX_MSL, MinisockEnded, Story, TimeWait, Witness},
    },
};

/// What a timer counts in ticks is known to two of them.
const TWO_TICKS: Duration = Duration::from_millis(20);

// Anything.

fn state() -> impl Strategy<Value = TcpState> {
    select(TcpState::ALL.to_vec())
}

fn pair() -> impl Strategy<Value = Pair> {
    (0..3_u16).prop_map(|port| Pair {
        local: (Ipv4Addr::LOCALHOST, port).into(),
        remote: (Ipv4Addr::LOCALHOST, 80).into(),
    })
}

fn state_change() -> impl Strategy<Value = EventKind> {
    let error = select(vec![
        SocketError::None,
        SocketError::None,
        SocketError::TimedOut,
        SocketError::Reset,
        SocketError::Aborted,
        SocketError::Other(113),
    ]);
    (pair(), state(), state(), error, any::<[u32; 6]>(), any::<[u64; 2]>()).prop_map(
        |(pair, from, to, error, [write_seq, snd_nxt, snd_una, rcv_nxt, segs_in, segs_out], bytes)| {
            EventKind::StateChange(StateChange {
                pair,
                from,
                to,
                error,
                uid: 0,
                process: None,
                opener: None,
                cgroup: None,
                write_seq,
                snd_nxt,
                snd_una,
                rcv_nxt,
                segs_in,
                segs_out,
                bytes_sent: bytes[0],
                bytes_received: bytes[1],
            })
        },
    )
}

fn timer() -> impl Strategy<Value = MinisockTimer> {
    let substate = select(vec![TcpState::FinWait2, TcpState::TimeWait]);
    let remaining = -10_000_000_000..70_000_000_000_i64;
    let some_time = || option::of((0..100_000_u64).prop_map(Duration::from_millis));
    (pair(), 1..4_u64, substate, remaining, any::<u32>(), some_time(), some_time()).prop_map(
        |(pair, minisock, substate, remaining, rcv_nxt, fires_in, since_stamp)| MinisockTimer {
            pair,
            minisock,
            substate,
            remaining,
            slack: WAIT.slack,
            fires_in,
            rcv_nxt,
            since_stamp,
        },
    )
}

fn segment() -> impl Strategy<Value = Segment> {
    (any::<[u32; 2]>(), any::<[bool; 4]>()).prop_map(|([seq, end_seq], [fin, syn, rst, ack])| Segment {
        seq,
        end_seq,
        fin,
        syn,
        rst,
        ack,
    })
}

fn cancel() -> impl Strategy<Value = Cancel> {
    (site(), any::<(u32, [u8; 16])>()).prop_map(|(site, (pid, comm))| Cancel {
        site,
        process: Process { pid, comm: Comm::from_bytes(comm) },
    })
}

fn site() -> impl Strategy<Value = CancelSite> {
    select(vec![
        CancelSite::Expiry,
        CancelSite::Restart,
        CancelSite::Connect,
        CancelSite::Receive,
        CancelSite::Reset,
        CancelSite::Purge,
        CancelSite::Abort,
        CancelSite::Unknown,
    ])
}

fn kind() -> impl Strategy<Value = EventKind> {
    let reset = (state(), any::<bool>(), option::of(0..26_u32));
    prop_oneof![
        6 => state_change(),
        1 => state().prop_map(EventKind::FinRetransmitted),
        1 => reset.prop_map(|(state, active, reason)| EventKind::ResetSent(ResetSent { state, active, reason })),
        1 => state().prop_map(EventKind::ResetReceived),
        2 => timer().prop_map(EventKind::TimerStarted),
        2 => (timer(), cancel()).prop_map(|(timer, cancel)| EventKind::TimerCancelled(timer, cancel)),
        1 => timer().prop_map(EventKind::TimerExpired),
        2 => (timer(), segment()).prop_map(|(timer, segment)| EventKind::Segment(timer, segment)),
        2 => (timer(), 0..4_u64).prop_map(|(timer, socket)| {
            EventKind::MinisockBegan(timer, ConnectionId { netns: 1, socket })
        }),
        1 => timer().prop_map(EventKind::MinisockRestarted),
        2 => (timer(), cancel()).prop_map(|(timer, cancel)| EventKind::MinisockEnded(timer, cancel)),
        1 => Just(EventKind::MinisockMissed),
        1 => Just(EventKind::ListingBegan),
        3 => listed().prop_map(EventKind::Listed),
        1 => select(vec![EventKind::NamespaceListed, EventKind::ListingEnded]),
    ]
}

/// What the kernel may have in its table, long after boot.
fn listed() -> impl Strategy<Value = Listed> {
    let full_socket = select(vec![
        TcpState::FinWait1,
        TcpState::FinWait2,
        TcpState::Closing,
        TcpState::CloseWait,
        TcpState::LastAck,
    ]);
    let minisock = select(vec![TcpState::FinWait2, TcpState::TimeWait]);
    let end = (1_000_000_000_000..1_060_000_000_000_u64).prop_map(Monotonic::from_nanos);
    prop_oneof![
        (pair(), full_socket).prop_map(|(pair, state)| Listed {
            pair,
            state,
            uid: Some(0),
            cgroup: None,
            nominal_end: None
        }),
        (pair(), minisock, end).prop_map(|(pair, state, end)| Listed {
            pair,
            state,
            uid: None,
            cgroup: None,
            nominal_end: Some(end)
        }),
    ]
}

/// Time passes by nothing, by moments, or by half minutes; seldom it goes back.
fn anything() -> impl Strategy<Value = Vec<Event>> {
    let pause = prop_oneof![
        2 => Just(0),
        8 => 0..100_000_i64,
        4 => 0..100_000_000_i64,
        2 => 0..30_000_000_000_i64,
        1 => -1_000_000_i64..0,
    ];
    vec((pause, 0..4_u64, 1..3_u32, kind()), 1..200).prop_map(|told| {
        let mut now = 1_000_000_000_000;
        let event = |(pause, cookie, netns, kind)| {
            now += pause;
            let at = Monotonic::from_nanos(u64::try_from(now).expect("long after boot"));
            Event { at, id: ConnectionId { netns, socket: cookie }, kind }
        };
        told.into_iter().map(event).collect()
    })
}

/// The longest time a story speaks of.
fn longest_of(story: &Story) -> Duration {
    story.states.iter().filter_map(|(_, dwell)| dwell).max().unwrap_or_default()
}

/// No time is longer than what there was of it: for what began before, it may be longer by a wait.
fn no_time_is_absurd(observation: &Observation, span: Duration) -> bool {
    match observation {
        Observation::Transition(transition) => transition.dwell.is_none_or(|dwell| dwell <= span),
        Observation::Closed(closed) => longest_of(&closed.story) <= span,
        Observation::MinisockEnded(ended) => {
            let seen_late = ended.minisock.is_none();
            let story = ended.story.as_ref().map(longest_of);
            [ended.minisock, ended.fin_wait2, story].into_iter().flatten().all(|dwell| dwell <= span)
                && ended.time_wait.is_none_or(|time_wait| {
                    let before =
                        if seen_late { time_wait.nominal + Duration::from_secs(10) } else { Duration::ZERO };
                    time_wait.since_last_restart <= time_wait.dwell
                        && time_wait.dwell <= span + before
                        && time_wait.needed.is_none_or(|needed| needed <= time_wait.dwell + LINUX_MSL)
                })
        }
        Observation::FinRetransmitted(_)
        | Observation::ResetNotReceived
        | Observation::MinisockBegan(_)
        | Observation::Restarted(_)
        | Observation::Absorbed(_) => true,
    }
}

/// What is told of segments is told by an exact witness, and by no other; a process is behind two causes only.
fn no_more_is_told_than_is_seen(observation: &Observation, sees: Sees) -> bool {
    match observation {
        Observation::Restarted(restarted) => restarted.witness == Witness::Inferred || sees.segments,
        Observation::MinisockEnded(ended) => {
            let by_process = matches!(ended.cause, EndCause::Reused | EndCause::Killed);
            ended.by.is_some() == by_process
                && ended.time_wait.is_none_or(|time_wait| {
                    let exact = time_wait.witness == Witness::Exact;
                    let TimeWait { final_acks_lost, strays, needed, .. } = time_wait;
                    let told = [final_acks_lost.is_some(), strays.is_some(), needed.is_some()];
                    let whole = sees.segments && ended.minisock.is_some();
                    told == [exact; 3] && if exact { whole } else { !whole || ended.gap }
                })
        }
        _ => true,
    }
}

fn span_of(events: &[Event]) -> Duration {
    let times = || events.iter().map(|event| event.at);
    times().max().zip(times().min()).map(|(last, first)| last.since(first)).unwrap_or_default()
}

/// What a tracker says of events in this order, to the end.
fn observe(tracker: &mut Tracker, events: &[Event]) -> Vec<Observation> {
    let mut out = Vec::new();
    for event in events {
        tracker.apply(event, &mut out);
    }
    tracker.finish(&mut out);
    out
}

fn closed(out: &[Observation]) -> HashMap<ConnectionId, Vec<&Closed>> {
    let mut closed: HashMap<_, Vec<_>> = HashMap::new();
    for observation in out {
        if let Observation::Closed(told) = observation {
            closed.entry(told.story.id).or_default().push(told);
        }
    }
    closed
}

fn ended(out: &[Observation]) -> HashMap<ConnectionId, Vec<&MinisockEnded>> {
    let mut ended: HashMap<_, Vec<_>> = HashMap::new();
    for observation in out {
        if let Observation::MinisockEnded(told) = observation {
            ended.entry(told.id).or_default().push(told);
        }
    }
    ended
}

fn is_told(life: &Life, closed: &Closed) {
    let Closed { story, then, .. } = closed;
    assert_eq!((story.role, story.manner), (life.role, Some(life.manner)));
    assert_eq!(*then, Some(life.then));
    assert_eq!(story.states.iter().collect::<Vec<_>>(), life.states);
    assert_eq!(story.fin.retransmits, life.fin_retransmits);
    assert!(!story.gap);
}

fn end_is_told(life: &Life, ended: &MinisockEnded) {
    let minisock = life.minisock.expect("it has one");
    assert_eq!(ended.cause, minisock.cause);
    assert_eq!(ended.minisock, Some(minisock.lasts));
    assert_eq!(ended.story.map(|story| story.role), Some(life.role));
    assert_eq!(ended.by, minisock.by);
    assert_eq!(ended.time_wait.is_some(), minisock.time_wait.is_some());
    assert!(!ended.gap);
}

/// To two ticks, and no more than is so: what leaves no trace may hide behind another such.
fn time_wait_is_inferred(life: &Life, ended: &MinisockEnded) {
    let lived = life.minisock.and_then(|minisock| minisock.time_wait);
    let (Some(told), Some(lived)) = (ended.time_wait, lived) else { return };
    assert!(told.since_last_restart.abs_diff(lived.since_last_restart) <= TWO_TICKS, "{told:?}");
    assert!(told.dwell <= lived.dwell + TWO_TICKS, "{told:?}");
    if lived.stamped {
        assert!(told.dwell.abs_diff(lived.dwell) <= Duration::from_millis(1), "{told:?}");
    }
    let (seen, all) = lived.restarts;
    assert!(seen <= told.restarts && told.restarts <= all, "{told:?}");
    assert_eq!((told.final_acks_lost, told.strays, told.needed), (None, None, None));
    assert_eq!(told.witness, Witness::Inferred);
}

/// To the nanosecond.
fn time_wait_is_exact(life: &Life, ended: &MinisockEnded) {
    let lived = life.minisock.and_then(|minisock| minisock.time_wait);
    let (Some(told), Some(lived)) = (ended.time_wait, lived) else { return };
    assert_eq!((told.dwell, told.since_last_restart), (lived.dwell, lived.since_last_restart));
    assert_eq!(told.restarts, lived.restarts.1);
    assert_eq!((told.final_acks_lost, told.strays), (Some(lived.fins_again), Some(lived.strays)));
    assert_eq!(told.needed, Some(lived.last_fin + LINUX_MSL));
    assert_eq!(told.witness, Witness::Exact);
}

/// How often each is told: restarts, FINs again, strays.
fn counts(out: &[Observation]) -> [usize; 3] {
    let restarted = |told: &&Observation| matches!(told, Observation::Restarted(told) if !told.flipped);
    let absorbed = |what| out.iter().filter(|&told| *told == Observation::Absorbed(what)).count();
    [out.iter().filter(restarted).count(), absorbed(Absorbed::FinAgain), absorbed(Absorbed::Stray)]
}

/// How often each is to be told, where segments are seen.
fn lived(lives: &[Life]) -> [usize; 3] {
    let time_waits = || lives.iter().filter_map(|life| life.minisock?.time_wait);
    [
        time_waits().map(|lived| lived.restarts.1).sum::<u32>(),
        time_waits().map(|lived| lived.fins_again).sum(),
        time_waits().map(|lived| lived.strays).sum(),
    ]
    .map(|count| count as usize)
}

/// Each life is told once; what else to check of a minisock's end is the caller's.
fn each_is_told_once(
    lives: &[Life],
    tracker: &mut Tracker,
    events: &[Event],
    check: impl Fn(&Life, &MinisockEnded),
) -> Vec<Observation> {
    let out = observe(tracker, events);
    let (closed, ended) = (closed(&out), ended(&out));
    for life in lives {
        let told = closed.get(&life.id).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(told.len(), 1, "{told:?}");
        is_told(life, told[0]);
        let told = ended.get(&life.id).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(told.len(), usize::from(life.minisock.is_some()), "{told:?}");
        if let [told] = told {
            end_is_told(life, told);
            check(life, told);
        }
    }
    let stats = tracker.stats();
    assert_eq!((stats.sockets, stats.minisocks, stats.unmatched), (0, 0, 0));
    out
}

proptest! {
    /// Whatever comes: no panic, no more memory than the limits give, and no time that never was.
    #[test]
    fn anything_is_survived(
        events in anything(),
        sockets in 0..5_usize,
        minisocks in 0..4_usize,
        segments in any::<bool>(),
        gap in 0..200_usize,
    ) {
        let limits = Limits { sockets, minisocks };
        let sees = Sees { minisocks: true, starts: false, segments };
        let events = if segments { events } else { without_segments(events) };
        let mut tracker = Tracker::new(limits, WAIT, sees);
        let span = span_of(&events);
        let mut out = Vec::new();
        for (place, event) in events.iter().enumerate() {
            tracker.apply(event, &mut out);
            if place == gap {
                tracker.gap(event.at);
            }
            prop_assert_eq!(tracker.census(event.at), tracker.census_one_by_one(event.at));
            let stats = tracker.stats();
            prop_assert!(stats.sockets <= sockets && stats.minisocks <= minisocks);
            let counted: usize = TcpState::ALL.into_iter().map(|state| tracker.sockets_in(state)).sum();
            prop_assert_eq!(counted, tracker.closing_sockets());
            let (settling, cancelled) = tracker.waiting();
            prop_assert!(settling <= 1100 && cancelled <= 1100);
        }
        tracker.finish(&mut out);
        prop_assert_eq!(tracker.waiting(), (0, 0));
        for observation in &out {
            prop_assert!(no_time_is_absurd(observation, span), "{:?} within {:?}", observation, span);
            prop_assert!(no_more_is_told_than_is_seen(observation, sees), "{:?}", observation);
        }
    }

    /// However the sequencer gets events that are late by no more than it waits, they mean the same.
    #[test]
    fn order_of_arrival_does_not_matter(lives in lives(), delays in vec(0..10_000_000_u64, 500)) {
        let events = in_order(&lives);
        let expected = observe(&mut witness(), &events);

        let mut arrivals: Vec<_> = events
            .iter()
            .zip(delays.iter().cycle())
            .map(|(event, &delay)| (event.at + Duration::from_nanos(delay), event))
            .collect();
        arrivals.sort_by_key(|&(arrival, _)| arrival);
        let (mut sequencer, mut tracker, mut out) = (Sequencer::default(), witness(), Vec::new());
        for (now, event) in arrivals {
            sequencer.push(*event);
            sequencer.release(now - Duration::from_millis(10), |event| tracker.apply(event, &mut out));
        }
        sequencer.finish(|event| tracker.apply(event, &mut out));
        tracker.finish(&mut out);
        prop_assert_eq!(out, expected);
        prop_assert_eq!(sequencer.late(), 0);
    }

    /// Every life is told once, as it was led, whatever else goes on meanwhile.
    #[test]
    fn every_life_is_told_once(lives in lives()) {
        let events = without_segments(in_order(&lives));
        let out = each_is_told_once(&lives, &mut tracker(), &events, time_wait_is_inferred);
        let [restarts, fins_again, strays] = counts(&out);
        prop_assert!(restarts <= lived(&lives)[0]);
        prop_assert_eq!((fins_again, strays), (0, 0));
    }

    /// Where segments are seen, nothing about it is inferred.
    #[test]
    fn every_life_is_told_exactly(lives in lives()) {
        let out = each_is_told_once(&lives, &mut witness(), &in_order(&lives), time_wait_is_exact);
        prop_assert_eq!(counts(&out), lived(&lives));
    }

    /// Functions tell everything as it happens, with cookies and without.
    #[test]
    fn every_life_is_told_exactly_by_function(
        with in lives_by(Hooks::Functions),
        without in lives_by(Hooks::FunctionsWithoutCookies),
    ) {
        for lives in [with, without] {
            let mut tracker = Tracker::new(LIMITS, WAIT, BY_FUNCTION);
            let out = each_is_told_once(&lives, &mut tracker, &in_order(&lives), time_wait_is_exact);
            prop_assert_eq!(counts(&out), lived(&lives));
        }
    }

    /// Nor does it take segments to know every restart.
    #[test]
    fn restarts_are_exact_by_function_without_segments(lives in lives_by(Hooks::Functions)) {
        let sees = Sees { segments: false, ..BY_FUNCTION };
        let events = without_segments(in_order(&lives));
        let out = each_is_told_once(&lives, &mut Tracker::new(LIMITS, WAIT, sees), &events, |life, ended| {
            let lived = life.minisock.and_then(|minisock| minisock.time_wait);
            let (Some(told), Some(lived)) = (ended.time_wait, lived) else { return };
            assert_eq!((told.dwell, told.since_last_restart), (lived.dwell, lived.since_last_restart));
            assert_eq!((told.restarts, told.witness), (lived.restarts.1, Witness::Exact));
            assert_eq!((told.final_acks_lost, told.strays, told.needed), (None, None, None));
        });
        prop_assert_eq!(counts(&out), [lived(&lives)[0], 0, 0]);
    }

    /// Where a gap is known, a witness claims nothing, and what it says is as good as without one.
    #[test]
    fn no_witness_after_a_gap(lives in lives()) {
        let events = in_order(&lives);
        let mut tracker = witness();
        tracker.gap(events.iter().map(|event| event.at).max().unwrap_or_default());
        for told in ended(&observe(&mut tracker, &events)).into_values().flatten() {
            prop_assert!(told.gap);
            if let Some(time_wait) = told.time_wait {
                let TimeWait { final_acks_lost, strays, needed, witness, .. } = time_wait;
                prop_assert_eq!(witness, Witness::Inferred);
                prop_assert_eq!((final_acks_lost, strays, needed), (None, None, None));
            }
        }
    }

    /// Where events are lost, less is told, but nothing twice, and nothing that takes longer than it did.
    #[test]
    fn loss_makes_nothing_up(lives in lives(), lost in vec(prop::bool::weighted(0.2), 500)) {
        let mut events = in_order(&lives);
        let span = span_of(&events);
        let mut lost = lost.iter().cycle();
        events.retain(|_| lost.next() == Some(&false));
        let out = observe(&mut witness(), &events);
        let (closed, ended) = (closed(&out), ended(&out));
        for life in &lives {
            prop_assert!(closed.get(&life.id).map_or(0, Vec::len) <= 1);
            prop_assert!(ended.get(&life.id).map_or(0, Vec::len) <= 1);
        }
        for observation in &out {
            prop_assert!(no_time_is_absurd(observation, span), "{:?} within {:?}", observation, span);
        }
    }

    /// Where kernel addresses are hidden, a cause is true or unknown.
    #[test]
    fn no_cause_is_guessed(lives in lives()) {
        let mut events = in_order(&lives);
        for event in &mut events {
            if let EventKind::TimerCancelled(_, cancel) = &mut event.kind {
                cancel.site = CancelSite::Unknown;
            }
        }
        let out = observe(&mut witness(), &events);
        prop_assert_eq!(counts(&out), lived(&lives));
        let ended = ended(&out);
        for life in &lives {
            let Some(minisock) = life.minisock else { continue };
            let told = ended.get(&life.id).map(Vec::as_slice).unwrap_or_default();
            prop_assert_eq!(told.len(), 1);
            let by_itself = minisock.cause.label() == "expired" || minisock.cause.label() == "fin_wait2_timeout";
            let expected = if by_itself { minisock.cause.label() } else { "unknown" };
            prop_assert_eq!(told[0].cause.label(), expected);
            prop_assert_eq!(told[0].by, None);
        }
    }
}
