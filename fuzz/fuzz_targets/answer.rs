//! Whatever a daemon answers, its client reads it to some point or says why not; what was read is read the same again, and
//! is printed in lines that do nothing to a terminal.
//!
//! The first byte of an input says what is asked and how it is answered, the second in what pieces, the rest is answered.

#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use tcp_close::{
    api::{AskError, Client, Lines, Place, Question, told},
    closing::ClosingSocket,
    ports::Pressure,
    render::{Signs, Table, ladder},
};
use tcp_close_fuzz::{Heard, Manner, ends, must_end, runtime};
use tokio::{io::DuplexStream, task::JoinSet};

/// The head of the answer is a good one; what is fuzzed is its body.
const IS_BODY: u8 = 0;
/// Ports are asked for.
const PORTS: u8 = 1;
/// Sockets that are closing are asked for; otherwise what has ended.
const CLOSING: u8 = 2;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\n\r\n";

fuzz_target!(|input: &[u8]| {
    let Some((manner, said)) = Manner::of(input) else {
        return;
    };
    if let Err(error) = runtime().block_on(talk(manner, said)) {
        // A refusal may have several lines: one of them points at a place in the filter.
        error.to_string().lines().for_each(check);
    }
});

async fn talk(manner: Manner, said: &[u8]) -> Result<(), AskError> {
    let (client, daemon) = ends();
    let said = said.to_owned();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { speak(daemon, manner, &said).await });
    let client = Client::over(client, &Place::new(None)).await?.quiet();
    let question = Question::default();
    let table = Table::new(manner.has(IS_BODY), TimeZone::UTC);
    if manner.has(PORTS) {
        let lines = must_end(client.ports(&question)).await?;
        return read(lines, |route: &Pressure| table.ports(route)).await;
    }
    if manner.has(CLOSING) {
        let lines = must_end(client.closing(&question)).await?;
        return read(lines, |socket: &ClosingSocket| table.closing(socket)).await;
    }
    let mut lines = must_end(client.ends(&question)).await?;
    while let Some(some) = must_end(lines.next_told()).await? {
        for line in some {
            let line = told(&line)?;
            assert_eq!(told(line.json().as_bytes())?.json(), line.json());
            check(&table.line(&line));
            for line in ladder(&line, Signs::UNICODE).iter().flat_map(|ladder| ladder.lines()) {
                check(line);
            }
        }
        let _missed = lines.missed();
    }
    Ok(())
}

/// Reads lines of one kind, which is what both sides mean by it.
async fn read<T: DeserializeOwned + Serialize>(
    mut lines: Lines,
    row: impl Fn(&T) -> String,
) -> Result<(), AskError> {
    while let Some(some) = must_end(lines.next::<T>()).await? {
        for one in some {
            let json = serde_json::to_string(&one).expect("it is JSON");
            let again: T = serde_json::from_str(&json).expect("it was JSON");
            assert_eq!(serde_json::to_string(&again).expect("it is JSON"), json);
            check(&row(&one));
        }
    }
    Ok(())
}

#[track_caller]
fn check(row: &str) {
    assert!(!row.chars().any(char::is_control), "{row:?}");
}

/// The daemon's part: it waits for the question, and goes away once it has answered.
async fn speak(mut daemon: DuplexStream, manner: Manner, said: &[u8]) {
    let mut heard = Heard::default();
    heard.after(&mut daemon, b"").await;
    if manner.has(IS_BODY) {
        heard.after(&mut daemon, HEAD).await;
    }
    for piece in manner.pieces(said) {
        heard.after(&mut daemon, piece).await;
    }
}
