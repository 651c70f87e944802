//! Every way a minisock can end, each told by its cause and held against the kernel's counters.

use std::{net::SocketAddr, thread, time::Duration};

use tcp_close::{
    clock::monotonic_now as now,
    decode::CancelSites,
    kernel::symbols::Symbols,
    lifecycle::observation::{EndCause, Manner, Verdict},
    probe::{Preflight, ProbeSettings},
};
use tcp_close_test::{
    address::Family,
    clock::PATIENCE,
    netns::Netns,
    oracle::{self, Netstat, NotDestroyed},
    peer::Conversation,
    stream,
};

use crate::{bench::Bench, observer::Observer, read_to_fin};

#[test]
fn a_connect_from_a_bound_port_takes_the_pair() {
    for family in Family::BOTH {
        let bench = Bench::new();
        bench.netns.sysctl("net/ipv4/tcp_tw_reuse", "0");
        let mut conversation = bench.bound_in_fin_wait2(family);
        conversation.fin();
        conversation.expect_ack();
        bench.minisock_in(oracle::TcpState::TimeWait);
        let before = Netstat::of(&bench.netns);
        let (again, stream) = bench.connect_bound(conversation.kernel(), conversation.peer());

        let ended = bench.ended();
        assert_eq!(ended.cause, EndCause::Reused);
        assert_eq!(ended.by.map(|by| by.pid), Some(std::process::id()), "the new owner");
        assert_eq!(ended.time_wait.map(|time_wait| time_wait.verdict), Some(Verdict::Premature));
        assert_eq!(Netstat::of(&bench.netns).since(&before).get("TcpExt", "TWRecycled"), 1);
        bench.agrees();
        drop((again, stream));
    }
}

#[test]
fn a_connect_from_a_port_of_the_kernels_choice_takes_the_pair() {
    for family in Family::BOTH {
        let netns = Netns::new();
        netns.sysctl("net/ipv4/tcp_tw_reuse", "1");
        // The kernel's own condition, in milliseconds; before Linux 6.14, until the next second begins.
        let delay = Duration::from_millis(if netns.try_sysctl("net/ipv4/tcp_tw_reuse_delay", "1") {
            5
        } else {
            1050
        });
        netns.sysctl("net/ipv4/ip_local_port_range", "40000 40001");
        let observer = Observer::attach(&[&netns]);
        let listener = stream::listener(&netns, family.loopback());
        let to = listener.local_addr().expect("an address");
        let open_and_close = || {
            let client = stream::connect(&netns, to);
            let (server, _) = listener.accept().expect("accept");
            drop(client);
            assert_eq!(read_to_fin(&server), b"");
            drop(server);
        };
        // The listener has one of the two ports: from the second connection on, the pair is one in TIME-WAIT.
        for _ in 0..3 {
            open_and_close();
            oracle::wait_until(&netns, PATIENCE, |sockets| {
                sockets.iter().any(|socket| socket.state == oracle::TcpState::TimeWait)
            });
            thread::sleep(delay);
        }
        let told = observer.wait_until("closes", |told| told.closed().len() == 6);
        assert_eq!(told.minisocks_ended().len(), 2);
        for ended in told.minisocks_ended() {
            assert_eq!(ended.cause, EndCause::Reused, "{ended:#?}");
            assert_eq!(ended.by.map(|by| by.pid), Some(std::process::id()));
        }
        observer.agrees_with_the_kernel(&[&netns]);
    }
}

#[test]
fn a_connect_takes_the_pair_of_a_minisock_in_fin_wait2() {
    for family in Family::BOTH {
        let bench = Bench::new();
        let conversation = bench.bound_in_fin_wait2(family);
        let (again, stream) = bench.connect_bound(conversation.kernel(), conversation.peer());
        let ended = bench.ended();
        assert_eq!((ended.cause, ended.time_wait), (EndCause::Reused, None));
        bench.agrees();
        drop((again, stream));
    }
}

#[test]
fn an_incoming_syn_takes_the_pair() {
    for family in Family::BOTH {
        let bench = Bench::new();
        let (conversation, listener) = bench.accepted_in_time_wait(family);
        let initial = conversation.snd_nxt.wrapping_add(100_000);
        let again = bench.peer.connect_from(conversation.peer(), conversation.kernel(), initial);
        let ended = bench.ended();
        assert_eq!((ended.cause, ended.by), (EndCause::Recycled, None));
        bench.agrees();
        drop((again, listener));
    }
}

#[test]
fn a_reset_kills_time_wait_only_with_the_exact_sequence_number() {
    for family in Family::BOTH {
        let bench = Bench::new();
        let conversation = bench.in_time_wait(family);
        conversation.rst_at(conversation.snd_nxt.wrapping_add(1));
        conversation.rst_at(conversation.snd_nxt);
        let ended = bench.ended();
        assert_eq!(ended.cause, EndCause::Assassinated);
        assert_eq!(
            ended.time_wait.and_then(|time_wait| time_wait.strays),
            bench.observer.if_segments_are_seen(1),
            "one off is a stray: {ended:#?}"
        );
        bench.agrees();
    }
}

#[test]
fn rfc_1337_protects_time_wait() {
    let bench = Bench::new();
    bench.netns.sysctl("net/ipv4/tcp_rfc1337", "1");
    let conversation = bench.in_time_wait(Family::V4);
    conversation.rst();
    // The kernel has dealt with it by now.
    let told = bench.observer.now();
    let absorbed = bench.observer.if_segments_are_seen((0, 1)).unwrap_or_default();
    assert_eq!(told.absorbed(), absorbed, "the reset is absorbed");
    assert_eq!(oracle::sockstat(&bench.netns)["tw"], 1, "it is still there");
    assert!(told.minisocks_ended().is_empty());
    bench.agrees();
}

#[test]
fn a_fin_again_is_answered_and_the_answer_meets_a_reset() {
    let bench = Bench::new();
    let mut conversation = bench.in_time_wait(Family::V4);
    conversation.fin_at(conversation.snd_nxt.wrapping_sub(1), conversation.rcv_nxt);
    conversation.expect_ack();
    conversation.rst();
    let ended = bench.ended();
    assert_eq!(ended.cause, EndCause::Assassinated);
    let time_wait = ended.time_wait.expect("it was a TIME-WAIT");
    let seen = |count| bench.observer.if_segments_are_seen(count);
    assert_eq!((time_wait.final_acks_lost, time_wait.strays), (seen(1), seen(0)));
    bench.agrees();
}

#[test]
fn a_reset_kills_a_minisock_in_fin_wait2() {
    for family in Family::BOTH {
        let bench = Bench::new();
        let conversation = bench.in_fin_wait2(family);
        conversation.rst();
        let ended = bench.ended();
        assert_eq!((ended.cause, ended.time_wait), (EndCause::ResetInFinWait2, None));
        assert!(ended.fin_wait2.is_some());
        bench.agrees();
    }
}

#[test]
fn data_after_close_is_answered_by_a_reset() {
    for family in Family::BOTH {
        let bench = Bench::new();
        let mut conversation = bench.in_fin_wait2(family);
        conversation.data(b"too late");
        conversation.expect_rst();
        let ended = bench.ended();
        assert_eq!((ended.cause, ended.time_wait), (EndCause::ResetByUs, None));
        bench.agrees();
    }
}

#[test]
fn a_namespace_takes_its_minisocks_with_it() {
    let netns = Netns::new();
    let observer = Observer::attach(&[&netns]);
    for family in Family::BOTH {
        for _ in 0..5 {
            let (client, server) = stream::pair(&netns, &netns, family.loopback());
            drop(client);
            assert_eq!(read_to_fin(&server), b"");
            drop(server);
        }
    }
    let closed = observer.closed(20);
    observer.agrees_with_the_kernel(&[&netns]);
    let left = oracle::sockstat(&netns)["tw"];
    assert_eq!(left, 10);
    netns.destroy();
    let told = observer.wait_until("all are purged", |told| told.minisocks_ended_of(&closed).len() >= 10);
    let ended = told.minisocks_ended_of(&closed);
    for ended in &ended {
        assert_eq!((ended.cause, ended.by), (EndCause::Purged, None), "{ended:#?}");
    }
    assert_eq!(i64::try_from(ended.len()), Ok(left));
}

#[test]
fn an_operator_kills_it() {
    for family in Family::BOTH {
        let bench = Bench::new();
        let conversation = bench.in_time_wait(family);
        let destroyed = oracle::destroy(&bench.netns, |socket| socket.state == oracle::TcpState::TimeWait);
        if destroyed == Err(NotDestroyed::Unsupported) {
            // This kernel does not let him; and no end is told.
            assert_eq!(oracle::sockstat(&bench.netns)["tw"], 1);
            assert!(bench.observer.now().minisocks_ended().is_empty());
            bench.agrees();
            continue;
        }
        assert_eq!(destroyed, Ok(()));
        let ended = bench.ended();
        assert_eq!(ended.cause, EndCause::Killed);
        assert_eq!(ended.by.map(|by| by.pid), Some(std::process::id()), "the operator is this process");
        bench.agrees();
        drop(conversation);
    }
}

#[test]
fn an_operator_kills_a_full_socket() {
    let bench = Bench::new();
    let (conversation, socket) = bench.peer.accept_from(&bench.netns, Family::V4);
    assert_eq!(oracle::destroy(&bench.netns, |socket| socket.state == oracle::TcpState::Established), Ok(()));
    let [closed] = bench.observer.closed(1)[..] else { panic!("one end is the kernel's") };
    assert_eq!(closed.story.manner, Some(Manner::Killed));
    bench.agrees();
    drop((conversation, socket));
}

#[test]
fn a_function_that_is_hidden_makes_its_cause_unknown_and_no_other() {
    let hidden = |names: &[&str]| -> &'static Preflight {
        let symbols = Symbols::running(CancelSites::functions()).expect("kernel addresses can be read");
        let sites = CancelSites::from_symbols_but(&symbols, names);
        Box::leak(Box::new(Preflight::run().expect("the kernel publishes BTF").with_cancel_sites(sites)))
    };
    // Only there is the kernel's stack what tells the cause.
    let family = tcp_close::probe::Family::Tracepoint;
    let settings = || ProbeSettings { ring_bytes: 1 << 20, family, ..ProbeSettings::default() };

    let preflight = hidden(&["tcp_timewait_state_process"]);
    let bench = Bench::watched_by(|netns| Observer::attach_with(&[netns], preflight, &settings()));
    bench.in_time_wait(Family::V4).rst();
    assert_eq!(bench.ended().cause, EndCause::Unknown, "a reset kills there");

    let bench = Bench::watched_by(|netns| Observer::attach_with(&[netns], preflight, &settings()));
    bench.in_fin_wait2(Family::V4).data(b"too late");
    assert_eq!(bench.ended().cause, EndCause::ResetByUs, "that is done elsewhere");
}

/// The timer wheel fires up to two seconds after the nominal end. What ends a TIME-WAIT in between is no expiry,
/// however late it is.
#[test]
fn an_end_after_the_nominal_minute_is_not_an_expiry() {
    let bench = Bench::new();
    let open = |port: u16| {
        let from = SocketAddr::new(Family::V4.client(), port);
        let (mut conversation, socket) =
            bench.connect_bound(from, SocketAddr::new(Family::V4.server(), 43_000));
        socket.shutdown(std::net::Shutdown::Write).expect("half-close");
        conversation.expect_fin();
        conversation.ack();
        conversation.fin();
        conversation.expect_ack();
        conversation
    };
    // Spread over more than a bucket of the wheel, so that some of them have long to wait for its end.
    let conversations: Vec<Conversation> = (0..12)
        .map(|index| {
            thread::sleep(Duration::from_millis(250));
            open(20_000 + index)
        })
        .collect();
    // Whether it is still there when its time is up.
    let past_its_end = |port: u16| {
        let of_port = |socket: &&oracle::Socket| socket.local.port() == port;
        let left = oracle::sockets(&bench.netns).iter().find(of_port).map(|socket| socket.expires);
        thread::sleep(left.unwrap_or_default());
        let sockets = oracle::wait_until(&bench.netns, PATIENCE, |sockets| {
            sockets.iter().find(of_port).is_none_or(|socket| socket.expires.is_zero())
        });
        sockets.iter().any(|socket| socket.local.port() == port)
    };
    // What was done then to whose minisock; it may have reached the end of its bucket just before.
    let (mut deeds, mut taken) = (Vec::new(), Vec::new());
    let mut can_kill = true;
    for (index, conversation) in conversations.iter().enumerate().take(10) {
        let port = conversation.kernel().port();
        if !past_its_end(port) {
            continue;
        }
        let begun = now();
        if index % 2 == 1 && can_kill {
            let destroyed = oracle::destroy(&bench.netns, |socket| socket.local.port() == port);
            can_kill = destroyed != Err(NotDestroyed::Unsupported);
            deeds.extend(destroyed.is_ok().then_some((port, begun, EndCause::Killed)));
        } else {
            taken.push(bench.connect_bound(conversation.kernel(), conversation.peer()));
            deeds.push((port, begun, EndCause::Reused));
        }
    }
    let last = conversations[conversations.len() - 1].kernel().port();
    let left_past_its_end = past_its_end(last);
    bench.agrees();
    let Bench { netns, peer, observer } = bench;
    drop((peer, conversations, taken));
    deeds.extend(left_past_its_end.then(|| (last, now(), EndCause::Purged)));
    netns.destroy();
    let told = observer.wait_until("all ended", |told| told.minisocks_ended().len() >= 12).minisocks_ended();
    let mut seen = Vec::new();
    for ended in &told {
        let deed =
            deeds.iter().find(|&&(port, begun, _)| port == ended.pair.local.port() && ended.at >= begun);
        let Some(&(.., cause)) = deed else {
            continue;
        };
        let time_wait = ended.time_wait.expect("each was a TIME-WAIT");
        // The kernel takes its time over a namespace; its bucket may end before that.
        let is_so = ended.cause == cause || (cause, ended.cause) == (EndCause::Purged, EndCause::Expired);
        assert!(is_so && time_wait.verdict == Verdict::Nominal, "{ended:#?}");
        assert!(time_wait.dwell + Duration::from_millis(20) >= Duration::from_secs(60), "{ended:#?}");
        seen.push(cause);
    }
    let all_were_seen = seen.contains(&EndCause::Reused) && (seen.contains(&EndCause::Killed) || !can_kill);
    assert!(all_were_seen, "of {deeds:?}: {told:#?}");
}
