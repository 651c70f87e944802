//! The oracle: what the kernel itself says of a namespace, in counters and in sockets.
//!
//! It uses none of the hooks tcp-close uses, so that one can be held against the other.

mod counters;
mod sockets;

pub use counters::{
    Netstat, counts_minisocks_as_they_begin, sockstat, tells_programs_of_cookies, tells_what_kprobes_miss,
};
pub use sockets::{NotDestroyed, Socket, TcpState, Timer, destroy, sockets, wait_until};
