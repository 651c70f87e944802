//! Tables of events and what they mean.
//!
//! [`notation`] says how they are written. The cases are in the order of a life: `orderly`, `aborts` and `midway` up to
//! CLOSE, `owner` for whose it is, `minisock` from there on, and `by_function` for minisocks that functions tell of.
//! `flip` and `absorbed` are what segments add to that, and `blind_spots` where they do not; `stamp`, `bucket` and
//! `ended_by` what the kernel tells besides. `lost`, `mistaken` and `limits` are about what goes wrong, `listing` about
//! what puts it right, `census` about what there is at a moment. `properties` holds for any events at all, and for the
//! lives that `lives` makes up.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes its strings so")]

mod aborts;
mod absorbed;
mod blind_spots;
mod bucket;
mod by_function;
mod census;
mod ended_by;
mod flip;
mod limits;
mod listing;
mod lives;
mod lost;
mod midway;
mod minisock;
mod mistaken;
mod notation;
mod orderly;
mod owner;
mod properties;
mod stamp;
