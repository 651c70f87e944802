//! Reading the fields of a record: what cannot be read is 0, and said to be so.

use tcp_close_abi::{AF_INET, AF_INET6, Header, Pair, flag};

use crate::{
    counters,
    kernel::{LAYOUT, Memory, constant},
};

/// Fields of a socket or a segment, 0 where they cannot be read.
pub(crate) struct Reads<M> {
    memory: M,
    /// 0 as long as all could be read.
    errors: i64,
}

impl<M: Memory> Reads<M> {
    /// None yet.
    #[inline(always)]
    pub(crate) const fn of(memory: M) -> Self {
        Self { memory, errors: 0 }
    }

    /// The field at `offset`.
    #[inline(always)]
    pub(crate) fn get<T: Copy>(&mut self, offset: &'static u32) -> T {
        self.memory.read_or_zero(constant(offset) as usize, &mut self.errors)
    }

    /// The field at `inner` of the structure at `outer`.
    #[inline(always)]
    pub(crate) fn get_in<T: Copy>(&mut self, outer: &'static u32, inner: &'static u32) -> T {
        self.memory.read_or_zero((constant(outer) + constant(inner)) as usize, &mut self.errors)
    }

    /// The socket pair of any kind of socket; its own port lies at `local_port`.
    #[inline(always)]
    pub(crate) fn pair(&mut self, local_port: &'static u32) -> Pair {
        let family = self.get(&LAYOUT.family);
        // The lower half of a word is what comes first in memory, here as wherever BPF programs are little-endian.
        let (local, remote) = if family == AF_INET {
            let [local, remote] = [self.get::<u32>(&LAYOUT.local_v4), self.get::<u32>(&LAYOUT.remote_v4)];
            ([u64::from(local), 0], [u64::from(remote), 0])
        } else if family == AF_INET6 {
            (self.get_ipv6(&LAYOUT.local_v6), self.get_ipv6(&LAYOUT.remote_v6))
        } else {
            ([0; 2], [0; 2])
        };
        Pair {
            local,
            remote,
            local_port: self.get(local_port),
            remote_port: self.get(&LAYOUT.remote_port),
            family,
            reserved: 0,
        }
    }

    /// The IPv6 address at `offset`, in two halves: a typed load is of eight bytes at most.
    #[inline(always)]
    fn get_ipv6(&mut self, offset: &'static u32) -> [u64; 2] {
        let at = constant(offset) as usize;
        [at, at + 8].map(|at| self.memory.read_or_zero(at, &mut self.errors))
    }

    /// What was read otherwise.
    #[inline(always)]
    pub(crate) fn or_zero<T: Default>(&mut self, read: Result<T, i32>) -> T {
        read.unwrap_or_else(|error| {
            self.errors |= i64::from(error);
            T::default()
        })
    }

    /// Flags the record, and counts it, if a field of it could not be read.
    #[inline(always)]
    pub(crate) fn note(&self, header: &mut Header) {
        if self.errors != 0 {
            header.flags |= flag::UNREADABLE;
            counters::unreadable();
        }
    }
}
