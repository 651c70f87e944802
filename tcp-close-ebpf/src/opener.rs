//! Who connected a socket: noted at `connect()`, the only time when that can be known, until the socket closes.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid},
    macros::map,
    maps::LruHashMap,
};

use crate::{
    kernel::{LAYOUT, Memory},
    socket::TcpSocket,
};

/// A process that called `connect()`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Opener {
    /// Its name at that time.
    pub(crate) comm: [u8; 16],
    /// Its thread group.
    pub(crate) pid: u32,
    /// Of the socket, in network byte order. Where sockets are known by their addresses, and one that closed was missed,
    /// it tells them apart.
    remote_port: u16,
    /// Explicit padding, always 0.
    reserved: u16,
}

/// By what the socket is known by. Of more connections than this, those that nothing was asked of for longest are
/// forgotten: their opener is not known.
#[map]
static OPENERS: LruHashMap<u64, Opener> = LruHashMap::with_max_entries(1 << 16, 0);

/// The running process connects this socket.
#[inline(always)]
pub(crate) fn remember<M: Memory>(socket: &TcpSocket<M>) {
    if let (Ok(comm), Ok(remote_port)) = (bpf_get_current_comm(), remote_port(socket)) {
        let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        let opener = Opener { comm, pid, remote_port, reserved: 0 };
        // Where it cannot be kept, it is not known.
        let _kept = OPENERS.insert(socket.identity(), opener, 0);
    }
}

/// Who connected this socket, if that was seen.
#[inline(always)]
pub(crate) fn of<M: Memory>(socket: &TcpSocket<M>) -> Option<Opener> {
    // SAFETY: an entry that is replaced meanwhile is that of the same socket, and copied at once.
    let opener = unsafe { OPENERS.get(socket.identity()).copied() }?;
    (remote_port(socket) == Ok(opener.remote_port)).then_some(opener)
}

/// The socket is closed; it may be connected anew, by another process.
#[inline(always)]
pub(crate) fn forget<M: Memory>(socket: &TcpSocket<M>) {
    let _found = OPENERS.remove(socket.identity());
}

#[inline(always)]
fn remote_port<M: Memory>(socket: &TcpSocket<M>) -> Result<u16, i32> {
    socket.fields().get(&LAYOUT.remote_port)
}
