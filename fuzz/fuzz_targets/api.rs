//! Whatever is asked at the daemon's socket, there is at most one answer, it is whole, and its lines are read as they were
//! written.
//!
//! The first byte of an input says who asks whom, the second in what pieces, the rest is asked.

#![no_main]

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use libfuzzer_sys::{Corpus, fuzz_target};
use tcp_close::{
    api::{Daemon, converse, told},
    clock::Anchor,
    feed::Feed,
    lifecycle::{Observation, Tracker, observation::Story},
    line::Teller,
    owner::Homes,
    ports::Ports,
    recording::{Reader, Step},
};
use tcp_close_fuzz::{Answer, Heard, Manner, ends, must_end, runtime};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

/// The client may not ask.
const FORBIDDEN: u8 = 0;
/// The client says nothing more once all is sent.
const FALLS_SILENT: u8 = 1;
/// The daemon watches one namespace.
const WATCHES_ONE: u8 = 2;
/// The daemon has forgotten some of what it told.
const FORGETS: u8 = 3;
/// The daemon stops in the middle.
const STOPS: u8 = 4;
/// Something is told while the client listens.
const NEWS: u8 = 5;

/// What is answered from this machine's own table of sockets takes long and is not the same twice.
const BY_THE_KERNEL: [&[u8]; 2] = [b"/v1/closing", b"/v1/ports"];

/// What a kernel told of two ends of one connection.
const RECORDING: &[u8] = include_bytes!(
    "../../tcp-close-daemon/tests/recordings/6.12-x86-64-fentry/orderly-loopback_has_two_ends_in_one_namespace-1.tcpclose"
);

static OBSERVATIONS: LazyLock<Vec<Observation>> = LazyLock::new(observations);

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((manner, said)) = Manner::of(input) else {
        return Corpus::Reject;
    };
    if BY_THE_KERNEL.iter().any(|path| said.windows(path.len()).any(|part| part == *path)) {
        return Corpus::Reject;
    }
    let heard = runtime().block_on(talk(manner, said));
    check(&heard.bytes, heard.ended && !manner.has(FALLS_SILENT) && !manner.has(STOPS));
    Corpus::Keep
});

async fn talk(manner: Manner, said: &[u8]) -> Heard {
    let (mut client, server) = ends();
    let (pipeline, _gone) = mpsc::channel(1);
    let homes = Arc::new(Mutex::new(Homes::of_this_host()));
    let most = if manner.has(FORGETS) { 1 } else { 100 };
    let feed = Arc::new(Feed::new(most, Arc::clone(&homes)));
    feed.tell(&OBSERVATIONS, &Anchor::now());
    let netns = if manner.has(WATCHES_ONE) { vec![1] } else { Vec::new() };
    let ports = Arc::new(Ports::new(netns.clone()));
    let teller = Teller::new(BTreeMap::new(), true);
    let daemon = Arc::new(Daemon::new(netns, pipeline, homes, ports, Arc::clone(&feed), teller));
    let gone = CancellationToken::new();
    let mut conversation = JoinSet::new();
    conversation.spawn(converse(server, !manner.has(FORBIDDEN), daemon, gone.clone()));
    let mut heard = Heard::default();
    for (number, piece) in manner.pieces(said).enumerate() {
        heard.after(&mut client, piece).await;
        if manner.has(STOPS) && number == 1 {
            gone.cancel();
        }
    }
    if manner.has(NEWS) {
        feed.tell(&OBSERVATIONS, &Anchor::now());
        sleep(Duration::from_millis(1)).await;
    }
    if manner.has(FALLS_SILENT) {
        heard.falls_silent(&mut client).await;
    }
    heard.to_the_last(&mut client).await;
    // Whoever listens may do so for as long as he likes.
    drop(client);
    must_end(conversation.join_all()).await;
    heard
}

fn check(heard: &[u8], is_whole: bool) {
    if heard.is_empty() {
        return;
    }
    let (answer, mut rest) = Answer::read(heard);
    assert!([200, 400, 403, 404, 405, 414, 431, 503].contains(&answer.status), "{answer:?}");
    let mut body = Vec::new();
    if answer.field("transfer-encoding") == Some("chunked") {
        let mut ends = false;
        while let Some((chunk, next)) = chunk(rest) {
            ends = chunk.is_empty();
            body.extend_from_slice(chunk);
            rest = next;
        }
        assert!(ends || !is_whole, "a body has an end");
        assert!(rest.is_empty() || !is_whole, "nothing comes behind it");
    } else {
        body.extend_from_slice(rest);
        let is_as_told = answer.length().is_none_or(|length| [0, length].contains(&body.len()));
        assert!(is_as_told || !is_whole, "{answer:?} has {} bytes", body.len());
    }
    if answer.status != 200 {
        assert!(body.len() <= heard.len() && body.iter().all(|byte| *byte == b'\n' || *byte >= b' '));
        return;
    }
    assert_eq!(answer.field("content-type"), Some("application/jsonl"));
    for line in body.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        if line.starts_with(br#"{"event":"missed""#) {
            continue;
        }
        let read = told(line).expect("what the daemon tells is understood");
        assert_eq!((read.json() + "\n").as_bytes(), line, "it is read as it was written");
    }
}

/// One chunk of a body (RFC 9112, section 7.1), and what is behind it.
fn chunk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|end| end == b"\r\n")?;
    let (length, rest) = bytes.split_at(end);
    let length = usize::from_str_radix(str::from_utf8(length).ok()?, 16).ok()?;
    let (chunk, rest) = rest.get(2..)?.split_at_checked(length)?;
    Some((chunk, rest.strip_prefix(b"\r\n")?))
}

/// What there is to be told, as the daemon would have it.
fn observations() -> Vec<Observation> {
    let mut reader = Reader::new(RECORDING).expect("a recording");
    let header = reader.header();
    let mut tracker = Tracker::new(header.limits, header.wait, header.sees);
    let mut observations = Vec::new();
    while let Ok(steps) = reader.next_block().expect("memory is read without errors") {
        for step in steps {
            match step {
                Step::Event(event) => tracker.apply(&event, &mut observations),
                Step::Advance(until) => tracker.advance(until, &mut observations),
                Step::Gap(until) => tracker.gap(until),
                Step::Finish => tracker.finish(&mut observations),
                Step::Home(..) | Step::TurnEnds { .. } => {}
            }
        }
    }
    // Where that was, this machine need not look.
    for observation in &mut observations {
        match observation {
            Observation::Closed(closed) => closed.story.cgroup = None,
            Observation::MinisockEnded(ended) => {
                ended.story = ended.story.map(|story| Story { cgroup: None, ..story });
            }
            _ => {}
        }
    }
    observations
}
