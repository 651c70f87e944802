//! Connections that open and close as fast as they can, until somebody has enough.

use std::{
    io::Read as _,
    net::{TcpListener, TcpStream},
    sync::{
        Arc, RwLock, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tcp_close_test::{address::Family, clock::Deadline, netns::Netns};

use crate::daemon::PATIENCE;

/// Connections to one port, of which there are fewer from one address than ephemeral ports.
const TO_ONE_PORT: u32 = 5_000;

/// Threads that make connections in a namespace, both ends of each; the client closes first.
pub(crate) struct Load {
    control: Arc<Control>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Control {
    enough: AtomicBool,
    made: AtomicU64,
    /// Held for reading while a connection is made.
    gate: RwLock<()>,
}

impl Load {
    /// So many threads; the kernel refuses what would be more TIME-WAITs than so many, which by default is up to the
    /// memory of the machine.
    pub(crate) fn start(netns: &Netns, threads: usize, time_waits: u32) -> Self {
        netns.sysctl("net/ipv4/tcp_max_tw_buckets", &time_waits.to_string());
        // No connection takes the pair of another, which would end its TIME-WAIT.
        netns.sysctl("net/ipv4/tcp_tw_reuse", "0");
        let control = Arc::<Control>::default();
        let threads = (0..threads).map(|_| {
            let control = Arc::clone(&control);
            netns.spawn(move || control.connections())
        });
        Self { threads: threads.collect(), control }
    }

    /// How many connections have come to their end.
    pub(crate) fn made(&self) -> u64 {
        self.control.made.load(Ordering::SeqCst)
    }

    /// Waits until there were so many more.
    #[track_caller]
    pub(crate) fn goes_on(&self, more: u64) {
        let enough = self.made() + more;
        let deadline = Deadline::after(PATIENCE);
        while self.made() < enough {
            assert!(deadline.left().is_some(), "{} connections of {enough}", self.made());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// As long as this is held, every connection that was begun is over, and none is begun.
    pub(crate) fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.control.gate.write().expect("the load goes on")
    }

    /// Ends it; gives back how many connections there were.
    pub(crate) fn finish(mut self) -> u64 {
        self.control.enough.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("every connection is made");
        }
        self.made()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.control.enough.store(true, Ordering::SeqCst);
    }
}

impl Control {
    fn connections(&self) {
        while !self.enough.load(Ordering::SeqCst) {
            let listener = TcpListener::bind((Family::V4.loopback(), 0)).expect("listen");
            let address = listener.local_addr().expect("an address");
            for _ in 0..TO_ONE_PORT {
                if self.enough.load(Ordering::SeqCst) {
                    break;
                }
                let gate = self.gate.read().expect("nobody panicked");
                let client = TcpStream::connect(address).expect("connect");
                let (mut server, _) = listener.accept().expect("accept");
                drop(client);
                assert_eq!(server.read(&mut [0]).expect("read"), 0);
                drop(server);
                self.made.fetch_add(1, Ordering::SeqCst);
                drop(gate);
            }
        }
    }
}

/// So many connections, one after the other.
pub(crate) fn connections(netns: &Netns, count: u32) {
    netns.run(move || {
        let listener = TcpListener::bind((Family::V4.loopback(), 0)).expect("listen");
        let address = listener.local_addr().expect("an address");
        for _ in 0..count {
            let client = TcpStream::connect(address).expect("connect");
            let (mut server, _) = listener.accept().expect("accept");
            drop(client);
            assert_eq!(server.read(&mut [0]).expect("read"), 0);
        }
    });
}
