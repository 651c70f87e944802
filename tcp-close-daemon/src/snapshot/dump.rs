//! One question to the kernel, and all of its answers: the TCP sockets of the namespace this thread is in.
//!
//! It is `SOCK_DIAG_BY_FAMILY` with `NLM_F_DUMP` (see `man 7 sock_diag`), once for each family: none that stands for both has
//! an answer. The kernel picks the states, and goes by the substate of a minisock in that (`inet_diag_dump_icsk`,
//! <https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/inet_diag.c>).

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SOCK_DIAG_BY_FAMILY, SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use rustix::io::Errno;

use super::row::Row;
use crate::event::TcpState;

/// How often a question is put again whose answer the kernel calls inconsistent.
const MOST_TRIES: u32 = 4;

/// Room for one datagram: the kernel sends no more than 32 KiB at once (`netlink_recvmsg`).
const DATAGRAM: usize = 64 << 10;

/// The kernel does not give its socket table.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The kernel was built without it, or its module cannot be loaded.
    #[error(
        "the kernel shows no TCP sockets: it has no module tcp_diag (CONFIG_INET_TCP_DIAG), or `modprobe tcp_diag` is not allowed"
    )]
    NoTcpDiag,
    /// The kernel refuses, or the conversation breaks down.
    #[error("cannot {what}")]
    Netlink {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Every answer was flagged as inconsistent (`NLM_F_DUMP_INTR`).
    #[error("the socket table changed too often to be read")]
    Changing,
    /// The answer is none that this program understands.
    #[error("the kernel's answer about its sockets is not understood")]
    Malformed,
}

/// The TCP sockets of this thread's namespace, whose inode number this is, that are in one of these states.
pub(super) fn dump(netns: u32, states: &[TcpState]) -> Result<Vec<Row>, DumpError> {
    let mut rows = Vec::new();
    for family in [AF_INET, AF_INET6] {
        rows.append(&mut dump_family(netns, family, states)?);
    }
    Ok(rows)
}

fn dump_family(netns: u32, family: u8, states: &[TcpState]) -> Result<Vec<Row>, DumpError> {
    for _ in 0..MOST_TRIES {
        let mut answer = Answer::new(netns);
        // A socket for each try: what is left of the last answer is not mistaken for the next.
        let socket = ask(family, states)?;
        let mut datagram = Vec::with_capacity(DATAGRAM);
        while !answer.done {
            datagram.clear();
            match socket.recv(&mut datagram, 0) {
                Ok(_) => answer.take(&datagram)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(DumpError::Netlink { what: "read the socket table", source }),
            }
        }
        if !answer.interrupted {
            return Ok(answer.rows);
        }
    }
    Err(DumpError::Changing)
}

fn ask(family: u8, states: &[TcpState]) -> Result<Socket, DumpError> {
    let failed = |what| move |source| failure(what, source);
    let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(failed("open a sock_diag socket"))?;
    socket.bind_auto().map_err(failed("bind a sock_diag socket"))?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(failed("connect a sock_diag socket"))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: states
            .iter()
            .fold(StateFlags::empty(), |set, &state| set | StateFlags::from_bits_retain(1 << state as u32)),
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    };
    let mut message =
        NetlinkMessage::new(header, NetlinkPayload::InnerMessage(SockDiagMessage::InetRequest(request)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).map_err(failed("ask for the socket table"))?;
    Ok(socket)
}

/// No handler of the family or of TCP is ENOENT, no `sock_diag` at all EPROTONOSUPPORT.
fn failure(what: &'static str, source: io::Error) -> DumpError {
    match Errno::from_io_error(&source) {
        Some(Errno::NOENT | Errno::PROTONOSUPPORT) => DumpError::NoTcpDiag,
        _ => DumpError::Netlink { what, source },
    }
}

/// An answer, as far as it has come in.
#[derive(Debug)]
pub struct Answer {
    netns: u32,
    /// The sockets it has told of.
    pub rows: Vec<Row>,
    /// The kernel calls it inconsistent.
    pub interrupted: bool,
    /// Nothing more is to come.
    pub done: bool,
}

impl Answer {
    /// One of this namespace, of which nothing has come in.
    pub const fn new(netns: u32) -> Self {
        Self { netns, rows: Vec::new(), interrupted: false, done: false }
    }

    /// Takes in a datagram: messages one after the other, each padded to four bytes.
    pub fn take(&mut self, datagram: &[u8]) -> Result<(), DumpError> {
        let mut rest = datagram;
        while !rest.is_empty() && !self.done {
            let message = NetlinkBuffer::new_checked(rest).map_err(|_cut_short| DumpError::Malformed)?;
            self.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            match message.message_type() {
                SOCK_DIAG_BY_FAMILY => {
                    self.rows.push(Row::parse(self.netns, message.payload()).ok_or(DumpError::Malformed)?);
                }
                NLMSG_DONE => {
                    result(message.payload())?;
                    self.done = true;
                }
                NLMSG_ERROR => {
                    result(message.payload())?;
                    return Err(DumpError::Malformed);
                }
                _ => {}
            }
            let length = usize::try_from(message.length()).map_err(|_too_long| DumpError::Malformed)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// What `NLMSG_DONE` and `NLMSG_ERROR` begin with: nothing, or an errno with its sign turned.
fn result(body: &[u8]) -> Result<(), DumpError> {
    match body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes)) {
        code if code < 0 => {
            Err(failure("read the socket table", io::Error::from_raw_os_error(code.saturating_neg())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
