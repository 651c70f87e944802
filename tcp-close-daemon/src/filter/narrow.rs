//! What a filter asks of every connection that it lets through, so that others need not be looked at.

use std::{collections::BTreeSet, ops::RangeInclusive};

use ipnet::IpNet;

use super::expression::{Comparison, Expression, Host, Predicate, Side};
use crate::event::{AddressFamily, TcpState};

/// Socket pairs, by what the kernel side can tell at little cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// Their family; `None` for both.
    pub family: Option<AddressFamily>,
    /// Their local ports.
    pub local_ports: RangeInclusive<u16>,
    /// Their remote ports.
    pub remote_ports: RangeInclusive<u16>,
}

const EVERY_PORT: RangeInclusive<u16> = 0..=u16::MAX;

impl Pairs {
    /// Every one.
    pub const ALL: Self = Self { family: None, local_ports: EVERY_PORT, remote_ports: EVERY_PORT };
}

impl Expression {
    /// The network namespaces that a connection has to be in; `None` for any.
    pub fn netns(&self) -> Option<BTreeSet<u32>> {
        self.narrowed(&|predicate| match predicate {
            Predicate::Netns(netns) => Some(*netns),
            _ => None,
        })
    }

    /// The states that a socket has to be in; `None` for any.
    pub fn states(&self) -> Option<BTreeSet<TcpState>> {
        self.narrowed(&|predicate| match predicate {
            Predicate::State(state) => Some(*state),
            _ => None,
        })
    }

    /// What the socket pair has to be like.
    pub fn pairs(&self) -> Pairs {
        let families = self.narrowed(&|predicate| match predicate {
            Predicate::Family(family) => Some(*family),
            Predicate::Host(_, Host { network: Some(network), .. }) => Some(match network {
                IpNet::V4(_) => AddressFamily::V4,
                IpNet::V6(_) => AddressFamily::V6,
            }),
            _ => None,
        });
        // Of those that are both at once there are none, and nothing need be left out.
        let family =
            families.filter(|families| families.len() == 1).and_then(|families| families.into_iter().next());
        Pairs { family, local_ports: self.ports(Side::Local), remote_ports: self.ports(Side::Remote) }
    }

    /// The values of which there has to be one, where `value` tells which one a predicate asks for.
    fn narrowed<T: Ord>(&self, value: &impl Fn(&Predicate) -> Option<T>) -> Option<BTreeSet<T>> {
        match self {
            Self::Is(predicate) => value(predicate).map(|value| BTreeSet::from([value])),
            Self::Not(_) => None,
            Self::All(parts) => {
                let narrowed = parts.iter().filter_map(|part| part.narrowed(value));
                narrowed.reduce(|mut one, other| {
                    one.retain(|value| other.contains(value));
                    one
                })
            }
            Self::Any(parts) => {
                let narrowed: Option<Vec<_>> = parts.iter().map(|part| part.narrowed(value)).collect();
                narrowed.map(|sets| sets.into_iter().flatten().collect())
            }
        }
    }

    /// Ports between which that of this side has to be; empty where there can be none.
    fn ports(&self, side: Side) -> RangeInclusive<u16> {
        match self {
            Self::Is(Predicate::Port(of, comparison, port)) if *of == side => between(*comparison, *port),
            Self::Is(Predicate::Host(of, Host { port: Some(port), .. })) if *of == side => *port..=*port,
            Self::Is(_) | Self::Not(_) => EVERY_PORT,
            Self::All(parts) => parts
                .iter()
                .map(|part| part.ports(side))
                .fold(EVERY_PORT, |one, other| *one.start().max(other.start())..=*one.end().min(other.end())),
            Self::Any(parts) => {
                let possible = parts.iter().map(|part| part.ports(side)).filter(|ports| !ports.is_empty());
                let hull = possible
                    .reduce(|one, other| *one.start().min(other.start())..=*one.end().max(other.end()));
                hull.unwrap_or(NO_PORT)
            }
        }
    }
}

#[expect(clippy::reversed_empty_ranges, reason = "it is")]
const NO_PORT: RangeInclusive<u16> = 1..=0;

fn between(comparison: Comparison, port: u16) -> RangeInclusive<u16> {
    let ports = match comparison {
        Comparison::Equal => Some(port..=port),
        Comparison::AtMost => Some(0..=port),
        Comparison::AtLeast => Some(port..=u16::MAX),
        Comparison::Less => port.checked_sub(1).map(|last| 0..=last),
        Comparison::Greater => port.checked_add(1).map(|first| first..=u16::MAX),
    };
    ports.unwrap_or(NO_PORT)
}
