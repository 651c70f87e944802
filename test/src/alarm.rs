//! A bell that wakes a thread out of `poll`: an eventfd that stays readable once rung.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// The bell.
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    pub(crate) fn new() -> anyhow::Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self).context("make an eventfd")
    }

    /// Rings once and for all.
    pub(crate) fn ring(&self) {
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).expect("an eventfd takes the number one");
    }

    /// Waits until a device can be read, time is up, or the bell rings; only the last is `false`.
    pub(crate) fn wait_for<const N: usize>(
        &self,
        devices: [BorrowedFd<'_>; N],
        timeout: Option<Duration>,
    ) -> anyhow::Result<bool> {
        let timeout = timeout.map(Timespec::try_from).transpose().context("convert a timeout")?;
        let mut entries = vec![PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        entries.extend(devices.map(|device| PollFd::from_borrowed_fd(device, PollFlags::IN)));
        match poll(&mut entries, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(true),
            Err(errno) => return Err(errno).context("poll the TUN devices"),
        }
        Ok(entries.first().is_some_and(|bell| bell.revents().is_empty()))
    }
}
