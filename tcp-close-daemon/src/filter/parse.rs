//! Reads a filter.

use std::{fmt, net::IpAddr, ops::Range, time::Duration};

use ipnet::{IpNet, Ipv4Net};
use jiff::SignedDuration;
use unicode_width::UnicodeWidthStr;

use crate::{
    event::{AddressFamily, TcpState},
    lifecycle::observation::{EndCause, Manner, Role},
};

use super::{
    Comparison, Expression, Host, NameOf, Names, Predicate, Side,
    token::{Kind, Token, Unclosed, tokens},
};

/// How deep parentheses and "not" may be nested: whoever sends a filter is not to choose how much of the stack it takes.
const DEEPEST: usize = 64;

/// How long a filter may be, in bytes.
const LONGEST: usize = 16_384;

/// No dwell is longer than that: a century.
const LONGEST_DWELL: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// What may be asked of a connection, for who asked something else.
const FIELDS: &str = "state, sport, dport, src, dst, family, owner, comm, pid, uid, unit, container, pod, netns, cookie, role, manner, cause, dwell";

/// A filter that makes no sense, and where.
///
/// It prints as the reason, and under it the filter with a line that points at the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FilterError {
    /// The filter, in one line.
    text: String,
    /// The place in it, in bytes.
    place: Range<usize>,
    /// What is wrong there.
    reason: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, place, reason } = self;
        let before = text.get(..place.start).map_or(0, UnicodeWidthStr::width);
        let marked = text.get(place.clone()).map_or(1, |marked| marked.width().max(1));
        write!(f, "the filter makes no sense: {reason}\n  {text}\n  {:before$}{:^<marked$}", "", "")
    }
}

/// Reads a filter; nothing at all wants everything.
pub fn parse(text: &str, names: &impl Names) -> Result<Expression, FilterError> {
    // A message shows it in one line.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let failed = |place, reason: String| FilterError { text: text.clone(), place, reason };
    if text.len() > LONGEST {
        return Err(FilterError {
            text: String::new(),
            place: 0..0,
            reason: format!("it is longer than {LONGEST} bytes"),
        });
    }
    let tokens = match tokens(&text) {
        Ok(tokens) => tokens,
        Err(Unclosed(place)) => return Err(failed(place, "this quote is not closed".to_owned())),
    };
    if tokens.is_empty() {
        return Ok(Expression::default());
    }
    let mut parser = Parser { tokens: &tokens, next: 0, depth: 0, end: text.len(), names };
    parser.whole().map_err(|Wrong { place, reason }| failed(place, reason))
}

/// What is wrong, and where.
struct Wrong {
    place: Range<usize>,
    reason: String,
}

struct Parser<'a, N> {
    tokens: &'a [Token<'a>],
    next: usize,
    depth: usize,
    /// Where the text ends.
    end: usize,
    names: &'a N,
}

impl<'a, N: Names> Parser<'a, N> {
    fn whole(&mut self) -> Result<Expression, Wrong> {
        let expression = self.any()?;
        match self.peek() {
            None => Ok(expression),
            Some(token) if token.kind == Kind::Close => {
                Err(wrong(token, "this parenthesis was never opened"))
            }
            Some(token) => Err(wrong(token, format!("{:?} is one word too many", token.text))),
        }
    }

    fn any(&mut self) -> Result<Expression, Wrong> {
        let mut parts = vec![self.all()?];
        while self.take(Kind::Or).is_some() {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    /// Several side by side mean all of them, as in `ss`; but of states, as there too, any of them.
    fn all(&mut self) -> Result<Expression, Wrong> {
        let mut parts = vec![self.one()?];
        loop {
            let is_next = |kind| matches!(kind, Kind::Open | Kind::Not);
            let begins = |token: &Token<'_>| is_next(token.kind) || Field::named(token).is_some();
            if self.take(Kind::And).is_some() {
                parts.push(self.one()?);
            } else if self.peek().is_some_and(begins) {
                let next = self.one()?;
                match parts.pop() {
                    Some(last) if is_states(&last) && is_states(&next) => parts.push(either(last, next)),
                    last => parts.extend(last.into_iter().chain([next])),
                }
            } else {
                return Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) });
            }
        }
    }

    fn one(&mut self) -> Result<Expression, Wrong> {
        let Some(token) = self.peek() else {
            return Err(self.missing(format!("something to ask for is missing here: {FIELDS}")));
        };
        if self.depth == DEEPEST {
            return Err(wrong(token, format!("nothing can be nested more than {DEEPEST} deep")));
        }
        self.depth += 1;
        let expression = match token.kind {
            Kind::Not => {
                self.next += 1;
                Expression::Not(Box::new(self.one()?))
            }
            Kind::Open => {
                self.next += 1;
                let inner = self.any()?;
                if self.take(Kind::Close).is_none() {
                    return Err(match self.peek() {
                        Some(other) => wrong(other, format!("{:?} is one word too many", other.text)),
                        None => wrong(token, "this parenthesis is not closed"),
                    });
                }
                inner
            }
            Kind::Word => self.predicate(token)?,
            _ => {
                return Err(wrong(token, format!("something to ask for belongs here: {FIELDS}")));
            }
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn predicate(&mut self, name: &'a Token<'a>) -> Result<Expression, Wrong> {
        let Some(field) = Field::named(name) else {
            let reason = format!("nothing is called {:?}; there are {FIELDS}", name.text);
            return Err(wrong(name, reason));
        };
        self.next += 1;
        let comparison = self.comparison(field)?;
        let Some(value) = self.peek() else {
            return Err(self.missing(format!("{} is compared with nothing", name.text)));
        };
        if !matches!(value.kind, Kind::Word | Kind::Quoted) {
            return Err(wrong(value, format!("{} takes {} here", name.text, field.takes())));
        }
        self.next += 1;
        let (comparison, is_unequal) = comparison;
        let predicate =
            field.predicate(comparison, &value.text, self.names).map_err(|reason| wrong(value, reason))?;
        let expression = Expression::Is(predicate);
        Ok(if is_unequal { Expression::Not(Box::new(expression)) } else { expression })
    }

    /// How a field is compared, and whether the opposite is meant; where nothing is said, it is equal.
    fn comparison(&mut self, field: Field) -> Result<(Comparison, bool), Wrong> {
        let Some(token) = self.peek() else {
            return Ok((Comparison::Equal, false));
        };
        let (comparison, is_unequal) = match token.kind {
            Kind::Equal => (Comparison::Equal, false),
            Kind::Unequal => (Comparison::Equal, true),
            Kind::Less => (Comparison::Less, false),
            Kind::Greater => (Comparison::Greater, false),
            Kind::AtMost => (Comparison::AtMost, false),
            Kind::AtLeast => (Comparison::AtLeast, false),
            _ => return Ok((Comparison::Equal, false)),
        };
        if comparison != Comparison::Equal && !field.has_order() {
            return Err(wrong(token, "of this nothing is more or less, only = and !="));
        }
        self.next += 1;
        Ok((comparison, is_unequal))
    }

    fn peek(&self) -> Option<&'a Token<'a>> {
        self.tokens.get(self.next)
    }

    fn take(&mut self, kind: Kind) -> Option<&'a Token<'a>> {
        let token = self.peek().filter(|token| token.kind == kind)?;
        self.next += 1;
        Some(token)
    }

    const fn missing(&self, reason: String) -> Wrong {
        Wrong { place: self.end..self.end, reason }
    }
}

/// Whether it asks for a state, or for one of some.
fn is_states(expression: &Expression) -> bool {
    match expression {
        Expression::Is(Predicate::State(_)) => true,
        Expression::Any(parts) => parts.iter().all(is_states),
        _ => false,
    }
}

fn either(one: Expression, other: Expression) -> Expression {
    match one {
        Expression::Any(mut parts) => {
            parts.push(other);
            Expression::Any(parts)
        }
        one => Expression::Any(vec![one, other]),
    }
}

fn wrong(token: &Token<'_>, reason: impl Into<String>) -> Wrong {
    Wrong { place: token.place.clone(), reason: reason.into() }
}

/// What may be asked for.
#[derive(Clone, Copy, Debug)]
enum Field {
    State,
    Port(Side),
    Host(Side),
    Family,
    Name(NameOf),
    Pid,
    Uid,
    Netns,
    Cookie,
    Role,
    Manner,
    Cause,
    Dwell,
}

impl Field {
    fn named(token: &Token<'_>) -> Option<Self> {
        if token.kind != Kind::Word {
            return None;
        }
        Some(match token.text.to_ascii_lowercase().as_str() {
            "state" => Self::State,
            "sport" => Self::Port(Side::Local),
            "dport" => Self::Port(Side::Remote),
            "src" => Self::Host(Side::Local),
            "dst" => Self::Host(Side::Remote),
            "family" => Self::Family,
            "owner" => Self::Name(NameOf::Owner),
            "comm" => Self::Name(NameOf::Comm),
            "unit" => Self::Name(NameOf::Unit),
            "container" => Self::Name(NameOf::Container),
            "pod" => Self::Name(NameOf::Pod),
            "pid" => Self::Pid,
            "uid" => Self::Uid,
            "netns" => Self::Netns,
            "cookie" => Self::Cookie,
            "role" => Self::Role,
            "manner" => Self::Manner,
            "cause" => Self::Cause,
            "dwell" => Self::Dwell,
            _ => return None,
        })
    }

    const fn has_order(self) -> bool {
        matches!(self, Self::Port(_) | Self::Pid | Self::Uid | Self::Dwell)
    }

    const fn takes(self) -> &'static str {
        match self {
            Self::State => "a state, such as time-wait",
            Self::Port(_) => "a port, such as :443 or :https",
            Self::Host(_) => "an address, such as 192.0.2.1, 192.0.2.0/24, [2001:db8::1]:443 or :443",
            Self::Family => "ipv4 or ipv6",
            Self::Name(_) => "a name",
            Self::Pid => "the number of a process",
            Self::Uid => "the number of a user",
            Self::Netns => "a network namespace: a name of ip-netns(8), host, a path, or an inode number",
            Self::Cookie => "a socket's cookie, as ss -e shows it (sk:2b) or as JSON does (43)",
            Self::Role => "active, passive, simultaneous or none",
            Self::Manner => "graceful, reset-sent, reset-received, timed-out, killed or unknown",
            Self::Cause => "why a TIME-WAIT ended, such as expired or reused",
            Self::Dwell => "a time, such as 60s or 1m30s",
        }
    }

    fn predicate(self, comparison: Comparison, value: &str, names: &impl Names) -> Result<Predicate, String> {
        let bad = || format!("{value:?} is not {}", self.takes());
        Ok(match self {
            Self::State => Predicate::State(value.parse::<TcpState>().map_err(|error| error.to_string())?),
            Self::Port(side) => Predicate::Port(side, comparison, port(value, names)?),
            Self::Host(side) => Predicate::Host(side, host(value, names, bad)?),
            Self::Family => Predicate::Family(match value {
                "ipv4" | "inet" | "4" => AddressFamily::V4,
                "ipv6" | "inet6" | "6" => AddressFamily::V6,
                _ => return Err(bad()),
            }),
            Self::Name(of) => Predicate::Name(of, value.to_owned()),
            Self::Pid => Predicate::Pid(comparison, value.parse().map_err(|_error| bad())?),
            Self::Uid => Predicate::Uid(comparison, value.parse().map_err(|_error| bad())?),
            Self::Netns => Predicate::Netns(names.netns(value)?),
            Self::Cookie => Predicate::Cookie(cookie(value).ok_or_else(bad)?),
            Self::Role => Predicate::Role(role(value).ok_or_else(bad)?),
            Self::Manner if value == "unknown" => Predicate::Manner(None),
            Self::Manner => {
                Predicate::Manner(Some(labelled(&Manner::ALL, Manner::label, value).ok_or_else(bad)?))
            }
            Self::Cause => Predicate::Cause(cause(value).ok_or_else(bad)?),
            Self::Dwell => Predicate::Dwell(comparison, duration(value).ok_or_else(bad)?),
        })
    }
}

/// A cookie in hexadecimal digits, as `ss -e` shows it, or as a number, as JSON has it.
pub fn cookie(text: &str) -> Option<u64> {
    match text.strip_prefix("sk:") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The role with this name.
pub fn role(name: &str) -> Option<Role> {
    labelled(&Role::ALL, Role::label, name)
}

/// The cause with this name, of the end of a TIME-WAIT or of a FIN-WAIT-2.
pub fn cause(name: &str) -> Option<EndCause> {
    let of_fin_wait2 = || labelled(&EndCause::OF_FIN_WAIT2, EndCause::label, name);
    labelled(&EndCause::OF_TIME_WAIT, EndCause::label, name).or_else(of_fin_wait2)
}

/// The one with this label, in the spelling of labels or of `ss`.
fn labelled<T: Copy>(all: &[T], label: impl Fn(T) -> &'static str, value: &str) -> Option<T> {
    let value = value.replace('-', "_").to_ascii_lowercase();
    all.iter().copied().find(|&one| label(one) == value)
}

/// A port by number or by the name of its service, with or without a colon before it.
fn port(value: &str, names: &impl Names) -> Result<u16, String> {
    let value = value.strip_prefix(':').unwrap_or(value);
    match value.parse::<u64>() {
        Ok(number) => {
            u16::try_from(number).map_err(|_error| format!("{number} is past the last port, 65535"))
        }
        Err(_) if value.is_empty() => Err("a port is missing behind the colon".to_owned()),
        Err(_) => names.port(value),
    }
}

/// `ADDRESS`, `NETWORK`, `ADDRESS:PORT`, `:PORT`; `*` is any.
fn host(value: &str, names: &impl Names, bad: impl Fn() -> String) -> Result<Host, String> {
    let some_port = |text: &str| if text == "*" { Ok(None) } else { port(text, names).map(Some) };
    if let Some(rest) = value.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or_else(&bad)?;
        let (prefix, text) = match rest.split_once(':') {
            Some((prefix, text)) => (prefix, Some(text)),
            None => (rest, None),
        };
        let is_v6 = address.contains(':');
        let network = network(&format!("{address}{prefix}")).filter(|_| is_v6).ok_or_else(&bad)?;
        return Ok(Host { network: Some(network), port: text.map(some_port).transpose()?.flatten() });
    }
    // More than one colon without brackets: an IPv6 address, which leaves no room for a port.
    if value.matches(':').count() > 1 {
        return Ok(Host { network: Some(network(value).ok_or_else(bad)?), port: None });
    }
    let (address, text) = match value.split_once(':') {
        Some((address, text)) => (address, Some(text)),
        None => (value, None),
    };
    let network = match address {
        "*" => None,
        "" if text.is_some() => None,
        _ => Some(network(address).ok_or_else(bad)?),
    };
    Ok(Host { network, port: text.map(some_port).transpose()?.flatten() })
}

/// A network, or an address alone. IPv4 mapped into IPv6, as `ss` shows some, is IPv4, as it is everywhere here.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    match network {
        IpNet::V6(mapped) if mapped.prefix_len() >= 96 => match mapped.addr().to_ipv4_mapped() {
            Some(address) => Ipv4Net::new(address, mapped.prefix_len() - 96).ok().map(IpNet::V4),
            None => Some(network),
        },
        _ => Some(network),
    }
}

/// A time with its unit, or a number of seconds.
fn duration(text: &str) -> Option<Duration> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let duration = seconds.or_else(|| Duration::try_from(text.parse::<SignedDuration>().ok()?).ok());
    duration.filter(|&duration| duration <= LONGEST_DWELL)
}
