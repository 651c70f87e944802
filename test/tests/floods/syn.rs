//! SYNs that nobody means to follow up: the kernel keeps request sockets for them, or cookies, and no state changes.

use tcp_close_test::segment::Flags;

use crate::field::{CLOSED, Cost, Field, LISTENER, from_anywhere};

#[test]
fn to_a_listener_whose_backlog_is_full() {
    let field = Field::new();
    field.netns.sysctl("net/ipv4/tcp_syncookies", "0");
    let _listeners = field.listeners(128);
    let flooded = field.flood(&Cost::OF_NOTHING, |number| from_anywhere(number, LISTENER, Flags::SYN));
    assert!(flooded.kernel("TcpExt", "ListenDrops") > flooded.segments * 0.9);
}

#[test]
fn to_a_listener_that_takes_them_all() {
    let field = Field::new();
    field.netns.sysctl("net/ipv4/tcp_syncookies", "0");
    field.netns.sysctl("net/ipv4/tcp_synack_retries", "1");
    field.netns.sysctl("net/ipv4/tcp_max_syn_backlog", "200000");
    field.netns.sysctl("net/core/somaxconn", "200000");
    let _listeners = field.listeners(200_000);
    let flooded = field.flood(&Cost::OF_NOTHING, |number| from_anywhere(number, LISTENER, Flags::SYN));
    assert_eq!(flooded.kernel("TcpExt", "ListenDrops"), 0.0);
}

#[test]
fn to_a_listener_that_hands_out_cookies() {
    let field = Field::new();
    field.netns.sysctl("net/ipv4/tcp_syncookies", "1");
    let _listeners = field.listeners(128);
    let flooded = field.flood(&Cost::OF_NOTHING, |number| from_anywhere(number, LISTENER, Flags::SYN));
    assert!(flooded.kernel("TcpExt", "SyncookiesSent") > flooded.segments * 0.9);
}

#[test]
fn to_a_closed_port() {
    let field = Field::new();
    let flooded = field.flood(&Cost::OF_A_RESET, |number| from_anywhere(number, CLOSED, Flags::SYN));
    assert_eq!(flooded.kernel("Tcp", "OutRsts"), flooded.segments);
}
