//! What people read: tables, ladders, and the page at `/`. Text goes out, nothing comes back.

mod ladder;
mod measure;
pub mod page;
mod table;

pub use ladder::{Signs, ladder};
pub(crate) use measure::Measure;
pub use table::Table;
