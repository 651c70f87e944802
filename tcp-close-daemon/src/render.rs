//! What people read: tables, ladders, and the page at `/`. Text goes out, nothing comes back.

mod ladder;
mod measure;
pub mod page;
mod table;

pub use ladder::{Signs, ladder};
pub(crate) use measure::Measure;
pub use table::Table;

/// What others have named, as a terminal may show it: in a recording, or in what a daemon answers, a name may have any
/// characters.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}
