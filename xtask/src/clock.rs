//! Time that passes while a step waits for something.

use std::{thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Time since boot.
pub(crate) fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// What is looked for, once it is there; none if it does not come in time.
pub(crate) fn wait_for<T>(
    patience: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let begun = now();
    loop {
        let found = look()?;
        if found.is_some() || now() > begun + patience {
            return Ok(found);
        }
        thread::sleep(PAUSE);
    }
}
