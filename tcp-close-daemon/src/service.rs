//! What a service manager hands over and wants to hear: sockets that listen already, readiness, signs of life.
//!
//! Where nobody manages the daemon, there is nothing to take and nobody to tell.

use std::{io, net::TcpListener, os::unix::net::UnixListener, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::event::Monotonic;

/// Sockets that listened before the daemon was started (systemd.socket(5)).
#[derive(Debug, Default)]
pub struct HandedOver {
    /// For HTTP.
    pub http: Option<TcpListener>,
    /// For the other commands.
    pub api: Option<UnixListener>,
}

impl HandedOver {
    /// Takes them, told apart by what they are; more than one of a kind, or any other, is an error.
    pub fn take() -> io::Result<Self> {
        let mut sockets = ListenFd::from_env();
        let mut taken = Self::default();
        for place in 0..sockets.len() {
            if let Ok(Some(http)) = sockets.take_tcp_listener(place)
                && taken.http.is_none()
            {
                taken.http = Some(http);
            } else if let Ok(Some(api)) = sockets.take_unix_listener(place)
                && taken.api.is_none()
            {
                taken.api = Some(api);
            } else {
                return Err(io::Error::other(format!(
                    "socket {place} of those handed over is no use: one of TCP and one of Unix streams are"
                )));
            }
        }
        Ok(taken)
    }
}

/// The daemon is ready, and this is what can be said of it.
pub fn is_ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The daemon begins to stop.
pub fn stops() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        // It will notice by itself, and act on that.
        tracing::warn!(%error, "the service manager cannot be told: {states:?}");
    }
}

/// Tells the service manager that the pipeline goes on. Whoever does not hear that for too long starts it anew.
#[derive(Debug)]
pub struct Watchdog {
    every: Duration,
    next: Monotonic,
}

impl Watchdog {
    /// As the service manager wants it, if it does.
    pub fn wanted() -> Option<Self> {
        // Three times in the time within which it must be heard once.
        sd_notify::watchdog_enabled().map(|limit| Self { every: limit / 3, next: Monotonic::default() })
    }

    /// How often it is told.
    pub const fn every(&self) -> Duration {
        self.every
    }

    /// The pipeline has taken a turn: it has read what was in the ring, or some hundreds of records of that.
    pub fn took_a_turn(&mut self, now: Monotonic) {
        if now >= self.next {
            self.next = now + self.every;
            tell(&[NotifyState::Watchdog]);
        }
    }
}
