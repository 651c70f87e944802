//! Whatever stands in a recording, it is read to some point, and the lifecycle takes what was read.

#![no_main]

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use flate2::{Compression, Crc, write::DeflateEncoder};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use tcp_close::{
    lifecycle::{Limits, Sees, Tracker, Wait},
    line::Teller,
    recording::{self, Header, Host, Reader, Step, Writer},
};

fuzz_target!(|data: &[u8]| {
    // As it is, most is refused at once; as the inside of a block, it comes as far as the lifecycle.
    if let Ok(mut reader) = Reader::new(data) {
        while let Ok(Ok(_steps)) = reader.next_block() {}
    }
    let mut file = Vec::new();
    Writer::new(&mut file, &header()).expect("a header");
    file.extend(block(data));
    let mut reader = Reader::new(file.as_slice()).expect("the header is whole");
    let Header { limits, wait, sees, .. } = *reader.header();
    let mut tracker = Tracker::new(limits, wait, sees);
    let teller = Teller::new(BTreeMap::new(), true);
    let mut observations = Vec::new();
    while let Ok(steps) = reader.next_block().expect("memory is read without errors") {
        for step in steps {
            match step {
                Step::Event(event) => tracker.apply(&event, &mut observations),
                Step::Advance(until) => tracker.advance(until, &mut observations),
                Step::Gap(until) => tracker.gap(until),
                Step::Finish => tracker.finish(&mut observations),
                Step::Home(..) => {}
                Step::TurnEnds { monotonic, wall } => {
                    if let Some(anchor) = recording::anchor(monotonic, wall) {
                        for observation in observations.drain(..) {
                            let line = teller.line(&observation, None, &anchor);
                            serde_json::to_string(&line).expect("a line is JSON");
                        }
                    }
                }
            }
        }
    }
});

fn header() -> Header {
    let host =
        Host { kernel: "6.12.1".to_owned(), architecture: "x86_64".to_owned(), hz: 250, btf: String::new() };
    let wait = Wait { nominal: Duration::from_secs(60), slack: Duration::from_secs(2) };
    let sees = Sees { minisocks: true, starts: true, segments: true };
    Header::new(
        host,
        Timestamp::UNIX_EPOCH,
        (Limits { sockets: 8, minisocks: 8 }, wait, sees),
        true,
        BTreeMap::new(),
    )
}

/// These bytes as steps of a block, whole and with the right checksum.
fn block(packed: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(packed).expect("memory takes it");
    let block = encoder.finish().expect("memory takes it");
    let mut crc = Crc::new();
    crc.update(&block);
    let length = u32::try_from(block.len()).expect("less than 4 GiB");
    [&length.to_le_bytes()[..], &crc.sum().to_le_bytes(), &block].concat()
}
