//! Who listens where: the opener of every connection that was accepted there.
//!
//! In: sockets that begin to listen. Out: the process behind a local address.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
};

use lru::LruCache;

use crate::event::Process;

/// Room for the addresses that are listened on; those nobody was accepted on for longest make room.
const ROOM: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Who has listened on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Only(Process),
    /// The last one, and another before, whose connections may live on.
    NotTheFirst(Process),
}

/// Everybody who was seen to begin to listen.
pub(super) struct Listeners {
    /// By network namespace and local address.
    at: LruCache<(u32, SocketAddr), Listener>,
}

impl Listeners {
    pub(super) fn new() -> Self {
        Self { at: LruCache::new(ROOM) }
    }

    /// A process begins to listen.
    pub(super) fn began(&mut self, netns: u32, local: SocketAddr, process: Process) {
        let listener = match self.at.peek(&(netns, local)) {
            None => Listener::Only(process),
            Some(Listener::Only(before)) if before.pid == process.pid => Listener::Only(process),
            Some(_) => Listener::NotTheFirst(process),
        };
        self.at.put((netns, local), listener);
    }

    /// Who opened a connection that was accepted at this address, and closed by `closer`, if one of ours closed it.
    ///
    /// Where one listener followed another, it is the last one's only if that one closes it: when it was accepted is not
    /// known.
    pub(super) fn opener(
        &mut self,
        netns: u32,
        local: SocketAddr,
        closer: Option<Process>,
    ) -> Option<Process> {
        // As the kernel looks for one: by the whole address, then by the port, of its own family first
        // (`inet_lookup_listener`, `compute_score`).
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let family_first = any.into_iter().filter(|any| local.is_ipv4() || any.is_ipv6());
        let addresses = [local.ip()].into_iter().chain(family_first);
        let found = addresses
            .map(|ip| (netns, SocketAddr::new(ip, local.port())))
            .find(|address| self.at.contains(address))?;
        match *self.at.get(&found)? {
            Listener::Only(process) => Some(process),
            Listener::NotTheFirst(process) => {
                Some(process).filter(|last| closer.is_some_and(|closer| closer.pid == last.pid))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Comm;

    const fn process(pid: u32) -> Process {
        Process { pid, comm: Comm::from_bytes([b'a'; 16]) }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Who opened a connection accepted at `local`, where these listened before, in this order.
    #[track_caller]
    fn check(listened: &[(u32, &str)], local: &str, closer: Option<u32>, expected: Option<u32>) {
        let mut listeners = Listeners::new();
        for &(pid, at) in listened {
            listeners.began(1, address(at), process(pid));
        }
        let opener = listeners.opener(1, address(local), closer.map(process)).map(|opener| opener.pid);
        assert_eq!(opener, expected, "{listened:?} {local} {closer:?}");
        assert_eq!(listeners.opener(2, address(local), None), None, "another namespace");
    }

    #[test]
    fn a_connection_is_its_listeners() {
        check(&[(7, "192.0.2.1:80")], "192.0.2.1:80", None, Some(7));
        check(&[(7, "192.0.2.1:80")], "192.0.2.2:80", None, None);
        check(&[(7, "192.0.2.1:80")], "192.0.2.1:81", None, None);
        check(&[(7, "0.0.0.0:80")], "192.0.2.1:80", Some(9), Some(7));
        check(&[(7, "[::]:80")], "192.0.2.1:80", None, Some(7));
        check(&[(7, "[::]:80")], "[2001:db8::1]:80", None, Some(7));
        check(&[(7, "0.0.0.0:80")], "[2001:db8::1]:80", None, None);
    }

    #[test]
    fn the_closest_listener_counts() {
        let all = [(7, "0.0.0.0:80"), (8, "192.0.2.1:80"), (9, "[::]:80")];
        check(&all, "192.0.2.1:80", None, Some(8));
        check(&all, "192.0.2.2:80", None, Some(7));
        check(&all, "[2001:db8::1]:80", None, Some(9));
    }

    #[test]
    fn of_several_listeners_the_last_counts_if_it_closes() {
        let restarted = [(7, "0.0.0.0:80"), (8, "0.0.0.0:80")];
        check(&restarted, "192.0.2.1:80", None, None);
        check(&restarted, "192.0.2.1:80", Some(8), Some(8));
        check(&restarted, "192.0.2.1:80", Some(7), None);
        // Workers that share a port by SO_REUSEPORT, opened by one process.
        check(&[(7, "0.0.0.0:80"), (7, "0.0.0.0:80")], "192.0.2.1:80", Some(9), Some(7));
    }
}
