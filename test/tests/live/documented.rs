//! Every example of the help, and so of the manual pages, of the README and of docs/patterns.md does what it says: typed into a shell, on a host
//! with a daemon and traffic.
//!
//! The host is this one, but for its network and its `/run`. `ssh` leads to it as well, and `sudo` makes root root.

use std::{
    fs::{self, Permissions},
    io::{BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use clap::CommandFactory as _;
use rustix::io::Errno;
use tcp_close::cli::Cli;
use tcp_close_test::{address::Family, clock::Deadline, netns::Netns, stream, wire::Wire};
use tempfile::{TempDir, tempdir};

use crate::{
    program::{Running, program, wait_for_line},
    read_to_fin,
};

/// What ends only with ^C gets it after so many seconds.
const LONGEST: &str = "5";

/// Of the connection that `show` is asked for.
const PORTS: [u16; 2] = [51_234, 443];

#[test]
fn every_example_does_what_it_says() {
    let stage = Stage::set();
    let examples = examples();
    assert!(examples.len() > 40, "{examples:?}");
    // Two daemons would be in each other's way.
    let (daemons, others): (Vec<_>, Vec<_>) =
        examples.into_iter().partition(|example| example.contains("tcp-close daemon"));
    assert_eq!(daemons.len(), 4, "{daemons:?}");
    for example in &daemons {
        stage.try_out(example);
    }
    let _daemon = stage.daemon();
    let traffic = Traffic::between(&stage.client, &stage.server);
    let cookie = stage.cookie_of_the_pair();
    let recording = stage.recording();
    thread::scope(|scope| {
        for share in 0..4 {
            let (stage, cookie, recording, others) = (&stage, &cookie, &recording, &others);
            scope.spawn(move || {
                for example in others.iter().skip(share).step_by(4) {
                    let example = example.replace("sk:2b", cookie);
                    stage.try_out_with(&example, Some(recording).filter(|_| example.contains("replay")));
                }
            });
        }
    });
    traffic.stop();
}

/// What is shown as typed, in the help of every command and in the README, but for building and testing.
fn examples() -> Vec<String> {
    let said = |arguments: &[&str]| {
        let output = program().args(arguments).output().expect("start tcp-close");
        String::from_utf8(output.stdout).expect("text")
    };
    let mut examples = Vec::new();
    let commands = Cli::command();
    let each = commands.get_subcommands().map(|command| vec![command.get_name(), "--help"]);
    for asking in each.chain([vec!["--help"]]) {
        let help = said(&asking);
        let (_, shown) = help.split_once("Examples:\n").expect("there are examples");
        let shown = shown.lines().take_while(|line| !line.is_empty());
        // A line that is indented further explains the one before.
        examples.extend(shown.filter(|line| !line.starts_with("   ")).map(|line| typed(line.trim_start())));
    }
    let document = |name: &str| {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(name);
        fs::read_to_string(path).expect("it is there")
    };
    let patterns = document("docs/patterns.md");
    // Every second piece is code.
    let code = patterns.split('`').skip(1).step_by(2);
    examples.extend(code.filter(|code| code.starts_with("tcp-close ")).map(str::to_owned));
    let readme = document("README.md");
    let shown = readme.lines().filter_map(|line| line.strip_prefix("$ "));
    examples.extend(shown.filter(|line| !line.starts_with("cargo ")).map(str::to_owned));
    examples
}

/// An example without its explanation, which begins after two spaces.
fn typed(line: &str) -> String {
    let mut is_quoted = false;
    let end = line.char_indices().find(|&(place, character)| {
        is_quoted ^= character == '\'';
        !is_quoted && line.get(place..).is_some_and(|rest| rest.starts_with("  "))
    });
    let explanation = end.map_or(line.len(), |(place, _)| place);
    let example = line.get(..explanation).unwrap_or(line);
    // Where it fills its column, one space is left.
    example.strip_suffix(" The same").unwrap_or(example).to_owned()
}

/// A host of its own, as far as the examples can tell.
struct Stage {
    client: Netns,
    server: Netns,
    _wire: Wire,
    /// Keeps the mounts.
    keeper: Child,
    folder: TempDir,
}

impl Stage {
    fn set() -> Self {
        let (client, server) = (Netns::new(), Netns::new());
        let wire = Wire::between(&client, &server);
        let folder = tempdir().expect("a directory");
        let programs = folder.path().join("bin");
        fs::create_dir(&programs).expect("a directory");
        let tcp_close = Path::new(program().get_program()).canonicalize().expect("the program");
        let end = format!("timeout --foreground --preserve-status --signal=INT {LONGEST}");
        for (name, does) in [
            ("tcp-close", format!("exec {end} {} \"$@\"", tcp_close.display())),
            ("sudo", "exec \"$@\"".to_owned()),
            ("ssh", "shift; exec \"$@\"".to_owned()),
        ] {
            let file = programs.join(name);
            fs::write(&file, format!("#!/bin/sh\n{does}\n")).expect("write a script");
            fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("make it a program");
        }
        let mounts = "mount -t tmpfs tmpfs /run && mkdir /run/netns && touch /run/netns/blue \
                      && mount --bind /proc/self/ns/net /run/netns/blue && echo mounted && exec sleep 600";
        let mut keeper = Command::new("unshare");
        keeper.args(["--mount", "sh", "-c", mounts]).stdout(Stdio::piped());
        let mut keeper = client.run(move || keeper.spawn()).expect("unshare, of util-linux");
        wait_for_line(&mut BufReader::new(keeper.stdout.take().expect("it is piped")), "mounted");
        Self { client, server, _wire: wire, keeper, folder }
    }

    /// A shell on the stage, in a new folder.
    fn shell(&self, typed: &str) -> Command {
        static FOLDERS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let folder = self.folder.path().join(FOLDERS.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&folder).expect("a directory");
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()));
        // Whoever enters mounts stands at their root.
        command.args(["sh", "-c", &format!("cd {} && {typed}", folder.display())]).stdin(Stdio::null());
        let path = std::env::var("PATH").expect("there is a PATH");
        command.env("PATH", format!("{}:{path}", self.folder.path().join("bin").display()));
        command.env("TERM", "xterm").env_remove("TCP_CLOSE_PROBE");
        command
    }

    /// What comes of something that is typed.
    fn output(&self, typed: &str) -> Output {
        let mut shell = self.shell(typed);
        let ended = self.client.spawn(move || shell.output()).join().expect("nobody panicked");
        ended.expect("nsenter, of util-linux")
    }

    fn try_out(&self, example: &str) {
        self.try_out_with(example, None);
    }

    /// Types it; it must end well, have something to say, and nothing to complain about.
    #[track_caller]
    fn try_out_with(&self, example: &str, recording: Option<&PathBuf>) {
        let mut typed = example.replace("> /", "> ./");
        if let Some((_, file)) = typed.split_once("> ./") {
            let (folder, _) = file.rsplit_once('/').expect("a path");
            typed = format!("mkdir -p {folder} && {typed} && cat ./{file}");
        }
        if typed.starts_with("tcp-close top") {
            // It wants a terminal.
            typed = format!("script --quiet --return --command '{typed}' /dev/null");
        }
        if let Some(recording) = recording {
            typed = format!("cp {} closes.tcpclose && {typed}", recording.display());
        }
        let Output { status, stdout, stderr } = self.output(&typed);
        let [said, complaints] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        // Nothing here ends so, and elsewhere on this host perhaps nothing either.
        let may_be_none = example.contains("assassinated") || example.contains("timed-out");
        if may_be_none && example.starts_with("tcp-close show") && !status.success() {
            assert!(complaints.contains("the daemon remembers no close of which this is so"), "{complaints}");
            return;
        }
        assert!(status.success(), "{example}\n{status}\n{said}\n{complaints}");
        for word in ["error", "warning", "not found", "panicked", "tcp-close: "] {
            assert!(!complaints.contains(word), "{example}\n{complaints}");
        }
        let is_silent = example.starts_with("tcp-close record")
            || example.starts_with("tcp-close daemon")
            || example.starts_with("TCP_CLOSE")
            || example.ends_with("./man")
            || example.contains("select(");
        assert!(is_silent || !said.trim().is_empty(), "{example} says nothing\n{complaints}");
    }

    fn daemon(&self) -> Running {
        let program = Path::new(program().get_program()).canonicalize().expect("the program");
        // It sees what the tests beside this one do as well, and is not to forget anything over that.
        let mut daemon = self.shell(&format!("exec {} daemon --remember 2000000", program.display()));
        daemon.stderr(Stdio::piped());
        let mut daemon = self.client.run(move || daemon.spawn()).expect("nsenter, of util-linux");
        let mut log = BufReader::new(daemon.stderr.take().expect("it is piped"));
        wait_for_line(&mut log, "ready");
        Running::new(daemon, log)
    }

    /// The cookie, as `ss -e` shows it, of the connection that an example names, once it has closed and was reused.
    fn cookie_of_the_pair(&self) -> String {
        let deadline = Deadline::after(Duration::from_secs(20));
        let wanted = "tcp-close list --ended -o json 'owner = nginx.service and cause = reused'";
        loop {
            let ended = self.output(wanted);
            let line = String::from_utf8_lossy(&ended.stdout).lines().next().map(str::to_owned);
            if let Some(line) = line {
                let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                return format!("sk:{:x}", line["cookie"].as_u64().expect("a cookie"));
            }
            assert!(deadline.left().is_some(), "no TIME-WAIT was reused: {ended:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn recording(&self) -> PathBuf {
        let file = self.folder.path().join("closes.tcpclose");
        let record = self.output(&format!("tcp-close record {}", file.display()));
        assert!(record.status.success(), "{record:?}");
        file
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.keeper.kill();
        let _status = self.keeper.wait();
    }
}

/// Connections from one thread, which is called like a service, one after the other; every second one of the same pair of
/// addresses, which takes over the TIME-WAIT of the one before.
struct Traffic {
    stop: Arc<AtomicBool>,
    ends: [JoinHandle<()>; 2],
}

impl Traffic {
    fn between(client: &Netns, server: &Netns) -> Self {
        client.sysctl("net/ipv4/tcp_tw_reuse", "1");
        let [from, to] = PORTS;
        let near = SocketAddr::new(Family::V4.client(), from);
        let far = SocketAddr::new(Family::V4.server(), to);
        let listener = server.run(move || TcpListener::bind(far)).expect("listen");
        let stop = Arc::new(AtomicBool::new(false));
        // The last one says so.
        let serve = move || while read_to_fin(&listener.accept().expect("accept").0) != b"last" {};
        let ask = {
            let stop = Arc::clone(&stop);
            move || {
                rustix::thread::set_name(c"nginx.service").expect("a name");
                while !stop.load(Ordering::Relaxed) {
                    // A TIME-WAIT has to be a second old for that.
                    drop(connect_from(near, far));
                    let next = Deadline::after(Duration::from_millis(1_300));
                    while next.left().is_some() {
                        drop(TcpStream::connect(far).expect("connect"));
                        thread::sleep(Duration::from_millis(20));
                    }
                }
                TcpStream::connect(far).expect("connect").write_all(b"last").expect("write");
            }
        };
        Self { stop, ends: [server.spawn(serve), client.spawn(ask)] }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for end in self.ends {
            end.join().expect("nobody panicked");
        }
    }
}

/// Connects from an address that a TIME-WAIT may have, as soon as that is old enough to be taken over.
///
/// Where the other end closes late, it is younger than whoever counts from the last connect thinks.
fn connect_from(near: SocketAddr, far: SocketAddr) -> TcpStream {
    let deadline = Deadline::after(Duration::from_secs(20));
    loop {
        match stream::connect_bound(near, far) {
            Ok(client) => return client,
            Err(Errno::ADDRNOTAVAIL) if deadline.left().is_some() => {
                thread::sleep(Duration::from_millis(100));
            }
            Err(error) => panic!("connect: {error}"),
        }
    }
}
