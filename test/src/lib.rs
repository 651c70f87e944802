//! The lab of the live tests: real kernels, namespaces of our own, and a wire that does what a test says.
//!
//! What comes in are closures and policies of a test; what goes out are segments with times, the kernel's
//! counters and its socket table.
//! The lab knows nothing of tcp-close: it makes connections end in a chosen way, and says what the kernel
//! thinks of it.
//!
//! Reading order: [`netns`], [`tun`], [`segment`], [`journal`], then the two ways to close a connection:
//! [`wire`] puts one kernel at each end, [`peer`] puts a kernel at one end and the test itself at the other.
//! [`oracle`] asks the kernel what became of it.
//!
//! Everything here needs root and says so; nothing is skipped.
//! A lab that cannot be built, or an expectation that is not met, is a panic with one sentence: there is
//! nothing a test could do about it.

pub mod address;
mod alarm;
pub mod bpf;
mod breakage;
pub mod cgroup;
pub mod clock;
pub mod copied;
mod interface;
pub mod journal;
pub mod memory;
pub mod multipath;
mod netlink;
pub mod netns;
pub mod oracle;
pub mod peer;
pub mod segment;
pub mod stream;
pub mod tun;
pub mod veth;
pub mod wire;
