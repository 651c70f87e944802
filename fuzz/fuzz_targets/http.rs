//! Whatever is sent to the HTTP server, every answer is whole and one of those there are, and the connection ends.
//!
//! The first byte of an input says who asks whom, the second in what pieces, the rest is sent.

#![no_main]

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use tcp_close::{
    clock,
    event::Monotonic,
    http::{self, Access, LastTurn, Patience, Served},
    lifecycle::{Limits, Wait},
    metrics::Metrics,
    pipeline::MOST_SCRAPES,
    probe::{Hook, HookReport, Rung, Verdict},
    render::page,
};
use tcp_close_fuzz::{Answer, Heard, Manner, ends, must_end, runtime};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// HTTP/2 is spoken.
const HTTP2: u8 = 0;
/// The client says nothing more once all is sent.
const FALLS_SILENT: u8 = 1;
/// The pipeline takes scrapes, and does not give an answer.
const STUCK: u8 = 2;
/// The pipeline is gone.
const GONE: u8 = 3;
/// The daemon stops in the middle.
const STOPS: u8 = 4;
/// Only users are let in.
const USERS: u8 = 5;
/// Hooks are not attached yet.
const NOT_READY: u8 = 6;

/// No request is shorter: `GET / HTTP/1.1` and the ends of two lines.
const SHORTEST: usize = 16;

/// With what HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// They take longer to make than to be shown.
static METRICS: LazyLock<Arc<Mutex<Metrics>>> = LazyLock::new(|| {
    let wait = Wait { nominal: Duration::from_secs(60), slack: Duration::from_secs(2) };
    let limits = Limits { sockets: 8, minisocks: 8 };
    let metrics = Metrics::new(&[hook()], BTreeMap::new(), limits, wait).expect("the catalogue is sound");
    Arc::new(Mutex::new(metrics))
});

fuzz_target!(|input: &[u8]| {
    let Some((manner, said)) = Manner::of(input) else {
        return;
    };
    let heard = runtime().block_on(talk(manner, said));
    // What was under way when the client went away may be cut off.
    let is_whole = !manner.has(FALLS_SILENT);
    assert!(heard.ended, "every client's time is up at last");
    if manner.has(HTTP2) {
        check_frames(&heard.bytes, is_whole);
    } else {
        check_answers(&heard.bytes, is_whole, said.len() / SHORTEST + 1);
    }
});

async fn talk(manner: Manner, said: &[u8]) -> Heard {
    let (mut client, server) = ends();
    let (scrape, mut scrapes) = mpsc::channel::<oneshot::Sender<()>>(MOST_SCRAPES);
    if manner.has(GONE) {
        scrapes.close();
    }
    let is_stuck = manner.has(STUCK);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut stuck = Vec::new();
        while let Some(done) = scrapes.recv().await {
            if is_stuck {
                stuck.push(done);
            } else {
                // Who waited may have been cut off.
                let _gone = done.send(());
            }
        }
    });
    let (ready, stopping) = (CancellationToken::new(), CancellationToken::new());
    if !manner.has(NOT_READY) {
        ready.cancel();
    }
    let access = if manner.has(USERS) {
        Access::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("users.yml")).expect("a web config file")
    } else {
        Access::open()
    };
    let served = Served {
        telemetry_path: "/metrics".to_owned(),
        metrics: Arc::clone(&METRICS),
        scrape,
        ready,
        last_turn: Arc::new(LastTurn::at(if is_stuck {
            Monotonic::default()
        } else {
            clock::monotonic_now()
        })),
        stopping: stopping.clone(),
        page: page::index("/metrics", &[hook()]),
        access,
    };
    let peer = (Ipv4Addr::LOCALHOST, 50_000).into();
    let (served, patience) = (Arc::new(served), Patience::USUAL);
    tasks.spawn(http::converse(server, manner.has(HTTP2), peer, served, patience));
    let mut heard = Heard::default();
    if manner.has(HTTP2) {
        heard.after(&mut client, PREFACE).await;
    }
    for (number, piece) in manner.pieces(said).enumerate() {
        heard.after(&mut client, piece).await;
        if manner.has(STOPS) && number == 1 {
            stopping.cancel();
        }
    }
    if manner.has(FALLS_SILENT) {
        heard.falls_silent(&mut client).await;
    }
    heard.to_the_last(&mut client).await;
    must_end(tasks.join_all()).await;
    heard
}

fn check_answers(mut heard: &[u8], is_whole: bool, most: usize) {
    let mut answers = 0;
    while !heard.is_empty() {
        if !is_whole && !heard.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
        let (answer, rest) = Answer::read(heard);
        let expected = [200, 400, 401, 404, 405, 413, 414, 429, 431, 503];
        assert!(expected.contains(&answer.status), "{answer:?}");
        let length = answer.length().expect("a client has to know where it ends");
        // No body begins like that, so there is none: it is the answer to HEAD.
        let is_head = rest.is_empty() || rest.starts_with(b"HTTP/1.");
        let Some(next) = rest.get(if is_head { 0 } else { length }..) else {
            assert!(!is_whole, "{answer:?} has {length} bytes, and not {}", rest.len());
            break;
        };
        heard = next;
        answers += 1;
    }
    assert!(answers <= most, "{answers} answers");
}

/// Frames of HTTP/2: their length, their kind, flags and the number of a stream (RFC 9113, section 4.1).
fn check_frames(mut heard: &[u8], is_whole: bool) {
    const SETTINGS: u8 = 4;
    const CONTINUATION: u8 = 9;
    let mut is_first = true;
    while let [a, b, c, kind, _flags, _, _, _, _, rest @ ..] = heard {
        assert!(*kind <= CONTINUATION, "there is no frame of kind {kind}");
        assert!(!is_first || *kind == SETTINGS, "settings come first, not {kind}");
        is_first = false;
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some(next) = rest.get(length..) else {
            assert!(!is_whole, "a frame of {length} bytes has {}", rest.len());
            return;
        };
        heard = next;
    }
    assert!(heard.is_empty() || !is_whole, "{} bytes are no frame", heard.len());
}

const fn hook() -> HookReport {
    HookReport {
        hook: Hook::StateChange,
        rung: Some(Rung::TpBtf),
        verdict: Verdict::Ok,
        detail: None,
        lost: None,
    }
}
