//! The number of a process is given to another once it has ended; whose a connection is, is told of the process that
//! there was at that time.

use std::{
    ffi::CStr,
    io::{self, Error},
    mem::zeroed,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with},
    process::{Pid, WaitOptions, waitpid},
};
use serde_json::Value;
use tcp_close_test::{address::Family, netns::Netns};

use crate::{
    daemon::{Daemon, PATIENCE},
    eventually,
};

/// A listener to be, and a socket that is to connect to it.
fn sockets() -> (OwnedFd, OwnedFd) {
    let new = || socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (listener, client) = (new().expect("a socket"), new().expect("a socket"));
    bind(&listener, &SocketAddr::from((Family::V4.loopback(), 0))).expect("bind");
    (listener, client)
}

/// What a process is called from now on.
fn call_oneself(name: &CStr) {
    // SAFETY: the name ends in NUL and lives through the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// A process that listens and connects, and has ended; gives back its number.
fn opens(listener: &OwnedFd, client: &OwnedFd) -> Pid {
    let address = getsockname(listener).expect("it is bound");
    let (listener, client) = (listener.as_raw_fd(), client.as_raw_fd());
    let job = move || {
        call_oneself(c"first");
        // SAFETY: both are open in this process, a copy of the one that holds them.
        let (listener, client) = unsafe { (borrow(listener), borrow(client)) };
        rustix::net::listen(listener, 1)?;
        rustix::net::connect(client, &address)?;
        io::Result::Ok(())
    };
    // It comes to its end by itself, whatever machine this is.
    let mut command = Command::new("/proc/self/exe");
    command.arg("--list").stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: between fork and exec it makes system calls alone, and allocates nothing.
    unsafe { command.pre_exec(job) };
    let mut first = command.spawn().expect("it listens and connects");
    let pid = Pid::from_child(&first);
    assert!(first.wait().expect("it is our child").success());
    pid
}

/// # Safety
///
/// It has to be open.
const unsafe fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: as the caller says.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// A process of this number that closes one direction of the socket, and goes on until `stays` is dropped; an error where
/// somebody else has the number.
struct Second {
    pid: Pid,
    stays: Option<io::PipeWriter>,
}

impl Second {
    fn closes(client: &OwnedFd, number: Pid) -> io::Result<Self> {
        let (waits, stays) = io::pipe()?;
        let (client, waits_for) = (client.as_raw_fd(), waits.as_raw_fd());
        let wanted = [number.as_raw_nonzero().get()];
        // SAFETY: all of its fields are numbers, for which 0 means nothing.
        let mut arguments: libc::clone_args = unsafe { zeroed() };
        arguments.exit_signal = libc::SIGCHLD.unsigned_abs().into();
        arguments.set_tid = wanted.as_ptr() as u64;
        arguments.set_tid_size = 1;
        // What other tests have open must end when they say so.
        let [low, high] = [client.min(waits_for), client.max(waits_for)].map(i32::cast_unsigned);
        // SAFETY: memory is not shared, so that this is what fork does; the child makes system calls alone, and ends.
        match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) } {
            -1 => Err(Error::last_os_error()),
            // SAFETY: all of these are open here, a copy of the process that holds them.
            0 => unsafe {
                call_oneself(c"second");
                libc::close_range(3, low - 1, 0);
                libc::close_range(low + 1, high - 1, 0);
                libc::close_range(high + 1, libc::c_uint::MAX, 0);
                libc::shutdown(client, libc::SHUT_WR);
                // To the end of the pipe: nobody writes.
                libc::read(waits_for, [0_u8].as_mut_ptr().cast(), 1);
                libc::_exit(0)
            },
            _ => Ok(Self { pid: number, stays: Some(stays) }),
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        drop(self.stays.take());
        let _ended = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// Opens by one process and closes by another of the same number; gives back what accepts, the client, and the second.
fn opened_and_closed(netns: &Netns) -> (OwnedFd, OwnedFd, Second) {
    eventually(PATIENCE, || {
        let (listener, client) = netns.run(sockets);
        let first = opens(&listener, &client);
        match Second::closes(&client, first) {
            Ok(second) => Ok((listener, client, second)),
            // Somebody was faster.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Err(format!("{first:?} is taken")),
            Err(error) => panic!("a process of number {first:?}: {error}"),
        }
    })
}

#[test]
fn whose_it_was_is_who_had_the_number_at_that_time() {
    let netns = Netns::new();
    let daemon = Daemon::of(&netns, &[]);
    let (listener, client, second) = opened_and_closed(&netns);
    let (accepted, _) = TcpListener::from(listener).accept().expect("accept");
    let pid = second.pid.as_raw_nonzero().get();
    let process = |name: &str| serde_json::json!({ "pid": pid, "comm": name });
    let netns_of = netns.inode().to_string();
    let lines = |output: String| -> Vec<Value> {
        output.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
    };

    // While the second holds it, and is said to.
    let active = eventually(PATIENCE, || {
        let listed = lines(daemon.answers("list", &["-o", "json", "--netns", &netns_of, "state fin-wait-2"]));
        listed.into_iter().next().ok_or_else(|| "nothing is in FIN-WAIT-2".to_owned())
    });
    assert_eq!(active["owner"]["opener"], process("first"), "{active}");
    assert_eq!(active["owner"]["closer"], process("second"), "{active}");
    let holders = active["holders"].as_array().expect("holders");
    let holds = |name: &str| holders.iter().any(|holder| holder["pid"] == pid && holder["comm"] == name);
    assert!(holds("second") && !holds("first"), "{active}");

    drop((accepted, client));
    drop(second);
    let ended = eventually(PATIENCE, || {
        let ended = lines(daemon.answers("list", &["-o", "json", "--ended"]));
        if ended.len() == 2 { Ok(ended) } else { Err(format!("{ended:?}")) }
    });
    let sees_clones = daemon.metrics().contains("tcp_close_hook_info{hook=\"state_change\",rung=\"tp_btf\"");
    for line in &ended {
        let expected = match line["role"].as_str() {
            Some("active") => [process("first"), process("second")],
            // Who listened is seen only where that is no change of state like any other.
            Some("passive") if sees_clones => [process("first"), line["owner"]["closer"].clone()],
            _ => [Value::Null, line["owner"]["closer"].clone()],
        };
        assert_eq!(
            [&line["owner"]["opener"], &line["owner"]["closer"]],
            [&expected[0], &expected[1]],
            "{line}"
        );
    }
}
