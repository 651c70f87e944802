//! The daemon and whoever manages it: what it is handed over, what it tells, which privileges it keeps.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixDatagram, UnixListener},
    process::{Command, Stdio},
    time::Duration,
};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Signal, kill_process};
use tcp_close_test::{
    clock::{Deadline, PATIENCE},
    netns::Netns,
};
use tempfile::tempdir;

use crate::program::{Running, daemon, loopback_connections, program, start};

/// Starts a daemon of this namespace as a manager would, and waits until it is ready.
fn managed(netns: &Netns, manage: impl FnOnce(&mut Command)) -> Running {
    let mut command = program();
    command.args(["daemon", "--netns", &netns.inode().to_string()]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    manage(&mut command);
    start(&mut command)
}

/// It is ready when it is, is alive as long as its pipeline takes turns, and says that it stops.
#[test]
fn a_manager_hears_of_it() {
    let netns = Netns::new();
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let running = managed(&netns, |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
        command.env("TCP_CLOSE_WEB_LISTEN_ADDRESS", "127.0.0.1:0");
        command.env("TCP_CLOSE_SOCKET", directory.path().join("tcp-close.sock"));
    });
    let hear = |patience: Duration| {
        manager.set_read_timeout(Some(patience)).expect("a time");
        let mut word = [0; 1024];
        let length = manager.recv(&mut word).ok()?;
        Some(String::from_utf8_lossy(&word[..length]).into_owned())
    };
    let ready = hear(PATIENCE).expect("it is ready");
    assert!(ready.starts_with("READY=1\nSTATUS=Follows every close; metrics at 127.0.0.1:"), "{ready}");
    // Nothing happens in that namespace, and it is alive all the same: three times in the time of the watchdog.
    for _ in 0..4 {
        assert_eq!(hear(Duration::from_millis(600)).as_deref(), Some("WATCHDOG=1\n"));
    }
    kill_process(running.pid(), Signal::STOP).expect("it runs");
    // One may be on its way.
    let _last = hear(Duration::from_millis(300));
    assert_eq!(hear(Duration::from_millis(900)), None, "who stands still is not alive");
    kill_process(running.pid(), Signal::CONT).expect("it is there");
    kill_process(running.pid(), Signal::TERM).expect("it is there");
    let deadline = Deadline::after(PATIENCE);
    while hear(PATIENCE).expect("it says that it stops") != "STOPPING=1\n" {
        assert!(deadline.left().is_some());
    }
}

/// Sockets that listen already are taken, and left behind: whoever made them may start another daemon.
#[test]
fn sockets_are_handed_over() {
    let netns = Netns::new();
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("tcp-close.sock");
    let http = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = http.local_addr().expect("an address");
    let api = UnixListener::bind(&path).expect("listen");
    let running = managed(&netns, |command| {
        let fds = vec![
            FdMapping { parent_fd: http.into(), child_fd: 3 },
            FdMapping { parent_fd: api.into(), child_fd: 4 },
        ];
        command.fd_mappings(fds).expect("two descriptors").env("LISTEN_FDS", "2");
    });
    let mut client = TcpStream::connect(address).expect("it listens");
    client.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").expect("ask");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("ready\n"), "{answer}");
    loopback_connections(&netns, 1);
    let list = program().args(["list", "--by", "state", "--socket"]).arg(&path).output().expect("start");
    assert!(list.status.success(), "{list:?}");
    assert!(String::from_utf8_lossy(&list.stdout).contains("time-wait"), "{list:?}");
    drop(running);
    assert!(path.exists(), "it was not the daemon's");
}

/// Capabilities that a thread of a process may use, by its status.
fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("it has capabilities");
    u64::from_str_radix(line, 16).expect("a number")
}

/// Once it is attached, no thread of it has more than it takes to go on.
#[test]
fn what_is_no_longer_needed_is_given_up() {
    // CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_BPF (include/uapi/linux/capability.h).
    const KEPT: u64 = 1 << 2 | 1 << 19 | 1 << 21 | 1 << 39;
    let netns = Netns::new();
    let daemon = daemon(&netns);
    // What is asked of it makes it begin more threads.
    loopback_connections(&netns, 1);
    let list = program().arg("list").arg("--socket").arg(&daemon.socket).output().expect("start");
    assert!(list.status.success(), "{list:?}");
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.running.pid())).expect("its threads");
    let threads: Vec<u64> = tasks
        .map(|task| task.expect("a thread").path().join("status"))
        .map(|status| effective(&fs::read_to_string(status).expect("its status")))
        .collect();
    let ours = effective(&fs::read_to_string("/proc/self/status").expect("our status"));
    assert!(threads.len() > 2 && threads.iter().all(|&held| held == ours & KEPT), "{threads:x?}");
}
