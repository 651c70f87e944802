//! Few bytes for what is kept for long: numbers in as many bytes as they need, and in bits whether something is there at
//! all.
//!
//! In: fields, in turn. Out: bytes, and from them the same fields. One list of fields serves for either way. Rationale: each
//! close passes through here several times, so nothing loops over bytes or bits: eight bytes are read or written at once, or
//! sixteen, of which the last may be nobody's.

#![expect(
    clippy::cast_possible_truncation,
    reason = "what is read is as wide as it was when it was written; what else is cast is cut off or small by design"
)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::{
    event::{CgroupId, Comm, ConnectionId, Monotonic, Pair, Process, TcpState},
    lifecycle::observation::{Manner, Role, Schedule, States},
};

/// What is read has as many bytes behind it that are nobody's.
pub(super) const SPARE: usize = 16;

/// More than anything that is packed has of bits, in bytes, and of everything else.
const MOST_BITS: usize = 64;
const MOST_BYTES: usize = 576;

const MILLISECOND: u64 = 1_000_000;

/// A way through the fields: to write what is in them, or to read it into them.
pub(super) trait Way: Sized {
    /// So many bits of a number, less than eight.
    fn bits(&mut self, value: &mut u8, count: u32);

    /// Bytes as they are.
    fn bytes<const N: usize>(&mut self, value: &mut [u8; N]);

    /// A number that fits into so many bytes, at most eight.
    fn number_of(&mut self, value: &mut u64, count: u8);

    /// So many bytes that have only zeros behind them.
    fn first_bytes(&mut self, value: &mut [u8; SPARE], count: u8);

    /// The time that was told last, or that all of them are told from.
    fn last_time(&mut self) -> &mut Monotonic;

    #[inline]
    fn flag(&mut self, value: &mut bool) {
        let mut bit = u8::from(*value);
        self.bits(&mut bit, 1);
        *value = bit != 0;
    }

    /// What may not be there; it is read into `blank`.
    #[inline]
    fn option<T>(&mut self, value: &mut Option<T>, blank: T, inner: impl FnOnce(&mut Self, &mut T)) {
        let mut is_there = value.is_some();
        self.flag(&mut is_there);
        if is_there {
            inner(self, value.get_or_insert(blank));
        }
    }

    /// What is told only where it is not as usual.
    #[inline]
    fn usually<T: PartialEq>(&mut self, value: &mut T, usual: T, inner: impl FnOnce(&mut Self, &mut T)) {
        let mut differs = *value != usual;
        self.flag(&mut differs);
        if differs {
            inner(self, value);
        } else {
            *value = usual;
        }
    }

    #[inline]
    fn byte(&mut self, value: &mut u8) {
        let mut byte = [*value];
        self.bytes(&mut byte);
        [*value] = byte;
    }

    #[inline]
    fn number(&mut self, value: &mut u32) {
        let mut number = (*value).into();
        self.number_of_bytes(&mut number, 3);
        *value = number as u32;
    }

    #[inline]
    fn long_number(&mut self, value: &mut u64) {
        self.number_of_bytes(value, 4);
    }

    /// In as many bytes as it needs, and some bits that tell how many.
    #[inline]
    fn number_of_bytes(&mut self, value: &mut u64, bits: u32) {
        let mut count = bytes_of(*value);
        self.bits(&mut count, bits);
        self.number_of(value, count);
    }

    /// A number that mostly is 0.
    #[inline]
    fn count(&mut self, value: &mut u32) {
        self.usually(value, 0, Self::number);
    }

    /// Any number is as likely as any other.
    #[inline]
    fn sequence(&mut self, value: &mut u32) {
        let mut bytes = value.to_le_bytes();
        self.bytes(&mut bytes);
        *value = u32::from_le_bytes(bytes);
    }

    /// Nanoseconds, which often are whole milliseconds, by how far they are from others, before those or after.
    #[inline]
    fn nanoseconds_near(&mut self, value: &mut u64, others: u64) {
        let distance = value.abs_diff(others);
        let is_whole = distance.is_multiple_of(MILLISECOND);
        let mut number = if is_whole { distance / MILLISECOND } else { distance };
        let mut bits = bytes_of(number) << 2 | u8::from(is_whole) << 1 | u8::from(*value < others);
        self.bits(&mut bits, 6);
        self.number_of(&mut number, bits >> 2);
        let distance = if bits & 2 == 0 { number } else { number * MILLISECOND };
        *value = if bits & 1 == 0 { others + distance } else { others - distance };
    }

    /// Of less than five centuries, as are all that events tell.
    #[inline]
    fn duration(&mut self, value: &mut Duration) {
        self.duration_near(value, Duration::ZERO);
    }

    #[inline]
    fn duration_near(&mut self, value: &mut Duration, other: Duration) {
        let mut nanoseconds = nanoseconds(*value);
        self.nanoseconds_near(&mut nanoseconds, self::nanoseconds(other));
        *value = Duration::from_nanos(nanoseconds);
    }

    /// Often it is the last one again.
    #[inline]
    fn time(&mut self, value: &mut Monotonic) {
        let last = *self.last_time();
        self.usually(value, last, |way, value| {
            let mut nanoseconds = value.as_nanos();
            way.nanoseconds_near(&mut nanoseconds, last.as_nanos());
            *value = Monotonic::from_nanos(nanoseconds);
        });
        *self.last_time() = *value;
    }

    #[inline]
    fn id(&mut self, value: &mut ConnectionId) {
        self.number(&mut value.netns);
        self.long_number(&mut value.socket);
    }

    #[inline]
    fn pair(&mut self, value: &mut Pair) {
        self.address(&mut value.local);
        self.address(&mut value.remote);
    }

    /// There is no more to the address of a socket of TCP than this.
    #[inline]
    fn address(&mut self, value: &mut SocketAddr) {
        let mut is_ipv6 = value.is_ipv6();
        self.flag(&mut is_ipv6);
        let ip = if is_ipv6 {
            let mut octets = if let IpAddr::V6(ip) = value.ip() { ip.octets() } else { [0; 16] };
            self.bytes(&mut octets);
            IpAddr::V6(Ipv6Addr::from(octets))
        } else {
            let mut octets = if let IpAddr::V4(ip) = value.ip() { ip.octets() } else { [0; 4] };
            self.bytes(&mut octets);
            IpAddr::V4(Ipv4Addr::from(octets))
        };
        let mut port = value.port().to_le_bytes();
        self.bytes(&mut port);
        *value = SocketAddr::new(ip, u16::from_le_bytes(port));
    }

    /// The name without the zeros behind it.
    #[inline]
    fn process(&mut self, value: &mut Process) {
        self.number(&mut value.pid);
        let mut name = value.comm.to_bytes();
        let zeros_behind = u128::from_le_bytes(name).leading_zeros() / 8;
        let mut length = (size_of_val(&name) as u32 - zeros_behind) as u8;
        self.bits(&mut length, 5);
        self.first_bytes(&mut name, length);
        value.comm = Comm::from_bytes(name);
    }

    #[inline]
    fn cgroup(&mut self, value: &mut CgroupId) {
        let mut number = value.get();
        self.long_number(&mut number);
        *value = CgroupId::new(number).unwrap_or(CgroupId::MIN);
    }

    /// By its number; they are counted from one.
    #[inline]
    fn state(&mut self, value: &mut TcpState) {
        let mut number = *value as u8;
        self.bits(&mut number, 4);
        *value = TcpState::ALL.get(usize::from(number.wrapping_sub(1))).copied().unwrap_or(*value);
    }

    #[inline]
    fn role(&mut self, value: &mut Role) {
        self.one_of(value, &Role::ALL, |role| role as u8, 2);
    }

    #[inline]
    fn manner(&mut self, value: &mut Manner) {
        self.one_of(value, &Manner::ALL, |manner| manner as u8, 3);
    }

    #[inline]
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
    #[inline]
    fn schedule(&mut self, value: &mut Schedule) {
        let before = std::mem::take(value);
        let mut count = before.iter().count() as u32;
        self.count(&mut count);
        let mut times = before.iter();
        for _ in 0..count {
            let mut microseconds = times.next().map_or(0, |time| time.as_micros() as u64);
            self.long_number(&mut microseconds);
            value.push(Duration::from_micros(microseconds));
        }
    }

    /// One of a few, by its place among them, for which so many bits are enough.
    #[inline]
    fn one_of<T: Copy>(&mut self, value: &mut T, all: &[T], place: impl FnOnce(T) -> u8, bits: u32) {
        let mut number = place(*value);
        self.bits(&mut number, bits);
        *value = all.get(usize::from(number)).copied().unwrap_or(*value);
    }
}

/// Reads what has nothing behind it.
pub(super) fn read_exact(bits: u8, bytes: &[u8], last_time: Monotonic, read: impl FnOnce(&mut Reader<'_>)) {
    let mut padded = [0; MOST_BITS + MOST_BYTES + SPARE];
    if let Some(place) = padded.get_mut(..bytes.len()) {
        place.copy_from_slice(bytes);
    }
    read(&mut Reader::new(&padded, bits, last_time));
}

/// No time at all.
pub(super) const NEVER: Monotonic = Monotonic::from_nanos(0);

const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// To be read, as are the others.
pub(super) const NO_PAIR: Pair = Pair { local: NO_ADDRESS, remote: NO_ADDRESS };

/// No process.
pub(super) const NOBODY: Process = Process { pid: 0, comm: Comm::from_bytes([0; 16]) };

/// Five centuries stand for all that is longer.
fn nanoseconds(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(duration.subsec_nanos()))
}

/// How many bytes it takes.
const fn bytes_of(number: u64) -> u8 {
    (u64::BITS - number.leading_zeros()).div_ceil(8) as u8
}

/// Writes fields.
pub(super) struct Writer {
    /// Bits that do not fill four bytes yet.
    some_bits: u64,
    bit: u32,
    bits: [u8; MOST_BITS],
    bits_end: usize,
    /// Room for the bits, and everything else behind it.
    all: [u8; MOST_BITS + MOST_BYTES],
    end: usize,
    last_time: Monotonic,
}

impl Writer {
    /// Times are told from this one.
    #[inline]
    pub(super) const fn new(last_time: Monotonic) -> Self {
        Self {
            some_bits: 0,
            bit: 0,
            bits: [0; MOST_BITS],
            bits_end: 0,
            all: [0; MOST_BITS + MOST_BYTES],
            end: MOST_BITS,
            last_time,
        }
    }

    /// What was written: so many bytes of bits, and everything else behind them.
    #[inline]
    pub(super) fn written(&mut self) -> (u8, &[u8]) {
        self.put_bits();
        let count = self.bits_end + self.bit.div_ceil(8) as usize;
        let begin = MOST_BITS - count;
        self.all[begin..MOST_BITS].copy_from_slice(&self.bits[..count]);
        (count as u8, &self.all[begin..self.end])
    }

    #[inline]
    fn put_bits(&mut self) {
        self.bits[self.bits_end..self.bits_end + 4].copy_from_slice(&(self.some_bits as u32).to_le_bytes());
    }
}

impl Way for Writer {
    #[inline]
    fn bits(&mut self, value: &mut u8, count: u32) {
        self.some_bits |= u64::from(*value) << self.bit;
        self.bit += count;
        if self.bit >= u32::BITS {
            self.put_bits();
            self.bits_end += 4;
            self.some_bits >>= u32::BITS;
            self.bit -= u32::BITS;
        }
    }

    #[inline]
    fn bytes<const N: usize>(&mut self, value: &mut [u8; N]) {
        self.all[self.end..self.end + N].copy_from_slice(value);
        self.end += N;
    }

    // What is behind them is written over.

    #[inline]
    fn number_of(&mut self, value: &mut u64, count: u8) {
        self.all[self.end..self.end + 8].copy_from_slice(&value.to_le_bytes());
        self.end += usize::from(count);
    }

    #[inline]
    fn first_bytes(&mut self, value: &mut [u8; SPARE], count: u8) {
        self.all[self.end..self.end + SPARE].copy_from_slice(value);
        self.end += usize::from(count);
    }

    #[inline]
    fn last_time(&mut self) -> &mut Monotonic {
        &mut self.last_time
    }
}

/// Reads what a [`Writer`] has written, and makes nothing of anything else.
pub(super) struct Reader<'a> {
    all: &'a [u8],
    some_bits: u64,
    bit: u32,
    bits_at: usize,
    at: usize,
    last_time: Monotonic,
}

impl<'a> Reader<'a> {
    /// Of so many bytes of bits, everything else, and [`SPARE`] bytes; by a writer with the same time.
    #[inline]
    pub(super) const fn new(all: &'a [u8], bits: u8, last_time: Monotonic) -> Self {
        Self { all, some_bits: 0, bit: 0, bits_at: 0, at: bits as usize, last_time }
    }
}

impl Way for Reader<'_> {
    #[inline]
    fn bits(&mut self, value: &mut u8, count: u32) {
        if self.bit < count {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&self.all[self.bits_at..self.bits_at + 4]);
            self.some_bits |= u64::from(u32::from_le_bytes(bytes)) << self.bit;
            self.bits_at += 4;
            self.bit += u32::BITS;
        }
        *value = self.some_bits as u8 & ((1 << count) - 1);
        self.some_bits >>= count;
        self.bit -= count;
    }

    #[inline]
    fn bytes<const N: usize>(&mut self, value: &mut [u8; N]) {
        value.copy_from_slice(&self.all[self.at..self.at + N]);
        self.at += N;
    }

    #[inline]
    fn number_of(&mut self, value: &mut u64, count: u8) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.all[self.at..self.at + 8]);
        let wanted = u64::MAX.checked_shr(u64::BITS - 8 * u32::from(count)).unwrap_or(0);
        *value = u64::from_le_bytes(bytes) & wanted;
        self.at += usize::from(count);
    }

    #[inline]
    fn first_bytes(&mut self, value: &mut [u8; SPARE], count: u8) {
        value.copy_from_slice(&self.all[self.at..self.at + SPARE]);
        let wanted = u128::MAX.checked_shr(u128::BITS - 8 * u32::from(count)).unwrap_or(0);
        *value = (u128::from_le_bytes(*value) & wanted).to_le_bytes();
        self.at += usize::from(count);
    }

    #[inline]
    fn last_time(&mut self) -> &mut Monotonic {
        &mut self.last_time
    }
}
