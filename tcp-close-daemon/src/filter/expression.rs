//! What a filter means.

use std::{fmt, net::SocketAddr, time::Duration};

use ipnet::IpNet;

use crate::{
    event::{AddressFamily, TcpState},
    lifecycle::observation::{EndCause, Manner, Role},
};

use super::Subject;

/// What is asked of a connection. It prints as a text that means the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// All of these hold. Of none it is always so.
    All(Vec<Self>),
    /// One of these holds.
    Any(Vec<Self>),
    /// This does not hold.
    Not(Box<Self>),
    /// This holds.
    Is(Predicate),
}

/// One thing that is asked of a connection. Of what is not known, none holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// It is in this state, or has passed through it.
    State(TcpState),
    /// It is of this family.
    Family(AddressFamily),
    /// Its port on this side.
    Port(Side, Comparison, u16),
    /// Its address on this side.
    Host(Side, Host),
    /// A name of its owner.
    Name(NameOf, String),
    /// A process that opened, closed or holds it.
    Pid(Comparison, u32),
    /// Its user.
    Uid(Comparison, u32),
    /// Its network namespace, by inode number.
    Netns(u32),
    /// Its socket, by the cookie.
    Cookie(u64),
    /// Who closed first.
    Role(Role),
    /// How it ended; `None` where that is not known.
    Manner(Option<Manner>),
    /// Why its minisock ended.
    Cause(EndCause),
    /// The longest time that it spent in one closing state, TIME-WAIT among them, as far as it is known.
    Dwell(Comparison, Duration),
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Ours.
    Local,
    /// The peer's.
    Remote,
}

/// How two values are compared. That they differ is the opposite of that they are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they say it")]
pub enum Comparison {
    Equal,
    Less,
    Greater,
    AtMost,
    AtLeast,
}

impl Comparison {
    fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::Greater => left > right,
            Self::AtMost => left <= right,
            Self::AtLeast => left >= right,
        }
    }

    const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Less => "<",
            Self::Greater => ">",
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
        }
    }
}

/// An address, a network, a port, or two of them; what is not given is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The network; of a single address, that alone.
    pub network: Option<IpNet>,
    /// The port.
    pub port: Option<u16>,
}

impl Host {
    fn has(&self, address: SocketAddr) -> bool {
        self.network.is_none_or(|network| network.contains(&address.ip()))
            && self.port.is_none_or(|port| port == address.port())
    }
}

/// Which name of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameOf {
    /// Any of the following.
    Owner,
    /// A process that opened, closed or holds it.
    Comm,
    /// Its systemd unit.
    Unit,
    /// Its container's id, or as much of it as runtimes show.
    Container,
    /// The UID of its Kubernetes pod.
    Pod,
}

/// Digits of a container's id that runtimes show: it takes so many to name one.
const SHORT_ID: usize = 12;

impl NameOf {
    fn is(self, name: &str, subject: &Subject<'_>) -> bool {
        let equal = |known: Option<&str>| known == Some(name);
        match self {
            Self::Comm => subject.processes().any(|process| process.comm.to_string() == name),
            Self::Unit => equal(subject.unit),
            Self::Container => {
                equal(subject.container)
                    || name.len() >= SHORT_ID && subject.container.is_some_and(|id| id.starts_with(name))
            }
            Self::Pod => equal(subject.pod),
            Self::Owner => {
                [Self::Comm, Self::Unit, Self::Container, Self::Pod].iter().any(|of| of.is(name, subject))
            }
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Comm => "comm",
            Self::Unit => "unit",
            Self::Container => "container",
            Self::Pod => "pod",
        }
    }
}

impl Predicate {
    fn holds(&self, subject: &Subject<'_>) -> bool {
        let address = |side| match side {
            Side::Local => subject.pair.local,
            Side::Remote => subject.pair.remote,
        };
        match self {
            Self::State(state) => subject.states.contains(*state),
            Self::Family(family) => subject.pair.family() == *family,
            Self::Port(side, comparison, port) => comparison.holds(&address(*side).port(), port),
            Self::Host(side, host) => host.has(address(*side)),
            Self::Name(of, name) => of.is(name, subject),
            Self::Pid(comparison, pid) => {
                subject.processes().any(|process| comparison.holds(&process.pid, pid))
            }
            Self::Uid(comparison, uid) => subject.uid.is_some_and(|known| comparison.holds(&known, uid)),
            Self::Netns(netns) => subject.netns == *netns,
            Self::Cookie(cookie) => subject.cookie == Some(*cookie),
            Self::Role(role) => subject.role == Some(*role),
            Self::Manner(manner) => subject.manner == Some(*manner),
            Self::Cause(cause) => subject.cause == Some(*cause),
            Self::Dwell(comparison, dwell) => {
                subject.dwell.is_some_and(|known| comparison.holds(&known, dwell))
            }
        }
    }
}

impl Default for Expression {
    /// Wants everything.
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Expression {
    /// Whether it is so of this connection.
    pub fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(subject)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(subject)),
            Self::Not(part) => !part.holds(subject),
            Self::Is(predicate) => predicate.holds(subject),
        }
    }

    /// Whether it wants everything.
    pub const fn wants_all(&self) -> bool {
        matches!(self, Self::All(parts) if parts.is_empty())
    }

    /// Both of them.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one.wants_all() => other,
            (one, other) if other.wants_all() => one,
            (Self::All(mut parts), Self::All(others)) => {
                parts.extend(others);
                Self::All(parts)
            }
            (Self::All(mut parts), other) => {
                parts.push(other);
                Self::All(parts)
            }
            (one, other) => Self::All(vec![one, other]),
        }
    }

    /// One of these, if there are any; otherwise everything.
    pub fn one_of(predicates: impl IntoIterator<Item = Predicate>) -> Self {
        let mut parts: Vec<Self> = predicates.into_iter().map(Self::Is).collect();
        match parts.len() {
            0 => Self::default(),
            1 => parts.remove(0),
            _ => Self::Any(parts),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str, bare: fn(&Self) -> bool| {
            for (number, part) in parts.iter().enumerate() {
                if number > 0 {
                    write!(f, " {word} ")?;
                }
                if bare(part) { write!(f, "{part}")? } else { write!(f, "({part})")? }
            }
            Ok(())
        };
        match self {
            Self::All(parts) => joined(f, parts, "and", |part| matches!(part, Self::Not(_) | Self::Is(_))),
            // "and" binds closer; no deeper than what was typed, so that what could be read can be read again.
            Self::Any(parts) => joined(f, parts, "or", |part| !matches!(part, Self::Any(_))),
            Self::Not(part) => match **part {
                Self::All(_) | Self::Any(_) => write!(f, "not ({part})"),
                Self::Not(_) | Self::Is(_) => write!(f, "not {part}"),
            },
            Self::Is(predicate) => write!(f, "{predicate}"),
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => write!(f, "state {}", state.ss_name()),
            Self::Family(AddressFamily::V4) => f.write_str("family ipv4"),
            Self::Family(AddressFamily::V6) => f.write_str("family ipv6"),
            Self::Port(Side::Local, comparison, port) => write!(f, "sport {} :{port}", comparison.sign()),
            Self::Port(Side::Remote, comparison, port) => write!(f, "dport {} :{port}", comparison.sign()),
            Self::Host(Side::Local, host) => write!(f, "src {host}"),
            Self::Host(Side::Remote, host) => write!(f, "dst {host}"),
            Self::Name(of, name) => write!(f, "{} = {}", of.word(), quoted(name)),
            Self::Pid(comparison, pid) => write!(f, "pid {} {pid}", comparison.sign()),
            Self::Uid(comparison, uid) => write!(f, "uid {} {uid}", comparison.sign()),
            Self::Netns(netns) => write!(f, "netns = {netns}"),
            Self::Cookie(cookie) => write!(f, "cookie = sk:{cookie:x}"),
            Self::Role(role) => write!(f, "role = {}", role.label()),
            Self::Manner(manner) => write!(f, "manner = {}", manner.map_or("unknown", Manner::label)),
            Self::Cause(cause) => write!(f, "cause = {}", cause.label()),
            Self::Dwell(comparison, dwell) => {
                let (seconds, nanoseconds) = (dwell.as_secs(), dwell.subsec_nanos());
                write!(f, "dwell {} {seconds}s{nanoseconds}ns", comparison.sign())
            }
        }
    }
}

/// A name in quotes, with a backslash before what would end them.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |f: &mut fmt::Formatter<'_>| match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        };
        match self.network {
            None => f.write_str("*")?,
            Some(network @ IpNet::V4(_)) => write!(f, "{network}")?,
            Some(network @ IpNet::V6(_)) => write!(f, "[{}]/{}", network.addr(), network.prefix_len())?,
        }
        port(f)
    }
}
