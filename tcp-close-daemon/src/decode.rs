//! From the bytes of a ring record to an [`Event`].
//!
//! In: bytes of the ring, the tick rate, the table of cancel sites. Out: events. It refuses what it does not
//! know, and never guesses.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tcp_close_abi as abi;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::{
    event::{
        Cancel, CancelSite, CgroupId, Comm, ConnectionId, Event, EventKind, MinisockTimer, Monotonic, Pair,
        Process, ResetSent, Segment, SocketError, StateChange, TcpState,
    },
    kernel::tick::Hz,
};

pub use crate::decode::cancel_site::{CancelSites, Frame};

mod cancel_site;

/// A record that is not what the contract says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too few bytes, or too many, for its kind.
    #[error("a record of kind {kind} has {length} bytes")]
    Length {
        /// Its kind.
        kind: u32,
        /// Its bytes.
        length: usize,
    },
    /// Shorter than a header.
    #[error("a record of {0} bytes has no header")]
    NoHeader(usize),
    /// A kind this version does not know.
    #[error("a record has unknown kind {0}")]
    Kind(u32),
    /// A state, substate or address family that cannot be.
    #[error("a record of kind {kind} has value {value} where a TCP state or address family belongs")]
    Value {
        /// Its kind.
        kind: u32,
        /// The value.
        value: u32,
    },
    /// The kernel side could not read a field this needs.
    #[error("a record of kind {0} has a field that the kernel side could not read")]
    Unreadable(u32),
}

/// Turns records into events.
#[derive(Clone, Debug)]
pub struct Decoder {
    hz: Hz,
    sites: CancelSites,
}

impl Decoder {
    /// A decoder for a kernel with this tick rate and these functions.
    pub const fn new(hz: Hz, sites: CancelSites) -> Self {
        Self { hz, sites }
    }

    /// The event in one record.
    pub fn decode(&self, bytes: &[u8]) -> Result<Event, DecodeError> {
        let (header, _) =
            abi::Header::read_from_prefix(bytes).map_err(|_short| DecodeError::NoHeader(bytes.len()))?;
        if header.flags & abi::flag::UNREADABLE != 0 {
            return Err(DecodeError::Unreadable(header.kind));
        }
        let kind = abi::RecordKind::from_raw(header.kind).ok_or(DecodeError::Kind(header.kind))?;
        let kind = match kind {
            abi::RecordKind::StateChange => EventKind::StateChange(state_change(read(&header, bytes)?)?),
            abi::RecordKind::FinRetransmit => {
                let record: abi::FinRetransmit = read(&header, bytes)?;
                EventKind::FinRetransmitted(state(&header, record.state)?)
            }
            abi::RecordKind::ResetSent => {
                let record: abi::Reset = read(&header, bytes)?;
                EventKind::ResetSent(ResetSent {
                    state: state(&header, record.state)?,
                    active: header.flags & abi::flag::ACTIVE != 0,
                    reason: Some(record.reason).filter(|&reason| reason != 0),
                })
            }
            abi::RecordKind::ResetReceived => {
                let record: abi::Reset = read(&header, bytes)?;
                EventKind::ResetReceived(state(&header, record.state)?)
            }
            abi::RecordKind::TimerStart => EventKind::TimerStarted(self.timer(read(&header, bytes)?)?),
            abi::RecordKind::TimerExpire if bytes.len() == size_of::<abi::MinisockExpireV4>() => {
                let record: abi::MinisockExpireV4 = read(&header, bytes)?;
                EventKind::TimerExpired(self.timer(record.timer())?)
            }
            abi::RecordKind::TimerExpire => EventKind::TimerExpired(self.timer(read(&header, bytes)?)?),
            abi::RecordKind::TimerCancel => {
                let record: abi::MinisockCancel = read(&header, bytes)?;
                let frames = usize::try_from(record.frames).unwrap_or(usize::MAX).min(record.stack.len());
                let cancel = Cancel {
                    site: self.sites.classify(record.stack.get(..frames).unwrap_or_default()),
                    process: Process { pid: record.pid, comm: name(record.comm) },
                };
                EventKind::TimerCancelled(self.timer(record.timer)?, cancel)
            }
            abi::RecordKind::Segment => {
                let record: abi::MinisockSegment = read(&header, bytes)?;
                let segment = Segment {
                    seq: record.seq,
                    end_seq: record.end_seq,
                    fin: record.tcp_flags & 1 != 0,
                    syn: record.tcp_flags & 2 != 0,
                    rst: record.tcp_flags & 4 != 0,
                    ack: record.tcp_flags & 16 != 0,
                };
                EventKind::Segment(self.timer(record.timer)?, segment)
            }
            abi::RecordKind::MinisockBegin => {
                let record: abi::MinisockBegin = read(&header, bytes)?;
                let socket = ConnectionId { netns: header.netns, socket: record.replaces };
                EventKind::MinisockBegan(self.timer(record.timer)?, socket)
            }
            abi::RecordKind::MinisockMissed => {
                let _: abi::Header = read(&header, bytes)?;
                EventKind::MinisockMissed
            }
            abi::RecordKind::MinisockRestart => {
                EventKind::MinisockRestarted(self.timer(read(&header, bytes)?)?)
            }
            abi::RecordKind::MinisockEnd => {
                let record: abi::MinisockEnd = read(&header, bytes)?;
                let cancel = Cancel {
                    site: site(record.end),
                    process: Process { pid: record.pid, comm: name(record.comm) },
                };
                EventKind::MinisockEnded(self.timer(record.timer)?, cancel)
            }
        };
        let id = ConnectionId { netns: header.netns, socket: header.socket };
        Ok(Event { at: Monotonic::from_nanos(header.at), id, kind })
    }

    fn timer(&self, record: abi::MinisockTimer) -> Result<MinisockTimer, DecodeError> {
        let substate = match state(&record.header, record.substate)? {
            substate @ (TcpState::FinWait2 | TcpState::TimeWait) => substate,
            other => {
                return Err(DecodeError::Value { kind: record.header.kind, value: other as u32 });
            }
        };
        // Jiffies wrap, by design minutes after boot on 32-bit machines; their difference does not.
        let jiffies = record.expires.wrapping_sub(record.jiffies).cast_signed();
        let duration = self.hz.duration(jiffies.unsigned_abs());
        let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Ok(MinisockTimer {
            pair: pair(&record.header, &record.pair)?,
            minisock: record.minisock,
            substate,
            remaining: if jiffies < 0 { -nanoseconds } else { nanoseconds },
            slack: if jiffies < 0 { Duration::ZERO } else { self.hz.slack(duration) },
            fires_in: (record.bucket_expiry != 0)
                .then(|| self.hz.duration(record.bucket_expiry.saturating_sub(record.jiffies))),
            rcv_nxt: record.rcv_nxt,
            since_stamp: (record.has_entry_stamp != 0).then(|| since_stamp(&record)),
        })
    }
}

/// Time since the kernel's own stamp. It has 32 bits of milliseconds, which wrap after seven weeks; a difference
/// of less than that does not.
fn since_stamp(record: &abi::MinisockTimer) -> Duration {
    #[expect(clippy::cast_possible_truncation, reason = "the kernel truncates the same way")]
    let now = (record.header.at / 1_000_000) as u32;
    // The stamp may be of the millisecond after the one in which the record took its time.
    let since = now.wrapping_sub(record.entry_stamp).cast_signed().max(0);
    Duration::from_millis(u64::from(since.unsigned_abs()))
}

/// The whole record of a kind, of exactly its size.
fn read<T: FromBytes + KnownLayout + Immutable>(
    header: &abi::Header,
    bytes: &[u8],
) -> Result<T, DecodeError> {
    T::read_from_bytes(bytes).map_err(|_wrong| DecodeError::Length { kind: header.kind, length: bytes.len() })
}

fn state_change(record: abi::StateChange) -> Result<StateChange, DecodeError> {
    let header = record.header;
    let [by_owner, has_opener] = [abi::flag::OWNER, abi::flag::OPENER].map(|flag| header.flags & flag != 0);
    Ok(StateChange {
        pair: pair(&header, &record.pair)?,
        from: state(&header, record.old)?,
        to: state(&header, record.new)?,
        error: socket_error(record.error),
        uid: record.uid,
        process: by_owner.then(|| Process { pid: record.pid, comm: name(record.comm) }),
        opener: has_opener.then(|| Process { pid: record.opener_pid, comm: name(record.opener_comm) }),
        cgroup: CgroupId::new(record.cgroup),
        write_seq: record.write_seq,
        snd_nxt: record.snd_nxt,
        snd_una: record.snd_una,
        rcv_nxt: record.rcv_nxt,
        segs_in: record.segs_in,
        segs_out: record.segs_out,
        bytes_sent: record.bytes_sent.saturating_sub(record.bytes_retrans),
        bytes_received: record.bytes_received,
    })
}

/// Where a minisock comes to its end, by what the kernel side noted.
const fn site(end: u32) -> CancelSite {
    match end {
        abi::end::EXPIRY => CancelSite::Expiry,
        abi::end::CONNECT => CancelSite::Connect,
        abi::end::RECEIVE => CancelSite::Receive,
        abi::end::RESET => CancelSite::Reset,
        abi::end::PURGE => CancelSite::Purge,
        abi::end::ABORT => CancelSite::Abort,
        _ => CancelSite::Unknown,
    }
}

const fn name(words: abi::Name) -> Comm {
    Comm::from_bytes(zerocopy::transmute!(words))
}

fn state(header: &abi::Header, number: u32) -> Result<TcpState, DecodeError> {
    TcpState::from_kernel(number).ok_or(DecodeError::Value { kind: header.kind, value: number })
}

/// `sk_err` is a positive errno; the numbers are those of the architecture this runs on.
const fn socket_error(errno: u32) -> SocketError {
    match errno.cast_signed() {
        0 => SocketError::None,
        libc::ETIMEDOUT => SocketError::TimedOut,
        libc::ECONNRESET | libc::EPIPE | libc::ECONNREFUSED => SocketError::Reset,
        libc::ECONNABORTED => SocketError::Aborted,
        _ => SocketError::Other(errno),
    }
}

fn pair(header: &abi::Header, pair: &abi::Pair) -> Result<Pair, DecodeError> {
    let address = |address: [u64; 2]| {
        let bytes: [u8; 16] = zerocopy::transmute!(address);
        match pair.family {
            abi::AF_INET => Ok(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
            abi::AF_INET6 => Ok(Ipv6Addr::from(bytes).to_canonical()),
            other => Err(DecodeError::Value { kind: header.kind, value: u32::from(other) }),
        }
    };
    Ok(Pair {
        local: SocketAddr::new(address(pair.local)?, u16::from_be(pair.local_port)),
        remote: SocketAddr::new(address(pair.remote)?, u16::from_be(pair.remote_port)),
    })
}

#[cfg(test)]
mod tests;
