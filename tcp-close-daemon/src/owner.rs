//! Whose a connection is, beyond the process: the service, container or pod that a socket was made in.
//!
//! In: the id of a cgroup, which the kernel keeps with every socket. Out: names. Whoever made the socket may be gone;
//! its cgroup seldom is.
//!
//! Reading order: [`Home`] is what a cgroup's path says, [`Homes`] finds the path; [`Holders`] looks
//! for processes that have a socket open.

mod holders;
mod home;
mod homes;

pub use holders::{Held, Holders};
pub use home::Home;
pub use homes::Homes;

use serde::{Deserialize, Serialize};

use crate::{event::Process, lifecycle::observation::Story};

/// Whose a connection is; each part may be unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The process that called `connect()`, or `listen()` for a connection that was accepted.
    pub opener: Option<Process>,
    /// The process that sent our FIN, or aborted.
    pub closer: Option<Process>,
    /// The systemd unit that its socket was made in.
    pub unit: Option<String>,
    /// Id of the container that its socket was made in.
    pub container: Option<String>,
    /// UID of the Kubernetes pod that its socket was made in.
    pub pod: Option<String>,
    /// User of the socket.
    pub uid: Option<u32>,
}

impl Owner {
    /// By the story of a connection, and the home of its cgroup.
    pub fn of(story: &Story, home: Option<&Home>) -> Self {
        let Story { opener, closer, uid, .. } = *story;
        Self { opener, closer, uid, ..Self::at(home) }
    }

    /// The name of the process that closed it or opened it; where none is known, that of its service or container.
    pub fn name(&self) -> Option<String> {
        let process = self.closer.or(self.opener).map(|process| process.comm.to_string());
        process.or_else(|| self.unit.clone()).or_else(|| self.container.clone())
    }

    /// By its home alone.
    pub fn at(home: Option<&Home>) -> Self {
        let Home { unit, container, pod } = home.cloned().unwrap_or_default();
        Self { unit, container, pod, ..Self::default() }
    }
}
