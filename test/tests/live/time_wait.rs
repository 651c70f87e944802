//! How a minisock begins, how long it is kept and why, and when it is refused.

use std::{net::TcpStream, time::Duration};

use tcp_close::{
    event::TcpState,
    lifecycle::observation::{EndCause, Manner, Then, Verdict},
};
use tcp_close_abi::RecordKind;
use tcp_close_test::{
    address::Family,
    clock::PATIENCE,
    oracle::{self, Netstat},
    segment::Direction,
    wire::policy::{Verdict as OnTheWire, acknowledges_fin_from, each, fin_from, pass},
};

use crate::{
    Lab,
    bench::{Bench, about},
    observer::{Observer, Told, preflight},
    read_to_fin,
};

#[test]
fn the_peers_fin_comes_after_this_long() {
    for delay in [0, 200, 5000].map(Duration::from_millis) {
        let bench = Bench::new();
        let mut conversation = bench.in_fin_wait2(Family::V4);
        // Time that passes in FIN-WAIT-2 is what is measured.
        std::thread::sleep(delay);
        conversation.fin();
        conversation.expect_ack();
        bench.minisock_in(oracle::TcpState::TimeWait);
        std::thread::sleep(Duration::from_millis(100));
        conversation.rst();

        let ended = bench.ended();
        assert_eq!((ended.began_in, ended.cause), (Some(TcpState::FinWait2), EndCause::Assassinated));
        about(ended.fin_wait2.expect("FIN-WAIT-2 was measured"), delay);
        let time_wait = ended.time_wait.expect("it became a TIME-WAIT");
        about(time_wait.dwell, Duration::from_millis(100));
        assert_eq!((time_wait.witness, time_wait.restarts), (bench.observer.witness(), 0), "{ended:#?}");
        let none = bench.observer.if_segments_are_seen(0);
        assert_eq!((time_wait.final_acks_lost, time_wait.strays), (none, none), "{ended:#?}");
        assert_eq!(time_wait.verdict, Verdict::Premature);
        // A tick may come between the moment that the kernel counts from and the one in which it is seen to do so.
        let (minute, tick) = (Duration::from_secs(60), preflight().hz().duration(1));
        assert!([time_wait.nominal, time_wait.nominal + tick].contains(&minute), "{ended:#?}");
        about(ended.minisock.expect("its beginning was seen"), delay + Duration::from_millis(100));
        let story = ended.story.expect("its full socket was seen");
        assert_eq!(story.states.dwell(TcpState::FinWait2), ended.fin_wait2);
        assert_eq!(ended.peer_fin, Some(conversation.snd_nxt.wrapping_sub(1)));
        bench.agrees();
    }
}

#[test]
fn a_socket_that_was_shut_down_enters_time_wait_itself() {
    for family in Family::BOTH {
        let bench = Bench::new();
        let (mut conversation, socket) = bench.peer.accept_from(&bench.netns, family);
        socket.shutdown(std::net::Shutdown::Write).expect("half-close");
        conversation.expect_fin();
        conversation.ack();
        conversation.fin();
        conversation.expect_ack();
        bench.minisock_in(oracle::TcpState::TimeWait);
        conversation.rst();
        let ended = bench.ended();
        assert_eq!((ended.began_in, ended.cause), (Some(TcpState::TimeWait), EndCause::Assassinated));
        let time_wait = ended.time_wait.expect("it is a TIME-WAIT");
        assert_eq!(
            (time_wait.witness, time_wait.restarts, time_wait.final_acks_lost),
            (bench.observer.witness(), 0, bench.observer.if_segments_are_seen(0))
        );
        bench.agrees();
    }
}

#[test]
fn the_final_acknowledgement_is_lost_so_often() {
    for losses in [1_u32, 3] {
        let lab = Lab::new();
        let (client, server) = lab.pair(Family::V6);
        let mut is_final = acknowledges_fin_from(Direction::ServerToClient);
        let mut left = losses;
        lab.wire.set_policy(move |segment| {
            if is_final(segment) && left > 0 {
                left -= 1;
                return OnTheWire::Drop;
            }
            OnTheWire::Pass
        });
        drop(client);
        assert_eq!(read_to_fin(&server), b"");
        drop(server);
        lab.server_is_gone();
        lab.observer.closed(2);
        let Lab { client, server, wire, observer } = lab;
        observer.agrees_with_the_kernel(&[&client, &server]);
        let passive = observer.closed(2).into_iter().find(|closed| closed.then == Some(Then::Closed));
        let passive = passive.expect("the server's end closed");
        assert_eq!(passive.story.fin.retransmits, losses);
        let schedule: Vec<Duration> = passive.story.fin.schedule.iter().collect();
        assert_eq!(schedule.len(), losses as usize);
        assert!(schedule.is_sorted() && schedule[0] >= Duration::from_millis(150), "{schedule:?}");

        assert_eq!(oracle::sockstat(&client)["tw"], 1);
        let closed = observer.closed(2);
        drop(wire);
        client.destroy();
        let is_purged = |told: &Told| !told.minisocks_ended_of(&closed).is_empty();
        let told = observer.wait_until("the TIME-WAIT is purged", is_purged);
        let [ended] = told.minisocks_ended_of(&closed)[..] else { panic!("one minisock") };
        assert_eq!(ended.cause, EndCause::Purged);
        let time_wait = ended.time_wait.expect("it was a TIME-WAIT");
        assert_eq!(
            (time_wait.witness, time_wait.final_acks_lost),
            (observer.witness(), observer.if_segments_are_seen(losses)),
            "{ended:#?}"
        );
        // Each of them restarts the wait. Of one that began in FIN-WAIT-2, the timer wheel may hide the flip and every restart,
        // and the end shows the last start alone, which is taken for the flip.
        let shown = u32::from(ended.began_in != Some(TcpState::FinWait2));
        observer.restarts_are(&time_wait, losses, shown);
        let least = Duration::from_secs(30) + schedule[schedule.len() - 1];
        assert_eq!(
            time_wait.needed.map(|needed| needed + Duration::from_millis(50) >= least),
            observer.if_segments_are_seen(true),
            "{ended:#?}"
        );
        // Where no start but one is known, that is the beginning.
        assert_eq!(time_wait.since_last_restart < time_wait.dwell, time_wait.restarts > 0, "{ended:#?}");
    }
}

#[test]
fn the_peers_fin_is_duplicated() {
    let lab = Lab::new();
    let (client, server) = lab.pair(Family::V4);
    lab.wire.set_policy(each(fin_from(Direction::ServerToClient), OnTheWire::Duplicate));
    drop(client);
    assert_eq!(read_to_fin(&server), b"");
    oracle::wait_until(&lab.client, PATIENCE, |sockets| {
        sockets.iter().any(|socket| socket.state == oracle::TcpState::FinWait2)
    });
    drop(server);
    lab.server_is_gone();
    lab.observer.closed(2);
    let Lab { client, wire, observer, .. } = lab;
    wire.set_policy(pass());
    drop(wire);
    client.destroy();
    let told = observer.wait_until("the TIME-WAIT is purged", |told| !told.minisocks_ended().is_empty());
    let time_wait = told.minisocks_ended()[0].time_wait.expect("it was a TIME-WAIT");
    assert_eq!(
        (time_wait.final_acks_lost, time_wait.strays),
        (observer.if_segments_are_seen(1), observer.if_segments_are_seen(0)),
        "{told:#?}",
        told = told.minisocks_ended()
    );
    observer.restarts_are(&time_wait, 1, 0);
}

#[test]
fn the_table_is_full() {
    for family in Family::BOTH {
        let bench = Bench::new();
        bench.netns.sysctl("net/ipv4/tcp_max_tw_buckets", "0");
        let before = Netstat::of(&bench.netns);
        let (mut conversation, socket) = bench.peer.accept_from(&bench.netns, family);
        drop(socket);
        conversation.expect_fin();
        conversation.ack();
        let [closed] = bench.observer.closed(1)[..] else { panic!("one end is the kernel's") };
        assert_eq!((closed.then, closed.story.manner), (Some(Then::Refused), Some(Manner::Graceful)));
        assert_eq!(Netstat::of(&bench.netns).since(&before).get("TcpExt", "TCPTimeWaitOverflow"), 1);
        bench.agrees();
    }
}

#[test]
fn linger2_bounds_fin_wait2() {
    let bench = Bench::new();
    let (mut conversation, socket) = bench.peer.accept_from(&bench.netns, Family::V4);
    set_linger2(&socket, 2);
    drop(socket);
    conversation.expect_fin();
    conversation.ack();
    let ended = bench.ended();
    assert_eq!((ended.cause, ended.time_wait), (EndCause::FinWait2Timeout, None));
    about(ended.fin_wait2.expect("FIN-WAIT-2 was measured"), Duration::from_secs(2));
    // That its timer leaves the wheel is no record of its own: those that expire come by the hundred thousand.
    let submitted = bench.observer.now().counters.submitted;
    assert_eq!(submitted[RecordKind::TimerCancel as usize], 0);
    assert_eq!(submitted[RecordKind::TimerExpire as usize], 1);
    bench.agrees();
}

#[test]
fn a_negative_linger2_resets_instead_of_fin_wait2() {
    let bench = Bench::new();
    let (mut conversation, socket) = bench.peer.accept_from(&bench.netns, Family::V6);
    set_linger2(&socket, -1);
    drop(socket);
    conversation.expect_fin();
    conversation.ack();
    let [closed] = bench.observer.closed(1)[..] else { panic!("one end is the kernel's") };
    assert_ne!(closed.then, Some(Then::Refused), "nothing was due: {closed:#?}");
    assert_eq!(closed.story.manner, Some(Manner::ResetSent), "{closed:#?}");
    bench.agrees();
}

#[test]
fn fin_timeout_ends_fin_wait2() {
    // Both families wait at once.
    let waiting = Family::BOTH.map(|family| {
        let bench = Bench::new();
        bench.netns.sysctl("net/ipv4/tcp_fin_timeout", "5");
        let conversation = bench.in_fin_wait2(family);
        (bench, conversation)
    });
    for (bench, conversation) in waiting {
        let told = bench.observer.wait_at_most(Duration::from_secs(7), "the time is up", |told| {
            !told.minisocks_ended().is_empty()
        });
        let ended = told.minisocks_ended()[0];
        assert_eq!((ended.cause, ended.time_wait), (EndCause::FinWait2Timeout, None));
        about(ended.fin_wait2.expect("FIN-WAIT-2 was measured"), Duration::from_secs(5));
        bench.agrees();
        drop(conversation);
    }
}

#[test]
fn without_a_witness_what_is_not_seen_is_not_said() {
    let bench = Bench::watched_by(|netns| Observer::attach_without_witness(&[netns]));
    let mut conversation = bench.in_fin_wait2(Family::V4);
    std::thread::sleep(Duration::from_millis(300));
    conversation.fin();
    conversation.expect_ack();
    bench.minisock_in(oracle::TcpState::TimeWait);
    std::thread::sleep(Duration::from_millis(200));
    conversation.rst();
    let ended = bench.ended();
    assert_eq!(ended.cause, EndCause::Assassinated);
    let time_wait = ended.time_wait.expect("it became a TIME-WAIT");
    // The functions that deal with minisocks tell of every start; the timer wheel hides most.
    assert_eq!(time_wait.witness, bench.observer.witness());
    assert_eq!((time_wait.final_acks_lost, time_wait.strays, time_wait.needed), (None, None, None));
    // The timer itself tells when the flip was, though no event did.
    about(time_wait.dwell, Duration::from_millis(200));
    about(ended.fin_wait2.expect("FIN-WAIT-2 was measured"), Duration::from_millis(300));
    bench.agrees();
}

/// `TCP_LINGER2`, in seconds; negative for none.
fn set_linger2(socket: &TcpStream, seconds: libc::c_int) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the option is an int, and the descriptor is open.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_LINGER2,
            std::ptr::from_ref(&seconds).cast(),
            libc::socklen_t::try_from(size_of_val(&seconds)).expect("an int is small"),
        )
    };
    assert_eq!(outcome, 0, "set TCP_LINGER2");
}
