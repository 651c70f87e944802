//! What the user side decides before the kernel side is loaded.

#[cfg(feature = "zerocopy")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Network namespaces that can be watched at once when not all of them are.
pub const MAX_NETNS: usize = 8;

/// Places in the kernel's code that tell of a timer that expires.
pub const EXPIRY_SITES: usize = 6;

/// Read-only settings of the kernel side; constants to the verifier, so a choice not made is dead code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct Settings {
    /// Kernel address of `tw_timer_handler`, which every minisock's timer carries; 0 where it is to be learnt.
    pub tw_timer_handler: u64,
    /// Wake the reader for one of so many records (a power of two) of each kind and CPU.
    pub wake_every: u64,
    /// Where the code lies that lets timers expire: where it begins, and its length. Entries that are not used are 0.
    pub expiry: [[u64; 2]; EXPIRY_SITES],
    /// Inode numbers of the network namespaces to watch; unused entries are 0.
    pub netns: [u32; MAX_NETNS],
    /// Entries of `netns` in use; 0 watches every namespace.
    pub netns_count: u32,
    /// 1 to put opening state changes into the ring too, not only count them.
    pub record_opening: u32,
    /// 1 where the second argument of `timer:timer_start` is the bucket's expiry (Linux 6.8 and later).
    pub start_has_bucket: u32,
    /// 1 where `skb:kfree_skb` has a fourth argument, the receiving socket (Linux 6.12 and later).
    pub drop_has_receiver: u32,
    /// 1 where `tcp:tcp_send_reset` has a third argument, the reason (Linux 6.12 and later).
    pub reset_has_reason: u32,
    /// 1 where `tcp:tcp_retransmit_skb` has a third argument, the error (Linux 6.18 and later).
    pub retransmit_has_error: u32,
    /// 1 to know a socket by its cookie, which takes a helper that tracing programs have since Linux 5.12 and kprobes
    /// never; 0 to know it by its address.
    pub cookies: u32,
    /// 1 to record the segments that minisocks deal with, where their own function tells of them.
    pub segments: u32,
    /// Values of `enum skb_drop_reason` for segments that were meant for a minisock and never came to it: a wrong
    /// checksum, a policy of `IPsec`. 0 where the kernel has no such reason.
    pub never_came: [u32; 2],
    /// [`AF_INET`](crate::AF_INET) or [`AF_INET6`](crate::AF_INET6) to watch only connections of that family, IPv4 mapped
    /// into IPv6 being IPv4; 0 for both.
    pub family: u32,
    /// The first and the last local port to watch, in host byte order; 0 and 0 for all.
    pub local_ports: [u32; 2],
    /// The same of remote ports.
    pub remote_ports: [u32; 2],
    /// How much of a minisock is read, in bytes from its beginning.
    pub minisock_bytes: u32,
}

impl Settings {
    /// All zero; what the object holds until the loader overrides it.
    pub const ZERO: Self = Self {
        tw_timer_handler: 0,
        wake_every: 0,
        expiry: [[0; 2]; EXPIRY_SITES],
        netns: [0; MAX_NETNS],
        netns_count: 0,
        record_opening: 0,
        start_has_bucket: 0,
        drop_has_receiver: 0,
        reset_has_reason: 0,
        retransmit_has_error: 0,
        cookies: 0,
        segments: 0,
        never_came: [0; 2],
        family: 0,
        local_ports: [0; 2],
        remote_ports: [0; 2],
        minisock_bytes: 0,
    };
}

const _: () = assert!(size_of::<Settings>() == 16 + 16 * EXPIRY_SITES + 4 * MAX_NETNS + 64);
