//! What holds for any events at all, and for any lives the kernel may lead.

use std::{collections::HashMap, net::Ipv4Addr, time::Duration};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    lives::{Life, in_order, lives},
    notation::{WAIT, tracker},
};
use crate::{
    event::{
        CancelSite, ConnectionId, Event, EventKind, MinisockTimer, Monotonic, Pair, ResetSent, SocketError,
        StateChange, TcpState,
    },
    lifecycle::{
        Limits, Observation, Sequencer, Tracker,
        observation::{Closed, MinisockEnded, Story},
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
    (pair(), 1..4_u64, substate, -10_000_000_000..70_000_000_000_i64, any::<u32>()).prop_map(
        |(pair, minisock, substate, remaining, rcv_nxt)| MinisockTimer {
            pair,
            minisock,
            substate,
            remaining,
            slack: WAIT.slack,
            rcv_nxt,
        },
    )
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
        2 => (timer(), site()).prop_map(|(timer, site)| EventKind::TimerCancelled(timer, site)),
        1 => timer().prop_map(EventKind::TimerExpired),
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
            Event { at, id: ConnectionId { netns, cookie }, kind }
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
                    time_wait.since_last_restart <= time_wait.dwell && time_wait.dwell <= span + before
                })
        }
        Observation::FinRetransmitted(_)
        | Observation::ResetNotReceived
        | Observation::MinisockBegan(_)
        | Observation::Restarted(_) => true,
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
    assert_eq!(ended.time_wait.is_some(), minisock.time_wait.is_some());
    if let (Some(told), Some((dwell, since_last_restart))) = (ended.time_wait, minisock.time_wait) {
        assert!(told.since_last_restart.abs_diff(since_last_restart) <= TWO_TICKS, "{told:?}");
        // What leaves no trace may hide behind another such, so a dwell is a minimum, and so are the restarts.
        assert!(told.dwell <= dwell + TWO_TICKS, "{told:?}");
        let (seen, all) = minisock.restarts;
        assert!(seen <= told.restarts && told.restarts <= all, "{told:?}");
    }
    assert!(!ended.gap);
}

proptest! {
    /// Whatever comes: no panic, no more memory than the limits give, and no time that never was.
    #[test]
    fn anything_is_survived(events in anything(), sockets in 0..5_usize, minisocks in 0..4_usize) {
        let limits = Limits { sockets, minisocks };
        let mut tracker = Tracker::new(limits, WAIT, true);
        let span = span_of(&events);
        let mut out = Vec::new();
        for event in &events {
            tracker.apply(event, &mut out);
            let stats = tracker.stats();
            prop_assert!(stats.sockets <= sockets && stats.minisocks <= minisocks);
            let counted: usize = TcpState::ALL.into_iter().map(|state| tracker.sockets_in(state)).sum();
            prop_assert_eq!(counted, tracker.closing());
            let (settling, cancelled) = tracker.waiting();
            prop_assert!(settling <= 1100 && cancelled <= 1100);
        }
        tracker.finish(&mut out);
        prop_assert_eq!(tracker.waiting(), (0, 0));
        for observation in &out {
            prop_assert!(no_time_is_absurd(observation, span), "{:?} within {:?}", observation, span);
        }
    }

    /// However the sequencer gets events that are late by no more than it waits, they mean the same.
    #[test]
    fn order_of_arrival_does_not_matter(lives in lives(), delays in vec(0..10_000_000_u64, 500)) {
        let events = in_order(&lives);
        let expected = observe(&mut tracker(), &events);

        let mut arrivals: Vec<_> = events
            .iter()
            .zip(delays.iter().cycle())
            .map(|(event, &delay)| (event.at + Duration::from_nanos(delay), event))
            .collect();
        arrivals.sort_by_key(|&(arrival, _)| arrival);
        let (mut sequencer, mut tracker, mut out) = (Sequencer::default(), tracker(), Vec::new());
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
        let mut tracker = tracker();
        let out = observe(&mut tracker, &in_order(&lives));
        let (closed, ended) = (closed(&out), ended(&out));
        for life in &lives {
            let told = closed.get(&life.id).map(Vec::as_slice).unwrap_or_default();
            prop_assert_eq!(told.len(), 1, "{:?}", told);
            is_told(life, told[0]);
            let told = ended.get(&life.id).map(Vec::as_slice).unwrap_or_default();
            prop_assert_eq!(told.len(), usize::from(life.minisock.is_some()), "{:?}", told);
            if let [told] = told {
                end_is_told(life, told);
            }
        }
        let stats = tracker.stats();
        prop_assert_eq!((stats.sockets, stats.minisocks, stats.unmatched), (0, 0, 0));
    }

    /// Where events are lost, less is told, but nothing twice, and nothing that takes longer than it did.
    #[test]
    fn loss_makes_nothing_up(lives in lives(), lost in vec(prop::bool::weighted(0.2), 500)) {
        let mut events = in_order(&lives);
        let span = span_of(&events);
        let mut lost = lost.iter().cycle();
        events.retain(|_| lost.next() == Some(&false));
        let out = observe(&mut tracker(), &events);
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
            if let EventKind::TimerCancelled(_, site) = &mut event.kind {
                *site = CancelSite::Unknown;
            }
        }
        let out = observe(&mut tracker(), &events);
        let ended = ended(&out);
        for life in &lives {
            let Some(minisock) = life.minisock else { continue };
            let told = ended.get(&life.id).map(Vec::as_slice).unwrap_or_default();
            prop_assert_eq!(told.len(), 1);
            let by_itself = minisock.cause.label() == "expired" || minisock.cause.label() == "fin_wait2_timeout";
            let expected = if by_itself { minisock.cause.label() } else { "unknown" };
            prop_assert_eq!(told[0].cause.label(), expected);
        }
    }
}
