//! The peer's device and the thread that listens to it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;

use crate::address::{CLIENT_V4, CLIENT_V6};
use crate::alarm::Alarm;
use crate::breakage::give_up;
use crate::clock::{self, Deadline};
use crate::journal::{Journal, LoggedSegment, transcript};
use crate::netns::Netns;
use crate::segment::{Direction, Segment, packet};
use crate::tun::{MTU, Tun};
use crate::wire::Verdict;

/// The device, and what went over it.
pub(super) struct Link {
    ether: Arc<Ether>,
    /// By port of the peer.
    accepted: Mutex<HashMap<u16, Accepted>>,
    listener: Option<JoinHandle<()>>,
}

/// The SYNs to a port that were given out.
#[derive(Default)]
struct Accepted {
    /// Where in the log to look for the next one.
    next: usize,
    /// Who sent them, with their sequence numbers.
    syns: HashSet<(SocketAddr, u32)>,
}

struct Ether {
    tun: Tun,
    journal: Mutex<Journal>,
    changed: Condvar,
    stop: Alarm,
}

impl Ether {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().expect("the peer's listener panicked")
    }

    fn note(&self, segment: Segment) {
        let mut journal = self.journal();
        let place = journal.add(clock::now(), segment, Verdict::Pass);
        journal.mark_forwarded(place);
        drop(journal);
        self.changed.notify_all();
    }

    /// Reads until the link is dropped.
    fn listen(&self) -> anyhow::Result<()> {
        let mut buffer = vec![0; usize::try_from(MTU).context("the MTU")?];
        while self.stop.wait_for([self.tun.as_fd()], None)? {
            if let Some(packet) = self.tun.read(&mut buffer)?
                && let Some(segment) = Segment::parse(Direction::ClientToServer, packet)
            {
                self.note(segment);
            }
        }
        Ok(())
    }
}

impl Link {
    pub(super) fn open(netns: &Netns) -> anyhow::Result<Arc<Self>> {
        let ether = Arc::new(Ether {
            tun: Tun::open(netns, CLIENT_V4, CLIENT_V6),
            journal: Mutex::default(),
            changed: Condvar::new(),
            stop: Alarm::new()?,
        });
        let listening = Arc::clone(&ether);
        let listener = thread::Builder::new()
            .name("peer".into())
            .spawn(move || listening.listen().expect("listen to the TUN device"))
            .context("start the thread of a peer")?;
        Ok(Arc::new(Self { ether, accepted: Mutex::default(), listener: Some(listener) }))
    }

    /// Sends a segment; it is in the log before the kernel's answer can be.
    #[track_caller]
    pub(super) fn send(&self, segment: Segment, payload: &[u8]) {
        let packet = packet(&segment, payload).expect("a segment of the peer has a form");
        self.ether.note(segment);
        self.ether.tun.write(&packet).expect("the kernel takes the peer's packet");
    }

    /// Sends a segment that is not to be in the log: one of very many.
    pub(super) fn send_unnoted(&self, segment: Segment) -> anyhow::Result<()> {
        self.ether.tun.write(&packet(&segment, b"")?)
    }

    /// How many segments there are so far.
    pub(super) fn length(&self) -> usize {
        self.ether.journal().entries().len()
    }

    pub(super) fn log(&self) -> Vec<LoggedSegment> {
        self.ether.journal().entries().to_vec()
    }

    /// Waits for the first segment at or after `from` that fits; gives back its place too.
    pub(super) fn wait_for<P>(
        &self,
        from: usize,
        mut predicate: P,
        timeout: Duration,
    ) -> Option<(usize, Segment)>
    where
        P: FnMut(&Segment) -> bool,
    {
        let deadline = Deadline::after(timeout);
        let mut place = from;
        let mut journal = self.ether.journal();
        loop {
            while let Some(entry) = journal.entries().get(place) {
                if predicate(&entry.segment) {
                    return Some((place, entry.segment));
                }
                place += 1;
            }
            let left = deadline.left()?;
            (journal, _) =
                self.ether.changed.wait_timeout(journal, left).expect("the peer's listener panicked");
        }
    }

    /// Waits for a SYN to this port that was not given out yet; gives back its place too.
    #[track_caller]
    pub(super) fn expect_syn(&self, port: u16, timeout: Duration) -> (usize, Segment) {
        let mut accepted = self.accepted.lock().expect("an accepting thread panicked");
        let Accepted { next, syns } = accepted.entry(port).or_default();
        let syn = |segment: &Segment| {
            segment.direction == Direction::ClientToServer
                && segment.is_syn()
                && segment.destination.port() == port
                // One that was sent again is no other.
                && !syns.contains(&(segment.source, segment.seq))
        };
        let (place, syn) = self
            .wait_for(*next, syn, timeout)
            .unwrap_or_else(|| self.disappointed(&format!("no SYN to port {port} within {timeout:?}")));
        *next = place + 1;
        syns.insert((syn.source, syn.seq));
        (place, syn)
    }

    /// Ends the test with what was expected and what was there instead.
    #[track_caller]
    pub(super) fn disappointed(&self, what: &str) -> ! {
        give_up(format_args!("{what}; the peer has seen and sent\n{}", transcript(&self.log())))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("tun", &self.ether.tun).finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.ether.stop.ring();
        if let Some(listener) = self.listener.take() {
            // Its panic has already been seen by whoever waited for a segment, and printed.
            drop(listener.join());
        }
    }
}
