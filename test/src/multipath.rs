//! Multipath TCP: connections that an ordinary stream may hold, and further paths that the kernel makes by itself.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
};

use anyhow::Context as _;
use netlink_packet_core::{DecodeError, DefaultNla, Emitable, ParseableParametrized};
use netlink_packet_generic::{
    GenlFamily, GenlHeader, GenlMessage,
    ctrl::{GenlCtrl, GenlCtrlCmd, nlas::GenlCtrlAttrs},
};
use netlink_sys::protocols::NETLINK_GENERIC;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, ipproto::MPTCP, listen,
        socket_with,
    },
};

use crate::breakage::OrGiveUp as _;
use crate::netlink;
use crate::netns::Netns;

/// A connection, and the listener that further paths of it go to.
#[derive(Debug)]
pub struct Connection {
    /// Who connected.
    pub client: TcpStream,
    /// Who was connected to.
    pub server: TcpStream,
    /// Where.
    pub listener: TcpListener,
}

/// Closed where another program is started, as those of the standard library.
fn socket() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, Some(MPTCP))
}

/// A connection within a namespace; `None` on a kernel without Multipath TCP.
#[track_caller]
pub fn connection(netns: &Netns, address: Ipv4Addr) -> Option<Connection> {
    netns
        .run(move || {
            let listener = match socket() {
                Err(Errno::PROTONOSUPPORT | Errno::NOPROTOOPT) => return Ok(None),
                made => made.context("a socket of Multipath TCP")?,
            };
            bind(&listener, &SocketAddr::from((address, 0))).context("bind")?;
            listen(&listener, 1).context("listen")?;
            let client = socket()?;
            connect(&client, &SocketAddr::try_from(getsockname(&listener)?)?).context("connect")?;
            let listener = TcpListener::from(listener);
            let (server, _) = listener.accept().context("accept")?;
            anyhow::Ok(Some(Connection { client: client.into(), server, listener }))
        })
        .or_give_up()
}

/// From now on the kernel adds a path from this address to every connection that is opened in this namespace.
#[track_caller]
pub fn add_path(netns: &Netns, from: Ipv4Addr) {
    // MPTCP_PM_CMD_SET_LIMITS and MPTCP_PM_CMD_ADD_ADDR (include/uapi/linux/mptcp_pm.h).
    let limits = vec![attribute(2, 8_u32.to_ne_bytes()), attribute(3, 8_u32.to_ne_bytes())];
    let address = [
        attribute(1, 2_u16.to_ne_bytes()),
        attribute(3, from.octets()),
        // MPTCP_PM_ADDR_FLAG_SUBFLOW.
        attribute(6, 2_u32.to_ne_bytes()),
    ];
    let mut nested = vec![0; address.as_slice().buffer_len()];
    address.as_slice().emit(&mut nested);
    let endpoint = vec![DefaultNla::new(1 | NESTED, nested)];
    netns
        .run(move || {
            let family = family()?;
            for (command, attributes) in [(5, limits), (1, endpoint)] {
                let mut message = GenlMessage::from_payload(PathManager { command, attributes });
                message.set_resolved_family_id(family);
                message.finalize();
                netlink::order(NETLINK_GENERIC, 0, message).context("order a further path")?;
            }
            anyhow::Ok(())
        })
        .or_give_up();
}

/// `NLA_F_NESTED` (`include/uapi/linux/netlink.h`).
const NESTED: u16 = 1 << 15;

fn attribute<const N: usize>(kind: u16, value: [u8; N]) -> DefaultNla {
    DefaultNla::new(kind, value.to_vec())
}

/// The number by which the kernel knows its path manager.
fn family() -> anyhow::Result<u16> {
    let name = GenlCtrlAttrs::FamilyName(PathManager::family_name().to_owned());
    let mut question = GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![name] });
    question.finalize();
    let answer = netlink::ask(NETLINK_GENERIC, question).context("ask for the path manager")?;
    let id =
        answer.into_iter().flat_map(|answer| answer.payload.nlas).find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(id) => Some(id),
            _ => None,
        });
    id.context("the path manager has no number")
}

/// An order to the kernel's path manager.
#[derive(Clone, Debug)]
struct PathManager {
    command: u8,
    attributes: Vec<DefaultNla>,
}

impl GenlFamily for PathManager {
    fn family_name() -> &'static str {
        "mptcp_pm"
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for PathManager {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for PathManager {
    /// Its only answer is that it was done.
    fn parse_with_param(_body: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        Ok(Self { command: header.cmd, attributes: Vec::new() })
    }
}
