//! How often each network may ask: a bucket of tokens for each.

use std::{num::NonZeroUsize, sync::Mutex, sync::PoisonError};

use lru::LruCache;
use tokio::time::Instant;

use super::{limits::Network, web_config::RateLimit};

/// How many networks are told apart. One that is forgotten begins with a full bucket, which harms nobody else.
const MOST_NETWORKS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// The buckets.
///
/// One for all would let anybody use up what others need.
pub(super) struct Rate {
    limit: RateLimit,
    /// When each bucket will be full again.
    full: Mutex<LruCache<Network, Instant>>,
}

impl Rate {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limit, full: Mutex::new(LruCache::new(MOST_NETWORKS)) }
    }

    /// Whether one more request of this network is within the limit; if so, it counts.
    pub(super) fn allows(&self, network: Network, now: Instant) -> bool {
        let mut buckets = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let full = buckets.get(&network).copied().unwrap_or(now).max(now);
        // A bucket is empty when it takes this long to fill.
        let most = self.limit.interval.saturating_mul(self.limit.burst);
        let after = full + self.limit.interval;
        let allowed = after.saturating_duration_since(now) <= most;
        if allowed {
            buckets.put(network, after);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse::<IpAddr>().expect("an address"))
    }

    #[tokio::test]
    async fn each_network_has_a_bucket() {
        let rate = Rate::new(RateLimit { interval: Duration::from_secs(1), burst: 3 });
        let (one, other) = (network("192.0.2.1"), network("192.0.2.2"));
        let start = Instant::now();
        let allowed = |network, at: u64| rate.allows(network, start + Duration::from_millis(at));
        let burst: Vec<bool> = (0..5).map(|_| allowed(one, 0)).collect();
        assert_eq!(burst, [true, true, true, false, false]);
        assert!(allowed(other, 0), "who asks too often takes nothing from another");
        let later: Vec<bool> = [500, 1000, 1500, 2000, 2000].map(|at| allowed(one, at)).into();
        assert_eq!(later, [false, true, false, true, false]);
        let much_later: Vec<bool> = (0..4).map(|_| allowed(one, 60_000)).collect();
        assert_eq!(much_later, [true, true, true, false], "it is never more than full");
    }
}
