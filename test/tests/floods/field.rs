//! Where a flood comes down: a kernel, a peer made by hand, and a daemon that watches; and the account of it.

use std::{
    cell::Cell,
    env,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use tcp_close_test::{
    address::Family,
    clock::{self, PATIENCE},
    netns::Netns,
    oracle::{self, Netstat, TcpState, Timer},
    peer::{Conversation, Peer},
    segment::{Direction, Flags, Segment},
};

use crate::{
    accounts::{Accounting, spent},
    daemon::{Daemon, Exposition},
};

/// Segments between two looks at the accounts.
const ROUND: u32 = 500;

/// Rounds after which the daemon has the room that a round takes.
const WARM_UP: u32 = 6;

/// What the daemon may have kept of a flood that it took in bit by bit, in bytes: its allocator's arenas, and pages that a
/// scrape touches for the first time. 12 000 records of 350 bytes would be more.
const KEPT: f64 = 4e6;

/// What it may have taken for a flood that comes at once, in bytes. A turn takes in what is in the ring, and a record is up
/// to ten times as long once it is an observation. Seen were 38 MB.
const TAKEN: f64 = 80e6;

/// What a segment of a flood may cost, some ten times what was seen on two processors at 3 GHz.
pub(crate) struct Cost {
    /// Runs of our programs.
    runs: f64,
    /// Nanoseconds that they take.
    nanoseconds: f64,
    /// Records that they put into the ring.
    records: f64,
    /// Microseconds that the daemon takes.
    microseconds: f64,
}

impl Cost {
    /// One that is of no interest: `kfree_skb` shows it as it is dropped, which takes 50 ns; and the request socket of a
    /// SYN starts a timer. The daemon hears of none; there are only the scrapes of the test.
    pub(crate) const OF_NOTHING: Self =
        Self { runs: 2.0, nanoseconds: 500.0, records: 0.0, microseconds: 10.0 };

    /// One that is answered by a reset, which one of two programs counts; 230 ns. It makes three run, and what is beyond that
    /// is other traffic of the host, of which there may be more during a round than after it.
    pub(crate) const OF_A_RESET: Self = Self { runs: 3.05, nanoseconds: 1500.0, ..Self::OF_NOTHING };

    /// One of which there is something to tell: 500 ns in the kernel. Where it starts a timer again, that is a record,
    /// too, and so is its cancellation; most do not show (`__mod_timer` leaves a timer alone whose bucket stays).
    pub(crate) const OF_RECORDS: Self =
        Self { runs: 4.0, nanoseconds: 5000.0, records: 3.0, microseconds: 30.0 };
}

/// What a flood has done.
pub(crate) struct Flooded {
    pub(crate) segments: f64,
    pub(crate) before: Exposition,
    pub(crate) after: Exposition,
    pub(crate) kernel: Netstat,
}

impl Flooded {
    /// How much a metric has grown, over all of its series.
    #[track_caller]
    pub(crate) fn grown(&self, metric: &str) -> f64 {
        self.after.sum(metric) - self.before.sum(metric)
    }

    /// Records that were lost, and counted.
    pub(crate) fn lost(&self) -> f64 {
        self.grown("tcp_close_events_lost_total")
    }

    /// Each segment is told by this metric, or lost and counted: a busy machine may not read the ring in time.
    #[track_caller]
    pub(crate) fn are_told_as(&self, metric: &str) {
        let told = self.grown(metric);
        let counted = told..=told + self.lost();
        assert!(counted.contains(&self.segments), "{told} of {}; {}", self.segments, self.after);
    }

    /// How much a counter of the kernel has grown.
    #[track_caller]
    pub(crate) fn kernel(&self, group: &str, name: &str) -> f64 {
        self.kernel.get(group, name) as f64
    }
}

/// A kernel with a daemon on it, and a hand-made peer.
pub(crate) struct Field {
    pub(crate) netns: Netns,
    pub(crate) peer: Peer,
    daemon: Daemon,
    _accounting: Accounting,
    /// Programs run for every namespace, and their accounts do not say for which: one flood at a time.
    _alone: MutexGuard<'static, ()>,
}

impl Field {
    pub(crate) fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let netns = Netns::new();
        let peer = Peer::new(&netns);
        let daemon = Daemon::watching(&[&netns], &[]);
        Self { netns, peer, daemon, _accounting: Accounting::on(), _alone: alone }
    }

    /// An established connection that the kernel opened, and its socket.
    #[track_caller]
    pub(crate) fn established(&self, family: Family) -> (Conversation, TcpStream) {
        self.peer.accept_from(&self.netns, family)
    }

    /// Connections that the kernel has closed first, and that are in TIME-WAIT now.
    #[track_caller]
    pub(crate) fn time_waits(&self, count: usize) -> Vec<Conversation> {
        let conversations = (0..count).map(|number| {
            let (mut conversation, socket) = self.established(Family::BOTH[number % 2]);
            drop(socket);
            conversation.expect_fin();
            conversation.ack();
            conversation.fin();
            conversation.expect_ack();
            conversation
        });
        let conversations = conversations.collect();
        oracle::wait_until(&self.netns, PATIENCE, |table| {
            table.iter().filter(|socket| socket.state == TcpState::TimeWait).count() == count
        });
        // Which ports they use is looked up later, on a busy machine much later, and makes series of its own.
        self.daemon.scrape_until(4 * PATIENCE, |exposition| {
            let used = exposition.sum("tcp_close_ports_used");
            (used != count as f64).then(|| format!("{used} ports of {count} are known"))
        });
        conversations
    }

    /// Listeners over IPv4 and IPv6, at the same port.
    pub(crate) fn listeners(&self, backlog: i32) -> [TcpListener; 2] {
        Family::BOTH.map(|family| {
            let address = SocketAddr::new(family.client(), LISTENER);
            self.netns.run(move || {
                let listener = TcpListener::bind(address).expect("listen");
                // Once more, for a backlog of one's own.
                rustix::net::listen(&listener, backlog).expect("listen with this backlog");
                listener
            })
        })
    }

    /// Floods a hundred TIME-WAITs with such segments, so far beyond what their peers have sent; each is told by this metric.
    #[track_caller]
    pub(crate) fn flood_time_waits(&self, flags: Flags, beyond: impl Fn(u32) -> u32, told_as: &str) {
        let time_waits = self.time_waits(100);
        let flooded = self.flood(&Cost::OF_RECORDS, |number| {
            let conversation = &time_waits[number as usize % time_waits.len()];
            to(conversation, flags, conversation.snd_nxt.wrapping_add(beyond(number)))
        });
        flooded.are_told_as(told_as);
    }

    /// Lets a flood come down, and holds what it costs against what it may.
    ///
    /// The first half comes in rounds, with a scrape after each, so that the daemon never has more than a round's records
    /// at a time: memory that grows all the same was kept. The other half comes as fast as the kernel takes it.
    #[track_caller]
    pub(crate) fn flood(&self, cost: &Cost, segment: impl Fn(u32) -> Segment) -> Flooded {
        let kernel = Netstat::of(&self.netns);
        let before = self.settled();
        let half = segments() / 2;
        // The first rounds make the room that those after them need, too.
        self.in_rounds(0..WARM_UP, &segment);
        let memory = self.daemon.memory();
        let (runs, nanoseconds) = self.in_rounds(WARM_UP..half / ROUND, &segment);
        let after_rounds = self.settled();
        let kept = self.daemon.memory() - memory;
        self.peer.flood((half..2 * half).map(segment));
        let after = self.settled();
        let taken = self.daemon.memory() - memory;

        let kernel = Netstat::of(&self.netns).since(&kernel);
        let cpu = "process_cpu_seconds_total";
        let microseconds = 1e6 * (after.get(cpu) - after_rounds.get(cpu)) / f64::from(half);
        let flooded = Flooded { segments: f64::from(2 * half), before, after, kernel };
        // One that is lost was a record that found no room.
        let records = (flooded.grown("tcp_close_events_total") + flooded.lost()) / flooded.segments;
        println!(
            "a segment: {runs:.2} runs, {nanoseconds:.0} ns, {records:.3} records, {microseconds:.1} µs of the daemon; \
             {kept:+} bytes kept, {taken:+} taken"
        );
        let Flooded { after, .. } = &flooded;
        assert!(runs <= cost.runs, "{runs} runs a segment, {} at most; {after}", cost.runs);
        assert!(nanoseconds <= cost.nanoseconds, "{nanoseconds} ns a segment; {after}");
        assert!(records <= cost.records, "{records} records a segment; {after}");
        assert!(microseconds <= cost.microseconds, "{microseconds} µs a segment; {after}");
        assert!(kept <= KEPT, "the daemon keeps {kept} bytes; {after}");
        assert!(taken <= TAKEN, "the daemon has taken {taken} bytes; {after}");
        self.check_figures(&flooded);
        flooded
    }

    /// Sends rounds of segments; gives back the runs and the nanoseconds that a segment of the median round costs.
    ///
    /// Other traffic of the host makes our programs run, too: as much of it as comes in the time after a round is taken to
    /// have come during that.
    fn in_rounds(&self, rounds: Range<u32>, segment: impl Fn(u32) -> Segment) -> (f64, f64) {
        let rounds = rounds.map(|round| {
            let (begun, before) = (clock::now(), spent(self.daemon.pid()));
            self.peer.flood((round * ROUND..(round + 1) * ROUND).map(&segment));
            let (ended, after) = (clock::now(), spent(self.daemon.pid()));
            thread::sleep(ended.saturating_sub(begun));
            let others = spent(self.daemon.pid());
            self.daemon.scrape();
            let each = |total: f64| total / f64::from(ROUND);
            (
                each((after.runs - before.runs) - (others.runs - after.runs)),
                each((after.nanoseconds - before.nanoseconds) - (others.nanoseconds - after.nanoseconds)),
            )
        });
        let (runs, nanoseconds): (Vec<_>, Vec<_>) = rounds.unzip();
        let median = |mut of: Vec<f64>| {
            of.sort_by(f64::total_cmp);
            of[of.len() / 2]
        };
        (median(runs), median(nanoseconds))
    }

    /// What holds after every flood, whatever it is made of.
    #[track_caller]
    fn check_figures(&self, flooded: &Flooded) {
        let Flooded { before, after, .. } = flooded;
        assert_eq!(after.series(), before.series(), "no series comes, and none goes");
        for metric in [
            "tcp_close_endpoints_closed_total",
            "tcp_close_events_unmatched_total",
            "tcp_close_reconcile_corrections_total",
            "tcp_close_tracked_evicted_total",
            "tcp_close_transitions_total",
        ] {
            assert_eq!(flooded.grown(metric), 0.0, "{metric}; {after}");
        }
        let sent = after.sum_of("tcp_close_resets_total", "direction=\"sent\"")
            - before.sum_of("tcp_close_resets_total", "direction=\"sent\"");
        assert_eq!(sent, flooded.kernel("Tcp", "OutRsts"), "resets sent; {after}");
        let table = oracle::sockets(&self.netns);
        for (state, label) in [
            (TcpState::FinWait1, "fin_wait1"),
            (TcpState::FinWait2, "fin_wait2"),
            (TcpState::TimeWait, "time_wait"),
            (TcpState::CloseWait, "close_wait"),
            (TcpState::Closing, "closing"),
            (TcpState::LastAck, "last_ack"),
        ] {
            let kernels = table.iter().filter(|socket| socket.state == state).count();
            assert_eq!(after.sockets(label), kernels as f64, "{label}; {after}");
        }
        let minisocks = table.iter().filter(|socket| socket.timer == Timer::TimeWait).count();
        assert_eq!(after.get("tcp_close_tracked{table=\"minisocks\"}"), minisocks as f64, "{after}");
    }

    /// What is exported once nothing moves any more: no record is on its way.
    #[track_caller]
    fn settled(&self) -> Exposition {
        let seen = Cell::new(-1.0);
        self.daemon.scrape_until(4 * PATIENCE, |exposition| {
            let figures =
                ["tcp_close_events_total", "tcp_close_transitions_total", "tcp_close_endpoints_closed_total"];
            let now = figures.iter().map(|metric| exposition.sum(metric)).sum::<f64>();
            let is_still = seen.replace(now) == now;
            (!is_still).then(|| "events go on".to_owned())
        })
    }
}

/// How many segments there are to a flood.
fn segments() -> u32 {
    if env::var_os("TCP_CLOSE_TEST_FULL").is_some_and(|value| value == "1") { 100_000 } else { 30_000 }
}

/// Where the listeners are, if there are any.
pub(crate) const LISTENER: u16 = 7000;
/// Where nobody listens.
pub(crate) const CLOSED: u16 = 7001;

/// A segment of a flood to a port of the kernel: each from another place, over IPv4 and IPv6 in turn.
pub(crate) fn from_anywhere(number: u32, port: u16, flags: Flags) -> Segment {
    let (family, host) = (Family::BOTH[number as usize % 2], number / 2);
    // A few hundred hosts are all that the network has for IPv4; ports do the rest.
    let source: IpAddr = match family {
        Family::V4 => {
            let [.., last] = (2 + host % 250).to_be_bytes();
            Ipv4Addr::new(192, 0, 2, last).into()
        }
        Family::V6 => {
            let first = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 1, 0, 0, 0);
            Ipv6Addr::from_bits(first.to_bits() + u128::from(host)).into()
        }
    };
    let from_port = u16::try_from(1024 + number % 60_000).expect("a port");
    segment(
        flags,
        (SocketAddr::new(source, from_port), SocketAddr::new(family.client(), port)),
        number.wrapping_mul(7919),
        1,
    )
}

/// A segment of a flood to a connection.
pub(crate) const fn to(conversation: &Conversation, flags: Flags, seq: u32) -> Segment {
    segment(flags, (conversation.peer(), conversation.kernel()), seq, conversation.rcv_nxt)
}

const fn segment(
    flags: Flags,
    (source, destination): (SocketAddr, SocketAddr),
    seq: u32,
    ack: u32,
) -> Segment {
    let ack = if flags.contains(Flags::ACK) { ack } else { 0 };
    Segment {
        direction: Direction::ServerToClient,
        source,
        destination,
        seq,
        ack,
        flags,
        window: 1000,
        length: 0,
        timestamps: None,
    }
}

/// Both ends still speak to each other.
#[track_caller]
pub(crate) fn lives(conversation: &mut Conversation, stream: &mut TcpStream) {
    conversation.data(b"alive");
    stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).expect("the peer's data come through");
    assert_eq!(&bytes, b"alive");
}
