//! Every socket that is closing now: the kernel's own table, and what is known beyond it.
//!
//! In: a snapshot, and what the tracker knows. Out: one [`ClosingSocket`] for each, which is a line of `list` and travels
//! as JSON. The kernel says what there is and in which state, so the sum is that of `ss`; the tracker says whose it is,
//! and since when.

use std::{
    collections::{HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher as _,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
    vec,
};

use serde::{Deserialize, Serialize};

mod groups;

pub use groups::{Group, GroupKey, groups};

use crate::{
    event::{Address, AddressFamily, CgroupId, Monotonic, Pair, Process, TcpState},
    lifecycle::{Closing, PackedClosings, observation::Role},
    owner::{Held, Holders, Home, Owner},
    snapshot::{Row, Snapshot},
};

/// A socket that is closing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosingSocket {
    /// State it is in.
    pub state: TcpState,
    /// Time since it entered that, in seconds; `None` if that was not seen.
    pub age_seconds: Option<f64>,
    /// Of a minisock: time to its nominal end, in seconds, and past that to the end of its bucket of the timer wheel.
    pub left_seconds: Option<f64>,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Address family.
    pub family: AddressFamily,
    /// Our address.
    pub local: Address,
    /// The peer's address.
    pub remote: Address,
    /// The socket's cookie, as `ss -e` shows it.
    pub cookie: Option<u64>,
    /// Who sent the first FIN, as far as it is known.
    pub role: Option<Role>,
    /// Whose it is.
    pub owner: Owner,
    /// The descriptors it is open by.
    pub holders: Vec<Held>,
    /// How it is known.
    pub source: Source,
}

/// How a socket is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// It was seen to close.
    Observed,
    /// It was there already, or nobody watches.
    Snapshot,
}

impl ClosingSocket {
    /// Its socket pair.
    pub fn pair(&self) -> Pair {
        Pair { local: SocketAddr::from(self.local), remote: SocketAddr::from(self.remote) }
    }

    /// The processes that closed, hold and opened it, as far as they are known.
    pub fn processes(&self) -> Vec<Option<Process>> {
        let held = self.holders.iter().map(|held| Some(held.by));
        [self.owner.closer].into_iter().chain(held).chain([self.owner.opener]).collect()
    }
}

impl ClosingSocket {
    /// The name of the process that closed it, holds it or opened it; where none is known, that of its service or container.
    pub fn owner_name(&self) -> Option<String> {
        let process = self.processes().into_iter().flatten().next();
        let home = self.owner.unit.as_ref().or(self.owner.container.as_ref());
        process.map(|process| process.comm.to_string()).or_else(|| home.cloned())
    }
}

/// What is known beyond the kernel's table.
#[derive(Debug, Default)]
pub struct Known {
    sockets: PackedClosings,
    /// Where among them each is, by the hash of its namespace and socket pair.
    places: HashMap<u64, u32>,
    hasher: RandomState,
    /// When it was asked for.
    at: Monotonic,
}

impl Known {
    /// What the tracker knew then, as far as it has been told; of so many sockets, about.
    pub fn at(at: Monotonic, about: usize) -> Self {
        Self { at, places: HashMap::with_capacity(about), ..Self::default() }
    }

    /// Adds what the tracker knew of some.
    pub fn add(&mut self, closing: impl IntoIterator<Item = Closing>) {
        for closing in closing {
            let hash = self.hasher.hash_one((closing.id.netns, closing.pair));
            self.places.extend(self.sockets.push(closing).map(|place| (hash, place)));
        }
    }

    /// What is known of a socket of the table, unless it is of another life of the socket pair.
    fn of(&self, row: &Row) -> Option<Closing> {
        let place = self.places.get(&self.hasher.hash_one((row.id.netns, row.pair)))?;
        let closing = self.sockets.get(*place)?;
        // Two may have one hash.
        let is_its_own = closing.id.netns == row.id.netns && closing.pair == row.pair;
        // Who asks for the table gives a name to what had none; who only reads /proc gets none.
        let cookies = closing.id.cookie().zip(row.id.cookie());
        (is_its_own && cookies.is_none_or(|(ours, kernels)| ours == kernels)).then_some(closing)
    }
}

/// The kernel's table and what is known, joined one by one: there may be a million.
pub struct Joined<H> {
    rows: Vec<Row>,
    known: Known,
    holders: Holders,
    home: H,
    order: vec::IntoIter<(TcpState, Duration, Which)>,
}

/// Where a socket is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Which {
    /// In the kernel's table.
    Row(u32),
    /// Among what is known.
    Known(u32),
}

/// Joins the kernel's table with what is known, in the order of states and of what is left to each. Of a namespace whose
/// table could not be read, there is only what is known.
pub fn join<H>(snapshot: Snapshot, known: Known, states: &[TcpState], holders: Holders, home: H) -> Joined<H>
where
    H: FnMut(CgroupId) -> Option<Arc<Home>>,
{
    let Snapshot { rows, read, .. } = snapshot;
    let of_table = (0..).zip(&rows).map(|(index, row)| {
        // Only past its nominal end there is more to know of what is left than the kernel says.
        let left = match row.left() {
            Some(Duration::ZERO) => known.of(row).and_then(|closing| left(&closing, known.at)),
            left => left,
        };
        (row.state, left.unwrap_or_default(), Which::Row(index))
    });
    let read: HashSet<u32> = read.iter().map(|&(netns, _)| netns).collect();
    let of_known = known.places.values().filter_map(|&place| {
        let closing = known.sockets.get(place)?;
        let is_wanted = !read.contains(&closing.id.netns) && states.contains(&closing.state);
        let left = left(&closing, known.at).unwrap_or_default();
        is_wanted.then_some((closing.state, left, Which::Known(place)))
    });
    let mut order: Vec<_> = of_table.chain(of_known).collect();
    order.sort_unstable();
    Joined { rows, known, holders, home, order: order.into_iter() }
}

impl<H: FnMut(CgroupId) -> Option<Arc<Home>>> Iterator for Joined<H> {
    type Item = ClosingSocket;

    fn next(&mut self) -> Option<ClosingSocket> {
        let (.., which) = self.order.next()?;
        let at = self.known.at;
        match which {
            Which::Row(index) => {
                let row = self.rows.get(usize::try_from(index).ok()?)?;
                let closing = self.known.of(row);
                Some(of_row(row, closing.as_ref(), at, &self.holders, &mut self.home))
            }
            Which::Known(place) => Some(of_known(&self.known.sockets.get(place)?, at, &mut self.home)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.order.size_hint()
    }
}

fn of_row(
    row: &Row,
    closing: Option<&Closing>,
    at: Monotonic,
    holders: &Holders,
    home: &mut impl FnMut(CgroupId) -> Option<Arc<Home>>,
) -> ClosingSocket {
    let Row { id, pair, state, holder, .. } = *row;
    let known = closing.map(|closing| of_known(closing, at, home));
    let left = row.left();
    // Past its nominal end, the kernel says nothing more.
    let left_in_bucket =
        known.as_ref().and_then(|known| known.left_seconds).filter(|_| left == Some(Duration::ZERO));
    let uid = holder.map(|holder| holder.uid);
    let known_owner = known.as_ref().map(|known| known.owner.clone()).unwrap_or_default();
    let owner = if closing.and_then(|closing| closing.story).is_some_and(|story| story.cgroup.is_some()) {
        Owner { uid: uid.or(known_owner.uid), ..known_owner }
    } else {
        // Some kernels tell the table's reader what they do not tell programs.
        let Owner { unit, container, pod, .. } =
            Owner::at(holder.and_then(|holder| holder.cgroup).and_then(home).as_deref());
        Owner { unit, container, pod, uid: uid.or(known_owner.uid), ..known_owner }
    };
    let inode = holder.and_then(|holder| holder.inode);
    ClosingSocket {
        state,
        // Since it entered the state that events tell of.
        age_seconds: closing.filter(|closing| closing.state == state).and_then(|closing| age(closing, at)),
        left_seconds: left_in_bucket.or(left.map(|left| left.as_secs_f64())),
        netns: id.netns,
        family: pair.family(),
        local: pair.local.into(),
        remote: pair.remote.into(),
        cookie: id.cookie(),
        role: known.as_ref().and_then(|known| known.role).or_else(|| role(state)),
        owner,
        holders: inode.map(|inode| holders.get(inode).to_vec()).unwrap_or_default(),
        source: known.map_or(Source::Snapshot, |known| known.source),
    }
}

fn of_known(
    closing: &Closing,
    at: Monotonic,
    home: &mut impl FnMut(CgroupId) -> Option<Arc<Home>>,
) -> ClosingSocket {
    let Closing { id, pair, state, observed, story, .. } = *closing;
    let story_role = story.map(|story| story.role).filter(|&role| role != Role::None);
    let home = story.and_then(|story| story.cgroup).and_then(home);
    ClosingSocket {
        state,
        age_seconds: age(closing, at),
        left_seconds: left(closing, at).map(|left| left.as_secs_f64()),
        netns: id.netns,
        family: pair.family(),
        local: pair.local.into(),
        remote: pair.remote.into(),
        cookie: id.cookie(),
        role: story_role.or_else(|| role(state)),
        owner: story.map(|story| Owner::of(&story, home.as_deref())).unwrap_or_default(),
        holders: Vec::new(),
        source: if observed { Source::Observed } else { Source::Snapshot },
    }
}

/// Of a minisock, to its nominal end, and past that to the end of its bucket of the timer wheel.
fn left(closing: &Closing, at: Monotonic) -> Option<Duration> {
    closing.ends.map(|ends| ends.since(at))
}

fn age(closing: &Closing, at: Monotonic) -> Option<f64> {
    closing.since.map(|since| at.since(since).as_secs_f64())
}

/// Who closed first, as far as the state tells. TIME-WAIT follows an active close and a simultaneous one.
const fn role(state: TcpState) -> Option<Role> {
    match state {
        TcpState::FinWait1 | TcpState::FinWait2 => Some(Role::Active),
        TcpState::CloseWait | TcpState::LastAck => Some(Role::Passive),
        TcpState::Closing => Some(Role::Simultaneous),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
