//! Facts about the running kernel, read from where the kernel publishes them and never assumed from `uname`.
//!
//! In: files below /sys and /proc, system calls. Out: plain values. It changes nothing on the host, and knows
//! nothing of events, probes or metrics.

pub mod btf;
pub mod capabilities;
pub mod limits;
pub mod lockdown;
pub mod memory;
pub mod netns;
pub mod port_settings;
pub mod priority;
pub mod symbols;
pub mod sysctls;
pub mod tick;
