//! Makes TCP connections end in every way, over and over, until it is killed.
//!
//! It does so in two namespaces of its own, whose inodes it prints once traffic has begun: in one, a hand-made peer brings
//! connections to every end there is; in the other, a program opens and closes until its ports run out.
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
use tcp_close_test::{address::Family, netns::Netns};

use kernel::Kernel;

/// From one connection that ends to the next: some dozens a second, which one processor makes with ease.
const BEAT: Duration = Duration::from_millis(25);

fn main() -> anyhow::Result<()> {
    let _measured = measure_programs()?;
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

/// Connections to two destinations, to one of them seldom; none of their ports is given again before its minute is over.
fn use_up_ports(netns: &Netns) -> JoinHandle<()> {
    netns.sysctl("net/ipv4/ip_local_port_range", "20000 20999");
    netns.sysctl("net/ipv4/tcp_tw_reuse", "0");
    netns.spawn(|| {
        let often = TcpListener::bind((Family::V4.loopback(), 10_001)).expect("listen");
        let seldom = TcpListener::bind((Family::V4.loopback(), 10_002)).expect("listen");
        for listener in [&often; 9].into_iter().chain([&seldom]).cycle() {
            let to = listener.local_addr().expect("an address");
            // At last there is none left.
            if let Ok(client) = TcpStream::connect(to) {
                let (mut server, _) = listener.accept().expect("accept");
                drop(client);
                assert_eq!(server.read(&mut [0]).expect("read"), 0);
            }
            thread::sleep(BEAT);
        }
    })
}
