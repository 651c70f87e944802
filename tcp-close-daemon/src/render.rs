//! What people and programs read: tables, JSON and the page at `/`. Text goes out, nothing comes back.

mod json;
mod measure;
pub mod page;
mod table;

pub use json::Json;
pub use table::Table;

use crate::{
    owner::{Held, Home},
    snapshot::Row,
};

/// A socket that is closing, and what is known of its owner.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// What the kernel says of it.
    pub row: &'a Row,
    /// The descriptors it is open by.
    pub held: &'a [Held],
    /// Where it was made.
    pub home: Option<&'a Home>,
}
