//! What is told, what is remembered of it, and what who listens hears.

#[path = "samples/observations.rs"]
#[expect(dead_code, reason = "it has samples for other tests too")]
mod observations;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use observations::{address, at, closed, minisock, story, transition};
use tcp_close::{
    clock::Anchor,
    event::{Monotonic, Pair, TcpState},
    feed::{Feed, Heard, Listener, Told, Topic},
    lifecycle::{
        Observation,
        observation::{Closed, MinisockEnded, Story, Then},
    },
    owner::Homes,
};

fn feed(most: usize) -> Arc<Feed> {
    Arc::new(Feed::new(most, Arc::new(Mutex::new(Homes::of_this_host()))))
}

fn anchor() -> Anchor {
    Anchor::new(Monotonic::default(), Timestamp::UNIX_EPOCH)
}

/// A close at this time, in milliseconds.
fn close(milliseconds: u64) -> Observation {
    // Nothing is to be looked up for it.
    let story = Story { cgroup: None, ..story() };
    match closed(story, None) {
        Observation::Closed(closed) => Observation::Closed(Closed { at: at(milliseconds), ..closed }),
        other => other,
    }
}

/// What is there to be heard, by number, and how many were missed.
fn hear(listener: &mut Listener) -> (Vec<u64>, u64) {
    let (mut numbers, mut missed) = (Vec::new(), 0);
    while let Some(heard) = listener.next_remembered() {
        match heard {
            Heard::Told(told) => numbers.extend(told.iter().map(|told| told.number)),
            Heard::Missed(some) => missed += some,
        }
    }
    (numbers, missed)
}

#[test]
fn everything_told_is_heard_once_and_as_it_was() {
    let feed = feed(100);
    let mut early = feed.listen(Topic::Ends, Monotonic::default());
    assert_eq!(early.next_remembered(), None);
    let story = Some(Story { cgroup: None, ..story() });
    let ended = Observation::MinisockEnded(MinisockEnded { story, ..minisock() });
    let told = [close(1), Observation::ResetNotReceived, ended];
    feed.tell(&told, &anchor());
    let heard = early.next_remembered().expect("it was told");
    let of = |number, observation| Told { number, observation, home: None, anchor: anchor() };
    assert_eq!(heard, Heard::Told(vec![of(1, told[0]), of(2, told[2])]));
    assert_eq!(early.next_remembered(), None);
    feed.tell(&[close(2)], &anchor());
    assert_eq!(hear(&mut early), (vec![3], 0));
}

#[test]
fn who_comes_late_hears_what_is_asked_for() {
    let feed = feed(100);
    feed.tell(&[close(10), close(20), close(30)], &anchor());
    assert_eq!(hear(&mut feed.listen(Topic::Ends, Monotonic::default())).0, [1, 2, 3]);
    assert_eq!(hear(&mut feed.listen(Topic::Ends, at(20))).0, [2, 3]);
    let mut from_now_on = feed.listen(Topic::Ends, at(31));
    assert_eq!(hear(&mut from_now_on).0, [0; 0]);
    feed.tell(&[close(40)], &anchor());
    assert_eq!(hear(&mut from_now_on).0, [4]);
}

#[test]
fn who_is_slow_misses_what_is_forgotten_and_knows_how_much() {
    let feed = feed(10);
    let mut slow = feed.listen(Topic::Ends, Monotonic::default());
    feed.tell(&[close(1), close(2)], &anchor());
    assert_eq!(hear(&mut slow), (vec![1, 2], 0));
    for number in 3..=20 {
        feed.tell(&[close(number)], &anchor());
    }
    assert_eq!(hear(&mut slow), ((11..=20).collect(), 8));
    let remembered = feed.remembered();
    assert_eq!((remembered.entries, remembered.limit, remembered.forgotten), (10, 10, 10));
    // Who comes late was not there to miss any.
    assert_eq!(hear(&mut feed.listen(Topic::Ends, Monotonic::default())).1, 0);
}

#[test]
fn changes_of_state_are_kept_only_while_somebody_listens() {
    let feed = feed(100);
    let change = Observation::Transition(transition(TcpState::Established, TcpState::FinWait1, None));
    feed.tell(&[change], &anchor());
    let mut listener = feed.listen(Topic::Transitions, Monotonic::default());
    assert_eq!(hear(&mut listener).0, [0; 0]);
    feed.tell(&[change, close(1)], &anchor());
    assert_eq!(hear(&mut listener).0, [1]);
    drop(listener);
    feed.tell(&[change], &anchor());
    // Nobody else wanted to know.
    assert_eq!(hear(&mut feed.listen(Topic::Transitions, Monotonic::default())).0, [0; 0]);
    assert_eq!(hear(&mut feed.listen(Topic::Ends, Monotonic::default())).0, [1]);
}

#[tokio::test]
async fn news_wake_who_waits() {
    let feed = feed(100);
    let mut listener = feed.listen(Topic::Ends, Monotonic::default());
    let told = async {
        tokio::task::yield_now().await;
        feed.tell(&[close(1)], &anchor());
    };
    let heard = tokio::time::timeout(Duration::from_secs(10), listener.news());
    let ((), heard) = tokio::join!(told, heard);
    heard.expect("there are news");
    assert_eq!(hear(&mut listener).0, [1]);
}

/// Of a connection whose TIME-WAIT is over too, that is the last word.
#[test]
fn what_is_recalled_is_one_word_of_each_connection() {
    let feed = feed(100);
    let story = Story { cgroup: None, ..story() };
    let goes_on = closed(story, Some(Then::TimeWait));
    let ended = Observation::MinisockEnded(MinisockEnded { story: Some(story), ..minisock() });
    feed.tell(&[goes_on, close(2)], &anchor());
    assert_eq!(hear(&mut feed.recall(Monotonic::default())).0, [1, 2]);
    feed.tell(&[ended], &anchor());
    let mut recalled = feed.recall(Monotonic::default());
    feed.tell(&[close(3)], &anchor());
    assert_eq!(hear(&mut recalled), (vec![2, 3], 0), "up to the question, and not beyond");
    assert_eq!(hear(&mut feed.listen(Topic::Ends, Monotonic::default())).0, [1, 2, 3, 4]);
}

/// Where sockets are known by their addresses, the next one has the last one's.
#[test]
fn connections_of_one_socket_address_are_not_one() {
    let feed = feed(100);
    let one = Story { cgroup: None, ..story() };
    let other = Story { pair: Pair { local: address("10.0.0.1:51235"), ..one.pair }, ..one };
    feed.tell(&[one, other].map(|story| closed(story, Some(Then::TimeWait))), &anchor());
    let ended = MinisockEnded { story: Some(one), pair: one.pair, ..minisock() };
    feed.tell(&[Observation::MinisockEnded(ended)], &anchor());
    assert_eq!(hear(&mut feed.recall(Monotonic::default())).0, [2, 3]);
}

#[test]
fn how_far_memory_reaches_back_is_known() {
    let feed = feed(2);
    feed.tell(&[close(1000), close(2000)], &anchor());
    assert_eq!(feed.begins(), None, "nothing is forgotten");
    feed.tell(&[close(3000)], &anchor());
    assert_eq!(feed.begins(), Timestamp::from_second(2).ok());
}

/// What is remembered takes a bounded number of bytes whatever it is: 512 for each that there is room for.
#[test]
fn an_end_takes_some_hundred_bytes() {
    let feed = feed(50_000);
    feed.tell(&vec![close(1); 50_000], &anchor());
    assert_eq!(feed.remembered().entries, 50_000);
    assert_eq!(feed.remembered().forgotten, 0);
}
