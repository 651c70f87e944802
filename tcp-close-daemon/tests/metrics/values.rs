//! What each observation, and each count of the kernel side, changes.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use expect_test::{Expect, expect};
use tcp_close::{
    event::TcpState,
    kernel::limits,
    lifecycle::{
        Corrections, Observation, Stats,
        observation::{
            Absorbed, EndCause, Manner, MinisockEnded, Restarted, Role, Story, Then, TimeWait, Verdict,
            Witness,
        },
    },
    metrics::Metrics,
    pipeline::Losses,
    probe::ProgramStats,
};
use tcp_close_abi::{Counters, RecordKind};

use crate::{
    exposition::{fresh, series},
    observations::{
        at, began, closed, fin_wait2_story, inferred, minisock, passive_story, story, time_wait, transition,
        unknown_story,
    },
};

/// The series that changed, without the buckets of histograms.
fn changes(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> String {
    let mut text = String::new();
    for (series, value) in after.iter().filter(|(series, _)| !series.contains("_bucket{")) {
        let was = before.get(series).copied();
        if was != Some(*value) {
            let new = if was.is_none() { " (new)" } else { "" };
            let name = series.strip_prefix("tcp_close_").unwrap_or(series);
            writeln!(text, "{name} {:+}{new}", value - was.unwrap_or(0.0)).expect("a string takes any text");
        }
    }
    text
}

fn check(observations: &[Observation], expected: &Expect) {
    let mut metrics = fresh();
    let before = series(&metrics);
    for observation in observations {
        metrics.observe(observation);
    }
    expected.assert_eq(&changes(&before, &series(&metrics)));
}

#[test]
fn a_transition_tells_the_time_in_the_state_it_left() {
    let dwell = Some(Duration::from_millis(250));
    let mut metrics = fresh();
    for (from, to) in [
        (TcpState::FinWait1, TcpState::FinWait2),
        (TcpState::CloseWait, TcpState::LastAck),
        (TcpState::LastAck, TcpState::Close),
        (TcpState::Closing, TcpState::Close),
    ] {
        let before = series(&metrics);
        metrics.observe(&Observation::Transition(transition(from, to, dwell)));
        let label = from.label();
        assert_eq!(
            changes(&before, &series(&metrics)),
            format!(
                "state_seconds_count{{state=\"{label}\"}} +1\nstate_seconds_sum{{state=\"{label}\"}} +0.25\n"
            )
        );
    }
    // FIN-WAIT-2 is told once, when it is over; others are no states of a close, or their time is not known.
    for (from, to, dwell) in [
        (TcpState::FinWait2, TcpState::Close, dwell),
        (TcpState::Established, TcpState::FinWait1, dwell),
        (TcpState::SynSent, TcpState::Close, dwell),
        (TcpState::LastAck, TcpState::Close, None),
    ] {
        check(&[Observation::Transition(transition(from, to, dwell))], &expect![[""]]);
    }
}

#[test]
fn an_active_close() {
    check(
        &[closed(fin_wait2_story(), Some(Then::FinWait2))],
        &expect![[r#"
            endpoints_closed_total{manner="graceful",role="active"} +1
            service_endpoints_closed_total{role="active",service="curl"} +1 (new)
        "#]],
    );
    check(
        &[closed(story(), Some(Then::TimeWait))],
        &expect![[r#"
            close_segments_total{segments="4"} +1
            endpoints_closed_total{manner="graceful",role="active"} +1
            service_endpoints_closed_total{role="active",service="curl"} +1 (new)
            state_seconds_count{state="fin_wait2"} +1
            state_seconds_sum{state="fin_wait2"} +0.0482
        "#]],
    );
    check(
        &[closed(story(), Some(Then::Refused))],
        &expect![[r#"
            close_segments_total{segments="4"} +1
            endpoints_closed_total{manner="graceful",role="active"} +1
            service_endpoints_closed_total{role="active",service="curl"} +1 (new)
            state_seconds_count{state="fin_wait2"} +1
            state_seconds_sum{state="fin_wait2"} +0.0482
            time_wait_refused_total +1
        "#]],
    );
}

#[test]
fn a_passive_close() {
    let mut half_closed = passive_story();
    half_closed.bytes.after_our_fin = Some(300);
    half_closed.bytes.after_peer_fin = Some(7);
    check(
        &[closed(half_closed, Some(Then::Closed))],
        &expect![[r#"
            close_segments_total{segments="3"} +1
            endpoints_closed_total{manner="graceful",role="passive"} +1
            half_close_bytes_total{direction="received"} +300
            half_close_bytes_total{direction="sent"} +7
            service_endpoints_closed_total{role="passive",service="nginx"} +1 (new)
        "#]],
    );
}

#[test]
fn a_close_of_which_nothing_is_known() {
    check(
        &[closed(unknown_story(), None)],
        &expect![[r#"
            endpoints_closed_total{manner="unknown",role="none"} +1
            service_endpoints_closed_total{role="none",service="unknown"} +1 (new)
        "#]],
    );
}

#[test]
fn every_end_of_a_connection_has_its_series_from_the_start() {
    let mut metrics = fresh();
    for role in Role::ALL {
        for manner in Manner::ALL.map(Some).into_iter().chain([None]) {
            let before = series(&metrics);
            metrics.observe(&closed(Story { role, manner, ..unknown_story() }, Some(Then::Closed)));
            let after = series(&metrics).into_iter().filter(|(name, _)| !name.contains("service"));
            let label = manner.map_or("unknown", Manner::label);
            assert_eq!(
                changes(&before, &after.collect()),
                format!("endpoints_closed_total{{manner=\"{label}\",role=\"{}\"}} +1\n", role.label())
            );
        }
    }
}

#[test]
fn a_minisock_begins() {
    check(
        &[began(TcpState::FinWait2)],
        &expect![[r#"
        minisocks_created_total{substate="fin_wait2"} +1
    "#]],
    );
    check(
        &[began(TcpState::TimeWait)],
        &expect![[r#"
        minisocks_created_total{substate="time_wait"} +1
        time_wait_started_total +1
    "#]],
    );
}

#[test]
fn a_restart_is_counted_and_a_flip_is_none() {
    check(
        &[restarted(false, Witness::Inferred)],
        &expect![[r#"
        time_wait_restarts_total{witness="inferred"} +1
    "#]],
    );
    check(
        &[restarted(false, Witness::Exact)],
        &expect![[r#"
        time_wait_restarts_total{witness="exact"} +1
    "#]],
    );
    for witness in [Witness::Inferred, Witness::Exact] {
        let expected = expect![["
            time_wait_started_total +1
        "]];
        check(&[restarted(true, witness)], &expected);
    }
}

fn restarted(flipped: bool, witness: Witness) -> Observation {
    Observation::Restarted(Restarted { at: at(1), flipped, witness })
}

/// And not again when the TIME-WAIT ends that says how many there were.
#[test]
fn what_a_time_wait_absorbs_is_counted_as_it_comes() {
    check(
        &[
            Observation::Absorbed(Absorbed::FinAgain),
            Observation::Absorbed(Absorbed::Stray),
            Observation::Absorbed(Absorbed::Stray),
        ],
        &expect![[r#"
            time_wait_final_acks_lost_total{witness="exact"} +1
            time_wait_strays_total{witness="exact"} +2
        "#]],
    );
    let absorbed = TimeWait { restarts: 9, final_acks_lost: Some(5), strays: Some(7), ..time_wait() };
    let told = |time_wait| {
        let mut metrics = fresh();
        let before = series(&metrics);
        metrics
            .observe(&Observation::MinisockEnded(MinisockEnded { time_wait: Some(time_wait), ..minisock() }));
        changes(&before, &series(&metrics))
    };
    assert_eq!(told(absorbed), told(time_wait()));
    assert_eq!(told(inferred()), told(time_wait()));
}

#[test]
fn a_time_wait_ends() {
    check(
        &[Observation::MinisockEnded(minisock())],
        &expect![[r#"
        minisocks_ended_total{cause="expired",substate="time_wait"} +1
        state_seconds_count{state="time_wait"} +1
        state_seconds_sum{state="time_wait"} +60.42
        time_wait_ended_total{cause="expired"} +1
        time_wait_seconds_count{cause="expired"} +1
        time_wait_seconds_sum{cause="expired"} +60.42
        time_wait_verdicts_total{verdict="nominal"} +1
    "#]],
    );
}

/// It began unseen, when the peer's FIN came: one TIME-WAIT more, known of at its end.
#[test]
fn a_time_wait_ends_that_began_inside_a_minisock() {
    let flipped = MinisockEnded { began_in: Some(TcpState::FinWait2), ..minisock() };
    check(
        &[Observation::MinisockEnded(flipped)],
        &expect![[r#"
            close_segments_total{segments="4"} +1
            minisocks_ended_total{cause="expired",substate="time_wait"} +1
            state_seconds_count{state="fin_wait2"} +1
            state_seconds_count{state="time_wait"} +1
            state_seconds_sum{state="fin_wait2"} +0.0482
            state_seconds_sum{state="time_wait"} +60.42
            time_wait_ended_total{cause="expired"} +1
            time_wait_seconds_count{cause="expired"} +1
            time_wait_seconds_sum{cause="expired"} +60.42
            time_wait_started_total +1
            time_wait_verdicts_total{verdict="nominal"} +1
        "#]],
    );
}

#[test]
fn a_minisock_ends_that_never_was_a_time_wait() {
    let timed_out = MinisockEnded {
        began_in: Some(TcpState::FinWait2),
        cause: EndCause::FinWait2Timeout,
        time_wait: None,
        fin_wait2: Some(Duration::from_secs(60)),
        ..minisock()
    };
    check(
        &[Observation::MinisockEnded(timed_out)],
        &expect![[r#"
        minisocks_ended_total{cause="fin_wait2_timeout",substate="fin_wait2"} +1
        state_seconds_count{state="fin_wait2"} +1
        state_seconds_sum{state="fin_wait2"} +60
    "#]],
    );
}

#[test]
fn a_whole_close_is_counted_once() {
    check(
        &[
            closed(fin_wait2_story(), Some(Then::FinWait2)),
            began(TcpState::FinWait2),
            restarted(true, Witness::Exact),
            Observation::MinisockEnded(MinisockEnded {
                began_in: Some(TcpState::FinWait2),
                flip_is_told: true,
                ..minisock()
            }),
        ],
        &expect![[r#"
            close_segments_total{segments="4"} +1
            endpoints_closed_total{manner="graceful",role="active"} +1
            minisocks_created_total{substate="fin_wait2"} +1
            minisocks_ended_total{cause="expired",substate="time_wait"} +1
            service_endpoints_closed_total{role="active",service="curl"} +1 (new)
            state_seconds_count{state="fin_wait2"} +1
            state_seconds_count{state="time_wait"} +1
            state_seconds_sum{state="fin_wait2"} +0.0482
            state_seconds_sum{state="time_wait"} +60.42
            time_wait_ended_total{cause="expired"} +1
            time_wait_seconds_count{cause="expired"} +1
            time_wait_seconds_sum{cause="expired"} +60.42
            time_wait_started_total +1
            time_wait_verdicts_total{verdict="nominal"} +1
        "#]],
    );
}

#[test]
fn every_end_of_a_minisock_has_its_series_from_the_start() {
    let of_time_wait = EndCause::OF_TIME_WAIT.map(|cause| (cause, Some(time_wait())));
    let of_fin_wait2 = EndCause::OF_FIN_WAIT2.map(|cause| (cause, None));
    let mut metrics = fresh();
    for (cause, time_wait) in of_time_wait.into_iter().chain(of_fin_wait2) {
        let before = series(&metrics);
        metrics.observe(&Observation::MinisockEnded(MinisockEnded { cause, time_wait, ..minisock() }));
        let changed = changes(&before, &series(&metrics));
        let substate = if time_wait.is_some() { "time_wait" } else { "fin_wait2" };
        let ended =
            format!("minisocks_ended_total{{cause=\"{}\",substate=\"{substate}\"}} +1\n", cause.label());
        assert!(!changed.contains("(new)") && changed.contains(&ended), "{changed}");
    }
    for verdict in Verdict::ALL {
        let before = series(&metrics);
        let time_wait = Some(TimeWait { verdict, ..time_wait() });
        metrics.observe(&Observation::MinisockEnded(MinisockEnded { time_wait, ..minisock() }));
        let changed = changes(&before, &series(&metrics));
        assert!(
            changed.contains(&format!("time_wait_verdicts_total{{verdict=\"{}\"}} +1\n", verdict.label()))
        );
    }
}

#[test]
fn buckets_tell_a_nominal_end_from_a_late_one() {
    let mut metrics = fresh();
    for milliseconds in [59_950, 60_420, 61_900, 64_900] {
        let time_wait = TimeWait { dwell: Duration::from_millis(milliseconds), ..time_wait() };
        metrics
            .observe(&Observation::MinisockEnded(MinisockEnded { time_wait: Some(time_wait), ..minisock() }));
    }
    let after = series(&metrics);
    let below = |edge: &str| {
        after.get(&format!("tcp_close_time_wait_seconds_bucket{{cause=\"expired\",le=\"{edge}\"}}")).copied()
    };
    let counts = ["59", "59.9", "60", "61", "62", "64", "65", "66", "+Inf"].map(below);
    assert_eq!(counts, [0, 0, 1, 2, 3, 3, 4, 4, 4].map(|count| Some(f64::from(count))));
}

/// The kernel side counts these; their records must not be counted again.
#[test]
fn what_the_kernel_side_counts_is_not_counted_twice() {
    check(&[Observation::FinRetransmitted(TcpState::LastAck), Observation::ResetNotReceived], &expect![[""]]);
}

fn counters(change: impl FnOnce(&mut Counters)) -> Counters {
    let mut counters = Counters::ZERO;
    change(&mut counters);
    counters
}

fn set(row: &mut [u64], place: usize, value: u64) {
    *row.get_mut(place).expect("there is such a place") = value;
}

fn set_transition(counters: &mut Counters, from: TcpState, to: TcpState, count: u64) {
    set(counters.transitions.get_mut(from as usize).expect("there is such a state"), to as usize, count);
}

#[test]
fn the_kernel_sides_counts_are_carried_over() {
    let mut metrics = fresh();
    let before = series(&metrics);
    let counters = counters(|counters| {
        set_transition(counters, TcpState::Established, TcpState::FinWait1, 3);
        set_transition(counters, TcpState::FinWait1, TcpState::FinWait1, 2);
        set_transition(counters, TcpState::SynSent, TcpState::Close, 5);
        // Not a state change the kernel's source has, but if it comes it is told.
        set_transition(counters, TcpState::Listen, TcpState::Established, 1);
        set(&mut counters.fin_retransmits, TcpState::LastAck as usize, 4);
        set(&mut counters.resets_sent, 2, 6);
        // A reason this kernel's BTF does not name.
        set(&mut counters.resets_sent, 40, 1);
        counters.unreadable = 8;
        counters.openers_evicted = 11;
        set(&mut counters.submitted, RecordKind::TimerStart as usize, 10);
        set(&mut counters.submitted, RecordKind::Segment as usize, 11);
        set(&mut counters.lost, RecordKind::StateChange as usize, 2);
        set(&mut counters.lost, RecordKind::TimerExpire as usize, 7);
        set(&mut counters.lost, RecordKind::Segment as usize, 1);
    });
    metrics.count(&counters, at(0));
    // Again, and nothing changes: they are totals.
    metrics.count(&counters, at(100));
    expect![[r#"
        attempts_failed_total{state="syn_sent"} +5
        events_lost_total{cause="ring_full"} +10
        events_lost_total{cause="unreadable"} +8
        events_total{kind="segment"} +11
        events_total{kind="timer_start"} +10
        fin_retransmits_total{state="last_ack"} +4
        orphaned_total{state="fin_wait1"} +2
        resets_total{direction="sent",reason="tcp_abort_on_close"} +6
        resets_total{direction="sent",reason="unknown"} +1
        tracked_evicted_total{table="openers"} +11
        transitions_total{from="established",to="fin_wait1"} +3
        transitions_total{from="listen",to="established"} +1 (new)
        transitions_total{from="syn_sent",to="close"} +5
    "#]]
    .assert_eq(&changes(&before, &series(&metrics)));
}

#[test]
fn the_cores_figures_are_carried_over() {
    let mut metrics = fresh();
    let before = series(&metrics);
    let stats = Stats {
        sockets: 3,
        minisocks: 4,
        sockets_evicted: 5,
        minisocks_evicted: 6,
        unmatched: 7,
        corrections: Corrections { added: 11, removed: 12, changed: 13 },
    };
    metrics.core(stats, Losses { undecodable: 8, missed: 10, late: 9 });
    metrics.programs(&[ProgramStats {
        program: "inet_sock_set_state".to_owned(),
        run_time: Duration::from_millis(1500),
        runs: 1000,
        recursion_misses: 2,
    }]);
    expect![[r#"
        events_late_total +9
        events_lost_total{cause="recursion"} +10
        events_lost_total{cause="undecodable"} +8
        events_unmatched_total +7
        program_runs_total{program="inet_sock_set_state"} +1000
        program_seconds_total{program="inet_sock_set_state"} +1.5
        reconcile_corrections_total{correction="added"} +11
        reconcile_corrections_total{correction="changed"} +13
        reconcile_corrections_total{correction="removed"} +12
        tracked_evicted_total{table="minisocks"} +6
        tracked_evicted_total{table="sockets"} +5
        tracked{table="minisocks"} +4
        tracked{table="sockets"} +3
    "#]]
    .assert_eq(&changes(&before, &series(&metrics)));
}

/// A limit that cannot be read is unknown, and 0 would be a limit.
#[test]
fn an_unknown_limit_is_not_exported() {
    let hooks = [];
    let wait = tcp_close::lifecycle::Wait { nominal: Duration::from_secs(60), slack: Duration::ZERO };
    let tables = tcp_close::lifecycle::Limits { sockets: 1, minisocks: 1 };
    let mut metrics = Metrics::new(&hooks, BTreeMap::new(), tables, wait).expect("the catalogue is sound");
    let limit = |metrics: &Metrics| series(metrics).get("tcp_close_time_wait_limit").copied();
    metrics.limits(&limits::Limits::default());
    assert_eq!(limit(&metrics), None);
    metrics.limits(&limits::Limits { time_wait: Some(8192), ..limits::Limits::default() });
    assert_eq!(limit(&metrics), Some(8192.0));
    // It could be read once: the last value is the best there is.
    metrics.limits(&limits::Limits::default());
    assert_eq!(limit(&metrics), Some(8192.0));
}

#[test]
fn a_reset_that_was_not_received_is_taken_off() {
    let received = |metrics: &Metrics| {
        let series = series(metrics);
        let received = series.get("tcp_close_resets_total{direction=\"received\",reason=\"unknown\"}");
        received.copied().expect("it is there from the start")
    };
    let count = |resets_received| counters(|counters| counters.resets_received = resets_received);
    let mut metrics = fresh();
    // The kernel side has counted two; the core finds a little later that one was none.
    metrics.count(&count(2), at(0));
    metrics.count(&count(2), at(100));
    assert!(received(&metrics) < 1.0, "what may yet be taken off is not told");
    metrics.observe(&Observation::ResetNotReceived);
    metrics.count(&count(2), at(200));
    metrics.count(&count(3), at(300));
    assert!((received(&metrics) - 1.0).abs() < f64::EPSILON);
    metrics.count(&count(3), at(1000));
    assert!((received(&metrics) - 2.0).abs() < f64::EPSILON);
    // More taken off than there were would be a mistake elsewhere; the counter stays where it is.
    for _ in 0..5 {
        metrics.observe(&Observation::ResetNotReceived);
    }
    metrics.count(&count(4), at(2000));
    metrics.count(&count(4), at(3000));
    assert!((received(&metrics) - 2.0).abs() < f64::EPSILON);
}

/// Whatever comes, no counter goes down: Prometheus would take that for a restart.
#[test]
fn counters_never_go_down() {
    let mut metrics = fresh();
    let mut before = series(&metrics);
    let many = counters(|counters| {
        set_transition(counters, TcpState::Established, TcpState::FinWait1, 9);
        counters.resets_received = 9;
        counters.unreadable = 9;
    });
    let steps: [fn(&mut Metrics, &Counters); 6] = [
        |metrics, many| metrics.count(many, at(0)),
        |metrics, _| metrics.count(&Counters::ZERO, at(1000)),
        |metrics, _| {
            metrics.core(
                Stats { unmatched: 9, ..Stats::default() },
                Losses { undecodable: 9, missed: 9, late: 9 },
            );
        },
        |metrics, _| metrics.core(Stats::default(), Losses::default()),
        |metrics, _| metrics.observe(&Observation::ResetNotReceived),
        |metrics, many| metrics.count(many, at(9000)),
    ];
    for step in steps {
        step(&mut metrics, &many);
        let after = series(&metrics);
        for (series, value) in before.iter().filter(|(series, _)| series.contains("_total")) {
            assert!(after.get(series) >= Some(value), "{series}");
        }
        before = after;
    }
}
