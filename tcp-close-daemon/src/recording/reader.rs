//! Reads a recording, as much as there is of it.

use std::io::{self, BufRead, ErrorKind, Read};

use flate2::{Crc, bufread::DeflateDecoder};

use super::{FORMAT, Header, MAGIC, Step};

/// The longest first line; what has a longer one is no recording.
const LONGEST_HEADER: u64 = 1 << 20;

/// The largest block, packed and unpacked: more than any that is written, and no more than any machine has.
const LARGEST: u32 = 16 << 20;

/// A block's length and its checksum, in bytes.
const HEAD: usize = 8;

/// It cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is something else.
    #[error("it is no recording of tcp-close")]
    NoRecording,
    /// It was made by another version.
    #[error("it is a recording of another version of tcp-close: its first line says {0:?}")]
    OtherVersion(String),
    /// The file cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

/// How a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// With its last block.
    Nothing,
    /// With so many bytes that are no whole block.
    CutOff(u64),
}

/// Reads the steps of a recording, a block at a time.
pub struct Reader<R> {
    input: R,
    header: Header,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub fn new(mut input: R) -> Result<Self, ReadError> {
        let mut line = Vec::new();
        (&mut input).take(LONGEST_HEADER).read_until(b'\n', &mut line)?;
        let is_whole = line.ends_with(b"\n");
        if !line.starts_with(b"{\"format\":\"tcp-close recording ") || !is_whole {
            return Err(ReadError::NoRecording);
        }
        if !line.starts_with(MAGIC.as_bytes()) {
            return Err(ReadError::OtherVersion(String::from_utf8_lossy(&line).trim_end().to_owned()));
        }
        let header: Header = serde_json::from_slice(&line).map_err(|_error| {
            ReadError::OtherVersion(String::from_utf8_lossy(&line).trim_end().to_owned())
        })?;
        if header.format != FORMAT {
            return Err(ReadError::NoRecording);
        }
        Ok(Self { input, header })
    }

    /// What it is of.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The steps of the next block, or how it ends.
    pub fn next_block(&mut self) -> Result<Result<Vec<Step>, Rest>, ReadError> {
        let (mut length, mut sum) = ([0; 4], [0; 4]);
        let got = read_up_to(&mut self.input, &mut length)? + read_up_to(&mut self.input, &mut sum)?;
        if got == 0 {
            return Ok(Err(Rest::Nothing));
        }
        let (length, sum) = (u32::from_le_bytes(length), u32::from_le_bytes(sum));
        if got < HEAD || length > LARGEST {
            return self.cut_off(got);
        }
        let mut block = vec![0; length as usize];
        let in_block = read_up_to(&mut self.input, &mut block)?;
        let mut crc = Crc::new();
        crc.update(&block);
        if in_block < block.len() || crc.sum() != sum {
            return self.cut_off(got + in_block);
        }
        match unpacked(&block) {
            Some(steps) => Ok(Ok(steps)),
            None => self.cut_off(got + in_block),
        }
    }

    /// Nothing is known of what follows a block that is not whole.
    fn cut_off(&mut self, got: usize) -> Result<Result<Vec<Step>, Rest>, ReadError> {
        let rest = io::copy(&mut self.input, &mut io::sink())?;
        Ok(Err(Rest::CutOff(got as u64 + rest)))
    }
}

/// The steps of a block; `None` if it is not one.
fn unpacked(block: &[u8]) -> Option<Vec<Step>> {
    let mut packed = Vec::new();
    let mut decoder = DeflateDecoder::new(block).take(u64::from(LARGEST));
    decoder.read_to_end(&mut packed).ok()?;
    let mut rest = packed.as_slice();
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = postcard::take_from_bytes(rest).ok()?;
        steps.push(step);
        rest = after;
    }
    Some(steps)
}

/// Reads until the buffer is full or there is no more.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(free) = buffer.get_mut(got..).filter(|free| !free.is_empty()) {
        match input.read(free) {
            Ok(0) => break,
            Ok(some) => got += some,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
