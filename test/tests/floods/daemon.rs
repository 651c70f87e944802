//! A daemon, as a user starts it: what it exports, and what the kernel says of its process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use tcp_close_test::{
    clock::{Deadline, PATIENCE},
    netns::Netns,
};

/// A running daemon, ended when the test is.
pub(crate) struct Daemon {
    child: Child,
    address: SocketAddr,
    socket: PathBuf,
    /// Reads its log, which must not fill the pipe, to the end.
    log: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts one that watches these namespaces, and waits until it is ready and has read the kernel's table: what begins to
    /// close meanwhile may be in the table before its event is read, and is then told as a correction.
    pub(crate) fn watching(namespaces: &[&Netns], arguments: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket =
            std::env::temp_dir().join(format!("tcp-close-load-{}-{number}.sock", std::process::id()));
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/tcp-close");
        let child = Command::new(std::env::var_os("TCP_CLOSE_BIN").unwrap_or_else(|| built.into()))
            .args(["daemon", "--web.listen-address", "127.0.0.1:0", "--socket"])
            .arg(&socket)
            .args(namespaces.iter().flat_map(|netns| ["--netns".to_owned(), netns.inode().to_string()]))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start tcp-close; TCP_CLOSE_BIN names it, or cargo build --release makes it");
        // Ended from here on, whatever comes.
        let mut daemon = Self { child, address: (Ipv4Addr::LOCALHOST, 0).into(), socket, log: None };
        let mut lines = BufReader::new(daemon.child.stderr.take().expect("stderr is piped")).lines();
        let mut said = Vec::new();
        daemon.address.set_port(loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended before it was ready: {said:#?}"));
            let line = line.expect("its log is text");
            if line.contains("ready") {
                let rest = line.split("127.0.0.1:").nth(1).expect("it says where it listens");
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break digits.parse().expect("a port");
            }
            said.push(line);
        });
        daemon.log = Some(thread::spawn(move || lines.for_each(drop)));
        daemon.scrape_until(PATIENCE, |exposition| {
            let read = exposition.sum("tcp_close_last_reconcile_timestamp_seconds") > 0.0;
            (!read).then(|| "the table is not read".to_owned())
        });
        daemon
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it exports now. It serves in the namespace of the test, outside of those under test.
    pub(crate) fn scrape(&self) -> Exposition {
        let mut stream = TcpStream::connect(self.address).expect("connect to the daemon");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read the answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        Exposition::parse(body)
    }

    /// Scrapes until what is exported is as it should be, and gives it back; ends the test with what differs.
    #[track_caller]
    pub(crate) fn scrape_until(
        &self,
        patience: Duration,
        differs: impl Fn(&Exposition) -> Option<String>,
    ) -> Exposition {
        let deadline = Deadline::after(patience);
        loop {
            let exposition = self.scrape();
            let Some(difference) = differs(&exposition) else {
                return exposition;
            };
            assert!(deadline.left().is_some(), "after {patience:?} {difference}; {exposition}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Resident memory, in bytes: its heap, the ring it reads, and the program itself.
    pub(crate) fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = value.and_then(|value| value.split_whitespace().next()).expect("the kernel tells it");
        1024.0 * kibibytes.parse::<f64>().expect("a number")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if let Some(log) = self.log.take() {
            let _ended = log.join();
        }
        // It is killed, and leaves that behind.
        let _removed = fs::remove_file(&self.socket);
    }
}

/// Samples by series, named with their labels.
pub(crate) struct Exposition(BTreeMap<String, f64>);

impl Exposition {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().expect("a number")))
        });
        Self(samples.collect())
    }

    /// The sample of a series.
    #[track_caller]
    pub(crate) fn get(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_else(|| panic!("there is no {series}; {self}"))
    }

    /// The sum of all series of a metric that have this among their labels.
    #[track_caller]
    pub(crate) fn sum_of(&self, metric: &str, label: &str) -> f64 {
        let is_wanted = |series: &str| {
            series
                .strip_prefix(metric)
                .is_some_and(|labels| labels.is_empty() || labels.starts_with('{') && labels.contains(label))
        };
        let wanted: Vec<f64> =
            self.0.iter().filter(|(series, _)| is_wanted(series)).map(|(_, value)| *value).collect();
        assert!(!wanted.is_empty(), "there is no {metric} with {label}; {self}");
        wanted.iter().sum()
    }

    /// The sum of all series of a metric.
    #[track_caller]
    pub(crate) fn sum(&self, metric: &str) -> f64 {
        self.sum_of(metric, "")
    }

    /// Sockets that are in this state now.
    #[track_caller]
    pub(crate) fn sockets(&self, state: &str) -> f64 {
        self.get(&format!("tcp_close_sockets{{state=\"{state}\"}}"))
    }

    /// The names of all series.
    pub(crate) fn series(&self) -> BTreeSet<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// What is exported that is not 0: what a test that fails shows.
impl std::fmt::Display for Exposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("exported is\n")?;
        let shown = self.0.iter().filter(|(series, value)| **value != 0.0 && !series.contains("_bucket"));
        for (series, value) in shown {
            writeln!(f, "  {series} {value}")?;
        }
        Ok(())
    }
}
