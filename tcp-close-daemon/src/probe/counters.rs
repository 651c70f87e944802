//! The per-CPU counters of the kernel side, summed.

use aya::{
    Pod,
    maps::{MapData, MapError, PerCpuArray},
};
use tcp_close_abi::Counters;
use zerocopy::{FromBytes as _, IntoBytes as _};

/// One CPU's counters, as aya reads them.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PerCpu(Counters);

// SAFETY: `Counters` is `repr(C)` of plain integers without padding (zerocopy checks both).
unsafe impl Pod for PerCpu {}

/// The sum over all CPUs.
pub(super) fn sum(map: &PerCpuArray<MapData, PerCpu>) -> Result<Counters, MapError> {
    let mut total = [0_u64; size_of::<Counters>() / size_of::<u64>()];
    for PerCpu(counters) in map.get(&0, 0)?.iter() {
        // Every field is a u64, so the sum of the structure is the sum of its words.
        for (sum, word) in total.iter_mut().zip(counters.as_bytes().chunks_exact(size_of::<u64>())) {
            *sum += u64::read_from_bytes(word).unwrap_or_default();
        }
    }
    Ok(Counters::read_from_bytes(total.as_bytes()).unwrap_or(Counters::ZERO))
}
