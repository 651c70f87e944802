//! FINs that belong to no connection, or come when it is over.

use tcp_close_test::{address::Family, segment::Flags};

use crate::field::{CLOSED, Cost, Field, LISTENER, from_anywhere, lives, to};

#[test]
fn to_a_closed_port() {
    let field = Field::new();
    let flooded = field.flood(&Cost::OF_A_RESET, |number| from_anywhere(number, CLOSED, Flags::FIN_ACK));
    assert_eq!(flooded.kernel("Tcp", "OutRsts"), flooded.segments);
}

#[test]
fn to_a_listener() {
    let field = Field::new();
    let _listeners = field.listeners(128);
    let flooded = field.flood(&Cost::OF_NOTHING, |number| from_anywhere(number, LISTENER, Flags::FIN));
    assert_eq!(flooded.kernel("Tcp", "OutRsts"), 0.0);
    // It is answered by a reset, which is counted: no close is about that.
    let flooded = field.flood(&Cost::OF_A_RESET, |number| from_anywhere(number, LISTENER, Flags::FIN_ACK));
    assert_eq!(flooded.kernel("Tcp", "OutRsts"), flooded.segments);
}

#[test]
fn to_connections_by_who_cannot_guess() {
    let field = Field::new();
    let mut connections = Family::BOTH.map(|family| field.established(family));
    field.flood(&Cost::OF_NOTHING, |number| {
        let (conversation, _) = &connections[number as usize % 2];
        to(conversation, Flags::FIN_ACK, conversation.snd_nxt.wrapping_add(1_000_000 + number))
    });
    for (conversation, stream) in &mut connections {
        lives(conversation, stream);
    }
}

#[test]
fn to_time_waits() {
    let field = Field::new();
    // The FIN that was sent, once more.
    field.flood_time_waits(Flags::FIN_ACK, |_| u32::MAX, "tcp_close_time_wait_final_acks_lost_total");
}
