//! Where the running kernel keeps its fields: byte offsets, resolved from its BTF at start.

#[cfg(feature = "zerocopy")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A kernel field that the kernel side reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The structure, as in the kernel's source.
    pub structure: &'static str,
    /// The path within it.
    pub path: &'static [&'static str],
    /// Some kernels do not have it; its offset is then [`Layout::ABSENT`].
    pub optional: bool,
}

macro_rules! layout {
    ($($field:ident = $structure:ident . $($path:ident).+ $(, $optional:ident)?;)*) => {
        /// Byte offsets of kernel fields, handed to the kernel side as read-only data before it is loaded.
        ///
        /// To the verifier each is a constant, so a typed load through one is as good as compiled in.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
        #[repr(C)]
        pub struct Layout {
            $(
                #[doc = concat!("Offset in bytes of `", stringify!($structure), ".", stringify!($($path).+), "`.")]
                pub $field: u32,
            )*
        }

        impl Layout {
            /// All zero; what the object holds until the loader overrides it.
            pub const ZERO: Self = Self { $($field: 0,)* };

            /// The offset of a field that the running kernel does not have.
            pub const ABSENT: u32 = u32::MAX;

            /// The kernel's name for every offset, in the order of the fields.
            ///
            /// The user side resolves exactly these, so a field added above is resolved without more code.
            pub const FIELDS: &'static [Field] = &[
                $(Field {
                    structure: stringify!($structure),
                    path: &[$(stringify!($path)),+],
                    optional: layout!(@ $($optional)?),
                },)*
            ];
        }
    };
    (@ optional) => { true };
    (@) => { false };
}

layout! {
    family = sock_common.skc_family;
    state = sock_common.skc_state;
    hash = sock_common.skc_hash;
    remote_port = sock_common.skc_dport;
    remote_v4 = sock_common.skc_daddr;
    local_v4 = sock_common.skc_rcv_saddr;
    remote_v6 = sock_common.skc_v6_daddr;
    local_v6 = sock_common.skc_v6_rcv_saddr;
    cookie = sock_common.skc_cookie;
    net = sock_common.skc_net.net;
    prot = sock_common.skc_prot;
    netns = net.ns.inum;
    prot_name = proto.name;
    error = sock.sk_err;
    owned = sock.sk_lock.owned;
    protocol = sock.sk_protocol;
    uid = sock.sk_uid;
    cgroup = sock.sk_cgrp_data.cgroup, optional;
    cgroup_or_class = sock.sk_cgrp_data.val, optional;
    cgroup_node = cgroup.kn, optional;
    node_id = kernfs_node.id, optional;
    local_port = inet_sock.inet_sport;
    write_seq = tcp_sock.write_seq;
    snd_nxt = tcp_sock.snd_nxt;
    snd_una = tcp_sock.snd_una;
    rcv_nxt = tcp_sock.rcv_nxt;
    segs_in = tcp_sock.segs_in;
    segs_out = tcp_sock.segs_out;
    bytes_sent = tcp_sock.bytes_sent;
    bytes_retrans = tcp_sock.bytes_retrans;
    bytes_received = tcp_sock.bytes_received;
    skb_cb = sk_buff.cb;
    skb_dev = sk_buff.dev;
    dev_net = net_device.nd_net.net;
    cb_flags = tcp_skb_cb.tcp_flags;
    cb_seq = tcp_skb_cb.seq;
    timer_function = timer_list.function;
    timer_expires = timer_list.expires;
    timer_pending = timer_list.entry.pprev;
    tw_timer = inet_timewait_sock.tw_timer;
    tw_substate = inet_timewait_sock.tw_substate;
    tw_local_port = inet_timewait_sock.tw_sport;
    tw_rcv_nxt = sock_common.skc_tw_rcv_nxt;
    tw_entry_stamp = inet_timewait_sock.tw_entry_stamp, optional;
    cb_end_seq = tcp_skb_cb.end_seq;
}

impl Layout {
    /// How much of a minisock is read, in bytes from its beginning: up to its last field, which is eight bytes long at most.
    #[must_use]
    pub const fn minisock_bytes(&self) -> u32 {
        let fields = [
            self.family,
            self.state,
            self.hash,
            self.remote_port,
            self.remote_v4,
            self.local_v4,
            self.remote_v6 + 8,
            self.local_v6 + 8,
            self.cookie,
            self.net,
            self.prot,
            self.tw_timer + self.timer_expires,
            self.tw_timer + self.timer_pending,
            self.tw_substate,
            self.tw_local_port,
            self.tw_rcv_nxt,
            self.tw_entry_stamp,
        ];
        let (mut last, mut index) = (0, 0);
        while index < fields.len() {
            if fields[index] != Self::ABSENT && fields[index] > last {
                last = fields[index];
            }
            index += 1;
        }
        last + 8
    }
}
