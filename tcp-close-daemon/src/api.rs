//! The daemon's socket, over which the other commands ask it what it knows.
//!
//! It speaks HTTP/1.1 over a Unix socket, and answers in JSON, one object per line:
//! `curl --unix-socket /run/tcp-close/tcp-close.sock http://localhost/v1/closing`. The path begins with the version of what
//! is said; a daemon that speaks another one says so.
//!
//! In: questions. Out: what the kernel's table and the pipeline say at that moment, or what happens from then on. A question
//! can make the pipeline wait for no longer than it takes to look up some thousand sockets; nobody who reads slowly holds
//! it up.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod client;
mod question;
mod server;
mod socket;
mod stream;

pub use client::{AskError, Client, Lines, told};
pub use question::Question;
pub use server::{Daemon, converse, serve};
pub use socket::{BindError, Door, Socket};

/// Where the socket is, unless somebody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/tcp-close/tcp-close.sock";

/// What is said of every socket that is closing now.
const CLOSING: &str = "/v1/closing";

/// What has ended, as far as it is remembered, and what ends from now on.
const ENDS: &str = "/v1/ends";

/// Changes of state from now on.
const TRANSITIONS: &str = "/v1/transitions";

/// How far ephemeral ports are used up.
const PORTS: &str = "/v1/ports";

/// The version that this program speaks begins every path.
const VERSION: &str = "/v1/";

/// Why an answer may not be all there is.
const BLIND_SPOT: &str = "tcp-close-blind-spot";

/// Stands among lines for those that were forgotten before they could be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename = "missed")]
struct Missed {
    /// How many ends, or changes of state, that is at most.
    lines: u64,
}

impl Missed {
    /// From a line, if that is what it says.
    fn read(line: &[u8]) -> Option<Self> {
        line.starts_with(br#"{"event":"missed""#).then(|| serde_json::from_slice(line).ok())?
    }
}

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
