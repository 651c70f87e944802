//! The life of a close: a pure function from events to observations.
//!
//! In: [`crate::event`]s in the order of their times, and nothing else. Out: [`Observation`]s. No clock, no I/O,
//! no kernel, no metrics: what is not in an event is not known here, and what is not known is `None`.
//!
//! Reading order: [`observation`] says what comes out, `close` follows a full socket, `minisock` follows what
//! replaces it, `listeners` knows who accepts, `tracker` joins the two, `sequence` puts events of several CPUs into order
//! before all that; `roster`, `table`, `owners` and `census` tell what is closing now, and whose it is.

pub mod census;
mod close;
mod listeners;
mod minisock;
pub mod observation;
mod owners;
mod packing;
mod roster;
mod sequence;
mod table;
mod tracker;

pub use census::Census;
pub use minisock::Wait;
pub use observation::Observation;
pub use owners::{ByState, OwnerKey};
pub use sequence::Sequencer;
pub use tracker::{Closing, Corrections, Entry, Left, Limits, PackedClosings, Sees, Stats, Tracker};

#[cfg(test)]
mod tests;
