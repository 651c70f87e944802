//! Why and when to stop.

use std::{io, time::Duration};

use nix::sys::signal::{SigSet, Signal as SignalNumber};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Why it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// SIGINT: a person at the terminal.
    Interrupt,
    /// SIGTERM: the service manager.
    Terminate,
    /// SIGHUP: the terminal went away.
    Hangup,
    /// The time that was asked for is over.
    Elapsed,
    /// What was asked for is done.
    Done,
    /// Another part of the program cannot go on.
    Failed,
}

/// Everything that can ask the program to stop.
pub struct Shutdown {
    signalled: watch::Receiver<Option<StopReason>>,
    deadline: Option<Instant>,
    failed: CancellationToken,
    /// The task that hears the signals; it ends with this.
    _listener: JoinSet<()>,
}

impl Shutdown {
    /// Listens for signals from now on, and stops after `duration` if there is one. Needs a tokio runtime.
    pub fn listen(duration: Option<Duration>) -> io::Result<Self> {
        let mut signals = Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        };
        let (signal, signalled) = watch::channel(None);
        let mut listener = JoinSet::new();
        // A task of its own, since whoever should ask for the reason may be held up by a stuck stdout.
        listener.spawn(async move {
            signal.send_replace(Some(signals.next().await));
            signals.next().await;
            leave_at_once();
        });
        Ok(Self {
            signalled,
            deadline: duration.and_then(|duration| Instant::now().checked_add(duration)),
            failed: CancellationToken::new(),
            _listener: listener,
        })
    }

    /// To be cancelled by a part of the program that cannot go on.
    pub fn failure(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Waits for the first reason to stop.
    pub async fn reason(&mut self) -> StopReason {
        let elapsed = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let signalled = async {
            match self.signalled.wait_for(Option::is_some).await.ok().and_then(|reason| *reason) {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = signalled => reason,
            () = elapsed => StopReason::Elapsed,
            () = self.failed.cancelled() => StopReason::Failed,
        }
    }
}

/// The signals that ask the program to stop, held back while nobody can listen yet: none is lost, and none ends it.
#[derive(Debug)]
pub struct HeldBack(SigSet);

impl HeldBack {
    /// From now on, on this thread and those that it starts.
    pub fn from_now_on() -> io::Result<Self> {
        let signals = SigSet::from_iter([SignalNumber::SIGINT, SignalNumber::SIGTERM, SignalNumber::SIGHUP]);
        signals.thread_block()?;
        Ok(Self(signals))
    }

    /// Lets them through on this thread, which is enough: whoever listens hears them from any.
    pub fn let_through(self) -> io::Result<()> {
        Ok(self.0.thread_unblock()?)
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    async fn next(&mut self) -> StopReason {
        tokio::select! {
            _ = self.interrupt.recv() => StopReason::Interrupt,
            _ = self.terminate.recv() => StopReason::Terminate,
            _ = self.hangup.recv() => StopReason::Hangup,
        }
    }
}

/// A second signal is from somebody who will not wait: for a reader of our output who reads no more, perhaps.
/// The kernel detaches every program of a process that is gone.
#[expect(clippy::disallowed_methods, clippy::exit, reason = "whoever would return to main may be stuck")]
fn leave_at_once() {
    std::process::exit(1);
}
