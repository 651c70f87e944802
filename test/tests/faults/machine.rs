//! What is done to a whole machine: its processors go and come, its clock is set, it sleeps.
//!
//! Not to the host of whoever runs tests: `cargo xtask vm` has machines for this, and says so to what runs in them.

use std::{env, fs, net::Shutdown, path::Path, time::Duration};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use serde_json::Value;
use tcp_close_test::{address::Family, clock::now, netns::Netns, stream};

use crate::{
    agreement::agrees,
    daemon::{Daemon, PATIENCE, lost, sample, told},
    eventually,
    load::{Load, connections},
};

const DAY: i64 = 24 * 60 * 60;

/// Longer than a TIME-WAIT and what the timer wheel may add to it.
const TIME_WAIT: Duration = Duration::from_secs(90);

/// The second processor.
const PROCESSOR: &str = "/sys/devices/system/cpu/cpu1/online";

/// What passes between a moment and a look at it, on a machine that is slow; and no day.
const ABOUT: f64 = 300.0;

/// Ends the test where the machine is somebody's.
fn have_it_to_ourselves() {
    // A variable may have got anywhere; the first process of such a machine is a shell of busybox.
    let first = fs::read("/proc/1/cmdline").expect("there is a first process");
    assert!(
        env::var_os("TCP_CLOSE_TEST_MACHINE").is_some() && first.starts_with(b"/bin/busybox\0"),
        "this takes a machine of its own: `cargo xtask vm --two-cpus machine::` has one"
    );
}

fn processor(online: bool) {
    fs::write(PROCESSOR, if online { "1" } else { "0" }).expect("a second processor that may go");
}

/// Puts the machine back as it was.
struct Restored<F: Fn()>(F);

impl<F: Fn()> Drop for Restored<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Processors go and come under load, for a daemon that started with all of them, and for one that did not.
#[test]
fn whichever_processors_there_are_every_end_is_told() {
    have_it_to_ourselves();
    assert!(Path::new(PROCESSOR).exists(), "it takes two processors");
    let _restored = Restored(|| processor(true));
    let watched = [true, false].map(|online| {
        processor(online);
        let netns = Netns::new();
        let daemon = Daemon::of(&netns, &[]);
        (netns, daemon)
    });
    let loads = watched.each_ref().map(|(netns, _)| Load::start(netns, 2, 100_000));
    for online in [true, false, true, false, true] {
        processor(online);
        for load in &loads {
            load.goes_on(100);
        }
    }
    let made = loads.map(|load| load.finish() as f64);
    for ((netns, daemon), made) in watched.iter().zip(made) {
        let exposition = eventually(PATIENCE, || {
            let exposition = daemon.metrics();
            let told = told(&exposition);
            let is_all = told + lost(&exposition) >= 2.0 * made;
            if is_all { Ok(exposition) } else { Err(format!("{told} of {made} twice")) }
        });
        assert!(told(&exposition) <= 2.0 * made, "{made}: {exposition}");
        assert_eq!(lost(&exposition), skipped(&exposition), "{exposition}");
        agrees(netns, daemon);
    }
    // A timer of a processor that goes is carried to another, and nobody is told.
    for ((netns, daemon), made) in watched.iter().zip(made) {
        let over = eventually(TIME_WAIT, || {
            let exposition = daemon.metrics();
            let left = sample(&exposition, "tcp_close_tracked{table=\"minisocks\"}");
            if left == 0.0 { Ok(exposition) } else { Err(format!("{left} minisocks")) }
        });
        let of = |series: &str| sample(&over, &format!("tcp_close_time_wait_{series}"));
        let ended = of("ended_total{cause=\"expired\"}");
        println!("{made} connections, {ended} expired, {} skipped", skipped(&over));
        assert!(ended <= made && made <= ended + skipped(&over), "{made}: {over}");
        assert_eq!(of("verdicts_total{verdict=\"prolonged\"}"), 0.0, "{over}");
        agrees(netns, daemon);
    }
}

/// Events for which a program was not run, since it ran on that processor already: nothing else may be lost.
fn skipped(exposition: &str) -> f64 {
    sample(exposition, "tcp_close_events_lost_total{cause=\"recursion\"}")
}

/// Wall time, in seconds.
fn wall() -> f64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    tv_sec as f64 + tv_nsec as f64 / 1e9
}

fn set_wall_forward(seconds: i64) {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    clock_settime(ClockId::Realtime, Timespec { tv_sec: tv_sec + seconds, tv_nsec }).expect("set the clock");
}

/// When a line says that it happened, in seconds.
fn time_of(line: &Value) -> f64 {
    let time = line["time"].as_str().expect("a time");
    let time: jiff::Timestamp = time.parse().expect("a time");
    time.as_duration().as_secs_f64()
}

/// The lines of what has ended, of this event; or all of them, where there are not so many.
fn ended(daemon: &Daemon, event: &str, count: usize) -> Result<Vec<Value>, String> {
    let all = daemon.answers("list", &["-o", "json", "--ended"]);
    let lines = all.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
    let ended: Vec<Value> = lines.filter(|line| line["event"] == event).collect();
    if ended.len() == count { Ok(ended) } else { Err(format!("{} of {count} {event}: {all}", ended.len())) }
}

/// The clock is set while connections close, a day forward and then two days back. How long that takes has nothing to do
/// with it, and when it was is told by the clock as it is then.
#[test]
fn however_the_clock_is_set_durations_are_what_they_were() {
    have_it_to_ourselves();
    let netns = Netns::new();
    let daemon = Daemon::of(&netns, &[]);
    connections(&netns, 1);
    let _restored = Restored(|| set_wall_forward(DAY));
    for (number, jump) in (1..).zip([DAY, -2 * DAY]) {
        closes_around(&netns, &daemon, 2 * number, || set_wall_forward(jump));
    }
    waits_are_nominal(&netns, &daemon, 3);
}

/// The machine sleeps while connections close. `CLOCK_MONOTONIC` stands still meanwhile, and so do the kernel's timers and
/// what is measured; the wall clock goes on.
#[test]
fn a_machine_that_has_slept_goes_on_where_it_was() {
    const SLEEP: Duration = Duration::from_secs(10);
    have_it_to_ourselves();
    let netns = Netns::new();
    let daemon = Daemon::of(&netns, &[]);
    connections(&netns, 1);
    closes_around(&netns, &daemon, 2, || {
        let (awake, asleep) = (now(), asleep());
        fs::write("/sys/class/rtc/rtc0/wakealarm", format!("+{}", SLEEP.as_secs())).expect("an alarm");
        fs::write("/sys/power/state", "mem").expect("it sleeps");
        println!(
            "it slept for {:?}, within {:?}",
            self::asleep().saturating_sub(asleep),
            now().saturating_sub(awake)
        );
        assert!(self::asleep().saturating_sub(asleep) > SLEEP / 2, "it did not sleep");
    });
    waits_are_nominal(&netns, &daemon, 2);
}

/// How long the machine has slept since it began.
fn asleep() -> Duration {
    let boot = Duration::try_from(clock_gettime(ClockId::Boottime)).expect("it is never negative");
    boot.saturating_sub(now())
}

/// So many TIME-WAITs take what they should, and what the daemon says is right to their end.
fn waits_are_nominal(netns: &Netns, daemon: &Daemon, count: usize) {
    let waits = eventually(TIME_WAIT, || ended(daemon, "time_wait_ended", count));
    for line in &waits {
        let wait = &line["time_wait"];
        assert_eq!((&wait["cause"], &wait["verdict"]), (&"expired".into(), &"nominal".into()), "{line}");
        assert!((time_of(line) - wall()).abs() < ABOUT, "now it is {}: {line}", wall());
    }
    assert_eq!(lost(&agrees(netns, daemon)), 0.0);
}

/// One end closes before, and the other after something has happened; so many ends have been told before.
fn closes_around(netns: &Netns, daemon: &Daemon, before: usize, something: impl FnOnce()) {
    let begun = now();
    let (client, server) = stream::pair(netns, netns, Family::V4.loopback());
    client.shutdown(Shutdown::Write).expect("shut down");
    eventually(PATIENCE, || {
        let exposition = daemon.metrics();
        let waits = sample(&exposition, "tcp_close_sockets{state=\"close_wait\"}");
        let is_so = (waits, told(&exposition)) == (1.0, before as f64);
        if is_so { Ok(()) } else { Err(format!("{waits} in CLOSE-WAIT")) }
    });
    something();
    let exposition = agrees(netns, daemon);
    let oldest = sample(&exposition, "tcp_close_oldest_seconds{state=\"close_wait\"}");
    let took = now().saturating_sub(begun).as_secs_f64();
    assert!((0.0..=took).contains(&oldest), "{oldest} of {took}");

    let closes = wall();
    drop((server, client));
    let closed = eventually(PATIENCE, || ended(daemon, "closed", before + 2));
    let took = now().saturating_sub(begun).as_secs_f64();
    for line in closed.iter().skip(before) {
        assert!((closes..=wall()).contains(&time_of(line)), "between {closes} and {}: {line}", wall());
        let states = line["states"].as_array().expect("states");
        let dwells: Vec<f64> = states.iter().filter_map(|state| state["seconds"].as_f64()).collect();
        assert!(!dwells.is_empty() && dwells.iter().all(|dwell| (0.0..=took).contains(dwell)), "{line}");
    }
    let exposition = agrees(netns, daemon);
    let last = sample(&exposition, "tcp_close_last_event_timestamp_seconds");
    assert!((closes..=wall()).contains(&last), "{last}, between {closes} and {}", wall());
}
