//! The thread behind a wire: it reads both devices, asks the policy, and writes to the other device.

use std::fmt;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::policy::{Policy, Verdict};
use crate::clock;
use crate::journal::Journal;
use crate::segment::{Direction, Segment};
use crate::tun::{MTU, Tun};

/// What is behind the lock.
pub(super) struct State {
    pub(super) policy: Policy,
    pub(super) journal: Journal,
    waiting: Vec<Waiting>,
}

/// A packet on its way.
struct Waiting {
    /// When it goes on; nothing if it waits for a release.
    due: Option<Duration>,
    direction: Direction,
    packet: Vec<u8>,
    /// Its place in the journal.
    place: usize,
}

impl State {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, journal: Journal::default(), waiting: Vec::new() }
    }

    pub(super) fn release(&mut self, wire: &Shared) -> anyhow::Result<()> {
        self.deliver(wire, |waiting| waiting.due.is_none())
    }

    /// Forwards what fits of the waiting packets, earliest first.
    fn deliver(&mut self, wire: &Shared, fits: impl Fn(&Waiting) -> bool) -> anyhow::Result<()> {
        let (mut ready, rest): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(fits);
        self.waiting = rest;
        ready.sort_by_key(|waiting| (waiting.due, waiting.place));
        for waiting in ready {
            wire.receiver(waiting.direction).write(&waiting.packet)?;
            self.journal.mark_forwarded(waiting.place);
        }
        Ok(())
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("journal", &self.journal).finish_non_exhaustive()
    }
}

impl Shared {
    const fn sender(&self, direction: Direction) -> &Tun {
        match direction {
            Direction::ClientToServer => &self.client,
            Direction::ServerToClient => &self.server,
        }
    }

    const fn receiver(&self, direction: Direction) -> &Tun {
        self.sender(direction.reversed())
    }
}

/// The thread's own.
pub(super) struct Forwarder {
    wire: Arc<Shared>,
    buffer: Vec<u8>,
}

impl Forwarder {
    pub(super) fn new(wire: Arc<Shared>) -> Self {
        let buffer = vec![0; usize::try_from(MTU).expect("an MTU is small")];
        Self { wire, buffer }
    }

    /// Forwards until the wire is dropped.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        let wire = Arc::clone(&self.wire);
        while wire.stop.wait_for([wire.client.as_fd(), wire.server.as_fd()], self.next_due())? {
            self.deliver_due()?;
            self.forward(Direction::ClientToServer)?;
            self.forward(Direction::ServerToClient)?;
        }
        Ok(())
    }

    /// Time until the next delayed packet goes on.
    fn next_due(&self) -> Option<Duration> {
        let due = self.wire.state().waiting.iter().filter_map(|waiting| waiting.due).min()?;
        Some(due.saturating_sub(clock::now()))
    }

    fn deliver_due(&self) -> anyhow::Result<()> {
        let now = clock::now();
        let mut state = self.wire.state();
        state.deliver(&self.wire, |waiting| waiting.due.is_some_and(|due| due <= now))?;
        drop(state);
        self.wire.changed.notify_all();
        Ok(())
    }

    /// Handles one packet that goes this way, if there is one.
    ///
    /// One only: what it triggers at the other end comes after it, and both ends get their turn.
    fn forward(&mut self, direction: Direction) -> anyhow::Result<()> {
        let Some(packet) = self.wire.sender(direction).read(&mut self.buffer)? else {
            return Ok(());
        };
        let receiver = self.wire.receiver(direction);
        let Some(segment) = Segment::parse(direction, packet) else {
            return receiver.write(packet);
        };
        let at = clock::now();
        let mut state = self.wire.state();
        let verdict = (state.policy)(&segment);
        let place = state.journal.add(at, segment, verdict);
        let due = match verdict {
            Verdict::Pass | Verdict::Duplicate => {
                receiver.write(packet)?;
                if verdict == Verdict::Duplicate {
                    receiver.write(packet)?;
                }
                state.journal.mark_forwarded(place);
                None
            }
            Verdict::Drop | Verdict::Hold => None,
            Verdict::Delay(time) => Some(at + time),
        };
        if matches!(verdict, Verdict::Hold | Verdict::Delay(_)) {
            state.waiting.push(Waiting { due, direction, packet: packet.to_vec(), place });
        }
        drop(state);
        self.wire.changed.notify_all();
        Ok(())
    }
}
