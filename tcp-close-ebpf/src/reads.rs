//! Reading the fields of a record: what cannot be read is 0, and said to be so.

use tcp_close_abi::{Header, Pair, flag};

use crate::{
    counters,
    kernel::{LAYOUT, Memory},
    socket::pair,
};

/// Fields of a socket or a segment, 0 where they cannot be read.
pub(crate) struct Reads<M> {
    pub(crate) memory: M,
    /// One could not be read.
    pub(crate) failed: bool,
}

impl<M: Memory> Reads<M> {
    /// The field at `offset`.
    #[inline(always)]
    pub(crate) fn get<T: Copy + Default>(&mut self, offset: &'static u32) -> T {
        self.or_zero(self.memory.get(offset))
    }

    /// The socket pair of any kind of socket; its own port lies at `local_port`.
    #[inline(always)]
    pub(crate) fn pair(&mut self, local_port: &'static u32) -> Pair {
        let read = self.memory.get(&LAYOUT.family).and_then(|family| pair(self.memory, family, local_port));
        read.unwrap_or_else(|_| {
            self.failed = true;
            Pair::ZERO
        })
    }

    /// What was read otherwise.
    #[inline(always)]
    pub(crate) fn or_zero<T: Default>(&mut self, read: Result<T, i32>) -> T {
        read.unwrap_or_else(|_| {
            self.failed = true;
            T::default()
        })
    }

    /// Flags the record, and counts it, if a field of it could not be read.
    #[inline(always)]
    pub(crate) fn note(&self, header: &mut Header) {
        if self.failed {
            header.flags |= flag::UNREADABLE;
            counters::unreadable();
        }
    }
}
