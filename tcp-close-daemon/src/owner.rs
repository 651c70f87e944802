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
