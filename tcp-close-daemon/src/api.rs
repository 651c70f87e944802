//! The daemon's socket, over which the other commands ask it what it knows.
//!
//! It speaks HTTP/1.1 over a Unix socket, and answers in JSON, one object per line:
//! `curl --unix-socket /run/tcp-close/tcp-close.sock http://localhost/v1/closing`. The path begins with the version of what
//! is said; a daemon that speaks another one says so.
//!
//! In: questions. Out: what the kernel's table and the pipeline say at that moment. A question can make the pipeline wait
//! for no longer than it takes to look up some thousand sockets; nobody who reads slowly holds it up.

use std::path::{Path, PathBuf};

mod client;
mod server;
mod socket;

pub use client::{AskError, Client};
pub use server::{Daemon, serve};
pub use socket::{BindError, Socket};

/// Where the socket is, unless somebody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/tcp-close/tcp-close.sock";

/// What is said of every socket that is closing now.
const CLOSING: &str = "/v1/closing";

/// How far ephemeral ports are used up.
const PORTS: &str = "/v1/ports";

/// The version that this program speaks begins every path.
const VERSION: &str = "/v1/";

/// Why an answer may not be all there is.
const BLIND_SPOT: &str = "tcp-close-blind-spot";

/// Where the daemon's socket is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path.
    pub path: PathBuf,
    /// Somebody has named it: if there is no daemon, that is an error.
    pub named: bool,
}

impl Place {
    /// The path that was named, or the usual one.
    pub fn new(named: Option<PathBuf>) -> Self {
        let is_named = named.is_some();
        Self { path: named.unwrap_or_else(|| Path::new(DEFAULT_SOCKET).to_owned()), named: is_named }
    }
}
