//! The daemon's HTTP over real sockets: what it answers, and that nobody can keep it from answering others.

#[path = "http/access.rs"]
mod access;
#[path = "http/crowd.rs"]
mod crowd;
#[path = "http/encrypted.rs"]
mod encrypted;
#[path = "http/server.rs"]
mod server;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use server::{Pipeline, Response, Server, ask, get, monotonic, send};
use tcp_close::http::Patience;

/// Short enough for a test, long enough for a busy machine.
const SOON: Duration = Duration::from_millis(200);

/// Longer than anything here may take.
const LATE: Duration = Duration::from_secs(5);

#[test]
fn metrics_are_in_the_text_format() {
    let server = Server::start();
    let response = get(server.address, "/metrics");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4"));
    assert!(response.body.contains("\ntcp_close_build_info{version="), "{}", response.body);
    assert_eq!(get(server.address, "/metrics?name=up").status, 200);
    assert_eq!(server.scrapes(), 2, "each scrape woke the pipeline for fresh figures");
}

#[test]
fn metrics_are_where_they_are_wanted() {
    let server = Server::with(|setup| setup.telemetry_path = "/tcp-close/metrics".to_owned());
    assert_eq!(get(server.address, "/tcp-close/metrics").status, 200);
    assert_eq!(get(server.address, "/metrics").status, 404);
    assert!(get(server.address, "/").body.contains("href=\"/tcp-close/metrics\""));
}

#[test]
fn only_some_paths_and_methods_are_served() {
    let server = Server::start();
    for path in ["/metrics/", "/healthz/", "/favicon.ico", "//", "/../etc/passwd", "/%2e"] {
        assert_eq!(get(server.address, path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let response = ask(server.address, &format!("{method} /metrics HTTP/1.1"));
        assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    assert_eq!(server.scrapes(), 0, "none of them reached the pipeline");
}

#[test]
fn head_has_the_head_of_get_and_no_body() {
    let server = Server::start();
    for path in ["/", "/healthz", "/nowhere"] {
        let (head, get) = (ask(server.address, &format!("HEAD {path} HTTP/1.1")), get(server.address, path));
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
        assert_eq!(head.body, "", "{path}");
    }
}

#[test]
fn the_page_names_every_hook() {
    let server = Server::start();
    let response = get(server.address, "/");
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    for text in ["state_change", "tp_btf", "minisock", "unsupported", "&lt;hidden&gt; &amp; gone", "/readyz"]
    {
        assert!(response.body.contains(text), "{text} in {}", response.body);
    }
}

#[test]
fn it_is_ready_from_attachment_to_stop() {
    let server = Server::with(|setup| setup.ready = false);
    assert_eq!(get(server.address, "/healthz").status, 200, "alive before it is ready");
    let before = get(server.address, "/readyz");
    assert_eq!((before.status, before.body.as_str()), (503, "not ready\n"));
    server.ready.cancel();
    assert_eq!(get(server.address, "/readyz").status, 200);
}

#[test]
fn it_is_not_ready_while_it_stops() {
    // Only who has begun to ask when the stop begins can be told. When the server has read that is not to be
    // seen from here, so it gets more time if the first was not enough.
    for pause in [10, 100, 1000].map(Duration::from_millis) {
        let server = Server::start();
        let mut client = TcpStream::connect(server.address).expect("connect");
        client.write_all(b"GET /readyz HTTP/1.1\r\n").expect("begin to ask");
        std::thread::sleep(pause);
        server.stopping.cancel();
        if client.write_all(b"Host: here\r\n\r\n").is_err() {
            continue;
        }
        let answer = read_to_end(&mut client);
        if !answer.is_empty() {
            assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("not ready\n"), "{answer}");
            return;
        }
    }
    panic!("nobody was answered");
}

#[test]
fn without_a_pipeline_there_are_no_metrics() {
    let server = Server::with(|setup| setup.pipeline = Pipeline::Gone);
    assert_eq!(get(server.address, "/metrics").status, 503);
    assert_eq!(get(server.address, "/readyz").status, 503);
    assert_eq!(get(server.address, "/healthz").status, 200);
}

#[test]
fn a_stuck_pipeline_does_not_hold_up_a_scrape_for_ever() {
    let server = Server::with(|setup| {
        setup.pipeline = Pipeline::Stuck;
        setup.patience.scrape = SOON;
    });
    assert_eq!(get(server.address, "/metrics").status, 503);
    assert_eq!(get(server.address, "/readyz").status, 503);
    assert_eq!(get(server.address, "/healthz").status, 200);
}

#[test]
fn more_scrapes_than_may_wait_are_turned_away() {
    let server = Server::with(|setup| {
        setup.pipeline = Pipeline::Stuck;
        setup.patience.scrape = SOON;
    });
    let mut clients: Vec<TcpStream> =
        (0..32).map(|_| TcpStream::connect(server.address).expect("connect")).collect();
    for client in &mut clients {
        send(client, "GET /metrics HTTP/1.1");
    }
    for client in &mut clients {
        assert_eq!(Response::read(client).status, 503);
    }
}

#[test]
fn a_client_that_sends_nothing_is_cut_off() {
    let server = Server::with(|setup| setup.patience.first_request = SOON);
    let start = monotonic();
    let mut client = TcpStream::connect(server.address).expect("connect");
    assert_eq!(read_to_end(&mut client), "");
    assert!((SOON..LATE).contains(&(monotonic().saturating_sub(start))));
}

#[test]
fn a_client_that_sends_its_head_by_the_byte_is_cut_off() {
    let server = Server::with(|setup| setup.patience.first_request = SOON);
    let start = monotonic();
    let mut client = TcpStream::connect(server.address).expect("connect");
    // A byte now and then must not renew its time.
    for byte in b"GET /metrics HTTP/1.1\r\nUser-Agent: slow".iter().cycle() {
        if client.write_all(&[*byte]).is_err() {
            break;
        }
        assert!(monotonic().saturating_sub(start) < LATE, "it is still connected");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_connection_is_kept_for_the_next_request_and_not_for_ever() {
    let server = Server::with(|setup| setup.patience.next_request = SOON);
    let mut client = TcpStream::connect(server.address).expect("connect");
    for _ in 0..3 {
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n").expect("send a request");
        let mut answer = [0; 1024];
        let length = client.read(&mut answer).expect("read an answer");
        let answer = String::from_utf8_lossy(answer.get(..length).expect("as much as was read"));
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    }
    let start = monotonic();
    assert_eq!(read_to_end(&mut client), "");
    assert!(monotonic().saturating_sub(start) < LATE);
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let server = Server::start();
    let long = format!("GET /metrics HTTP/1.1\r\nX-Padding: {}", "x".repeat(64 << 10));
    let mut client = TcpStream::connect(server.address).expect("connect");
    // It may be refused before all of it is sent.
    let _refused_early = client.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _reset_behind_the_answer = client.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(get(server.address, "/metrics").status, 200);
}

#[test]
fn what_is_not_http_is_refused() {
    let server = Server::start();
    for nonsense in ["\x16\x03\x01\x02\x00\x01\x00", "hello\r\n\r\n", "GET /metrics\r\n\r\n"] {
        let mut client = TcpStream::connect(server.address).expect("connect");
        client.write_all(nonsense.as_bytes()).expect("send nonsense");
        client.shutdown(std::net::Shutdown::Write).expect("say no more");
        let answer = read_to_end(&mut client);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{nonsense:?}: {answer}");
    }
    assert_eq!(get(server.address, "/metrics").status, 200);
}

/// Far more connections than there is room for, all idle or sending half a request.
#[test]
fn idle_connections_harm_only_each_other() {
    let server = Server::with(|setup| setup.patience = Patience { connections: 64, ..Patience::USUAL });
    let start = monotonic();
    let mut idle = Vec::new();
    for round in 0..400 {
        let mut client = TcpStream::connect(server.address).expect("connect");
        if round % 2 == 0 {
            client.write_all(b"GET /metr").expect("send a bit");
        }
        idle.push(client);
        if round % 20 == 0 {
            assert_eq!(get(server.address, "/metrics").status, 200, "round {round}");
        }
    }
    assert!(monotonic().saturating_sub(start) < LATE, "scrapes were held up");
    let first = idle.first_mut().expect("there are many");
    let mut byte = [0; 1];
    assert!(matches!(first.read(&mut byte), Ok(0) | Err(_)), "the oldest made room");
    let last = idle.last_mut().expect("there are many");
    send(last, "GET /healthz HTTP/1.1");
    assert_eq!(Response::read(last).status, 200, "the latest did not have to");
}

#[test]
fn whoever_is_being_answered_keeps_the_place() {
    let server = Server::with(|setup| {
        setup.pipeline = Pipeline::Slow(2 * SOON);
        setup.patience = Patience { connections: 4, ..Patience::USUAL };
    });
    let mut scrape = TcpStream::connect(server.address).expect("connect");
    send(&mut scrape, "GET /metrics HTTP/1.1");
    server.wait_for_scrape();
    let _idle: Vec<TcpStream> =
        (0..32).map(|_| TcpStream::connect(server.address).expect("connect")).collect();
    assert_eq!(Response::read(&mut scrape).status, 200);
}

#[test]
fn idle_connections_do_not_hold_up_a_stop() {
    let server = Server::start();
    let _idle: Vec<TcpStream> =
        (0..8).map(|_| TcpStream::connect(server.address).expect("connect")).collect();
    let mut kept = TcpStream::connect(server.address).expect("connect");
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n").expect("send a request");
    kept.read_exact(&mut [0; 1]).expect("the answer begins");
    let start = monotonic();
    server.stop();
    assert!(monotonic().saturating_sub(start) < Duration::from_secs(1));
}

#[test]
fn an_answer_under_way_is_finished_before_the_stop() {
    let server = Server::with(|setup| setup.pipeline = Pipeline::Slow(SOON));
    let mut scrape = TcpStream::connect(server.address).expect("connect");
    send(&mut scrape, "GET /metrics HTTP/1.1");
    server.wait_for_scrape();
    server.stop();
    assert_eq!(Response::read(&mut scrape).status, 200);
}

fn read_to_end(client: &mut TcpStream) -> String {
    client.set_read_timeout(Some(LATE)).expect("set a timeout");
    let mut answer = Vec::new();
    if let Err(error) = client.read_to_end(&mut answer) {
        // Data of ours that nobody read makes a reset of the server's close.
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the server did not cut it off");
    }
    String::from_utf8_lossy(&answer).into_owned()
}
