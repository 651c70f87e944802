//! How many equal programs hang on one hook, so that one takes what another misses. The kernel does not run a program on a CPU
//! on which it runs already; the kernel side's `taken` says when that is.

/// On changes of state, by tracepoint or by trampoline.
pub const STATE_CHANGE: u32 = 3;
/// On resets received.
pub const RESET_RECEIVED: u32 = 3;
/// On resets sent.
///
/// Of these hooks it is the one that anybody makes run as often as he likes, so it has no more than it takes before Linux 7.0:
/// one for a process, and one for the softirq that interrupts it.
pub const RESET_SENT: u32 = 2;
