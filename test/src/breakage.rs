//! The one place where the lab gives up.

use std::fmt::Display;

/// Ends the test with one sentence, at the line of the test.
#[track_caller]
#[expect(clippy::panic, reason = "a test has no other way to fail")]
pub(crate) fn give_up(why: impl Display) -> ! {
    panic!("{why}")
}

/// Turns an error of the lab into the end of the test.
pub(crate) trait OrGiveUp<T> {
    /// The value, or [`give_up`] with the whole chain of the error.
    fn or_give_up(self) -> T;
}

impl<T> OrGiveUp<T> for anyhow::Result<T> {
    #[track_caller]
    fn or_give_up(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => give_up(format_args!("{error:#}")),
        }
    }
}
