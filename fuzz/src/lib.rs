//! What fuzzers of conversations share: both ends in memory, a clock that runs only while everybody waits, and as much of
//! HTTP as it takes to read an answer.
//!
//! In: what one end says, and how. Out: what the other end says to it. It knows nothing of what is spoken of.

use std::{str, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    runtime::{Builder, Runtime},
    time::timeout,
};

/// More than an input has, so that nobody waits for room before the other end has heard it all.
const ROOM: usize = 64 << 10;

/// Long enough for whatever follows from what was said.
const SOON: Duration = Duration::from_millis(1);

/// Longer than either end waits for anything.
const AT_LAST: Duration = Duration::from_secs(600);

/// How an end says what it has to say.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    bits: u8,
    /// At most so many bytes at a time; 0 for all at once.
    piece: u8,
}

impl Manner {
    /// By the first two bytes of an input; the rest is what is said.
    pub const fn of(input: &[u8]) -> Option<(Self, &[u8])> {
        match input {
            [bits, piece, said @ ..] => Some((Self { bits: *bits, piece: *piece }, said)),
            _ => None,
        }
    }

    /// Whether a bit is set; they mean what a fuzzer says.
    pub const fn has(self, bit: u8) -> bool {
        self.bits & 1 << bit != 0
    }

    /// What is said, piece by piece.
    pub fn pieces(self, said: &[u8]) -> impl Iterator<Item = &[u8]> {
        let most = if self.piece == 0 { said.len().max(1) } else { usize::from(self.piece) };
        said.chunks(most)
    }
}

/// Two ends that hear each other.
pub fn ends() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(ROOM)
}

/// One thread on which time passes only when everybody waits for it, so that nothing depends on how fast this machine is.
///
/// # Panics
///
/// Where not even that can be had.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime without threads")
}

/// What an end has heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Nothing more can come.
    pub ended: bool,
}

impl Heard {
    /// Says something, and hears what comes of it.
    pub async fn after(&mut self, end: &mut DuplexStream, piece: &[u8]) {
        self.ended |= end.write_all(piece).await.is_err();
        self.for_a_while(end, SOON).await;
    }

    /// Says that there will be nothing more.
    pub async fn falls_silent(&mut self, end: &mut DuplexStream) {
        self.ended |= end.shutdown().await.is_err();
    }

    /// Hears whatever is to come, unless the other end waits for this one without an end.
    pub async fn to_the_last(&mut self, end: &mut DuplexStream) {
        self.for_a_while(end, AT_LAST).await;
    }

    async fn for_a_while(&mut self, end: &mut DuplexStream, quiet: Duration) {
        // What was said before the other end closed is still to be heard.
        while let Ok(got) = timeout(quiet, end.read_buf(&mut self.bytes)).await {
            if !matches!(got, Ok(1..)) {
                self.ended = true;
                return;
            }
        }
    }
}

/// Waits for what must come to its end by itself.
///
/// # Panics
///
/// Where it does not.
pub async fn must_end<T>(what: impl Future<Output = T>) -> T {
    timeout(AT_LAST, what).await.expect("nobody waits for ever")
}

/// An answer of HTTP/1 (RFC 9112).
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    head: &'a str,
}

impl<'a> Answer<'a> {
    /// An answer's head, and what follows it.
    ///
    /// # Panics
    ///
    /// Where no client could read it.
    pub fn read(bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a head has an end");
        let (head, rest) = bytes.split_at(end + 4);
        let head = str::from_utf8(head).expect("a head is text");
        let (status_line, fields) = head.split_once("\r\n").expect("a head has a line");
        let status = ["HTTP/1.0 ", "HTTP/1.1 "].iter().find_map(|version| status_line.strip_prefix(version));
        let status = status.and_then(|status| status.get(..3)?.parse().ok()).expect("a status");
        for field in fields.split_terminator("\r\n").filter(|field| !field.is_empty()) {
            let (name, _) = field.split_once(": ").expect("a field has a name and a value");
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{name:?}");
        }
        (Self { status, head }, rest)
    }

    /// A field of its head.
    pub fn field(&self, wanted: &str) -> Option<&'a str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    }

    /// How long its body is, were it sent: the answer to HEAD has none.
    ///
    /// # Panics
    ///
    /// Where what it says of that is no number.
    pub fn length(&self) -> Option<usize> {
        self.field("content-length").map(|length| length.parse().expect("a length is a number"))
    }
}
