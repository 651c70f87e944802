//! What Prometheus sees: names by its rules, zeros from the start, and what each observation changes.

#[path = "metrics/capped.rs"]
mod capped;
#[path = "metrics/closing.rs"]
mod closing;
#[path = "metrics/document.rs"]
mod document;
#[path = "metrics/examples.rs"]
mod examples;
#[path = "samples/exposition.rs"]
mod exposition;
#[path = "metrics/names.rs"]
mod names;
#[path = "samples/observations.rs"]
mod observations;
#[path = "metrics/values.rs"]
mod values;
