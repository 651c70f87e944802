//! The daemon under test, and programs that ask it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tcp_close_test::netns::Netns;

use crate::eventually;

/// Longer than an answer takes; who has not got one by then hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The release binary that `cargo xtask test` built, or the one of an ordinary release build.
pub(crate) fn program() -> Command {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/tcp-close");
    Command::new(std::env::var_os("TCP_CLOSE_BIN").unwrap_or_else(|| default.into()))
}

/// A process of a test, ended with it.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Sends SIGSTOP, and waits until none of it moves.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        eventually(PATIENCE, || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it is there");
            // proc_pid_stat(5): the state comes after the name, which is in parentheses.
            let moves = tasks.flatten().any(|task| {
                let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['T', 'Z', 'X']))
            });
            if moves { Err("it is not stopped".to_owned()) } else { Ok(()) }
        });
    }

    /// Kills it; it is over then.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        // It may have ended by itself.
        let _ended = self.0.kill();
        self.0.wait().expect("it is our child")
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let pid = self.pid();
        eventually(PATIENCE, || {
            self.0.try_wait().expect("it is our child").ok_or_else(|| format!("{pid} still runs"))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The socket of a daemon, which leaves it behind when it is killed.
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may not have been made yet.
        let _removed = fs::remove_file(&self.0);
    }
}

/// A daemon that was started, and need not be ready.
pub(crate) struct Starting {
    pub(crate) running: Running,
    socket: SocketFile,
}

/// A daemon, and where it answers.
pub(crate) struct Daemon {
    pub(crate) running: Running,
    /// HTTP.
    pub(crate) address: SocketAddr,
    /// The socket that other commands ask at.
    socket: SocketFile,
    /// What it says.
    log: Arc<Mutex<String>>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("the daemon said:\n{}", self.said());
        }
    }
}

impl Starting {
    /// Starts one with these arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket =
            std::env::temp_dir().join(format!("tcp-close-faults-{}-{number}.sock", std::process::id()));
        let mut command = program();
        command.args(["daemon", "--web.listen-address", "127.0.0.1:0", "--socket"]).arg(&socket);
        let child = command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start tcp-close; TCP_CLOSE_BIN names it, or cargo build --release makes it");
        Self { running: Running(child), socket: SocketFile(socket) }
    }
}

impl Daemon {
    /// One that watches this namespace, and is ready.
    #[track_caller]
    pub(crate) fn of(netns: &Netns, arguments: &[&str]) -> Self {
        Self::with(&[&["--netns", &netns.inode().to_string()], arguments].concat())
    }

    /// One with these arguments, which is ready.
    #[track_caller]
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let mut starting = Starting::with(arguments);
        let mut log = BufReader::new(starting.running.0.stderr.take().expect("stderr is piped"));
        let mut said = String::new();
        let port = loop {
            let before = said.len();
            assert_ne!(log.read_line(&mut said).expect("read the log"), 0, "it is not ready: {said}");
            let line = said.get(before..).unwrap_or_default();
            if line.contains("ready") {
                let port = line.split("127.0.0.1:").nth(1).expect("it says where it listens");
                break port.chars().take_while(char::is_ascii_digit).collect::<String>();
            }
        };
        let Starting { running, socket } = starting;
        let log = read_on(log, said);
        let address = (Ipv4Addr::LOCALHOST, port.parse::<u16>().expect("a port")).into();
        Self { running, address, socket, log }
    }

    /// A page of it.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> String {
        get(self.address, path)
    }

    #[track_caller]
    pub(crate) fn metrics(&self) -> String {
        self.get("/metrics")
    }

    /// [`Self::metrics`], where it may have so much to do that it turns who asks away, as it says it does.
    pub(crate) fn metrics_of_a_busy_one(&self) -> Result<String, String> {
        let answer = ask(self.address, "/metrics");
        assert!(answer.starts_with(IS_FINE) || answer.starts_with("HTTP/1.1 503 "), "{answer}");
        if answer.starts_with(IS_FINE) { Ok(answer) } else { Err("it is busy".to_owned()) }
    }

    /// A command that asks it.
    pub(crate) fn asked_by(&self, command: &str, arguments: &[&str]) -> Command {
        let mut asking = program();
        asking.arg(command).arg("--socket").arg(&self.socket.0).args(arguments);
        asking.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        asking
    }

    /// What such a command prints.
    #[track_caller]
    pub(crate) fn answers(&self, command: &str, arguments: &[&str]) -> String {
        let output: Output = self.asked_by(command, arguments).output().expect("start tcp-close");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What it has said on stderr.
    pub(crate) fn said(&self) -> String {
        self.log.lock().expect("nobody panicked").clone()
    }

    /// How many programs read what it tells: connections at its socket that it has not closed.
    pub(crate) fn readers(&self) -> usize {
        const CONNECTED: &str = "03";
        let descriptors =
            fs::read_dir(format!("/proc/{}/fd", self.running.pid())).expect("it runs").flatten();
        let of = |link: PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
        let its: Vec<String> = descriptors.filter_map(|fd| of(fs::read_link(fd.path()).ok()?)).collect();
        let table = fs::read_to_string("/proc/net/unix").expect("the table of Unix sockets");
        // The state, the inode, and the path, which a pair of sockets within a process has not.
        let is_one = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().skip(5).collect();
            matches!(words[..], [CONNECTED, inode, _path] if its.iter().any(|its| its == inode))
        };
        table.lines().filter(is_one).count()
    }

    /// How many descriptors it has.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.running.pid())).expect("it runs").count()
    }
}

/// Goes on to read what it says, which must not fill the pipe.
fn read_on(mut log: BufReader<ChildStderr>, said: String) -> Arc<Mutex<String>> {
    let all = Arc::new(Mutex::new(said));
    let more = Arc::clone(&all);
    thread::spawn(move || {
        let mut line = String::new();
        while log.read_line(&mut line).is_ok_and(|read| read > 0) {
            more.lock().expect("nobody panicked").push_str(&std::mem::take(&mut line));
        }
    });
    all
}

/// A page of a daemon, from the namespace of this process, outside of those under test.
#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let answer = ask(address, path);
    assert!(answer.starts_with(IS_FINE), "{answer}");
    answer
}

const IS_FINE: &str = "HTTP/1.1 200 ";

/// What it answers, which may be that it is busy.
fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connect to the daemon");
    // Longer than any test lets it stand still.
    stream.set_read_timeout(Some(10 * PATIENCE)).expect("a time");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read the answer");
    answer
}

/// The sample of a series, named with its labels as the exposition has them; `None` where it is not exported.
pub(crate) fn exported(exposition: &str, series: &str) -> Option<f64> {
    let value = exposition.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.parse().expect("a number"))
}

/// The sample of a series that there is.
#[track_caller]
pub(crate) fn sample(exposition: &str, series: &str) -> f64 {
    exported(exposition, series).unwrap_or_else(|| panic!("{series} in {exposition}"))
}

/// All series of a metric.
pub(crate) fn sum(exposition: &str, name: &str) -> f64 {
    let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let values = exposition.lines().filter(of).map(|line| line.rsplit(' ').next().expect("a value"));
    values.map(|value| value.parse::<f64>().expect("a number")).sum()
}

/// Events that are known to be lost.
pub(crate) fn lost(exposition: &str) -> f64 {
    sum(exposition, "tcp_close_events_lost_total")
}

/// Ends of connections that were told.
pub(crate) fn told(exposition: &str) -> f64 {
    sum(exposition, "tcp_close_endpoints_closed_total")
}
