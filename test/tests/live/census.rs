//! What is closing now, by our figures and by the kernel's own table.

use std::{
    net::{Shutdown, SocketAddr},
    time::Duration,
};

use tcp_close::{
    clock::monotonic_now as now,
    event::{self, Monotonic},
    lifecycle::census::InState,
};
use tcp_close_test::{
    address::Family,
    clock::{Deadline, PATIENCE},
    oracle::{self, Socket, TcpState, Timer},
};

use crate::{
    observer::{Observer, Told},
    program::{RunningDaemon, daemon_with, get},
    snapshot::substates,
    stuck::{CLOSING, Stuck, count},
};

/// What clocks that count whole ticks, and a table that was read a moment before, may differ by.
const ABOUT: Duration = Duration::from_millis(1_100);

/// The value of a series with this state; `None` if it is not exported.
fn exported(exposition: &str, metric: &str, state: event::TcpState) -> Option<f64> {
    let series = format!("tcp_close_{metric}{{state=\"{}\"}} ", state.label());
    let value = exposition.lines().find_map(|line| line.strip_prefix(&series))?;
    Some(value.parse().expect("a number"))
}

/// Scrapes until what is exported is what the kernel's table has in every state. It counts when it was not the
/// table that changed meanwhile.
#[track_caller]
pub(crate) fn agrees_with_the_kernel(stuck: &Stuck, address: SocketAddr) -> String {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let exposition = get(address, "/metrics");
        let table = oracle::sockets(&stuck.netns);
        let differs = CLOSING.into_iter().find_map(|(kernels, ours)| {
            let (kernel, own) = (count(&table, kernels), exported(&exposition, "sockets", ours));
            (own != Some(kernel as f64)).then(|| format!("{}: {own:?}, kernel {kernel}", ours.label()))
        });
        let Some(differs) = differs else {
            assert_eq!(
                exported(&exposition, "sockets", event::TcpState::TimeWait),
                Some(oracle::sockstat(&stuck.netns)["tw"] as f64 - minisocks_in_fin_wait2(&table) as f64),
                "the kernel counts minisocks, whatever their substate"
            );
            return exposition;
        };
        assert!(deadline.left().is_some(), "{differs}\n{exposition}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn minisocks_in_fin_wait2(table: &[Socket]) -> usize {
    table
        .iter()
        .filter(|socket| socket.state == TcpState::FinWait2 && socket.timer == Timer::TimeWait)
        .count()
}

pub(crate) fn daemon(stuck: &Stuck, arguments: &[&str]) -> RunningDaemon {
    let inode = stuck.netns.inode().to_string();
    daemon_with(&[&["--netns", &inode], arguments].concat())
}

/// Whether there is a way to know which minisock is in which substate: segments or starts of timers are seen, or the
/// kernel's table, which knows sockets by their cookies, speaks of the same ones as the events.
fn knows_who_flipped(exposition: &str) -> bool {
    let has = |hook: &str, rung: &str| {
        exposition.contains(&format!("tcp_close_hook_info{{hook=\"{hook}\",rung=\"{rung}\""))
    };
    has("minisock", "fentry")
        || has("minisock", "kprobe")
        || has("witness", "tp_btf")
        || oracle::tells_programs_of_cookies()
}

/// The whole way, before and after the flip.
#[track_caller]
fn check_daemon(arguments: &[&str]) {
    let mut stuck = Stuck::new();
    let running = daemon(&stuck, arguments);
    let none = agrees_with_the_kernel(&stuck, running.address);
    for state in ["fin_wait1", "fin_wait2", "close_wait", "last_ack"] {
        assert!(none.contains(&format!("tcp_close_oldest_seconds{{state=\"{state}\"}} 0\n")), "{none}");
    }
    let begun = now();
    stuck.in_every_state();
    let made = now();
    let exposition = agrees_with_the_kernel(&stuck, running.address);
    let ages_are_those_of = |exposition: &str, state: event::TcpState, sockets: f64| {
        let oldest = exported(exposition, "oldest_seconds", state);
        if state == event::TcpState::FinWait2 && !knows_who_flipped(exposition) && oldest.is_none() {
            // Some of them may be in TIME-WAIT, unless the timer wheel showed each of them as it went.
            return;
        }
        let oldest = oldest.expect("it is known");
        let most = now().since(begun).as_secs_f64();
        assert!(oldest > 0.0 && oldest <= most, "{state:?}: {oldest} of {most}");
        if state != event::TcpState::FinWait1 {
            assert_eq!(exported(exposition, "age_seconds_count", state), Some(sockets), "{exposition}");
            let sum = exported(exposition, "age_seconds_sum", state).expect("it is known");
            assert!(oldest <= sum && sum <= oldest * sockets, "{state:?}: {sum}");
        }
    };
    ages_are_those_of(&exposition, event::TcpState::FinWait1, 2.0);
    ages_are_those_of(&exposition, event::TcpState::FinWait2, 7.0);
    ages_are_those_of(&exposition, event::TcpState::CloseWait, 3.0);
    ages_are_those_of(&exposition, event::TcpState::LastAck, 6.0);
    stuck.flip();
    let flipped = agrees_with_the_kernel(&stuck, running.address);
    assert_eq!(exported(&flipped, "sockets", event::TcpState::FinWait2), Some(2.0), "the full sockets");
    assert_eq!(exported(&flipped, "sockets", event::TcpState::TimeWait), Some(7.0));
    ages_are_those_of(&flipped, event::TcpState::FinWait2, 2.0);
    let older = exported(&flipped, "oldest_seconds", event::TcpState::FinWait1).expect("it is known");
    let younger = exported(&exposition, "oldest_seconds", event::TcpState::FinWait1).expect("it is known");
    assert!(older > younger && older + ABOUT.as_secs_f64() >= now().since(made).as_secs_f64());
}

#[test]
fn the_daemon_agrees_with_the_kernel() {
    check_daemon(&[]);
}

/// Nothing but the kernel's table tells of the flip.
#[test]
fn the_daemon_agrees_with_the_kernel_without_a_witness() {
    check_daemon(&["--no-witness"]);
}

/// Without a witness the table is all there is, and it shows what was there before.
#[test]
fn the_table_shows_what_was_there_before() {
    let mut stuck = Stuck::new();
    stuck.in_fin_wait2_as_minisock(Family::V4);
    stuck.in_time_wait(Family::V6);
    oracle::wait_until(&stuck.netns, PATIENCE, |table| {
        count(table, TcpState::FinWait2) == 1 && count(table, TcpState::TimeWait) == 1
    });
    let running = daemon(&stuck, &["--no-witness"]);
    let exposition = agrees_with_the_kernel(&stuck, running.address);
    let of_fin_wait2 = |metric| exported(&exposition, metric, event::TcpState::FinWait2);
    assert_eq!(of_fin_wait2("oldest_seconds"), None, "nobody saw how old it is");
    assert_eq!(of_fin_wait2("age_seconds_count"), Some(0.0));
}

/// The age of a state in the core's own figures, which must be that of a socket that entered it between two moments; of a
/// minisock, it is known to the millisecond in which that was.
#[track_caller]
fn entered_between(in_state: &InState, census_at: Monotonic, from: Monotonic, to: Monotonic) {
    let from = Monotonic::from_nanos(from.as_nanos() / 1_000_000 * 1_000_000);
    let oldest = in_state.oldest.expect("its entry was seen");
    assert!(oldest >= census_at.since(to) && oldest <= census_at.since(from), "{in_state:?}");
}

#[test]
fn ages_count_from_the_entry_whatever_the_socket_is_made_of() {
    let mut stuck = Stuck::new();
    let observer = Observer::attach(&[&stuck.netns]);
    let (mut peer, socket) = stuck.connect(Family::V4);
    socket.shutdown(Shutdown::Write).expect("shut down");
    peer.expect_fin();
    let before = now();
    peer.ack();
    oracle::wait_until(&stuck.netns, PATIENCE, |table| count(table, TcpState::FinWait2) == 1);
    let after = now();
    let fin_wait2 = |told: &Told| told.census.1.in_state(event::TcpState::FinWait2);
    let told = observer.wait_until("FIN-WAIT-2", |told| fin_wait2(told).sockets == 1);
    entered_between(&fin_wait2(&told), told.census.0, before, after);
    // It lives on in a minisock, and is as old as it was.
    drop(socket);
    let began = observer.wait_until("a minisock", |told| told.minisocks_began() == 1 && told.left().0 == 0);
    assert_eq!(fin_wait2(&began).sockets, 1);
    entered_between(&fin_wait2(&began), began.census.0, before, after);
    let before = now();
    stuck.half_closed.push(peer);
    stuck.flip();
    let after = now();
    let time_wait = |told: &Told| told.census.1.in_state(event::TcpState::TimeWait);
    if observer.sees_starts() {
        let flipped = observer.wait_until("the flip", |told| time_wait(told).sockets == 1);
        assert_eq!(fin_wait2(&flipped).sockets, 0);
        assert!(flipped.census.1.knows_substates);
        entered_between(&time_wait(&flipped), flipped.census.0, before, after);
    } else {
        // Seldom does anything tell of it, and that is said.
        let table = oracle::sockets(&stuck.netns);
        assert_eq!(count(&table, TcpState::TimeWait), 1);
        let told = observer.now();
        let (_, census) = &told.census;
        assert_eq!(
            (census.knows_substates, census.unsure),
            (false, u64::from(!told.flipped())),
            "{census:?}"
        );
    }
    // The kernel says how long it has yet to go.
    let table = oracle::sockets(&stuck.netns);
    let [socket] = table.as_slice() else { panic!("{table:?}") };
    let age = now().since(before);
    assert!(socket.expires + age <= Duration::from_secs(60) + ABOUT);
    assert!(socket.expires + age + ABOUT >= Duration::from_secs(60));
}

#[test]
fn without_a_witness_the_core_says_what_it_does_not_know() {
    let mut stuck = Stuck::new();
    let observer = Observer::attach_without_witness(&[&stuck.netns]);
    stuck.in_fin_wait2_as_minisock(Family::V4);
    let told = observer.wait_until("a minisock", |told| told.minisocks_began() == 1);
    // The functions that deal with minisocks tell of every flip; the timer wheel hides it, unless it takes the timer to
    // another bucket.
    let knows = observer.sees_starts();
    let of_minisocks = |told: &Told| {
        let (_, census) = &told.census;
        let of = |state| census.in_state(state).sockets;
        (census.knows_substates, census.unsure, of(event::TcpState::FinWait2), of(event::TcpState::TimeWait))
    };
    assert_eq!(of_minisocks(&told), if knows { (true, 0, 1, 0) } else { (false, 1, 1, 0) });
    stuck.flip();
    oracle::wait_until(&stuck.netns, PATIENCE, |table| count(table, TcpState::TimeWait) == 1);
    let told = observer.now();
    let expected = if told.flipped() { (knows, 0, 0, 1) } else { (false, 1, 1, 0) };
    assert_eq!(of_minisocks(&told), expected);
    assert!(told.flipped() || !knows);
    let substates = substates(&stuck.netns);
    assert_eq!((substates.fin_wait2(), substates.time_wait()), (0, 1));
}
