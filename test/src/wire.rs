//! The wire: two kernels, each behind a TUN device, and user space in between that does what a policy says.
//!
//! A policy sees every TCP segment once, in the order in which the kernels sent them, and answers with a
//! [`Verdict`].
//! Packets that are not TCP (ICMP errors, IPv6 housekeeping) pass without being asked about or logged.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;

use crate::address::{CLIENT_V4, CLIENT_V6, SERVER_V4, SERVER_V6};
use crate::alarm::Alarm;
use crate::breakage::OrGiveUp as _;
use crate::clock::Deadline;
use crate::journal::{LoggedSegment, transcript};
use crate::netns::Netns;
use crate::segment::Segment;
use crate::tun::Tun;

mod forwarder;
pub mod policy;

use forwarder::{Forwarder, State};
pub use policy::Verdict;

/// A wire between the kernels of two namespaces. Dropping it pulls it out.
///
/// The client's end has the addresses 192.0.2.1 and `2001:db8::1`, the server's 192.0.2.2 and `2001:db8::2`.
/// It keeps both namespaces alive.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    forwarder: Option<JoinHandle<()>>,
}

/// What the forwarder's thread and the test share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    client: Tun,
    server: Tun,
    stop: Alarm,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the forwarder or a policy panicked")
    }
}

impl Wire {
    /// Lays a wire that passes everything.
    #[track_caller]
    pub fn between(client: &Netns, server: &Netns) -> Self {
        Self::with_policy(client, server, policy::pass())
    }

    /// Lays a wire with a policy in force from the first segment on.
    #[track_caller]
    pub fn with_policy<P>(client: &Netns, server: &Netns, policy: P) -> Self
    where
        P: FnMut(&Segment) -> Verdict + Send + 'static,
    {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(Box::new(policy))),
            changed: Condvar::new(),
            client: Tun::open(client, CLIENT_V4, CLIENT_V6),
            server: Tun::open(server, SERVER_V4, SERVER_V6),
            stop: Alarm::new().or_give_up(),
        });
        let forwarder = Forwarder::new(Arc::clone(&shared));
        let forwarder = thread::Builder::new()
            .name("wire".into())
            .spawn(move || forwarder.run().expect("forward between the TUN devices"))
            .context("start the thread of a wire")
            .or_give_up();
        Self { shared, forwarder: Some(forwarder) }
    }

    /// Replaces the policy; the next segment meets the new one.
    ///
    /// A policy runs on the wire's own thread with its state locked: it must not call the wire.
    pub fn set_policy<P>(&self, policy: P)
    where
        P: FnMut(&Segment) -> Verdict + Send + 'static,
    {
        self.shared.state().policy = Box::new(policy);
    }

    /// Forwards, in order, every segment that a policy holds back.
    pub fn release(&self) {
        let mut state = self.shared.state();
        state.release(&self.shared).expect("forward what was held");
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Every segment so far, in the order in which the wire handled them.
    pub fn log(&self) -> Vec<LoggedSegment> {
        self.shared.state().journal.entries().to_vec()
    }

    /// The log as text, for messages.
    pub fn transcript(&self) -> String {
        transcript(&self.log())
    }

    /// Waits for the first logged segment that fits, from the very beginning of the log.
    ///
    /// When this returns, the receiver's kernel has been given the segment, unless the verdict prevents it.
    pub fn wait_for<P>(&self, mut predicate: P, timeout: Duration) -> anyhow::Result<LoggedSegment>
    where
        P: FnMut(&LoggedSegment) -> bool,
    {
        let mut seen = 0;
        let mut found = None;
        self.wait_until(
            |log| {
                found = log.get(seen..).unwrap_or_default().iter().find(|entry| predicate(entry)).copied();
                seen = log.len();
                found.is_some()
            },
            timeout,
        )?;
        found.context("a segment was found and lost")
    }

    /// Waits until the log as a whole satisfies `predicate`, which is asked again whenever it has changed.
    ///
    /// The predicate runs with the wire's state locked: it must not call the wire.
    pub fn wait_until<P>(&self, mut predicate: P, timeout: Duration) -> anyhow::Result<()>
    where
        P: FnMut(&[LoggedSegment]) -> bool,
    {
        let deadline = Deadline::after(timeout);
        let mut state = self.shared.state();
        while !predicate(state.journal.entries()) {
            let Some(left) = deadline.left() else {
                let log = transcript(state.journal.entries());
                drop(state);
                anyhow::bail!("not seen on the wire within {timeout:?}; the wire has seen\n{log}");
            };
            (state, _) =
                self.shared.changed.wait_timeout(state, left).expect("the forwarder or a policy panicked");
        }
        drop(state);
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.stop.ring();
        if let Some(forwarder) = self.forwarder.take() {
            // Its panic has already been seen by whoever waited for a segment, and printed.
            drop(forwarder.join());
        }
    }
}
