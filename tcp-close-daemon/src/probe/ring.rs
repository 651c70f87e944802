//! The ring, read where the kernel writes it.
//!
//! In: the map. Out: the bytes of records, in order. aya reads a ring too, but maps all of it twice, one behind the other, so
//! that no record is ever in two parts; and each mapping counts as memory of this process. Here it is mapped once, so it may
//! be twice as large, and the few records that end where it begins anew are put together.

use std::{
    io,
    ops::Range,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};
use rustix::param::page_size;

/// Before each record: a word with its length and two bits, and one that is the kernel's own (`struct bpf_ringbuf_hdr`,
/// kernel/bpf/ringbuf.c).
const HEADER: u64 = 8;
/// `BPF_RINGBUF_BUSY_BIT` and `BPF_RINGBUF_DISCARD_BIT` (include/uapi/linux/bpf.h): it is being written; it is none.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// The ring, mapped.
pub(super) struct Ring {
    map: MapData,
    reader: Reader,
}

impl Ring {
    /// Maps the ring, of so many bytes: a power of two, of which aya has made a page at least.
    pub(super) fn new(map: MapData, bytes: u32) -> io::Result<Self> {
        let (fd, page) = (map.fd().as_fd().as_raw_fd(), page_size());
        let bytes = page.max(bytes as usize);
        let consumed = MmapOptions::new().len(page).map_raw(fd)?;
        let produced = MmapOptions::new().offset(page as u64).len(page + bytes).map_raw_read_only(fd)?;
        Ok(Self {
            map,
            reader: Reader { consumed, produced, page, bytes, at: 0, known: 0, joined: Vec::new() },
        })
    }

    /// Hands the next record to `take`; whether there is one, and whole.
    pub(super) fn next(&mut self, take: impl FnOnce(&[u8])) -> bool {
        self.reader.next(take)
    }

    /// How far it is written, in bytes that never begin anew.
    pub(super) fn written(&self) -> u64 {
        self.reader.written()
    }

    /// How far it was read.
    pub(super) const fn read(&self) -> u64 {
        self.reader.at
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }
}

struct Reader {
    /// A page that begins with how far the ring was read: ours to write.
    consumed: MmapRaw,
    /// A page that begins with how far it was written, and then the ring itself.
    produced: MmapRaw,
    page: usize,
    /// Of the ring: a power of two.
    bytes: usize,
    /// How far it was read, in bytes that never begin anew.
    at: u64,
    /// How far it was written when that was last asked.
    known: u64,
    /// A record that was in two parts.
    joined: Vec<u8>,
}

impl Reader {
    fn next(&mut self, take: impl FnOnce(&[u8])) -> bool {
        loop {
            if self.at >= self.known {
                self.known = self.written();
                if self.at >= self.known {
                    return false;
                }
            }
            let word = self.word_at(self.at);
            if word & BUSY != 0 {
                return false;
            }
            let length = u64::from(word & !DISCARDED);
            let begin = self.at + HEADER;
            self.at = (begin + length).next_multiple_of(HEADER);
            if word & DISCARDED != 0 {
                self.release();
                continue;
            }
            take(self.record(begin, length));
            self.release();
            return true;
        }
    }

    fn written(&self) -> u64 {
        position(&self.produced).load(Ordering::Acquire)
    }

    /// What was read may be written over.
    fn release(&self) {
        position(&self.consumed).store(self.at, Ordering::Release);
    }

    /// The first word before a record.
    #[expect(clippy::cast_ptr_alignment, reason = "each record begins with a multiple of eight bytes")]
    fn word_at(&self, at: u64) -> u32 {
        // SAFETY: within the ring, which a header never ends in the midst of; the kernel writes the word at once.
        unsafe { &*self.data().add(self.offset(at)).cast::<AtomicU32>() }.load(Ordering::Acquire)
    }

    /// The bytes of a record that is whole.
    fn record(&mut self, begin: u64, length: u64) -> &[u8] {
        #[expect(clippy::cast_possible_truncation, reason = "less than the ring has")]
        let length = length as usize;
        let begin = self.offset(begin);
        let here = length.min(self.bytes - begin);
        if here == length {
            return self.part(begin..begin + length);
        }
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        joined.extend_from_slice(self.part(begin..self.bytes));
        joined.extend_from_slice(self.part(0..length - here));
        self.joined = joined;
        &self.joined
    }

    fn part(&self, part: Range<usize>) -> &[u8] {
        assert!(part.end <= self.bytes, "the kernel writes no record that is longer than its ring");
        // SAFETY: within the ring; the kernel leaves it alone until it is released.
        unsafe { std::slice::from_raw_parts(self.data().add(part.start), part.len()) }
    }

    const fn offset(&self, at: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "less than the ring has")]
        let at = at as usize;
        at & (self.bytes - 1)
    }

    fn data(&self) -> *const u8 {
        // SAFETY: the mapping is longer than a page.
        unsafe { self.produced.as_mut_ptr().add(self.page) }
    }
}

/// The word that a mapping begins with.
fn position(mapping: &MmapRaw) -> &AtomicU64 {
    // SAFETY: a mapping is a page at least; the kernel reads and writes the word at once.
    unsafe { &*mapping.as_mut_ptr().cast() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 4096;

    /// A ring that this test writes as the kernel does.
    struct Written {
        reader: Reader,
        at: u64,
    }

    impl Written {
        fn new() -> Self {
            let page = page_size();
            let anonymous = |len| MmapRaw::from(MmapOptions::new().len(len).map_anon().expect("memory"));
            let (consumed, produced) = (anonymous(page), anonymous(page + BYTES));
            let reader =
                Reader { consumed, produced, page, bytes: BYTES, at: 0, known: 0, joined: Vec::new() };
            Self { reader, at: 0 }
        }

        fn put(&mut self, at: usize, bytes: &[u8]) {
            let page = self.reader.page;
            for (index, byte) in bytes.iter().enumerate() {
                let to = page + (at + index) % BYTES;
                // SAFETY: within the mapping, of which nobody holds a slice.
                unsafe { self.reader.produced.as_mut_ptr().add(to).write(*byte) };
            }
        }

        /// Writes a record, with these bits; gives back where.
        fn write(&mut self, record: &[u8], bits: u32) -> usize {
            let at = usize::try_from(self.at).expect("not much");
            self.put(at, &(u32::try_from(record.len()).expect("short") | bits).to_ne_bytes());
            self.put(at + 8, record);
            self.at = (self.at + 8 + record.len() as u64).next_multiple_of(8);
            position(&self.reader.produced).store(self.at, Ordering::Release);
            at
        }

        fn read(&mut self) -> Option<Vec<u8>> {
            let mut read = None;
            let is_there = self.reader.next(|record| read = Some(record.to_vec()));
            assert_eq!(is_there, read.is_some());
            read
        }

        fn consumed(&self) -> u64 {
            position(&self.reader.consumed).load(Ordering::Acquire)
        }
    }

    #[test]
    fn records_come_in_order_and_make_room() {
        let mut ring = Written::new();
        assert_eq!(ring.read(), None);
        ring.write(&[1; 40], 0);
        ring.write(&[2; 41], 0);
        assert_eq!(ring.read(), Some(vec![1; 40]));
        assert_eq!(ring.consumed(), 48);
        assert_eq!(ring.read(), Some(vec![2; 41]));
        assert_eq!(ring.consumed(), 48 + 56);
        assert_eq!(ring.read(), None);
    }

    #[test]
    fn a_record_in_two_parts_is_put_together() {
        let mut ring = Written::new();
        let records: Vec<Vec<u8>> =
            (0..200_u8).map(|number| (0..=number).map(|byte| byte ^ number).collect()).collect();
        for record in &records {
            ring.write(record, 0);
            assert_eq!(ring.read().as_ref(), Some(record));
        }
        assert!(ring.consumed() > 4 * BYTES as u64, "it began anew several times");
    }

    #[test]
    fn one_that_is_being_written_holds_up_the_others() {
        let mut ring = Written::new();
        let at = ring.write(&[1; 8], BUSY);
        ring.write(&[2; 8], 0);
        let written = ring.reader.written();
        assert_eq!(ring.read(), None);
        assert_eq!(ring.consumed(), 0);
        assert!(ring.reader.at < written);
        ring.put(at, &8_u32.to_ne_bytes());
        ring.write(&[3; 8], 0);
        assert_eq!(ring.read(), Some(vec![1; 8]));
        assert!(ring.reader.at < written);
        assert_eq!(ring.read(), Some(vec![2; 8]));
        assert_eq!(ring.reader.at, written, "what came later does not matter");
    }

    #[test]
    fn what_was_discarded_is_passed_over() {
        let mut ring = Written::new();
        ring.write(&[1; 8], DISCARDED);
        assert_eq!(ring.read(), None);
        assert_eq!(ring.consumed(), 16, "it makes room");
        ring.write(&[2; 8], DISCARDED);
        ring.write(&[3; 8], 0);
        assert_eq!(ring.read(), Some(vec![3; 8]));
    }
}
