//! The contract across the kernel border: what the kernel side writes and the user side reads.
//!
//! Everything here is `#[repr(C)]` made of plain integers with explicit padding, so every bit pattern is a
//! valid value and both sides agree byte for byte; the asserts at the end of each file keep it so.
//! The crate knows nothing of aya, of TCP's rules or of files.

#![no_std]

mod counters;
pub mod equal;
mod layout;
mod record;
mod settings;

pub use counters::{Counters, RESET_REASONS, STATES};
pub use layout::{Field, Layout};
pub use record::{
    FinRetransmit, Header, MAX_FRAMES, MinisockBegin, MinisockCancel, MinisockEnd, MinisockExpireV4,
    MinisockSegment, MinisockTimer, Name, Pair, RecordKind, Reset, StateChange, end, flag,
};
pub use settings::{EXPIRY_SITES, MAX_NETNS, Settings};

/// Version of this contract. The manifest beside the built objects names the version they were built from, and a
/// test compares the two.
///
/// Raise it with every change of a record, of [`Layout`], [`Settings`] or [`Counters`].
pub const ABI_VERSION: u32 = 7;

/// `AF_INET` as the kernel writes it into `skc_family`; the same on every architecture.
pub const AF_INET: u16 = 2;
/// `AF_INET6` as the kernel writes it into `skc_family`; the same on every architecture.
pub const AF_INET6: u16 = 10;
