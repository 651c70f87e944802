//! Clients that take all they can get: nothing but they suffer.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tcp_close::http::{Access, Patience};
use tokio::net::TcpSocket;

use crate::{
    LATE,
    encrypted::{Authority, Client, Folder},
    read_to_end,
    server::{Response, Server, get, monotonic},
};

/// Where the crowd comes from; who is to be served comes from 127.0.0.1.
const CROWD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// What a scrape may take while others do as they like. It takes a few milliseconds alone; where more connections come than
/// may wait to be accepted, the kernel drops a SYN, which is sent again after one second and after three.
const SCRAPE: Duration = Duration::from_secs(4);

/// How many connections a crowd has.
const MOST: usize = 10_000;

/// Connections from another address than this client's own.
struct Crowd(tokio::runtime::Runtime);

impl Crowd {
    fn new() -> Self {
        Self(tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"))
    }

    fn connect(&self, address: SocketAddr) -> TcpStream {
        self.0.block_on(async {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind((CROWD, 0).into()).expect("an address of loopback");
            let stream = socket.connect(address).await.expect("connect").into_std().expect("it is one");
            stream.set_nonblocking(false).expect("it can wait");
            stream
        })
    }
}

/// How many connections this process can have, with some descriptors left for everybody else in it.
#[expect(clippy::print_stderr, reason = "how much the test is worth here is for people to see")]
fn room() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, all).expect("up to the maximum it is allowed");
    let most = limit.maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let room = MOST.min(most.saturating_sub(1000));
    assert!(room >= MOST / 10, "{most} descriptors are too few for a crowd");
    eprintln!("{room} connections of {MOST}, since {most} descriptors are allowed");
    room
}

#[track_caller]
fn assert_scrape_is_prompt(address: SocketAddr) {
    let start = monotonic();
    assert_eq!(get(address, "/metrics").status, 200);
    let took = monotonic().saturating_sub(start);
    assert!(took < SCRAPE, "a scrape took {took:?}");
}

#[test]
fn ten_thousand_idle_connections_hold_up_nobody() {
    let room = room();
    // Nobody's time is up before all of them are there.
    let patience = Patience { first_request: Duration::from_secs(120), ..Patience::USUAL };
    let server = Server::with(|setup| setup.patience = patience);
    let crowd = Crowd::new();
    let mut kept = TcpStream::connect(server.address).expect("connect");
    let mut idle = Vec::new();
    for number in 0..room {
        let mut client = crowd.connect(server.address);
        if number % 2 == 0 {
            // The server may have cut it off already.
            let _cut_off = client.write_all(b"GET /metr");
        }
        idle.push(client);
        if number % 200 == 0 {
            assert_scrape_is_prompt(server.address);
        }
    }
    assert!(room > 2 * Patience::USUAL.connections, "a crowd is more than there is room for");
    // It came before all of them, and made room for none.
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").expect("ask");
    assert_eq!(Response::read(&mut kept).status, 200);
}

#[test]
fn handshakes_that_are_never_finished_hold_up_nobody() {
    let authority = Authority::new();
    let folder = Folder::new();
    folder.write_certificate(&authority.certificate());
    let config = folder.write("web.yml", "tls_server_config: {cert_file: server.crt, key_file: server.key}");
    let access = Access::load(&config).expect("a good file");
    let server = Server::with(|setup| setup.access = access);
    let crowd = Crowd::new();
    let client = Client { roots: vec![&authority], ..Client::default() };
    let mut idle = Vec::new();
    for number in 0..1000 {
        let mut stranger = crowd.connect(server.address);
        if number % 2 == 0 {
            // The beginning of a handshake.
            let _cut_off = stranger.write_all(&[22, 3, 1, 1, 0, 1]);
        }
        idle.push(stranger);
        if number % 100 == 0 {
            let start = monotonic();
            assert_eq!(client.status(server.address, "").expect("an answer"), 200);
            let took = monotonic().saturating_sub(start);
            assert!(took < SCRAPE, "it took {took:?}");
        }
    }
}

/// Each costs a check, and there are more than would fit into any patience.
#[test]
fn wrong_passwords_hold_up_nobody_else() {
    let folder = Folder::new();
    let hash = bcrypt::hash("right", 9).expect("a hash");
    let config = folder.write("web.yml", &format!("basic_auth_users: {{alice: '{hash}'}}"));
    let access = Access::load(&config).expect("a good file");
    let server = Server::with(|setup| setup.access = access);
    let head = |credentials: &str| {
        let coded = BASE64_STANDARD.encode(credentials);
        format!(
            "GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\nAuthorization: Basic {coded}\r\n\r\n"
        )
    };
    let start = monotonic();
    let mut alone = TcpStream::connect(server.address).expect("connect");
    alone.write_all(head("alice:wrong").as_bytes()).expect("ask");
    assert_eq!(Response::read(&mut alone).status, 401);
    let check = monotonic().saturating_sub(start);
    let crowd = Crowd::new();
    let mut strangers: Vec<TcpStream> = (0..1000).map(|_| crowd.connect(server.address)).collect();
    for (number, stranger) in strangers.iter_mut().enumerate() {
        let _cut_off = stranger.write_all(head(&format!("mallory:{number}")).as_bytes());
    }
    let start = monotonic();
    let mut alice = TcpStream::connect(server.address).expect("connect");
    alice.write_all(head("alice:right").as_bytes()).expect("ask");
    assert_eq!(Response::read(&mut alice).status, 200);
    let took = monotonic().saturating_sub(start);
    // Her own check, the one under way when she came, and the next in the queue; not the thousand. What else this machine
    // does takes its share.
    assert!(took < 100 * check, "{took:?}, where a check takes {check:?}");
    let start = monotonic();
    let mut alice = TcpStream::connect(server.address).expect("connect");
    alice.write_all(head("alice:right").as_bytes()).expect("ask");
    assert_eq!(Response::read(&mut alice).status, 200);
    assert!(monotonic().saturating_sub(start) < SCRAPE, "it is remembered");
}

#[test]
fn what_is_huge_is_refused() {
    let server = Server::start();
    let huge = "x".repeat(1 << 20);
    for (request, expected) in [
        (format!("GET /{huge} HTTP/1.1\r\nHost: here\r\n\r\n"), &["414", "431"][..]),
        (format!("{huge} / HTTP/1.1\r\nHost: here\r\n\r\n"), &["400", "431"]),
        (format!("GET / HTTP/1.1\r\nHost: here\r\nX: {huge}\r\n\r\n"), &["431"]),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000)), &["431"]),
        (format!("GET / HTTP/1.1\r\nHost: here\r\nContent-Length: 1048576\r\n\r\n{huge}"), &["413"]),
        ("GET / HTTP/1.1\r\nHost: here\r\nContent-Length: 99999999999999\r\n\r\n".to_owned(), &["413"]),
        (
            "POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_owned(),
            &["413"],
        ),
    ] {
        let mut client = TcpStream::connect(server.address).expect("connect");
        // It may be refused before all of it is sent.
        let _refused_early = client.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _reset_behind_the_answer = client.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.get(9..12).unwrap_or_default();
        let request: String = request.chars().take(60).collect();
        assert!(expected.contains(&status), "{request}: {answer}");
        assert!(!answer.to_lowercase().contains("server:"), "{answer}");
        assert_scrape_is_prompt(server.address);
    }
}

#[test]
fn what_is_behind_a_body_is_no_request() {
    let server = Server::start();
    let mut client = TcpStream::connect(server.address).expect("connect");
    let inner = "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n";
    let length = inner.len();
    let request =
        format!("GET /healthz HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n{inner}{inner}");
    client.write_all(request.as_bytes()).expect("ask");
    let answer = read_to_end(&mut client);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    assert_eq!(server.scrapes(), 0);
}

#[test]
fn many_requests_at_once_are_answered_one_by_one() {
    const REQUESTS: usize = 2000;
    let server = Server::start();
    let client = TcpStream::connect(server.address).expect("connect");
    client.set_read_timeout(Some(2 * LATE)).expect("set a timeout");
    let mut writer = client.try_clone().expect("a second handle");
    let asking = std::thread::spawn(move || {
        let requests = "GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n".repeat(REQUESTS);
        writer.write_all(requests.as_bytes()).expect("ask");
        writer.write_all(b"GET /readyz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").expect("ask");
    });
    for _ in 0..10 {
        assert_scrape_is_prompt(server.address);
    }
    let mut answers = String::new();
    (&client).read_to_string(&mut answers).expect("answers");
    asking.join().expect("all was asked");
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), REQUESTS + 1);
    assert_eq!(answers.matches("\r\n\r\nok\n").count(), REQUESTS);
    assert!(answers.ends_with("ready\n"), "in the order in which they were asked");
}

/// Who asks and never reads what he is told.
#[test]
fn answers_that_nobody_reads_hold_up_nobody() {
    let server = Server::start();
    let crowd = Crowd::new();
    let requests = "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n".repeat(100);
    let mut deaf = Vec::new();
    for number in 0..300 {
        let mut client = crowd.connect(server.address);
        client.set_nonblocking(true).expect("it does not wait");
        let _full = client.write(requests.as_bytes());
        deaf.push(client);
        if number % 50 == 49 {
            assert_scrape_is_prompt(server.address);
        }
    }
}
