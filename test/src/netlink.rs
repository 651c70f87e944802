//! One question to the kernel over netlink, and all of its answers.

use anyhow::Context as _;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// Length of `struct nlmsghdr`.
const HEADER_LENGTH: usize = 16;

/// An answer, parsed and as it came.
pub(crate) struct Answer<T> {
    /// What the netlink crates make of it.
    pub(crate) message: T,
    /// The body as it came, for what they leave out.
    pub(crate) body: Vec<u8>,
}

/// Asks for a table, in the namespace of the calling thread.
pub(crate) fn dump<T>(protocol: isize, question: T) -> anyhow::Result<Vec<Answer<T>>>
where
    T: NetlinkSerializable + NetlinkDeserializable,
{
    exchange(protocol, NLM_F_DUMP, question)
}

/// Gives an order and waits until it is done, in the namespace of the calling thread.
pub(crate) fn order<T>(protocol: isize, flags: u16, order: T) -> anyhow::Result<()>
where
    T: NetlinkSerializable + NetlinkDeserializable,
{
    exchange(protocol, flags | NLM_F_ACK, order).map(drop)
}

/// Asks for one thing, in the namespace of the calling thread.
pub(crate) fn ask<T>(protocol: isize, question: T) -> anyhow::Result<Option<T>>
where
    T: NetlinkSerializable + NetlinkDeserializable,
{
    let answers = exchange(protocol, NLM_F_ACK, question)?;
    Ok(answers.into_iter().next().map(|answer| answer.message))
}

fn exchange<T>(protocol: isize, flags: u16, question: T) -> anyhow::Result<Vec<Answer<T>>>
where
    T: NetlinkSerializable + NetlinkDeserializable,
{
    let mut socket = Socket::new(protocol).context("open a netlink socket")?;
    socket.bind_auto().context("bind the netlink socket")?;
    socket.connect(&SocketAddr::new(0, 0)).context("connect the netlink socket to the kernel")?;

    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    socket.send(&buffer, 0).context("send the netlink request")?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().context("receive the netlink answer")?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<T>::deserialize(rest).context("parse the netlink answer")?;
            let length = usize::try_from(answer.header.length).context("length of a netlink message")?;
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => {
                    let body =
                        rest.get(HEADER_LENGTH..length).context("a netlink message is cut short")?.to_vec();
                    answers.push(Answer { message, body });
                }
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) => {
                    // A code of zero is the acknowledgment of an order.
                    return if error.code.is_none() { Ok(answers) } else { Err(error.to_io().into()) };
                }
                _ => {}
            }
            // Messages are aligned to four bytes, the last one need not be padded.
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}
