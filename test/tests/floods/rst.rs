//! Resets that nobody believes.

use tcp_close_test::{address::Family, segment::Flags};

use crate::field::{CLOSED, Cost, Field, LISTENER, from_anywhere, lives, to};

#[test]
fn to_a_closed_port() {
    let field = Field::new();
    let flooded = field.flood(&Cost::OF_NOTHING, |number| from_anywhere(number, CLOSED, Flags::RST));
    assert_eq!(flooded.kernel("Tcp", "OutRsts"), 0.0);
}

#[test]
fn to_a_listener() {
    let field = Field::new();
    let _listeners = field.listeners(128);
    let flooded = field.flood(&Cost::OF_NOTHING, |number| from_anywhere(number, LISTENER, Flags::RST));
    assert_eq!(flooded.kernel("Tcp", "OutRsts"), 0.0);
}

#[test]
fn to_connections_by_who_cannot_guess() {
    let field = Field::new();
    let mut connections = Family::BOTH.map(|family| field.established(family));
    field.flood(&Cost::OF_NOTHING, |number| {
        let (conversation, _) = &connections[number as usize % 2];
        to(conversation, Flags::RST, conversation.snd_nxt.wrapping_add(1_000_000 + number))
    });
    // In the window, but not the number that RFC 5961 §3.2 wants: answered by challenges, within limits.
    field.flood(&Cost::OF_NOTHING, |number| {
        let (conversation, _) = &connections[number as usize % 2];
        to(conversation, Flags::RST, conversation.snd_nxt.wrapping_add(1 + number % 1000))
    });
    for (conversation, stream) in &mut connections {
        lives(conversation, stream);
    }
}

#[test]
fn to_time_waits() {
    let field = Field::new();
    field.flood_time_waits(Flags::RST, |number| 1 + number % 1000, "tcp_close_time_wait_strays_total");
}
