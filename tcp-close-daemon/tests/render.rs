//! What people and programs read of a close: the table of `watch`, its JSON, and the ladder of `show`.

#[path = "render/json.rs"]
mod json;
#[path = "render/ladder.rs"]
mod ladder;
#[path = "samples/observations.rs"]
mod observations;
#[path = "render/table.rs"]
mod table;

use jiff::Timestamp;
use tcp_close::clock::Anchor;

/// Monotonic time began at seven in the morning of a day in spring.
fn anchor() -> Anchor {
    let morning: Timestamp = "2026-04-05T07:00:00Z".parse().expect("a time");
    Anchor::new(observations::at(0), morning)
}
