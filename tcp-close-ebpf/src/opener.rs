//! Who connected a socket: noted at `connect()`, the only time when that can be known, until the socket closes.
//!
//! Each socket has a place in one array, by what it is known by, and two others for when that is taken. That is a fifth of
//! the cost of a hash table's insertion and removal, which every connection would pay.

use aya_ebpf::{macros::map, maps::Array};
use tcp_close_abi::Name;

use crate::{
    counters,
    kernel::{LAYOUT, Memory, SETTINGS, constant, current_name},
    socket::TcpSocket,
};

/// A process that called `connect()`.
#[derive(Clone, Copy)]
pub(crate) struct Opener {
    /// Its name at that time.
    pub(crate) comm: Name,
    /// Its thread group.
    pub(crate) pid: u32,
}

impl Opener {
    /// Where none is known.
    pub(crate) const NOBODY: Self = Self { comm: [0; 2], pid: 0 };
}

/// A place, and the socket that has it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    /// What the socket is known by; 0 where the place is free.
    socket: u64,
    comm: Name,
    pid: u32,
    /// Of the socket, in network byte order. Where sockets are known by their addresses, and one that closed was missed,
    /// it tells them apart.
    remote_port: u16,
    /// 1 where a socket whose own place this is has ever found it taken, and may lie elsewhere.
    spills: u16,
    /// What there is of the socket above, folded: two CPUs may take a place at once, and what they leave in it is nobody's.
    check: u64,
}

/// How many there are: for four times as many connections as one address can have to one destination by default, 6 MB of
/// kernel memory.
const PLACES: u32 = 1 << 17;

#[map]
static OPENERS: Array<Place> = Array::with_max_entries(PLACES, 0);

impl Place {
    #[inline(always)]
    const fn folded(&self) -> u64 {
        let port_and_pid = (self.remote_port as u64) << 32 | self.pid as u64;
        self.socket ^ self.comm[0] ^ self.comm[1].rotate_left(21) ^ port_and_pid.rotate_left(42)
    }
}

/// The place of a socket that is known by this.
///
/// Sockets that are made one after the other have places one beside the other, which the processor's caches have: cookies
/// are counted, and the kernel gives away again the memory that it was given back last.
#[inline(always)]
fn own(socket: u64) -> Option<*mut Place> {
    let number = if constant(&SETTINGS.cookies) == 0 { socket / SOCKETS_ARE_APART } else { socket };
    #[expect(clippy::cast_possible_truncation, reason = "only the lower bits are wanted")]
    OPENERS.get_ptr_mut(number as u32 % PLACES)
}

/// No two full sockets begin within as many bytes.
const SOCKETS_ARE_APART: u64 = 1024;

/// Another place for it, far from those of its neighbors, which may all be taken: connections that are opened together
/// and stay. There are two.
#[inline(always)]
fn other(socket: u64, number: u32) -> Option<*mut Place> {
    // The golden ratio spreads what is counted evenly.
    #[expect(clippy::cast_possible_truncation, reason = "as many bits as there are places for")]
    let hash = (socket.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PLACES.ilog2())) as u32;
    OPENERS.get_ptr_mut((hash + number) % PLACES)
}

/// Who has a place; 0 for nobody.
#[inline(always)]
fn holder(place: *mut Place) -> u64 {
    // SAFETY: an entry of the array; whoever else writes it, any value is valid.
    unsafe { (*place).socket }
}

/// The place that this socket has, if it has one.
#[inline(always)]
fn taken(socket: u64) -> Option<*mut Place> {
    let own = own(socket)?;
    if holder(own) == socket {
        return Some(own);
    }
    // SAFETY: as in `holder`.
    if unsafe { (*own).spills } == 0 {
        return None;
    }
    let is_its = |place: &*mut Place| holder(*place) == socket;
    other(socket, 0).filter(is_its).or_else(|| other(socket, 1).filter(is_its))
}

/// A place for this socket. Where all of its are taken, somebody else loses his, whose opener is then not known.
#[inline(always)]
fn free(socket: u64) -> Option<*mut Place> {
    if let Some(taken) = taken(socket) {
        return Some(taken);
    }
    let own = own(socket)?;
    if holder(own) == 0 {
        return Some(own);
    }
    // SAFETY: as in `holder`; who writes it too writes the same.
    unsafe { (*own).spills = 1 };
    if let Some(free) = other(socket, 0).filter(|&place| holder(place) == 0) {
        return Some(free);
    }
    let last = other(socket, 1)?;
    if holder(last) != 0 {
        counters::opener_evicted();
    }
    Some(last)
}

/// The running process, of this thread group, connects this socket, which is known by `identity`.
#[inline(always)]
pub(crate) fn remember<M: Memory>(socket: &TcpSocket<M>, identity: u64, pid: u32) {
    let Ok(remote_port) = remote_port(socket) else {
        return;
    };
    let comm = current_name();
    if let Some(place) = free(identity) {
        let opener = Place { socket: identity, comm, pid, remote_port, spills: 0, check: 0 };
        // SAFETY: as in `holder`; who reads it meanwhile finds that it does not fit together. Whether it spills another CPU
        // may say at any time, so that is left alone.
        unsafe {
            (*place).socket = identity;
            // Both at once would be a call that copies bytes.
            (*place).comm[0] = comm[0];
            (*place).comm[1] = comm[1];
            (*place).pid = pid;
            (*place).remote_port = remote_port;
            (*place).check = opener.folded();
        }
    }
}

/// Who connected this socket, which is known by `identity`, if that was seen.
#[inline(always)]
pub(crate) fn of<M: Memory>(socket: &TcpSocket<M>, identity: u64) -> Option<Opener> {
    // SAFETY: as in `holder`.
    let place = unsafe { *taken(identity)? };
    let fits = place.socket == identity
        && place.check == place.folded()
        && remote_port(socket) == Ok(place.remote_port);
    fits.then_some(Opener { comm: place.comm, pid: place.pid })
}

/// The socket that is known by `identity` is closed; it may be connected anew, by another process.
#[inline(always)]
pub(crate) fn forget(identity: u64) {
    if let Some(place) = taken(identity) {
        // SAFETY: as in `holder`.
        unsafe { (*place).socket = 0 };
    }
}

#[inline(always)]
fn remote_port<M: Memory>(socket: &TcpSocket<M>) -> Result<u16, i32> {
    socket.fields().get(&LAYOUT.remote_port)
}
