//! Which connections are wanted: the filter language of `ss`, with words for what only tcp-close knows.
//!
//! In: a text such as `dport = :443 and dst 192.0.2.0/24 and not comm = curl`, and what is known of a connection. Out:
//! whether it is wanted. A text that makes no sense is an error that points at the place.
//!
//! Reading order: [`Expression`] is what a text means, [`parse`] how that is read, [`Subject`] what it is asked of,
//! [`Pairs`] what need not be asked.

mod expression;
mod names;
mod narrow;
mod parse;
mod subject;
mod token;

pub use expression::{Comparison, Expression, Host, NameOf, Predicate, Side};
pub use names::{HostNames, Names, Numbers};
pub use narrow::Pairs;
pub use parse::{FilterError, cause, cookie, parse, role};
pub use subject::Subject;

#[cfg(test)]
mod tests;
