//! A way through fields, to write what is in them or to read it into them: numbers in as many bytes as they need, and in
//! bits whether something is there at all.

#![expect(
    clippy::cast_possible_truncation,
    reason = "what is read is as wide as it was when it was written; what else is cast is cut off or small by design"
)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::Packed;
use crate::{
    event::{CgroupId, Comm, ConnectionId, Monotonic, Pair, Process, TcpState},
    lifecycle::observation::{Manner, Role, Schedule, States},
};

/// More than any minisock takes, without its bits.
const MOST: usize = 512;

/// A way through the fields: to write what is in them, or to read it into them.
pub(super) trait Way: Sized {
    /// So many bits of a small number.
    fn bits(&mut self, value: &mut u8, count: u32);

    /// Bytes as they are.
    fn bytes(&mut self, value: &mut [u8]);

    /// A number, in as many bytes as it needs: seven bits in each, the lowest first.
    fn any_number(&mut self, value: &mut u128);

    /// The time that was told last, or that all of them are told from.
    fn last_time(&mut self) -> &mut Monotonic;

    fn flag(&mut self, value: &mut bool) {
        let mut bit = u8::from(*value);
        self.bits(&mut bit, 1);
        *value = bit != 0;
    }

    /// What may not be there; it is read into `blank`.
    fn option<T>(&mut self, value: &mut Option<T>, blank: T, inner: impl FnOnce(&mut Self, &mut T)) {
        let mut is_there = value.is_some();
        self.flag(&mut is_there);
        if is_there {
            inner(self, value.get_or_insert(blank));
        }
    }

    /// What is told only where it is not as usual.
    fn usually<T: PartialEq>(&mut self, value: &mut T, usual: T, inner: impl FnOnce(&mut Self, &mut T)) {
        let mut differs = *value != usual;
        self.flag(&mut differs);
        if differs {
            inner(self, value);
        } else {
            *value = usual;
        }
    }

    fn byte(&mut self, value: &mut u8) {
        self.bytes(std::slice::from_mut(value));
    }

    fn number(&mut self, value: &mut u32) {
        let mut number = (*value).into();
        self.any_number(&mut number);
        *value = number as u32;
    }

    fn long_number(&mut self, value: &mut u64) {
        let mut number = (*value).into();
        self.any_number(&mut number);
        *value = number as u64;
    }

    /// A number that mostly is 0.
    fn count(&mut self, value: &mut u32) {
        self.usually(value, 0, Self::number);
    }

    /// Any number is as likely as any other.
    fn sequence(&mut self, value: &mut u32) {
        let mut bytes = value.to_le_bytes();
        self.bytes(&mut bytes);
        *value = u32::from_le_bytes(bytes);
    }

    /// Nanoseconds, which often are whole milliseconds, and one bit more.
    fn nanoseconds(&mut self, value: &mut u64, mark: &mut bool) {
        let is_whole = value.is_multiple_of(MILLISECOND);
        let units = if is_whole { *value / MILLISECOND } else { *value };
        let mut number = u128::from(units) << 2 | u128::from(is_whole) << 1 | u128::from(*mark);
        self.any_number(&mut number);
        *mark = number & 1 != 0;
        *value = (number >> 2) as u64 * if number & 2 == 0 { 1 } else { MILLISECOND };
    }

    /// By how far it is from another, before that or after.
    fn near(&mut self, value: &mut u64, other: u64) {
        let (mut distance, mut is_before) = (value.abs_diff(other), *value < other);
        self.nanoseconds(&mut distance, &mut is_before);
        *value = if is_before { other - distance } else { other + distance };
    }

    /// Of less than five centuries, as are all that events tell.
    fn duration(&mut self, value: &mut Duration) {
        self.duration_near(value, Duration::ZERO);
    }

    fn duration_near(&mut self, value: &mut Duration, other: Duration) {
        let mut nanoseconds = value.as_nanos() as u64;
        self.near(&mut nanoseconds, other.as_nanos() as u64);
        *value = Duration::from_nanos(nanoseconds);
    }

    /// Often it is the last one again.
    fn time(&mut self, value: &mut Monotonic) {
        let last = *self.last_time();
        self.usually(value, last, |way, value| {
            let mut nanoseconds = value.as_nanos();
            way.near(&mut nanoseconds, last.as_nanos());
            *value = Monotonic::from_nanos(nanoseconds);
        });
        *self.last_time() = *value;
    }

    fn id(&mut self, value: &mut ConnectionId) {
        self.number(&mut value.netns);
        self.long_number(&mut value.socket);
    }

    fn pair(&mut self, value: &mut Pair) {
        self.address(&mut value.local);
        self.address(&mut value.remote);
    }

    /// There is no more to the address of a socket of TCP than this.
    fn address(&mut self, value: &mut SocketAddr) {
        let mut is_ipv6 = value.is_ipv6();
        self.flag(&mut is_ipv6);
        let mut octets = match value.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let ipv4_at = 12;
        self.bytes(if is_ipv6 { &mut octets } else { &mut octets[ipv4_at..] });
        let [.., a, b, c, d] = octets;
        let ip = if is_ipv6 { Ipv6Addr::from(octets).into() } else { Ipv4Addr::new(a, b, c, d).into() };
        let mut port = value.port().to_le_bytes();
        self.bytes(&mut port);
        *value = SocketAddr::new(ip, u16::from_le_bytes(port));
    }

    /// The name without the zeros behind it.
    fn process(&mut self, value: &mut Process) {
        self.number(&mut value.pid);
        let mut name = value.comm.to_bytes();
        let mut length = name.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u8 + 1);
        self.bits(&mut length, 5);
        self.bytes(&mut name[..usize::from(length)]);
        value.comm = Comm::from_bytes(name);
    }

    fn cgroup(&mut self, value: &mut CgroupId) {
        let mut number = value.get();
        self.long_number(&mut number);
        *value = CgroupId::new(number).unwrap_or(CgroupId::MIN);
    }

    fn state(&mut self, value: &mut TcpState) {
        let mut number = *value as u8;
        self.bits(&mut number, 4);
        *value = TcpState::from_kernel(number.into()).unwrap_or(*value);
    }

    fn role(&mut self, value: &mut Role) {
        self.one_of(&Role::ALL, value);
    }

    fn manner(&mut self, value: &mut Manner) {
        self.one_of(&Manner::ALL, value);
    }

    /// One of at most eight.
    fn one_of<T: Copy + PartialEq>(&mut self, all: &[T], value: &mut T) {
        let mut index = all.iter().position(|one| one == value).unwrap_or_default() as u8;
        self.bits(&mut index, 3);
        *value = all.get(usize::from(index)).copied().unwrap_or(*value);
    }

    fn states(&mut self, value: &mut States, fin_wait2: Duration) {
        let before = std::mem::take(value);
        let mut visits = before.iter();
        loop {
            let mut visit = visits.next();
            self.option(&mut visit, (TcpState::FinWait1, None), |way, (state, dwell)| {
                way.state(state);
                let about = if *state == TcpState::FinWait2 { fin_wait2 } else { Duration::ZERO };
                way.option(dwell, Duration::ZERO, |way, dwell| way.duration_near(dwell, about));
            });
            match visit {
                Some((state, dwell)) => value.push(state, dwell),
                None => return,
            }
        }
    }

    /// Times in whole microseconds.
    fn schedule(&mut self, value: &mut Schedule) {
        let before = std::mem::take(value);
        let mut count = before.iter().count() as u32;
        self.count(&mut count);
        let mut times = before.iter();
        for _ in 0..count {
            let mut microseconds = times.next().map_or(0, |time| time.as_micros());
            self.any_number(&mut microseconds);
            value.push(Duration::from_micros(microseconds as u64));
        }
    }
}

const MILLISECOND: u64 = 1_000_000;

/// Flags and other bits, which lie behind the bytes, the first of them last: so nothing has to tell how many there are.
type Bits = u128;

/// Writes fields.
pub(super) struct Writer {
    bits: Bits,
    bit_count: u32,
    last_time: Monotonic,
    bytes: [u8; MOST],
    end: usize,
}

impl Writer {
    /// Times are told from this one.
    pub(super) const fn new(last_time: Monotonic) -> Self {
        Self { bits: 0, bit_count: 0, last_time, bytes: [0; MOST], end: 0 }
    }

    /// What was written.
    pub(super) fn packed(mut self) -> Packed {
        debug_assert!(self.bit_count <= Bits::BITS, "{} bits", self.bit_count);
        let bits = self.bits.to_be_bytes();
        let first = bits.len() - self.bit_count.div_ceil(8) as usize;
        self.push(&bits[first..]);
        Packed::from_bytes(&self.bytes[..self.end])
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }
}

impl Way for Writer {
    fn bits(&mut self, value: &mut u8, count: u32) {
        self.bits |= Bits::from(*value) << self.bit_count;
        self.bit_count += count;
    }

    fn bytes(&mut self, value: &mut [u8]) {
        self.push(value);
    }

    fn any_number(&mut self, value: &mut u128) {
        let mut rest = *value;
        while rest >= 0x80 {
            self.push(&[rest as u8 | 0x80]);
            rest >>= 7;
        }
        self.push(&[rest as u8]);
    }

    fn last_time(&mut self) -> &mut Monotonic {
        &mut self.last_time
    }
}

/// Reads what a [`Writer`] has written, and panics on anything else.
pub(super) struct Reader<'a> {
    bits: Bits,
    bytes: &'a [u8],
    last_time: Monotonic,
}

impl<'a> Reader<'a> {
    /// Of what was written by a [`Writer`] with the same time.
    pub(super) fn new(bytes: &'a [u8], last_time: Monotonic) -> Self {
        let mut bits = [0; size_of::<Bits>()];
        let count = bits.len().min(bytes.len());
        let first = bits.len() - count;
        bits[first..].copy_from_slice(&bytes[bytes.len() - count..]);
        Self { bits: Bits::from_be_bytes(bits), bytes, last_time }
    }

    const fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        taken
    }
}

impl Way for Reader<'_> {
    fn bits(&mut self, value: &mut u8, count: u32) {
        *value = self.bits as u8 & ((1 << count) - 1);
        self.bits >>= count;
    }

    fn bytes(&mut self, value: &mut [u8]) {
        value.copy_from_slice(self.take(value.len()));
    }

    fn any_number(&mut self, value: &mut u128) {
        *value = 0;
        let mut shift = 0;
        loop {
            let byte = self.take(1)[0];
            *value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return;
            }
            shift += 7;
        }
    }

    fn last_time(&mut self) -> &mut Monotonic {
        &mut self.last_time
    }
}
