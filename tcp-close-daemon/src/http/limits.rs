//! How much clients may take, and who has to make room for another.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// How much clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Connections open at once; for one more, one that is idle is cut off. More than there are scrapes that may
    /// wait, and few enough to leave descriptors of the usual 1024 for everything else.
    pub connections: usize,
    /// Time from a connection's beginning to the end of its first request's head, TLS handshake included.
    pub first_request: Duration,
    /// Time from a request's head to its answer, the check of a password included.
    pub answer: Duration,
    /// Time from one request to the next, reading the answer included. Longer than the usual scrape interval:
    /// a connection that is kept leaves no TIME-WAIT, of which this host may have enough.
    pub next_request: Duration,
    /// Time a scrape waits for the pipeline.
    pub scrape: Duration,
    /// Time for the answers under way once the daemon stops.
    pub stop: Duration,
}

impl Patience {
    /// That of the daemon.
    pub const USUAL: Self = Self {
        connections: 256,
        first_request: Duration::from_secs(10),
        answer: Duration::from_secs(30),
        next_request: Duration::from_secs(90),
        scrape: Duration::from_secs(5),
        stop: Duration::from_millis(500),
    };
}

/// Where a client comes from: an address, or what one of IPv6 has to itself at the least (RFC 6177, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Network(IpAddr);

impl Network {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// Whose turn it is, among those of each network: however many come from one, the next of another waits for none of them.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<Network, Arc<Semaphore>>>);

impl Turns {
    /// Waits for it; it lasts as long as what is given.
    pub(super) async fn take(&self, of: Network) -> Result<OwnedSemaphorePermit, AcquireError> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody has or waits for those that are only here.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(of).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        turn.acquire_owned().await
    }
}

/// The connections that nobody is answered on: idle, not yet done with their TLS handshake, or not yet known to be
/// a user's.
#[derive(Default)]
pub(super) struct Idle {
    queue: Mutex<Queue>,
    /// Somebody has become idle.
    more: Notify,
}

#[derive(Default)]
struct Queue {
    next: u64,
    /// Those of each network, in the order in which they became idle; no network without any.
    waiting: HashMap<Network, BTreeMap<u64, CancellationToken>>,
}

impl Queue {
    fn add(&mut self, network: Network, cut_off: CancellationToken) -> u64 {
        self.next += 1;
        self.waiting.entry(network).or_default().insert(self.next, cut_off);
        self.next
    }

    fn remove(&mut self, network: Network, number: u64) {
        if let Entry::Occupied(mut crowd) = self.waiting.entry(network) {
            crowd.get_mut().remove(&number);
            if crowd.get().is_empty() {
                crowd.remove();
            }
        }
    }
}

impl Idle {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts off the one that has been idle longest, of the network that has most of them: whoever comes in crowds
    /// makes room for it himself. Whether there was one.
    pub(super) fn cut_off_one(&self) -> bool {
        let mut queue = self.queue();
        let oldest = |crowd: &BTreeMap<u64, CancellationToken>| crowd.keys().next().copied();
        let most = queue.waiting.iter().max_by_key(|(_, crowd)| (crowd.len(), Reverse(oldest(crowd))));
        let Some((network, number)) = most.and_then(|(network, crowd)| Some((*network, oldest(crowd)?)))
        else {
            return false;
        };
        if let Some(cut_off) = queue.waiting.get(&network).and_then(|crowd| crowd.get(&number)) {
            cut_off.cancel();
        }
        queue.remove(network, number);
        true
    }

    /// Waits until somebody has become idle.
    pub(super) async fn more(&self) {
        self.more.notified().await;
    }
}

/// A connection's seat among the idle ones. Nobody who is being answered is cut off for another.
pub(super) struct Seat {
    idle: Arc<Idle>,
    network: Network,
    place: Mutex<Place>,
    cut_off: CancellationToken,
    /// When the client's time is up.
    deadline: watch::Sender<Instant>,
}

#[derive(Default)]
struct Place {
    /// Its number among the idle, if it is.
    number: Option<u64>,
    /// How many requests are being answered.
    busy: usize,
    /// The connection is no more.
    left: bool,
}

impl Seat {
    pub(super) fn take(idle: &Arc<Idle>, network: Network, deadline: Instant) -> Arc<Self> {
        let seat = Self {
            idle: Arc::clone(idle),
            network,
            place: Mutex::default(),
            cut_off: CancellationToken::new(),
            deadline: watch::Sender::new(deadline),
        };
        seat.sit(&mut seat.place());
        Arc::new(seat)
    }

    /// Where it comes from.
    pub(super) const fn network(&self) -> Network {
        self.network
    }

    /// Has until then.
    pub(super) fn until(&self, deadline: Instant) {
        self.deadline.send_replace(deadline);
    }

    /// Has until then, or less if it had less.
    pub(super) fn at_most_until(&self, most: Instant) {
        self.deadline.send_modify(|deadline| *deadline = most.min(*deadline));
    }

    /// Not idle while the answer lives.
    pub(super) fn stand(self: &Arc<Self>) -> Standing {
        let mut place = self.place();
        place.busy += 1;
        if let Some(number) = place.number.take() {
            self.idle.queue().remove(self.network, number);
        }
        Standing(Arc::clone(self))
    }

    /// Ends when the connection has to, and says why.
    pub(super) async fn lost(&self) -> &'static str {
        let mut deadline = self.deadline.subscribe();
        loop {
            let until = *deadline.borrow_and_update();
            tokio::select! {
                () = self.cut_off.cancelled() => return "it was idle, and another had to be let in",
                () = sleep_until(until) => return "it took too long",
                // There is a sender for as long as there is a seat.
                Ok(()) = deadline.changed() => {}
            }
        }
    }

    /// The connection is no more, though an answer may be under way still.
    pub(super) fn leave(&self) {
        let mut place = self.place();
        place.left = true;
        if let Some(number) = place.number.take() {
            self.idle.queue().remove(self.network, number);
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Idle from now on.
    fn sit(&self, place: &mut Place) {
        place.number = Some(self.idle.queue().add(self.network, self.cut_off.clone()));
        self.idle.more.notify_one();
    }
}

/// A connection that is being answered.
pub(super) struct Standing(Arc<Seat>);

impl Drop for Standing {
    fn drop(&mut self) {
        let seat = &self.0;
        let mut place = seat.place();
        place.busy -= 1;
        if place.busy == 0 && !place.left {
            seat.sit(&mut place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(idle: &Arc<Idle>, address: &str) -> Arc<Seat> {
        let network = Network::of(address.parse().expect("an address"));
        Seat::take(idle, network, Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn a_network_is_what_one_client_has() {
        let network = |address: &str| Network::of(address.parse().expect("an address"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:0:0:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    }

    #[tokio::test]
    async fn a_crowd_makes_room_for_itself() {
        let idle = Arc::default();
        let alone = seat(&idle, "192.0.2.1");
        let crowd = ["192.0.2.2"; 3].map(|address| seat(&idle, address));
        let gone = || crowd.iter().map(|seat| seat.cut_off.is_cancelled()).collect::<Vec<_>>();
        idle.cut_off_one();
        assert_eq!((alone.cut_off.is_cancelled(), gone()), (false, vec![true, false, false]));
        idle.cut_off_one();
        assert_eq!((alone.cut_off.is_cancelled(), gone()), (false, vec![true, true, false]));
        idle.cut_off_one();
        assert_eq!((alone.cut_off.is_cancelled(), gone()), (true, vec![true, true, false]), "the oldest");
    }

    #[tokio::test]
    async fn who_is_being_answered_is_not_cut_off() {
        let idle = Arc::default();
        let seat = seat(&idle, "192.0.2.1");
        let standing = [seat.stand(), seat.stand()];
        idle.cut_off_one();
        let [first, second] = standing;
        drop(first);
        idle.cut_off_one();
        assert!(!seat.cut_off.is_cancelled());
        drop(second);
        idle.cut_off_one();
        assert!(seat.cut_off.is_cancelled(), "it is idle again");
    }

    #[tokio::test]
    async fn who_has_left_is_not_cut_off_for_another() {
        let idle = Arc::default();
        let (gone, there) = (seat(&idle, "192.0.2.1"), seat(&idle, "192.0.2.1"));
        let standing = gone.stand();
        gone.leave();
        drop(standing);
        idle.cut_off_one();
        assert!(there.cut_off.is_cancelled());
    }
}
