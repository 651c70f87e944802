//! The full-screen view: what closes, whose it is, where it goes, how TIME-WAITs end, what is slow.
//!
//! In: lines as `watch` has them, sockets as `list` has them, routes as `ports` has them, keys. Out: screens. It does not
//! know where any of that comes from, and reads no clock: time comes with what is told.
//!
//! Reading order: [`Model`] is what is known, [`Screen`] what is looked at and what keys do, `view` draws it.

mod histogram;
mod model;
mod screen;
mod view;

pub use model::Model;
pub use screen::{Key, Screen, Wish};
pub use view::draw;
