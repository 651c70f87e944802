//! Thousands of closes of every kind, in no order: each is told once, with its cause, and nothing is left over.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use rustix::net::sockopt;
use tcp_close::lifecycle::observation::{Closed, EndCause, Manner, Then};
use tcp_close_test::{
    address::Family,
    oracle::{self, NotDestroyed},
    peer::Conversation,
    stream,
};

use crate::{bench::Bench, many_connections, observer::Told};

/// Ways for a connection to end, with how often of a hundred times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Purged,
    PurgedInFinWait2,
    Assassinated,
    ResetInFinWait2,
    ResetByUs,
    Recycled,
    Reused,
    ReusedInFinWait2,
    FinAgain,
    Refused,
    Killed,
    LingerZero,
    Passive,
}

/// A fixed sequence that looks like none (Knuth's MMIX multiplier and increment).
struct Dice(u64);

impl Dice {
    const fn ending(&mut self) -> Ending {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match (self.0 >> 33) % 100 {
            0..20 => Ending::Purged,
            20..28 => Ending::PurgedInFinWait2,
            28..38 => Ending::Assassinated,
            38..46 => Ending::ResetInFinWait2,
            46..54 => Ending::ResetByUs,
            54..62 => Ending::Recycled,
            62..70 => Ending::Reused,
            70..76 => Ending::ReusedInFinWait2,
            76..82 => Ending::FinAgain,
            82..86 => Ending::Refused,
            86..88 => Ending::Killed,
            88..94 => Ending::LingerZero,
            _ => Ending::Passive,
        }
    }
}

struct Storm {
    bench: Bench,
    listener: TcpListener,
    next_port: u16,
}

impl Storm {
    fn new() -> Self {
        let bench = Bench::new();
        let listener = stream::listener(&bench.netns, Family::V4.client());
        Self { bench, listener, next_port: 10_000 }
    }

    const fn port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// The kernel opened it and closed it first, from a port that may be bound again; its FIN is acknowledged.
    fn fin_wait2(&mut self) -> Conversation {
        let port = self.port();
        let (from, to) =
            (SocketAddr::new(Family::V4.client(), port), SocketAddr::new(Family::V4.server(), 9000));
        let (mut conversation, socket) = self.bench.connect_bound(from, to);
        drop(socket);
        conversation.expect_fin();
        conversation.ack();
        conversation
    }

    fn time_wait(&mut self) -> Conversation {
        let mut conversation = self.fin_wait2();
        conversation.fin();
        conversation.expect_ack();
        conversation
    }

    /// Takes the pair again from this side, and lets the peer reset it at once.
    fn connect_again(&self, last: &Conversation) {
        let (conversation, socket) = self.bench.connect_bound(last.kernel(), last.peer());
        conversation.rst();
        drop(socket);
    }

    /// Ends a connection in this way; gives back in which way it did end.
    fn end(&mut self, ending: Ending) -> Ending {
        match ending {
            Ending::Purged => drop(self.time_wait()),
            Ending::PurgedInFinWait2 => drop(self.fin_wait2()),
            Ending::Assassinated => self.time_wait().rst(),
            Ending::ResetInFinWait2 => self.fin_wait2().rst(),
            Ending::ResetByUs => {
                let mut conversation = self.fin_wait2();
                conversation.data(b"late");
                conversation.expect_rst();
            }
            Ending::Recycled => self.recycled(),
            Ending::Reused => {
                let last = self.time_wait();
                self.connect_again(&last);
            }
            Ending::ReusedInFinWait2 => {
                let last = self.fin_wait2();
                self.connect_again(&last);
            }
            Ending::FinAgain => {
                let mut conversation = self.time_wait();
                conversation.fin_at(conversation.snd_nxt.wrapping_sub(1), conversation.rcv_nxt);
                conversation.expect_ack();
            }
            Ending::Refused => {
                self.bench.netns.sysctl("net/ipv4/tcp_max_tw_buckets", "0");
                drop(self.fin_wait2());
                self.bench.netns.sysctl("net/ipv4/tcp_max_tw_buckets", "100000");
            }
            Ending::Killed => {
                let last = self.time_wait().kernel();
                match oracle::destroy(&self.bench.netns, |socket| socket.local == last) {
                    Ok(()) => {}
                    // Not on this kernel: it is left alone.
                    Err(NotDestroyed::Unsupported) => return Ending::Purged,
                    Err(NotDestroyed::Gone) => panic!("it was young"),
                }
            }
            Ending::LingerZero => {
                let to = SocketAddr::new(Family::V4.server(), 9001);
                let from = SocketAddr::new(Family::V4.client(), self.port());
                let (mut conversation, socket) = self.bench.connect_bound(from, to);
                sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("set SO_LINGER");
                drop(socket);
                conversation.expect_rst();
            }
            Ending::Passive => {
                let to = SocketAddr::new(Family::V4.server(), 9002);
                let from = SocketAddr::new(Family::V4.client(), self.port());
                let (mut conversation, socket) = self.bench.connect_bound(from, to);
                conversation.fin();
                conversation.expect_ack();
                drop(socket);
                conversation.expect_fin();
                conversation.ack();
            }
        }
        ending
    }

    /// The peer opens it, the kernel closes first, and the peer's next SYN takes the pair; that one is reset.
    fn recycled(&mut self) {
        let to = self.listener.local_addr().expect("an address");
        let from = SocketAddr::new(Family::V4.server(), self.port());
        let mut conversation = self.bench.peer.connect_from(from, to, 1_000_000);
        drop(self.listener.accept().expect("accept"));
        conversation.expect_fin();
        conversation.ack();
        conversation.fin();
        conversation.expect_ack();
        let initial = conversation.snd_nxt.wrapping_add(100_000);
        let again = self.bench.peer.connect_from(from, to, initial);
        let (socket, _) = self.listener.accept().expect("accept");
        again.rst();
        drop(socket);
    }
}

#[test]
fn every_ending_is_told_once() {
    let mut storm = Storm::new();
    let mut dice = Dice(42);
    let mut endings: BTreeMap<Ending, usize> = BTreeMap::new();
    let mut can_kill = false;
    let connections = many_connections() / 2;
    for _ in 0..connections {
        let wanted = dice.ending();
        let ending = storm.end(wanted);
        can_kill |= wanted == Ending::Killed && ending == wanted;
        *endings.entry(ending).or_default() += 1;
    }
    assert_eq!(endings.len(), if can_kill { 13 } else { 12 }, "every ending happened: {endings:?}");
    let of = |ending| endings.get(&ending).copied().unwrap_or_default();
    let Storm { bench, listener, .. } = storm;
    let Bench { netns, peer, observer } = bench;

    // A pair that is taken again is a second connection, which its peer resets.
    let second = of(Ending::Recycled) + of(Ending::Reused) + of(Ending::ReusedInFinWait2);
    let closes = connections as usize + second;
    let told = observer.wait_until("every close is told, or lost and counted", |told| {
        told.closed().len() as u64 + told.missed() >= closes as u64
    });
    if told.missed() > 0 {
        // Seldom: a kprobe is not run where another is. It may have been beside another test.
        assert!(observer.uses_kprobes(), "{} missed", told.missed());
        let told = observer.now();
        assert!(told.closed().len() <= closes, "{} told of {closes}", told.closed().len());
        let alive = told.minisocks_began().cast_signed() - told.minisocks_ended().len().cast_signed();
        let kernels = oracle::sockstat(&netns)["tw"];
        assert!(
            (alive as i64).abs_diff(kernels) <= told.missed(),
            "{alive} minisocks, the kernel has {kernels}"
        );
        return;
    }
    assert_eq!(told.closed().len(), closes);
    observer.agrees_with_the_kernel(&[&netns]);
    let manner = |manner| told.closed().iter().filter(|closed| closed.story.manner == Some(manner)).count();
    assert_eq!(manner(Manner::ResetReceived), second);
    assert_eq!(manner(Manner::ResetSent), of(Ending::LingerZero));
    assert_eq!(manner(Manner::Graceful), connections as usize - of(Ending::LingerZero));
    let refused = told.closed().iter().filter(|closed| closed.then == Some(Then::Refused)).count();
    assert_eq!(refused, of(Ending::Refused));

    let left = oracle::sockstat(&netns)["tw"];
    let told = observer.now();
    assert_eq!(
        told.left(),
        (0, usize::try_from(left).expect("a count")),
        "what is left is followed, and no more"
    );
    let (closed, absorbed) = (told.closed(), told.absorbed());
    let goes_on = |closed: &&Closed| matches!(closed.then, Some(Then::TimeWait | Then::FinWait2));
    let minisocks = closed.iter().filter(goes_on).count();
    drop((listener, peer));
    netns.destroy();
    let purged = of(Ending::Purged) + of(Ending::PurgedInFinWait2) + of(Ending::FinAgain);
    assert_eq!(i64::try_from(purged), Ok(left), "what is left is what was left alone");
    let is_over = |told: &Told| told.minisocks_ended_of(&closed).len() >= minisocks;
    let told = observer.wait_until("nothing is left", is_over);
    let mut causes: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    for ended in told.minisocks_ended_of(&closed) {
        *causes.entry((ended.cause.label(), ended.time_wait.is_some())).or_default() += 1;
    }
    let mut expected = BTreeMap::from([
        ((EndCause::Purged.label(), true), of(Ending::Purged) + of(Ending::FinAgain)),
        ((EndCause::Purged.label(), false), of(Ending::PurgedInFinWait2)),
        ((EndCause::Assassinated.label(), true), of(Ending::Assassinated)),
        ((EndCause::ResetInFinWait2.label(), false), of(Ending::ResetInFinWait2)),
        ((EndCause::ResetByUs.label(), false), of(Ending::ResetByUs)),
        ((EndCause::Recycled.label(), true), of(Ending::Recycled)),
        ((EndCause::Reused.label(), true), of(Ending::Reused)),
        ((EndCause::Reused.label(), false), of(Ending::ReusedInFinWait2)),
        ((EndCause::Killed.label(), true), of(Ending::Killed)),
    ]);
    expected.retain(|_, count| *count > 0);
    assert_eq!(causes, expected);
    let fins_again = observer.if_segments_are_seen(of(Ending::FinAgain)).unwrap_or_default();
    assert_eq!(absorbed.0, fins_again, "FINs that came again");
}
