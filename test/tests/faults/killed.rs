//! The daemon is killed at any moment, while it starts and once it runs, again and again.

use std::{collections::BTreeSet, env, thread, time::Duration};

use tcp_close_test::{
    bpf,
    clock::{Deadline, now},
};

use crate::{
    agreement::agrees,
    beside_others, brief_or_full,
    daemon::{Daemon, PATIENCE, Starting},
    eventually,
    load::Load,
    stuck::Stuck,
};

/// As long as this a daemon is let alone at most once it is ready.
const AT_MOST: u64 = 300;

/// More would take long to be counted each time.
const TIME_WAITS: u32 = 5_000;

/// Numbers that look like chance, and come again for who says the same seed (Knuth's MMIX multiplier and increment).
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let chosen = env::var("TCP_CLOSE_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
        let seed = chosen.unwrap_or_else(|| u64::try_from(now().as_nanos()).unwrap_or_default());
        println!("TCP_CLOSE_TEST_SEED={seed} has it killed at the same moments");
        Self(seed)
    }

    const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn below_len(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).expect("it is below")
    }
}

/// Kills a daemon while it starts, once it has so many objects in the kernel; gives back those that it had by then.
fn killed_as_it_starts(netns: &str, objects: usize) -> BTreeSet<bpf::Object> {
    let mut starting = Starting::with(&["--netns", netns]);
    let pid = starting.running.pid();
    let deadline = Deadline::after(PATIENCE);
    while bpf::held_by(pid).len() < objects {
        assert!(deadline.left().is_some(), "it has {:?}", bpf::held_by(pid));
    }
    // What is to be counted must not change meanwhile.
    starting.running.stop();
    let had = bpf::held_by(pid);
    starting.running.kill();
    had
}

#[test]
fn whenever_it_is_killed_nothing_is_left_and_the_next_one_agrees() {
    let _not_alone = beside_others();
    let times: u64 = brief_or_full(20, 200);
    let mut dice = Dice::new();
    let mut stuck = Stuck::new();
    stuck.in_every_state();
    let netns = stuck.netns.inode().to_string();
    let load = Load::start(&stuck.netns, 1, TIME_WAITS);
    let mut had = BTreeSet::new();
    // How much of it was in the kernel by then.
    let mut moments = BTreeSet::new();
    let mut killed = 0;
    let mut at_work = 1;
    while killed < times {
        let objects = killed_as_it_starts(&netns, dice.below_len(at_work));
        moments.insert(objects.len());
        had.extend(objects);

        let mut daemon = Daemon::of(&stuck.netns, &[]);
        let pause = load.pause();
        agrees(&stuck.netns, &daemon);
        drop(pause);
        let until = Deadline::after(Duration::from_millis(dice.below(AT_MOST)));
        while let Some(left) = until.left() {
            // It has something to do with all of them.
            daemon.metrics();
            thread::sleep(left.min(Duration::from_millis(50)));
        }
        let all = bpf::held_by(daemon.running.pid());
        assert!(all.iter().any(|(kind, _)| *kind == bpf::Kind::Program), "{all:?}");
        assert_eq!(bpf::still_there(&all), all, "they are there as long as it is");
        at_work = all.len();
        had.extend(all);
        daemon.running.kill();
        killed += 2;
    }
    println!(
        "{killed} times, half of them with so many of {at_work} objects: {moments:?}; {} connections",
        load.made()
    );
    assert!(moments.iter().any(|&objects| objects > 0 && objects < at_work), "never in the midst of it");
    eventually(PATIENCE, || match bpf::still_there(&had) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("of {} objects there are {left:?}", had.len())),
    });
    assert!(load.finish() > 0);
    agrees(&stuck.netns, &Daemon::of(&stuck.netns, &[]));
}
