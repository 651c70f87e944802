//! What the daemon tells as it happens, and the last of it that it remembers.
//!
//! In: the observations of each turn. Out: one [`Told`] for each end of a connection or of a minisock. Whoever listens
//! reads what is remembered at his own pace and waits for more at its end; nobody waits for him. Who falls so far behind
//! that what he has not read is forgotten knows how much that was.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    clock::{self, Anchor},
    event::Monotonic,
    lifecycle::Observation,
    line::{Line, Teller},
    owner::{Home, Homes},
};

mod memory;

pub use memory::{Memory, Remembered};

/// What is read from memory at a time; for so long nothing new is told.
const READ_AT_ONCE: usize = 256;

/// Changes of state that are remembered, while somebody listens to them.
const TRANSITIONS: usize = 16_384;

/// Something told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Counts what was told, from 1.
    pub number: u64,
    /// What became of a connection.
    pub observation: Observation,
    /// Where its socket was made.
    pub home: Option<Arc<Home>>,
    /// A moment, by both clocks, not long after it happened.
    pub anchor: Anchor,
}

impl Told {
    /// As a line.
    pub fn line(&self, teller: &Teller) -> Option<Line> {
        teller.line(&self.observation, self.home.as_deref(), &self.anchor)
    }
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Connections and minisocks that end.
    Ends,
    /// Changes of state, from when somebody listens.
    Transitions,
}

/// The way from the pipeline to everybody who wants to know.
pub struct Feed {
    ends: Mutex<Memory>,
    transitions: Mutex<Memory>,
    /// How many listen to changes of state.
    transitions_wanted: AtomicUsize,
    homes: Arc<Mutex<Homes>>,
    /// Changes whenever something is told.
    news: watch::Sender<()>,
}

impl Feed {
    /// Remembers at most so many ends; `homes` tells where they were.
    pub fn new(most: usize, homes: Arc<Mutex<Homes>>) -> Self {
        let (news, _nobody_yet) = watch::channel(());
        Self {
            ends: Mutex::new(Memory::of(most)),
            transitions: Mutex::new(Memory::of(TRANSITIONS)),
            transitions_wanted: AtomicUsize::new(0),
            homes,
            news,
        }
    }

    /// Tells what became known in a turn.
    pub fn tell(&self, observations: &[Observation], anchor: &Anchor) {
        let with_transitions = self.transitions_wanted.load(Ordering::Relaxed) > 0;
        let mut is_news = false;
        for observation in observations {
            let topic = match observation {
                Observation::Closed(_) | Observation::MinisockEnded(_) => Topic::Ends,
                Observation::Transition(_) if with_transitions => Topic::Transitions,
                _ => continue,
            };
            let cgroup = observation.story().and_then(|story| story.cgroup);
            let home = cgroup.and_then(|cgroup| {
                let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
                homes.get(cgroup, clock::monotonic_now)
            });
            self.memory(topic).add(observation, home, *anchor);
            is_news = true;
        }
        if is_news {
            self.news.send_replace(());
        }
    }

    /// How the memory of ends is doing.
    pub fn remembered(&self) -> Remembered {
        self.memory(Topic::Ends).stats()
    }

    /// Listens to what is told from this moment on, which may be past.
    pub fn listen(self: &Arc<Self>, topic: Topic, since: Monotonic) -> Listener {
        if topic == Topic::Transitions {
            self.transitions_wanted.fetch_add(1, Ordering::Relaxed);
        }
        let news = self.news.subscribe();
        let heard = self.memory(topic).last_before(since);
        Listener { feed: Arc::clone(self), topic, news, heard, until: u64::MAX, each_once: false }
    }

    /// What was told since this moment and until now, of each connection only the last.
    pub fn recall(self: &Arc<Self>, since: Monotonic) -> Listener {
        let mut listener = self.listen(Topic::Ends, since);
        listener.until = self.memory(Topic::Ends).told();
        listener.each_once = true;
        listener
    }

    /// Before this moment no end is remembered, though there were some; `None` if none was forgotten.
    pub fn begins(&self) -> Option<Timestamp> {
        self.memory(Topic::Ends).begins()
    }

    fn memory(&self, topic: Topic) -> MutexGuard<'_, Memory> {
        let memory = match topic {
            Topic::Ends => &self.ends,
            Topic::Transitions => &self.transitions,
        };
        memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears what is told.
pub struct Listener {
    feed: Arc<Feed>,
    topic: Topic,
    news: watch::Receiver<()>,
    /// Number of the last that was heard, or need not be.
    heard: u64,
    /// Number of the last that is wanted.
    until: u64,
    /// Nothing is wanted of which more was told later.
    each_once: bool,
}

/// What a listener hears next.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// These, in order.
    Told(Vec<Told>),
    /// So many were forgotten before they were heard.
    Missed(u64),
}

impl Listener {
    /// What was told and not heard yet; `None` if that is nothing.
    pub fn next_remembered(&mut self) -> Option<Heard> {
        let mut some = self.feed.memory(self.topic).after(self.heard, READ_AT_ONCE);
        some.retain(|entry| entry.number <= self.until);
        let (first, last) = (some.first()?.number, some.last()?.number);
        let missed = first.saturating_sub(self.heard + 1);
        if missed > 0 {
            self.heard = first - 1;
            return Some(Heard::Missed(missed));
        }
        self.heard = last;
        some.retain(|entry| !(self.each_once && entry.superseded));
        Some(Heard::Told(some.into_iter().map(memory::Entry::told).collect()))
    }

    /// Waits until there is more.
    pub async fn news(&mut self) {
        // The feed lives as long as this does, so there may always be news.
        let _always = self.news.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.topic == Topic::Transitions
            && self.feed.transitions_wanted.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.feed.memory(Topic::Transitions).clear();
        }
    }
}

/// The moment that was so long ago.
pub fn ago(duration: Duration) -> Monotonic {
    clock::monotonic_now() - duration
}
