//! The kernel side's own log, by aya-log: a field it could not read, a shape it did not expect.
//!
//! It costs nothing while there is nothing to say. The records reach `tracing` through the `log` crate.

use std::os::fd::{AsRawFd, RawFd};

use aya::Ebpf;
use aya_log::EbpfLogger;

/// What the kernel side has to say.
pub struct Diagnostics(EbpfLogger<&'static dyn log::Log>);

impl Diagnostics {
    pub(super) fn take(ebpf: &mut Ebpf) -> Option<Self> {
        // An object without a log statement has no such map; that is no error.
        EbpfLogger::init(ebpf).ok().map(Self)
    }

    /// Passes everything on that was said since the last time.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

impl AsRawFd for Diagnostics {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
