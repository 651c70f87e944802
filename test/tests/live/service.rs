//! The daemon and whoever manages it: what it is handed over, what it tells, which privileges it takes and keeps.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::{
        net::{UnixDatagram, UnixListener},
        process::CommandExt as _,
    },
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use caps::{CapSet, Capability};
use command_fds::{CommandFdExt as _, FdMapping};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rustix::{
    fs::{XattrFlags, setxattr},
    process::{Signal, kill_process},
};
use serde_json::Value;
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

/// Its file may permit more than there is to be had: it starts all the same, and uses what there is.
#[test]
fn what_the_file_permits_is_used_as_far_as_it_goes() {
    // CAP_BPF and CAP_PERFMON; the file permits CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH as well.
    for (had, expected) in [
        (&[Capability::CAP_BPF, Capability::CAP_PERFMON][..], ["CAP_BPF", "CAP_PERFMON"].as_slice()),
        (
            &[
                Capability::CAP_BPF,
                Capability::CAP_PERFMON,
                Capability::CAP_SYS_PTRACE,
                Capability::CAP_SYSLOG,
            ],
            &["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"],
        ),
    ] {
        let check = check_of_nobody(had);
        let check: Value =
            serde_json::from_slice(&check.stdout).unwrap_or_else(|error| panic!("{error}: {check:?}"));
        let facts = check["facts"].as_array().expect("facts");
        let held: Vec<&str> = facts
            .iter()
            .filter(|fact| fact["value"] == "held")
            .map(|fact| fact["fact"].as_str().expect("a name"))
            .collect();
        assert_eq!(held, expected);
        let hooks = check["hooks"].as_array().expect("hooks");
        assert!(hooks.iter().all(|hook| !hook["verdict"].is_null()), "they were tried: {hooks:?}");
    }
}

/// What `check` says to a user without privileges, whose bounding set is this, where the program's file permits five
/// capabilities and makes none effective.
fn check_of_nobody(bounding: &[Capability]) -> Output {
    // `struct vfs_cap_data`, revision 2 (include/uapi/linux/capability.h): permitted, then inheritable.
    const PERMITTED: u64 = 1 << 2 | 1 << 19 | 1 << 21 | 1 << 38 | 1 << 39;
    let mut attribute = 0x0200_0000_u32.to_le_bytes().to_vec();
    for half in [PERMITTED & 0xffff_ffff, 0, PERMITTED >> 32, 0] {
        attribute.extend(u32::try_from(half).expect("half").to_le_bytes());
    }
    // Mounts and bounding sets are a thread's own.
    let in_a_thread = move || {
        let directory = tempdir().expect("a directory");
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare mounts");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts of our own");
        // Whose files may have such attributes, unlike those of an initramfs.
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .expect("mount");
        let file = directory.path().join("tcp-close");
        fs::copy(program().get_program(), &file).expect("copy the program");
        setxattr(&file, "security.capability", &attribute, XattrFlags::empty())
            .expect("set its capabilities");
        for capability in caps::read(None, CapSet::Bounding).expect("read the bounding set") {
            if !bounding.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).expect("drop a capability");
            }
        }
        let mut check = Command::new(&file);
        check.args(["check", "--output", "json"]).uid(65532).gid(65532);
        let deadline = Deadline::after(PATIENCE);
        loop {
            match check.output() {
                // A child that another test started meanwhile has it open, as it was copied here, until it is replaced.
                Err(busy) if busy.kind() == ErrorKind::ExecutableFileBusy && deadline.left().is_some() => {
                    thread::sleep(Duration::from_millis(10));
                }
                checked => break checked.expect("start"),
            }
        }
    };
    thread::scope(|scope| scope.spawn(in_a_thread).join().expect("it did not panic"))
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
