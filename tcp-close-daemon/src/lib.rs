//! tcp-close, the user side: it attaches the probes, follows every close, and tells people and Prometheus.
//!
//! Modules in the order a newcomer reads them: what was seen, what it means, where it comes from, what drives it,
//! where it goes, and what a person types.

pub mod advice;
pub mod api;
pub mod cli;
pub mod clock;
pub mod closing;
pub mod commands;
pub mod decode;
pub mod event;
pub mod feed;
pub mod filter;
pub mod http;
pub mod kernel;
pub mod lifecycle;
pub mod line;
pub mod metrics;
pub mod owner;
pub mod pipeline;
pub mod ports;
pub mod probe;
pub mod recording;
pub mod render;
mod sentence;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod snapshot;
pub mod telemetry;
pub mod top;
