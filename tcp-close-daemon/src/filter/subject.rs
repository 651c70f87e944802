//! What a filter is asked of: as much of a connection as is known.

use std::time::Duration;

use crate::{
    closing::ClosingSocket,
    event::{Pair, Process, TcpState},
    lifecycle::{
        Observation,
        observation::{Closed, EndCause, Manner, MinisockEnded, Role, States, Story, Transition},
    },
    line::Line,
    owner::{Held, Home},
};

/// A connection, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its socket pair.
    pub pair: Pair,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Its socket's cookie.
    pub cookie: Option<u64>,
    /// The states that it is in, or has passed through.
    pub states: StateSet,
    /// Who closed and opened it.
    pub processes: [Option<Process>; 2],
    /// The descriptors it is open by.
    pub holders: &'a [Held],
    /// Its systemd unit.
    pub unit: Option<&'a str>,
    /// Its container's id.
    pub container: Option<&'a str>,
    /// The UID of its Kubernetes pod.
    pub pod: Option<&'a str>,
    /// Its user.
    pub uid: Option<u32>,
    /// Who closed first.
    pub role: Option<Role>,
    /// How it ended, and whether that is known; `None` while it has not.
    pub manner: Option<Option<Manner>>,
    /// Why its minisock ended; `None` while it has not.
    pub cause: Option<EndCause>,
    /// The longest time that it spent in one closing state.
    pub dwell: Option<Duration>,
}

/// Some states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSet(u16);

impl StateSet {
    /// Whether this one is among them.
    pub const fn contains(self, state: TcpState) -> bool {
        self.0 & 1 << state as u16 != 0
    }
}

impl FromIterator<TcpState> for StateSet {
    fn from_iter<T: IntoIterator<Item = TcpState>>(states: T) -> Self {
        Self(states.into_iter().fold(0, |set, state| set | 1 << state as u16))
    }
}

impl<'a> Subject<'a> {
    /// What is known of a connection that closed, or whose minisock ended, or that changed its state; `None` for an
    /// observation of anything else.
    pub fn of(observation: &Observation, home: Option<&'a Home>) -> Option<Self> {
        match observation {
            Observation::Closed(closed) => Some(Self::closed(closed, home)),
            Observation::MinisockEnded(ended) => Some(Self::minisock_ended(ended, home)),
            Observation::Transition(transition) => Some(Self::transition(transition)),
            _ => None,
        }
    }

    /// What is known of what a line tells; `None` for a change of state.
    pub fn of_line(line: &'a Line) -> Option<Self> {
        let (story, cause, time_wait) = match line {
            Line::Closed(closed) => (&closed.story, None, None),
            Line::TimeWaitEnded(ended) => {
                (&ended.story, Some(ended.time_wait.cause), Some(ended.time_wait.seconds))
            }
            Line::FinWait2Ended(ended) => (&ended.story, Some(ended.cause), None),
            Line::Transition(_) => return None,
        };
        let (head, owner) = (line.head(), &story.owner);
        let pair = Pair { local: head.local.into(), remote: head.remote.into() };
        let longest = story.states.iter().filter_map(|state| state.seconds).chain(time_wait).reduce(f64::max);
        Some(Self {
            states: story.states.iter().map(|state| state.state).collect(),
            processes: [owner.closer, owner.opener],
            unit: owner.unit.as_deref(),
            container: owner.container.as_deref(),
            pod: owner.pod.as_deref(),
            uid: owner.uid,
            role: story.role,
            // Where nothing is known of the full socket, neither is that.
            manner: story.role.map(|_| story.manner),
            cause,
            dwell: longest.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            ..Self::unknown(pair, head.netns, head.cookie)
        })
    }

    /// What is known of a socket that is closing.
    pub fn of_socket(socket: &'a ClosingSocket) -> Self {
        let owner = &socket.owner;
        let age = socket.age_seconds.and_then(|age| Duration::try_from_secs_f64(age).ok());
        Self {
            states: [socket.state].into_iter().collect(),
            processes: [owner.closer, owner.opener],
            holders: &socket.holders,
            unit: owner.unit.as_deref(),
            container: owner.container.as_deref(),
            pod: owner.pod.as_deref(),
            uid: owner.uid,
            role: socket.role,
            dwell: age,
            ..Self::unknown(socket.pair(), socket.netns, socket.cookie)
        }
    }

    /// The processes that closed, opened and hold it.
    pub fn processes(&self) -> impl Iterator<Item = Process> + use<'a> {
        self.processes.into_iter().flatten().chain(self.holders.iter().map(|held| held.by))
    }

    fn unknown(pair: Pair, netns: u32, cookie: Option<u64>) -> Self {
        Self {
            pair,
            netns,
            cookie,
            states: StateSet::default(),
            processes: [None; 2],
            holders: &[],
            unit: None,
            container: None,
            pod: None,
            uid: None,
            role: None,
            manner: None,
            cause: None,
            dwell: None,
        }
    }

    fn closed(closed: &Closed, home: Option<&'a Home>) -> Self {
        let story = &closed.story;
        let subject = Self::unknown(story.pair, story.id.netns, story.id.cookie()).with_story(story, home);
        Self {
            states: story.states.iter().map(|(state, _)| state).collect(),
            dwell: longest(&story.states),
            ..subject
        }
    }

    fn minisock_ended(ended: &MinisockEnded, home: Option<&'a Home>) -> Self {
        let mut subject = Self::unknown(ended.pair, ended.id.netns, ended.id.cookie());
        if let Some(story) = &ended.story {
            subject = subject.with_story(story, home);
        }
        let states = ended.story.map(|story| story.states).unwrap_or_default();
        let time_wait = ended.time_wait.map(|time_wait| time_wait.dwell);
        let substates = [
            ended.time_wait.map(|_| TcpState::TimeWait),
            ended.began_in.filter(|&began_in| began_in == TcpState::FinWait2),
        ];
        let visited = states.iter().map(|(state, _)| state).chain(substates.into_iter().flatten());
        Self {
            states: visited.collect(),
            cause: Some(ended.cause),
            dwell: [longest(&states), ended.fin_wait2, time_wait].into_iter().flatten().max(),
            ..subject
        }
    }

    fn transition(transition: &Transition) -> Self {
        Self {
            states: [transition.from, transition.to].into_iter().collect(),
            processes: [transition.process, None],
            uid: Some(transition.uid),
            dwell: transition.dwell,
            ..Self::unknown(transition.pair, transition.id.netns, transition.id.cookie())
        }
    }

    fn with_story(self, story: &Story, home: Option<&'a Home>) -> Self {
        Self {
            processes: story.processes(),
            unit: home.and_then(|home| home.unit.as_deref()),
            container: home.and_then(|home| home.container.as_deref()),
            pod: home.and_then(|home| home.pod.as_deref()),
            uid: story.uid,
            role: Some(story.role),
            manner: Some(story.manner),
            ..self
        }
    }
}

fn longest(states: &States) -> Option<Duration> {
    states.iter().filter_map(|(_, dwell)| dwell).max()
}
