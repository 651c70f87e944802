//! What the kernel's own table tells: sockets that are older than we are, and what was lost.

use expect_test::expect;

use super::notation::{check, events, follow, tracker, witness};
use crate::{
    event::Event,
    lifecycle::{Corrections, Tracker},
};

/// Sockets that began to close before anybody looked, and what becomes of them.
#[test]
fn what_was_there_before_is_followed_from_then_on() {
    check(
        "\
        100.0 - listing
        100.1 a listed 8 cgroup=2345
        100.1 b listed 5
        100.1 c listed fw2 left=30
        100.1 d listed tw left=20
        100.1 - listed all
        100.1 - listed over
        105.0 a 8>9 by=42/srv
        105.1 a 9>7
        106.0 b start tw
        106.0 b 5>7
        120.5 d expire tw left=-0.4
        ",
        &expect![[r#"
            105 a close_wait > last_ack by 42/srv
            105.1 a last_ack > close after 0.1
            105.1 a closed, then closed: passive graceful by 42/srv in cgroup 2345, close_wait ?, last_ack 0.1, fin 0, peer's fin 4294967295, sent 0, received 0
            106 minisock began in time_wait for 60 + 2.056
            106 b fin_wait2 > close
            106 b closed, then time_wait: active graceful, fin_wait2 ?, peer's fin 4294967295, sent 0, received 0
            120.5 d minisock ended, expired: began in ?, minisock ?, fin_wait2 ?, time_wait 60.4 (60.4 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            2 minisocks left
            4 added
        "#]],
    );
}

/// The table is told later than it was read: of what an event has spoken of since, that is the truth.
#[test]
fn events_win() {
    check(
        "\
        100.0 a start tw
        100.5 b 1>8
        101.0 - listing
        101.1 a cancel connect by=42/curl
        101.2 b 8>9
        101.3 c 1>8
        102.0 a listed tw left=59
        102.0 b listed 8
        102.0 - listed all
        102.0 - listed over
        103.0 - listing
        103.1 b listed 9
        103.1 - listed all
        103.1 - listed over
        ",
        &expect![[r#"
            100 minisock began in time_wait for 60 + 2.056
            100.5 b established > close_wait
            101.1 a minisock ended, reused by 42/curl: began in time_wait, minisock 1.1, fin_wait2 ?, time_wait 1.1 (1.1 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            101.2 b close_wait > last_ack after 0.7
            101.3 c established > close_wait
            2 sockets left
        "#]],
    );
}

/// What the table lacks once may have been missed, for it changes while it is read; what it lacks twice is over.
#[test]
fn what_the_table_lacks_twice_is_over() {
    check(
        "\
        100.0 a 1>8
        100.0 b start tw
        101.0 - listing
        101.1 - listed all
        101.1 - listed over
        ",
        &expect![[r#"
            100 a established > close_wait
            100 minisock began in time_wait for 60 + 2.056
            1 sockets left
            1 minisocks left
        "#]],
    );
    check(
        "\
        100.0 a 1>8
        100.0 b start tw
        101.0 - listing
        101.1 - listed all
        101.1 - listed over
        102.0 - listing
        102.1 - listed all
        102.1 - listed over
        ",
        &expect![[r#"
            100 a established > close_wait
            100 minisock began in time_wait for 60 + 2.056
            2 removed
        "#]],
    );
    // A namespace that was not read lacks nothing.
    check(
        "\
        100.0 a 1>8
        101.0 - listing
        101.1 - listed over
        102.0 - listing
        102.1 - listed over
        ",
        &expect![[r#"
            100 a established > close_wait
            1 sockets left
        "#]],
    );
}

/// A namespace that is not to be found is doubted if events were lost while something of it was followed.
#[test]
fn what_may_be_over_in_a_namespace_without_a_table_is_doubted() {
    for (text, doubted) in [
        ("100.0 a 1>8\n 100.0 b start tw\n 101.0 - listing", false),
        ("100.0 a 1>8\n 100.5 - gap\n 101.0 - listing", true),
        ("100.0 b start tw\n 100.5 - gap\n 101.0 - listing", true),
        ("100.0 b start tw\n 100.5 - gap\n 101.0 - listing\n 101.1 b listed tw left=58", false),
        ("100.0 b start tw\n 100.5 - gap\n 101.0 - listing\n 101.1 - listed all", false),
    ] {
        let tracker = follow(tracker(), text);
        assert_eq!(!tracker.doubtful_namespaces().is_empty(), doubted, "{text}");
    }
}

/// A change of state was lost, and the end of a full socket whose minisock was made unseen.
#[test]
fn what_is_in_another_state_is_put_right() {
    check(
        "\
        100.0 a 1>8
        100.0 b 1>4 by=42/curl
        100.0 c start fw2
        101.0 - listing
        101.1 a listed 9
        101.1 b listed tw left=50
        101.1 c listed tw left=59.5
        101.1 - listed all
        101.1 - listed over
        102.0 a 9>7
        151.5 b expire tw left=-0.4
        161.0 c expire tw left=-0.4
        ",
        &expect![[r#"
            100 a established > close_wait
            100 b established > fin_wait1 by 42/curl
            100 minisock began in fin_wait2 for 60 + 2.056
            102 a last_ack > close
            102 a closed, then closed: passive graceful, close_wait ?, last_ack ?, peer's fin 4294967295, sent 0 after peer's fin 0, received 0, gap
            151.5 b minisock ended, expired: began in ?, minisock ?, fin_wait2 ?, time_wait 60.4 (60.4 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0, gap
                active ? by 42/curl, fin_wait1 ?, fin 0, gap
            161 c minisock ended, expired: began in fin_wait2, minisock 61, fin_wait2 ?, time_wait 60.4 (60.4 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0, gap
                nothing known before
            3 changed
        "#]],
    );
}

/// Another minisock, or a full socket, has the place of one that was in the table.
#[test]
fn a_new_life_in_the_same_place_is_another_one() {
    check(
        "\
        100.0 - listing
        100.1 a listed tw left=20
        100.1 b listed tw left=20
        100.1 - listed all
        100.1 - listed over
        105.0 a 1>4 by=42/curl
        106.0 b cancel connect by=43/wget cookie=77
        ",
        &expect![[r#"
            105 a established > fin_wait1 by 42/curl
            106 ? minisock ended, reused by 43/wget: began in ?, minisock ?, fin_wait2 ?, time_wait 60 (60 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            1 sockets left
            1 unmatched
            2 added
            2 removed
        "#]],
    );
}

/// A record of a minisock may find room in the ring where those of its full socket do not: they are larger.
#[test]
fn a_full_socket_whose_minisock_is_listed_is_gone() {
    check(
        "\
        100.0 a 1>4 by=42/curl write=100
        100.1 (a 4>5)
        100.2 a start tw
        100.2 (a 5>7)
        102.0 - listing
        102.1 a listed tw left=58
        102.1 - listed all
        102.1 - listed over
        160.2 a expire tw left=-0.1
        ",
        &expect![[r#"
            100 a established > fin_wait1 by 42/curl
            100.2 minisock began in time_wait for 60 + 2.056
            160.2 a minisock ended, expired: began in time_wait, minisock 60, fin_wait2 ?, time_wait 60 (60 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0, gap
                active graceful by 42/curl, fin_wait1 ?, fin 100, gap
            1 unmatched
            1 changed
        "#]],
    );
}

/// The kernel gives the address of a minisock whose end was lost to another one while the table is read.
#[test]
fn another_minisock_at_the_same_address_stays() {
    check(
        "\
        100.0 a start tw
        101.0 - listing
        101.1 - listed all
        101.1 - listed over
        102.0 - listing
        102.1 b start tw at=a
        102.2 - listed all
        102.2 - listed over
        ",
        &expect![[r#"
            100 minisock began in time_wait for 60 + 2.056
            102.1 minisock began in time_wait for 60 + 2.056
            1 minisocks left
            1 unmatched
        "#]],
    );
}

/// A large table of minisocks is prepared piece by piece, and what happens meanwhile is taken into account.
#[test]
fn preparing_may_take_a_while() {
    let events = events(
        "\
        100.0 a start tw
        100.0 b start tw
        100.0 c start tw
        100.5 a cancel connect by=42/curl
        100.6 d start tw
        100.7 b cancel connect by=42/curl
        101.0 - listing
        101.1 c listed tw left=59
        101.1 d listed tw left=59
        101.1 - listed all
        101.1 - listed over
        102.0 - listing
        102.1 c listed tw left=58
        102.1 d listed tw left=58
        102.1 - listed all
        102.1 - listed over
        ",
    );
    let (before, then) = events.split_at(3);
    let (meanwhile, then) = then.split_at(3);
    let mut tracker = witness();
    let apply = |tracker: &mut Tracker, events: &[Event]| {
        for event in events {
            tracker.apply(event, &mut Vec::new());
        }
    };
    apply(&mut tracker, before);
    assert!(!tracker.prepare_listing(1), "of three slots");
    // `a` lies in the slot that was gone through, and then `d`; `b` in one that comes.
    apply(&mut tracker, meanwhile);
    assert!(!tracker.prepare_listing(1));
    assert!(tracker.prepare_listing(1));
    apply(&mut tracker, then);
    assert_eq!(tracker.stats().minisocks, 2);
    assert_eq!(tracker.stats().corrections, Corrections::default());
}
