//! Floods of single segments, from a peer that is made by hand: what each may cost whoever watches the host.
//!
//! None of these segments opens or closes anything, so none may be told as a close, take memory, or make a series.
//! What a segment costs is counted in runs of our programs, in the time they take, and in records; see [`Cost`].
//! 30 000 segments each, or with `TCP_CLOSE_TEST_FULL=1` 100 000.

#![expect(clippy::panic, reason = "helpers of a test fail as the test itself does")]
#![expect(clippy::print_stdout, reason = "what was measured is shown where a test fails, and by --nocapture")]
#![expect(clippy::float_cmp, reason = "samples of counters are whole numbers")]
#![expect(clippy::cast_precision_loss, reason = "and far below 2^52")]

#[path = "floods/accounts.rs"]
mod accounts;
#[path = "floods/daemon.rs"]
mod daemon;
#[path = "floods/field.rs"]
mod field;
#[path = "floods/fin.rs"]
mod fin;
#[path = "floods/rst.rs"]
mod rst;
#[path = "floods/syn.rs"]
mod syn;
