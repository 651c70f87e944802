//! TLS and passwords: who is let in, by which files, and by which files since then.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::version::{TLS12, TLS13};
use tcp_close::http::Access;

use crate::{
    LATE, SOON,
    encrypted::{Authority, Client, Folder},
    read_to_end,
    server::{Response, Server, get, monotonic},
};

const TLS: &str = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";

/// A server that is as `web.yml` in this folder says.
fn server(folder: &Folder) -> Server {
    let access = Access::load(&folder.path("web.yml")).expect("a good file");
    Server::with(|setup| setup.access = access)
}

/// A folder with a server's certificate, and this `web.yml`.
fn folder(authority: &Authority, config: &str) -> Folder {
    let folder = Folder::new();
    folder.write_certificate(&authority.certificate());
    folder.write("web.yml", config);
    folder
}

/// A section with these users, whose passwords are as cheap to check as can be.
fn users(users: &[(&str, &str)]) -> String {
    costly_users(users, 4)
}

fn costly_users(users: &[(&str, &str)], cost: u32) -> String {
    let user = |(name, password): &(&str, &str)| {
        format!("  {name}: '{}'\n", bcrypt::hash(password, cost).expect("a hash"))
    };
    format!("basic_auth_users:\n{}", users.iter().map(user).collect::<String>())
}

/// The line of a request's head that has these credentials.
fn basic(credentials: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(credentials))
}

fn ask(server: &Server, path: &str, lines: &str) -> Response {
    let mut client = TcpStream::connect(server.address).expect("connect");
    write!(client, "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{lines}\r\n").expect("ask");
    Response::read(&mut client)
}

/// Asks until the answer is this, as it is once the server has looked at its files.
#[track_caller]
fn wait_until<T: PartialEq + std::fmt::Debug>(expected: &T, mut ask: impl FnMut() -> T) {
    let start = monotonic();
    loop {
        let now = ask();
        if now == *expected {
            return;
        }
        assert!(monotonic().saturating_sub(start) < LATE, "it is {now:?} still, not {expected:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn tls_is_spoken_in_both_versions() {
    let authority = Authority::new();
    let server = server(&folder(&authority, TLS));
    for version in [&TLS12, &TLS13] {
        let client = Client { roots: vec![&authority], version: Some(version), ..Client::default() };
        assert_eq!(client.status(server.address, "").expect("an answer"), 200, "{version:?}");
    }
    let other = Authority::new();
    let stranger = Client { roots: vec![&other], ..Client::default() };
    let error = stranger.status(server.address, "").expect_err("it is not that authority's certificate");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

#[test]
fn versions_are_as_they_are_wanted() {
    let authority = Authority::new();
    let config = "tls_server_config: {cert_file: server.crt, key_file: server.key, min_version: TLS13}";
    let server = server(&folder(&authority, config));
    let client = |version| Client { roots: vec![&authority], version: Some(version), ..Client::default() };
    assert_eq!(client(&TLS13).status(server.address, "").expect("an answer"), 200);
    let error = client(&TLS12).status(server.address, "").expect_err("it is too old");
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}

#[test]
fn tls_1_1_is_refused() {
    // TLS 1.1 and TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, which it has (RFC 5246, section 7.4.1.2).
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let length = u8::try_from(hello.len()).expect("it is short");
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let authority = Authority::new();
    let server = server(&folder(&authority, TLS));
    let mut client = TcpStream::connect(server.address).expect("connect");
    client.write_all(&record).expect("say hello");
    let mut answer = Vec::new();
    let _reset_behind_the_answer = client.read_to_end(&mut answer);
    // A fatal alert: handshake_failure, since a client of today would have said more, or protocol_version
    // (RFC 5246, section 7.2).
    assert!(matches!(answer.as_slice(), [21, 3, _, 0, 2, 2, 40 | 70]), "{answer:?}");
}

#[test]
fn whoever_forgot_the_s_is_told() {
    let authority = Authority::new();
    let server = server(&folder(&authority, TLS));
    let answer = get(server.address, "/metrics");
    assert_eq!((answer.status, answer.body.contains("HTTPS")), (400, true), "{}", answer.body);
    for nonsense in ["\0\0\0\0", "hello\r\n\r\n", "\x16\x03\x01\0\x02\0\0"] {
        let mut client = TcpStream::connect(server.address).expect("connect");
        client.write_all(nonsense.as_bytes()).expect("send nonsense");
        client.shutdown(std::net::Shutdown::Write).expect("say no more");
        let answer = read_to_end(&mut client);
        assert!(!answer.contains("HTTP"), "{nonsense:?}: {answer}");
    }
    let client = Client { roots: vec![&authority], ..Client::default() };
    assert_eq!(client.status(server.address, "").expect("an answer"), 200);
}

#[test]
fn a_handshake_by_the_byte_is_cut_off() {
    let authority = Authority::new();
    let access = Access::load(&folder(&authority, TLS).path("web.yml")).expect("a good file");
    let server = Server::with(|setup| {
        setup.access = access;
        setup.patience.first_request = SOON;
    });
    let start = monotonic();
    let mut client = TcpStream::connect(server.address).expect("connect");
    for byte in [22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3].into_iter().chain(std::iter::repeat(0)) {
        if client.write_all(&[byte]).is_err() {
            break;
        }
        assert!(monotonic().saturating_sub(start) < LATE, "it is still connected");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn http_2_is_spoken_unless_it_is_not_wanted() {
    let authority = Authority::new();
    for (config, expected) in [("", "h2"), ("http_server_config: {http2: false}\n", "http/1.1")] {
        let server = server(&folder(&authority, &format!("{TLS}{config}")));
        let client = Client { roots: vec![&authority], alpn: &["h2", "http/1.1"], ..Client::default() };
        let stream = client.connect(server.address).expect("a handshake");
        let spoken = stream.conn.alpn_protocol().map(String::from_utf8_lossy);
        assert_eq!(spoken.as_deref(), Some(expected));
        if expected == "h2" {
            let statuses = client.http2(server.address, &["/metrics", "/nowhere"]);
            assert_eq!(statuses, [200, 404]);
        }
    }
}

#[test]
fn clients_are_asked_for_certificates() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (good, bad) = (authority.certificate(), other.certificate());
    for (kind, expected) in [
        ("NoClientCert", [true, true, true]),
        ("RequestClientCert", [true, true, true]),
        ("RequireAnyClientCert", [false, true, true]),
        ("VerifyClientCertIfGiven", [true, false, true]),
        ("RequireAndVerifyClientCert", [false, false, true]),
    ] {
        let ca = if kind.contains("Verify") { ", client_ca_file: ca.crt" } else { "" };
        let config = format!(
            "tls_server_config: {{cert_file: server.crt, key_file: server.key, client_auth_type: {kind}{ca}}}"
        );
        let folder = folder(&authority, &config);
        folder.write("ca.crt", &authority.cert());
        let server = server(&folder);
        let let_in = [None, Some(&bad), Some(&good)].map(|certificate| {
            let client = Client { roots: vec![&authority], certificate, ..Client::default() };
            client.status(server.address, "").is_ok_and(|status| status == 200)
        });
        assert_eq!(let_in, expected, "{kind}: without, another's, a good one");
    }
}

#[test]
fn only_users_are_let_in() {
    let folder = Folder::new();
    folder.write("web.yml", &users(&[("alice", "wonder: land"), ("bob", "")]));
    let server = server(&folder);
    for (lines, expected) in [
        (String::new(), 401),
        (basic("alice:wonder: land"), 200),
        (basic("alice:wonder: land").replace("Basic", "bAsIc"), 200),
        (basic("bob:"), 200),
        (basic("alice:wonder"), 401),
        (basic("alice:wonder: land "), 401),
        (basic("alice:"), 401),
        (basic("Alice:wonder: land"), 401),
        (basic("carol:wonder: land"), 401),
        (basic(":"), 401),
        (basic("alice"), 401),
        (basic(&format!("alice:{}", "x".repeat(4000))), 401),
        ("Authorization: Basic \u{7f}\r\n".to_owned(), 400),
        ("Authorization: Basic ====\r\n".to_owned(), 401),
        ("Authorization: Basic\r\n".to_owned(), 401),
        ("Authorization: Bearer YWxpY2U6d29uZGVyOiBsYW5k\r\n".to_owned(), 401),
    ] {
        assert_eq!(ask(&server, "/metrics", &lines).status, expected, "{lines}");
    }
    assert_eq!(server.scrapes(), 3, "nobody else woke the pipeline");
}

#[test]
fn strangers_learn_nothing() {
    let folder = Folder::new();
    let config =
        format!("http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n{}", users(&[("a", "b")]));
    folder.write("web.yml", &config);
    let server = server(&folder);
    for path in ["/", "/metrics", "/healthz", "/readyz", "/nowhere"] {
        for lines in [String::new(), basic("a:c"), basic("c:b")] {
            let answer = ask(&server, path, &lines);
            assert_eq!((answer.status, answer.body.as_str()), (401, "unauthorized\n"), "{path}");
            let mut names = answer.header_names();
            names.sort();
            let expected = [
                "connection",
                "content-length",
                "content-type",
                "date",
                "www-authenticate",
                "x-frame-options",
            ];
            assert_eq!(names, expected, "{path}");
            assert_eq!(answer.header("www-authenticate"), Some("Basic"));
        }
    }
    let answer = ask(&server, "/healthz", &basic("a:b"));
    assert_eq!((answer.status, answer.header("x-frame-options")), (200, Some("deny")));
    assert_eq!(answer.header("server"), None);
}

/// Long enough to tell a check from none, also on a busy machine.
const COST: u32 = 9;

fn time(work: impl FnOnce() -> u16) -> (u16, Duration) {
    let start = monotonic();
    (work(), monotonic().saturating_sub(start))
}

#[test]
fn whether_there_is_such_a_user_takes_as_long_to_tell() {
    let folder = Folder::new();
    folder.write("web.yml", &costly_users(&[("alice", "right")], COST));
    let server = server(&folder);
    let fastest = |credentials: &str| {
        let asked = (0..3).map(|_| time(|| ask(&server, "/healthz", &basic(credentials)).status));
        let (statuses, times): (Vec<u16>, Vec<Duration>) = asked.unzip();
        assert_eq!(statuses, [401; 3]);
        times.into_iter().min().expect("there are three")
    };
    let (known, unknown) = (fastest("alice:wrong"), fastest("mallory:wrong"));
    // One that is not checked at all is refused in a hundredth.
    assert!(known < 10 * unknown && unknown < 10 * known, "{known:?} {unknown:?}");
}

#[test]
fn a_right_password_is_checked_once() {
    let folder = Folder::new();
    folder.write("web.yml", &costly_users(&[("alice", "right")], COST));
    let server = server(&folder);
    let fastest = |credentials: &str, expected: u16| {
        let asked = (0..5).map(|_| time(|| ask(&server, "/healthz", &basic(credentials)).status));
        let (statuses, times): (Vec<u16>, Vec<Duration>) = asked.unzip();
        assert_eq!(statuses, [expected; 5]);
        times.into_iter().min().expect("there are five")
    };
    // Wrong ones are checked each time.
    let (checked, remembered) = (fastest("alice:wrong", 401), fastest("alice:right", 200));
    assert!(remembered < checked / 4, "{remembered:?}, where {checked:?} is a check");
}

#[test]
fn a_new_certificate_is_shown_to_the_next_client() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = folder(&old, TLS);
    let server = server(&folder);
    let [by_old, by_new] =
        [&old, &new].map(|authority| Client { roots: vec![authority], ..Client::default() });
    assert_eq!(by_old.status(server.address, "").expect("an answer"), 200);
    let mut kept = by_old.connect(server.address).expect("connect");
    folder.write_certificate(&new.certificate());
    wait_until(&true, || by_new.status(server.address, "").is_ok());
    by_old.status(server.address, "").expect_err("it is not the old certificate any more");
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").expect("ask");
    let mut answer = String::new();
    kept.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "whoever was connected goes on: {answer}");
}

#[test]
fn users_come_and_go() {
    let folder = Folder::new();
    folder.write("web.yml", &users(&[("alice", "old")]));
    let server = server(&folder);
    let asked =
        || ["alice:old", "alice:new", "bob:b"].map(|who| ask(&server, "/healthz", &basic(who)).status);
    assert_eq!(asked(), [200, 401, 401]);
    folder.write("web.yml", &users(&[("alice", "new"), ("bob", "b")]));
    // What is remembered of the old password goes with it.
    wait_until(&[401, 200, 200], asked);
    folder.write("web.yml", &users(&[("bob", "b")]));
    wait_until(&[401, 401, 200], asked);
}

/// What the server has logged, in this process.
fn log() -> Arc<Mutex<Vec<u8>>> {
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(text)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    Arc::clone(LOG.get_or_init(|| {
        let log: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || Log(Arc::clone(&kept)))
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("there is no other");
        log
    }))
}

#[test]
fn a_file_that_became_bad_changes_nothing_and_is_told_once() {
    let log = log();
    let authority = Authority::new();
    let good = format!("{TLS}{}", users(&[("alice", "right")]));
    let folder = folder(&authority, &good);
    let server = server(&folder);
    let client = Client { roots: vec![&authority], ..Client::default() };
    let asked = || client.status(server.address, &basic("alice:right")).ok();
    assert_eq!(asked(), Some(200));
    let told = |what: &str| {
        let log = String::from_utf8_lossy(&log.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
        let path = folder.path("web.yml").display().to_string();
        log.lines().filter(|line| line.contains(&path) && line.contains(what)).count()
    };
    let mismatched = authority.certificate();
    let changes: [(&str, &dyn Fn()); 6] = [
        ("tls_server_cnfig", &|| drop(folder.write("web.yml", "tls_server_cnfig: {}"))),
        ("no longer has TLS", &|| drop(folder.write("web.yml", ""))),
        ("no longer has users", &|| drop(folder.write("web.yml", TLS))),
        ("cannot read", &|| std::fs::remove_file(folder.path("web.yml")).expect("it is there")),
        ("no private key in it", &|| {
            folder.write("server.key", "nothing");
            folder.write("web.yml", &good);
        }),
        ("tls_server_config.key_file: ", &|| drop(folder.write("server.key", &mismatched.key))),
    ];
    for (said, change) in changes {
        let before = told(said);
        change();
        wait_until(&true, || {
            assert_eq!(asked(), Some(200), "{said}");
            told(said) > before
        });
    }
    let before = told("");
    let start = monotonic();
    while monotonic().saturating_sub(start) < Duration::from_millis(2500) {
        assert_eq!(asked(), Some(200));
    }
    assert_eq!(told(""), before, "nothing has changed since");
    // And it is not stuck there.
    folder.write_certificate(&authority.certificate());
    folder.write("web.yml", &format!("{TLS}{}", users(&[("alice", "new")])));
    wait_until(&Some(401), asked);
}

#[test]
fn a_bad_file_is_no_beginning() {
    let authority = Authority::new();
    let (own, other) = (authority.certificate(), authority.certificate());
    for (config, expected) in [
        ("tls_server_config: {cert_file: no.crt, key_file: server.key}", "cannot read it: No such file"),
        ("tls_server_config: {cert_file: server.crt, key_file: no.key}", "cannot read it: No such file"),
        ("tls_server_config: {cert_file: web.yml, key_file: server.key}", "there is no certificate in it"),
        ("tls_server_config: {cert_file: server.crt, key_file: server.crt}", "there is no private key in it"),
        ("tls_server_config: {cert_file: server.crt, key_file: other.key}", "other.key: keys may not be"),
        ("tls_server_config: {cert_file: server.crt, key_file: .}", "cannot read it: Is a directory"),
        ("tls_server_config: {cert_file: server.crt, key_file: /dev/zero}", "it is too long"),
    ] {
        let folder = Folder::new();
        folder.write_certificate(&own);
        folder.write("other.key", &other.key);
        let error = Access::load(&folder.write("web.yml", config)).expect_err("it is bad").to_string();
        assert!(error.starts_with("tls_server_config.") && error.contains(expected), "{error}");
    }
}

#[test]
fn text_in_the_file_is_as_good_as_a_file() {
    let authority = Authority::new();
    let own = authority.certificate();
    let indented = |text: &str| text.replace('\n', "\n    ");
    let folder = Folder::new();
    folder.write(
        "web.yml",
        &format!(
            "tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n",
            indented(&own.cert),
            indented(&own.key)
        ),
    );
    let server = server(&folder);
    let client = Client { roots: vec![&authority], ..Client::default() };
    assert_eq!(client.status(server.address, "").expect("an answer"), 200);
}

#[test]
fn who_asks_too_often_is_told_so() {
    let folder = Folder::new();
    folder.write("web.yml", "rate_limit: {interval: 1h, burst: 3}");
    let server = server(&folder);
    let statuses: Vec<u16> = (0..5).map(|_| get(server.address, "/metrics").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    assert_eq!(server.scrapes(), 3);
}
