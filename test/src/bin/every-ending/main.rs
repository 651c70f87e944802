//! Makes TCP connections end in every way, over and over, until it is killed.
//!
//! It does so in two namespaces of its own, whose inodes it prints once traffic has begun: in one, a hand-made peer brings
//! connections to every end there is; in the other, a program opens connections until its ports run out, closes most of
//! them, and keeps some.
//! Meanwhile the kernel measures how long BPF programs run.
//! `cargo xtask ci grafana` has dashboards drawn of this.

#![expect(clippy::print_stdout, reason = "it tells who started it where to look")]

mod kernel;

use std::{
    io::Read as _,
    net::{TcpListener, TcpStream},
    os::fd::{FromRawFd as _, OwnedFd},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tcp_close_test::{address::Family, netns::Netns};

use kernel::Kernel;

/// From one connection that ends to the next: some dozens a second, which one processor makes with ease.
const BEAT: Duration = Duration::from_millis(25);

/// Connections that are kept: minutes of them. They come fast enough to be no chance, which takes nine within five seconds.
const KEPT: usize = 900;

fn main() -> anyhow::Result<()> {
    let _measured = measure_programs()?;
    allow_many_descriptors()?;
    let every_end = Netns::new();
    let few_ports = Netns::new();
    println!("{} {}", every_end.inode(), few_ports.inode());
    let _ports = use_up_ports(&few_ports);
    Kernel::new(every_end).go_on();
    Ok(())
}

/// Lets the kernel measure run times of BPF programs for as long as the descriptor is open.
fn measure_programs() -> anyhow::Result<OwnedFd> {
    /// `BPF_ENABLE_STATS` (include/uapi/linux/bpf.h); its one setting, `BPF_STATS_RUN_TIME`, is 0.
    const ENABLE_STATS: libc::c_int = 32;
    let run_time: u32 = 0;
    // SAFETY: the kernel reads as many bytes as it is told that there are.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, ENABLE_STATS, &raw const run_time, size_of_val(&run_time)) };
    let fd = i32::try_from(fd)?;
    ensure!(fd >= 0, "cannot have programs measured: {}", std::io::Error::last_os_error());
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// As many as a process may have at all, not as it has them by default.
fn allow_many_descriptors() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// Connections to three destinations: to one of them often, to one seldom, and to one still seldomer, and these are kept.
/// None of the ports of the others is given again before its minute is over: then as many come free as are taken. Of those
/// that are kept, less and less are left.
fn use_up_ports(netns: &Netns) -> JoinHandle<()> {
    netns.sysctl("net/ipv4/ip_local_port_range", "20000 20999");
    netns.sysctl("net/ipv4/tcp_tw_reuse", "0");
    netns.spawn(|| {
        let often = TcpListener::bind((Family::V4.loopback(), 10_001)).expect("listen");
        let seldom = TcpListener::bind((Family::V4.loopback(), 10_002)).expect("listen");
        let never_closed = TcpListener::bind((Family::V4.loopback(), 10_003)).expect("listen");
        let mut kept = Vec::new();
        loop {
            for listener in [&often; 9].into_iter().chain([&seldom]) {
                let to = listener.local_addr().expect("an address");
                // At last there is none left.
                if let Ok(client) = TcpStream::connect(to) {
                    let (mut server, _) = listener.accept().expect("accept");
                    drop(client);
                    assert_eq!(server.read(&mut [0]).expect("read"), 0);
                }
                thread::sleep(BEAT);
            }
            if kept.len() < KEPT {
                let client =
                    TcpStream::connect(never_closed.local_addr().expect("an address")).expect("connect");
                kept.push((client, never_closed.accept().expect("accept")));
            }
        }
    })
}
