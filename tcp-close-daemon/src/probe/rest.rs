//! Whether the reader of the ring rests, said where the kernel side looks: to say so is no system call.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};

/// What is said to the kernel side, mapped.
pub(super) struct Rest(MmapRaw);

impl Rest {
    /// Maps the array, which has one entry.
    pub(super) fn new(array: &MapData) -> io::Result<Self> {
        let array = array.fd().as_fd().as_raw_fd();
        MmapOptions::new().len(size_of::<u64>()).map_raw(array).map(Self)
    }

    /// Says that the reader rests, until the kernel side has a record for it.
    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins with a page")]
    pub(super) fn begin(&self) {
        // SAFETY: within the mapping, which is aligned to a page; the kernel's programs read and write the whole word.
        unsafe { &*self.0.as_mut_ptr().cast::<AtomicU64>() }.store(1, Ordering::SeqCst);
    }
}
