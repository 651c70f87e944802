//! Series at hand. To look one up by its labels takes far longer than to count in it.

use prometheus::{Histogram, IntCounter};

/// Series of one metric, by a number that stands for their labels; each is looked up once, when it is first used.
pub(super) struct Series<T>(Vec<Option<T>>);

impl<T> Series<T> {
    const fn new() -> Self {
        Self(Vec::new())
    }

    /// The series of these labels.
    pub(super) fn of(&mut self, number: usize, look_up: impl FnOnce() -> T) -> &T {
        if self.0.len() <= number {
            self.0.resize_with(number + 1, || None);
        }
        let place = self.0.get_mut(number).expect("there is room for it");
        place.get_or_insert_with(look_up)
    }
}

/// Those in which something is counted for each connection that closes.
pub(super) struct AtHand {
    pub(super) endpoints_closed: Series<IntCounter>,
    pub(super) close_segments: Series<IntCounter>,
    pub(super) half_close_bytes: Series<IntCounter>,
    pub(super) state_seconds: Series<Histogram>,
    pub(super) minisocks_created: Series<IntCounter>,
    pub(super) minisocks_ended: Series<IntCounter>,
    pub(super) time_wait_ended: Series<IntCounter>,
    pub(super) time_wait_seconds: Series<Histogram>,
    pub(super) time_wait_verdicts: Series<IntCounter>,
}

impl AtHand {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self {
            endpoints_closed: Series::new(),
            close_segments: Series::new(),
            half_close_bytes: Series::new(),
            state_seconds: Series::new(),
            minisocks_created: Series::new(),
            minisocks_ended: Series::new(),
            time_wait_ended: Series::new(),
            time_wait_seconds: Series::new(),
            time_wait_verdicts: Series::new(),
        }
    }
}
