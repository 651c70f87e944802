//! What people and programs read: tables, JSON and the page at `/`. Text goes out, nothing comes back.

mod json;
mod measure;
pub mod page;
mod table;

pub use json::Json;
pub use table::Table;
