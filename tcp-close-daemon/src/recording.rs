//! A recording: everything that the lifecycle was told, and what else its lines were made of, so that they can be made
//! again: elsewhere, later, by anybody.
//!
//! In: [`Step`]s, in the order in which the pipeline took them. Out: a file, and the same steps again. The file begins with
//! a line of JSON that says what it is; behind that are blocks, each with its length and a checksum, so a file that was cut
//! off anywhere is read up to its last whole block, and nothing is made up.

use std::{collections::BTreeMap, fs, io};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    clock::Anchor,
    event::{CgroupId, Event, Monotonic},
    kernel::{btf::VMLINUX, tick::Hz},
    lifecycle::{Limits, Sees, Wait},
    owner::Home,
};

mod reader;
mod writer;

pub use reader::{ReadError, Reader, Rest};
pub use writer::Writer;

/// What the first line of a file begins with.
const MAGIC: &str = "{\"format\":\"tcp-close recording 1\"";

/// The form of a recording, in its first line.
const FORMAT: &str = "tcp-close recording 1";

/// What a recording is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`]: comes first.
    format: String,
    /// The version of tcp-close that made it.
    pub version: String,
    /// The kernel's release, as `uname -r` has it.
    pub kernel: String,
    /// The machine's architecture.
    pub architecture: String,
    /// The kernel's tick rate, in ticks per second.
    pub hz: u32,
    /// SHA-256 of the kernel's BTF, in hexadecimal digits.
    pub btf: String,
    /// When it began.
    pub began: Timestamp,
    /// Room in the core's tables.
    pub limits: Limits,
    /// The TIME-WAIT of that kernel.
    pub wait: Wait,
    /// What kinds of events there can be.
    pub sees: Sees,
    /// Whether FINs that are sent again were seen.
    pub sees_fin_retransmits: bool,
    /// The kernel's names for the reasons of a reset.
    pub reset_reasons: BTreeMap<u32, String>,
}

/// What a header says of the host it is made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The kernel's release.
    pub kernel: String,
    /// The machine's architecture.
    pub architecture: String,
    /// Ticks per second.
    pub hz: u32,
    /// SHA-256 of the kernel's BTF.
    pub btf: String,
}

impl Host {
    /// This one.
    pub fn running() -> io::Result<Self> {
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        Ok(Self {
            kernel: text(uname.release()),
            architecture: text(uname.machine()),
            hz: Hz::running().get(),
            btf: hex::encode(Sha256::digest(fs::read(VMLINUX)?)),
        })
    }
}

impl Header {
    /// Of a recording that begins now.
    pub fn new(
        host: Host,
        began: Timestamp,
        (limits, wait, sees): (Limits, Wait, Sees),
        sees_fin_retransmits: bool,
        reset_reasons: BTreeMap<u32, String>,
    ) -> Self {
        let Host { kernel, architecture, hz, btf } = host;
        Self {
            format: FORMAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel,
            architecture,
            hz,
            btf,
            began,
            limits,
            wait,
            sees,
            sees_fin_retransmits,
            reset_reasons,
        }
    }
}

/// One thing that happened to the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// The tracker was told this.
    Event(Event),
    /// The tracker was told that nothing earlier will come.
    Advance(Monotonic),
    /// The tracker was told that events were lost before this.
    Gap(Monotonic),
    /// The tracker was told that nothing will come at all.
    Finish,
    /// Somebody looked where a cgroup is, and found it or not.
    Home(CgroupId, Option<Home>),
    /// A turn is over: what was told in it becomes lines, with the wall time by these two readings.
    TurnEnds {
        /// The one clock.
        monotonic: Monotonic,
        /// The other, in nanoseconds since 1970.
        wall: i128,
    },
}

impl Step {
    /// A turn is over, with this anchor.
    pub fn turn_ends(anchor: &Anchor) -> Self {
        let monotonic = anchor.monotonic();
        Self::TurnEnds { monotonic, wall: anchor.wall(monotonic).as_nanosecond() }
    }
}

/// The anchor of a turn's end; `None` for a time that there is not.
pub fn anchor(monotonic: Monotonic, wall: i128) -> Option<Anchor> {
    Timestamp::from_nanosecond(wall).ok().map(|wall| Anchor::new(monotonic, wall))
}

/// Takes in what happens to the pipeline.
pub type Recorder = Box<dyn FnMut(Step)>;
