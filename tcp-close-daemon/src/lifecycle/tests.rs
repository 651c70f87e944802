//! Tables of events and what they mean.
//!
//! [`notation`] says how they are written. The cases are in the order of a life: `full_socket` up to CLOSE,
//! `minisock` from there on, `witness` for what segments, stamps and buckets add to that, `trouble` for what is lost,
//! late, too much or mistaken for another, `by_function` for minisocks that functions tell of, `census` for what there is at a moment. `properties` holds for any events at
//! all, and for the lives that `lives` makes up.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes its strings so")]

mod by_function;
mod census;
mod full_socket;
mod listing;
mod lives;
mod minisock;
mod notation;
mod properties;
mod trouble;
mod witness;
