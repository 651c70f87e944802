//! The counters of the kernel side, one set per CPU, where the kernel keeps them: reading them is no system call.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};
use tcp_close_abi::Counters;
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Where the kernel lists the CPUs that there may ever be.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// Words of one CPU's counters, each of which is a `u64`.
const WORDS: usize = size_of::<Counters>() / size_of::<u64>();

/// The counters of all CPUs, mapped.
pub(super) struct Mapped {
    memory: MmapRaw,
    cpus: usize,
}

impl Mapped {
    /// Maps the array, which has an entry for each of this many CPUs.
    pub(super) fn new(array: &MapData, cpus: u32) -> io::Result<Self> {
        let cpus = cpus as usize;
        let array = array.fd().as_fd().as_raw_fd();
        let memory = MmapOptions::new().len(cpus * size_of::<Counters>()).map_raw_read_only(array)?;
        Ok(Self { memory, cpus })
    }

    /// The sum over all CPUs.
    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins with a page")]
    pub(super) fn sum(&self) -> Counters {
        let words = self.memory.as_mut_ptr().cast::<AtomicU64>();
        let mut sum = [0_u64; WORDS];
        for cpu in 0..self.cpus {
            for (index, sum) in sum.iter_mut().enumerate() {
                // SAFETY: within the mapping, which is aligned to a page; the kernel's programs add to a word at once,
                // and nobody else writes.
                *sum += unsafe { &*words.add(cpu * WORDS + index) }.load(Ordering::Relaxed);
            }
        }
        Counters::read_from_bytes(sum.as_bytes()).unwrap_or(Counters::ZERO)
    }
}

/// How many CPUs there may ever be: one more than the highest number of any.
pub(super) fn cpus() -> io::Result<u32> {
    let possible = fs::read_to_string(POSSIBLE)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {POSSIBLE}: {error}")))?;
    after_the_last(&possible).ok_or_else(|| io::Error::other(format!("{POSSIBLE} says {possible:?}")))
}

/// Of a list like `0-3,8`.
fn after_the_last(list: &str) -> Option<u32> {
    list.trim_end().rsplit(['-', ',']).next()?.parse::<u32>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_list_counts() {
        for (list, cpus) in
            [("0\n", Some(1)), ("0-7\n", Some(8)), ("0-3,8,12-15\n", Some(16)), ("0,2\n", Some(3))]
        {
            assert_eq!(after_the_last(list), cpus, "{list:?}");
        }
        assert_eq!(after_the_last("\n"), None);
        assert_eq!(after_the_last("0-"), None);
    }
}
