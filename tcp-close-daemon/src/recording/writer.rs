//! Writes a recording.

use std::io::{self, Write};

use flate2::{Compression, Crc, write::DeflateEncoder};

use super::{Header, Step};

/// Bytes of packed steps that make a block; one that is cut off loses no more.
const BLOCK: usize = 64 << 10;

/// Writes steps to a file, a block at a time.
pub struct Writer<W> {
    out: W,
    packed: Vec<u8>,
    steps: u64,
    events: u64,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins with the header.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        let mut line = serde_json::to_vec(header)?;
        line.push(b'\n');
        out.write_all(&line)?;
        out.flush()?;
        Ok(Self { out, packed: Vec::with_capacity(BLOCK), steps: 0, events: 0, bytes: line.len() as u64 })
    }

    /// Adds a step; a block that is full is written.
    pub fn add(&mut self, step: &Step) -> io::Result<()> {
        self.packed =
            postcard::to_extend(step, std::mem::take(&mut self.packed)).map_err(io::Error::other)?;
        self.steps += 1;
        self.events += u64::from(matches!(step, Step::Event(_)));
        if self.packed.len() >= BLOCK { self.flush() } else { Ok(()) }
    }

    /// Writes what there is.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.packed.is_empty() {
            return Ok(());
        }
        let mut encoder = DeflateEncoder::new(Vec::with_capacity(BLOCK / 4), Compression::fast());
        encoder.write_all(&self.packed)?;
        let block = encoder.finish()?;
        self.packed.clear();
        let mut sum = Crc::new();
        sum.update(&block);
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&sum.sum().to_le_bytes())?;
        self.out.write_all(&block)?;
        self.out.flush()?;
        self.bytes += 8 + u64::from(length);
        Ok(())
    }

    /// Events so far.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Bytes written so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}
