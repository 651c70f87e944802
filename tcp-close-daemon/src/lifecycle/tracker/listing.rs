//! The part of the tracker that takes in the kernel's own table: what was there before us, and what was lost.
//!
//! The table is read while it changes, and told later than it was read. So whatever an event has spoken of since the
//! kernel was asked is left alone: events win.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, RandomState},
    mem,
};

use hashbrown::{HashMap, HashSet};

use crate::{
    event::{ConnectionId, Event, EventKind, Listed, Monotonic, Pair, TcpState},
    lifecycle::{
        close::Close,
        minisock::Minisock,
        tracker::{Entry, Tracker},
    },
};

/// A socket pair in a network namespace: two sockets that share one seldom live at a time.
///
/// There may be a million in each of several tables, so it is a hash, by a key of this process. Of a million, two have the
/// same once in some ten million times that the kernel's table is read, and the next time puts that right.
type Place = u64;

/// How often what is followed was not what the kernel had. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Corrections {
    /// Sockets that were not followed: they are older than we are, or their first event was lost.
    pub added: u64,
    /// Sockets whose end was lost.
    pub removed: u64,
    /// Sockets in another state: that event was lost.
    pub changed: u64,
}

/// What is known of the kernel's table.
#[derive(Debug, Default)]
pub(super) struct Listings {
    hasher: RandomState,
    /// The next one, as far as it is prepared.
    preparing: Option<Preparing>,
    /// The one that is coming in.
    current: Option<Listing>,
    /// What the last one lacked, though it was followed. A table that is read while it changes may lack what is there, but
    /// hardly twice.
    lacked: HashSet<Place>,
    /// Sockets and minisocks that were taken from the table, and of which no event has spoken since.
    found: HashMap<Place, Entry>,
    /// Numbers that stand for the addresses of minisocks in the table, which does not tell them. No address is so low.
    last_number: u64,
    pub(super) corrections: Corrections,
}

/// What is followed, by place, before the kernel is asked: as far as the table of minisocks was gone through, and all that
/// began since.
#[derive(Debug, Default)]
struct Preparing {
    followed: HashMap<Place, Followed>,
    /// The slot that is next.
    slot: usize,
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    entry: Entry,
    netns: u32,
    /// It was listed, or an event has spoken of it since the kernel was asked.
    is_there: bool,
}

impl Followed {
    const fn new(entry: Entry, netns: u32) -> Self {
        Self { entry, netns, is_there: false }
    }
}

#[derive(Debug, Default)]
struct Listing {
    /// What was followed when the kernel was asked.
    followed: HashMap<Place, Followed>,
    /// What else an event has spoken of since then.
    touched: HashSet<Place>,
    /// What else was listed.
    listed: HashSet<Place>,
    /// The namespaces that came in so far.
    namespaces: HashSet<u32>,
}

impl Listings {
    pub(super) const fn is_preparing(&self) -> bool {
        self.preparing.is_some()
    }

    fn place_if_preparing(&self, minisock: &Minisock) -> Option<Place> {
        self.preparing.as_ref().map(|_| self.place(minisock.id().netns, minisock.pair()))
    }

    fn place(&self, netns: u32, pair: Pair) -> Place {
        self.hasher.hash_one((netns, pair))
    }
}

impl Tracker {
    /// Prepares for the kernel's table, so many slots of the table of minisocks at a time; whether that is done. There may be
    /// a million, and to go through them all at once would hold up whoever reads the ring.
    pub fn prepare_listing(&mut self, most: usize) -> bool {
        let slots = self.minisocks.slots();
        let preparing = self.listings.preparing.take();
        // With room for what begins meanwhile, so that it need not grow with all of them in it.
        let room = self.sockets.len() + self.minisocks.len() * 5 / 4;
        let mut preparing =
            preparing.unwrap_or_else(|| Preparing { followed: HashMap::with_capacity(room), slot: 0 });
        let end = slots.min(preparing.slot.saturating_add(most));
        for (address, id, pair) in self.minisocks.pairs(preparing.slot..end) {
            let place = self.listings.place(id.netns, pair);
            preparing.followed.insert(place, Followed::new(Entry::Minisock(address), id.netns));
        }
        preparing.slot = end;
        self.listings.preparing = Some(preparing);
        end == slots
    }

    pub(super) fn listing_began(&mut self) {
        self.prepare_listing(usize::MAX);
        let mut followed = self.listings.preparing.take().unwrap_or_default().followed;
        for (&id, close) in &self.sockets {
            // A minisock stands in for the full socket that it replaces.
            let place = self.listings.place(id.netns, close.pair());
            followed.entry(place).or_insert(Followed::new(Entry::Socket(id), id.netns));
        }
        self.listings.current = Some(Listing { followed, ..Listing::default() });
    }

    /// A minisock is followed from now on, or no longer.
    pub(super) fn prepare(&mut self, address: u64, minisock: &Minisock, is_followed: bool) {
        let place = self.listings.place_if_preparing(minisock);
        let Some((place, preparing)) = place.zip(self.listings.preparing.as_mut()) else {
            return;
        };
        let entry = Entry::Minisock(address);
        if is_followed {
            preparing.followed.insert(place, Followed::new(entry, minisock.id().netns));
        } else if preparing.followed.get(&place).is_some_and(|followed| followed.entry == entry) {
            preparing.followed.remove(&place);
        }
    }

    pub(super) fn namespace_listed(&mut self, netns: u32) {
        if let Some(listing) = &mut self.listings.current {
            listing.namespaces.insert(netns);
        }
    }

    /// What the table of a namespace lacks for the second time is not there: its end was lost.
    pub(super) fn listing_ended(&mut self) {
        let Some(Listing { followed, namespaces, .. }) = self.listings.current.take() else {
            return;
        };
        let lacks = followed
            .into_iter()
            .filter(|(_, followed)| !followed.is_there && namespaces.contains(&followed.netns))
            .filter(|&(place, Followed { entry, .. })| self.place_of(entry) == Some(place));
        let lacks: Vec<(Place, Entry)> =
            lacks.map(|(place, Followed { entry, .. })| (place, entry)).collect();
        let lacked = mem::take(&mut self.listings.lacked);
        for (place, entry) in lacks {
            if lacked.contains(&place) {
                self.listings.found.remove(&place);
                self.remove(entry);
            } else {
                self.listings.lacked.insert(place);
            }
        }
    }

    /// A minisock is not followed any more, for another reason than an event.
    pub(super) fn not_found_again(&mut self, minisock: &Minisock) {
        let place = self.listings.place(minisock.id().netns, minisock.pair());
        self.listings.found.remove(&place);
    }

    /// An event speaks of a socket pair: whatever was taken from the table there is what it speaks of.
    pub(super) fn touch(&mut self, event: &Event) {
        let (pair, minisock) = match event.kind {
            EventKind::StateChange(change) => (change.pair, None),
            EventKind::TimerStarted(timer)
            | EventKind::TimerCancelled(timer, _)
            | EventKind::TimerExpired(timer)
            | EventKind::Segment(timer, _)
            | EventKind::MinisockBegan(timer, _)
            | EventKind::MinisockRestarted(timer)
            | EventKind::MinisockEnded(timer, _) => (timer.pair, Some(timer.minisock)),
            _ => return,
        };
        if self.listings.current.is_none() && self.listings.found.is_empty() {
            return;
        }
        let place = self.listings.place(event.id.netns, pair);
        if let Some(listing) = &mut self.listings.current {
            match listing.followed.get_mut(&place) {
                Some(followed) => followed.is_there = true,
                None => {
                    listing.touched.insert(place);
                }
            }
        }
        if let Some(key) = self.listings.found.remove(&place) {
            self.adopt(key, event, minisock);
        }
    }

    /// What was taken from the table is known from now on as events know it; unless the event shows that it is over.
    fn adopt(&mut self, key: Entry, event: &Event, address: Option<u64>) {
        match (key, address) {
            (Entry::Minisock(number), Some(address)) => {
                let begins = matches!(event.kind, EventKind::MinisockBegan(..));
                let is_known = begins || self.minisocks.contains(address);
                // Where events or the table tell no cookies, there is the socket pair alone to go by.
                let listed = self.minisocks.id(number).and_then(|id| id.cookie());
                let is_it = listed.zip(event.id.cookie()).is_none_or(|(listed, told)| listed == told);
                if is_known || !is_it {
                    self.remove(key);
                } else if let Some(minisock) = self.pop_minisock(number) {
                    self.keep(address, minisock.known_as(event.id));
                }
            }
            (Entry::Socket(found), _) => {
                let id = match event.kind {
                    EventKind::MinisockBegan(_, socket) => socket,
                    EventKind::StateChange(_) => event.id,
                    _ => found,
                };
                if id == found {
                    return;
                }
                match self.take_socket(found).filter(|_| !self.sockets.contains(&id)) {
                    Some(close) => {
                        let close = close.known_as(id);
                        self.roster.note(id, Some(&close), &mut self.owners);
                        self.count_state(None, close.closing_state());
                        self.sockets.put(id, close);
                    }
                    None => self.listings.corrections.removed += 1,
                }
            }
            // A full socket has the pair of one that was a minisock.
            (Entry::Minisock(_), None) => self.remove(key),
        }
    }

    /// The kernel had this socket in its table.
    pub(super) fn listed(&mut self, event: &Event, row: &Listed) {
        let Event { at, id, .. } = *event;
        let place = self.listings.place(id.netns, row.pair);
        let Some(listing) = &mut self.listings.current else {
            return;
        };
        let known = match listing.followed.get_mut(&place) {
            Some(followed) if followed.is_there => return,
            Some(followed) => {
                followed.is_there = true;
                Some(followed.entry)
            }
            None if listing.touched.contains(&place) || !listing.listed.insert(place) => return,
            None => None,
        };
        // An address may be another minisock's by now.
        let known = known.filter(|&entry| self.place_of(entry) == Some(place));
        if known.is_none() && row.nominal_end.is_none() && self.sockets.contains(&id) {
            // An event has spoken of it, of another life in another place.
            return;
        }
        let is_another = known
            .and_then(|known| self.cookie(known))
            .zip(id.cookie())
            .is_some_and(|(ours, its)| ours != its);
        match (known, row.nominal_end) {
            (known, _) if is_another => self.replace(known, at, id, row),
            (Some(Entry::Minisock(address)), Some(nominal_end)) => {
                self.settle_replaced(address);
                let usual = self.wait;
                // Most are where they are known to be, and stay packed.
                let substate = self.minisocks.substate(address);
                if (substate, row.state) == (Some(TcpState::FinWait2), TcpState::TimeWait)
                    && let Some(minisock) = self.minisocks.get_mut(address)
                {
                    minisock.has_flipped(nominal_end, usual);
                    self.note_minisock(address);
                    self.listings.corrections.changed += 1;
                }
            }
            (Some(Entry::Socket(id)), None) => {
                if let Some(close) = self.sockets.get_mut(&id)
                    && let Some(before) = close.closing_state().filter(|&state| state != row.state)
                {
                    close.is_in(at, row.state);
                    self.roster.note(id, Some(close), &mut self.owners);
                    self.count_state(Some(before), Some(row.state));
                    self.listings.corrections.changed += 1;
                }
            }
            // Its entry into CLOSE was lost, and the beginning of the minisock that replaces it.
            (Some(Entry::Socket(socket)), Some(_)) => {
                let close = self.take_socket(socket);
                self.add(at, id, row);
                self.listings.corrections.changed += 1;
                if let (Some(mut close), Some(Entry::Minisock(number))) = (close, self.found_at(place)) {
                    close.mark_gap();
                    self.hand_over(number, &close.story());
                }
            }
            (known, _) => self.replace(known, at, id, row),
        }
    }

    /// The socket pair has another life than the one that was followed, if any was.
    fn replace(&mut self, known: Option<Entry>, at: Monotonic, id: ConnectionId, row: &Listed) {
        if let Some(known) = known {
            self.remove(known);
        }
        self.add(at, id, row);
        self.listings.corrections.added += 1;
    }

    /// The cookie of what is followed, if it has one.
    fn cookie(&self, entry: Entry) -> Option<u64> {
        match entry {
            Entry::Socket(id) => id.cookie(),
            Entry::Minisock(address) => self.minisocks.id(address)?.cookie(),
        }
    }

    fn add(&mut self, at: Monotonic, id: ConnectionId, row: &Listed) {
        let place = self.listings.place(id.netns, row.pair);
        let key = if let Some(nominal_end) = row.nominal_end {
            self.listings.last_number += 1;
            let number = self.listings.last_number;
            self.keep(number, Minisock::listed(id, row.pair, row.state, nominal_end, self.sees));
            Entry::Minisock(number)
        } else {
            self.take_socket(id);
            let close =
                Close::in_state(id, row.pair, row.state, row.uid.unwrap_or_default()).noticed(at, row.cgroup);
            self.roster.note(id, Some(&close), &mut self.owners);
            self.count_state(None, Some(row.state));
            self.sockets.put(id, close);
            self.bound_sockets();
            Entry::Socket(id)
        };
        self.listings.found.insert(place, key);
    }

    /// Namespaces without a table that came in, of which something is followed that may be over, since events were lost while
    /// it was.
    pub fn doubtful_namespaces(&self) -> BTreeSet<u32> {
        let Some(Listing { followed, namespaces, .. }) = &self.listings.current else {
            return BTreeSet::new();
        };
        let doubtful = followed.values().filter(|followed| {
            !followed.is_there && !namespaces.contains(&followed.netns) && self.may_be_over(followed.entry)
        });
        doubtful.map(|followed| followed.netns).collect()
    }

    fn may_be_over(&self, entry: Entry) -> bool {
        match entry {
            Entry::Socket(id) => self.sockets.peek(&id).is_some_and(Close::has_gap),
            Entry::Minisock(address) => self.minisocks.has_gap(address),
        }
    }

    /// The kernel has this minisock in its table, and no event has spoken of it lately: if the full socket that it replaces
    /// is still followed, its entry into CLOSE was lost.
    fn settle_replaced(&mut self, address: u64) {
        let Some(id) = self.minisocks.id(address) else {
            return;
        };
        let is_it = |close: &Close| close.ended().is_none() && close.minisock() == Some(address);
        if self.sockets.peek(&id).is_some_and(is_it) {
            self.abandon(id);
            self.listings.corrections.changed += 1;
        }
    }

    /// The place of what is followed, if it still is.
    fn place_of(&self, entry: Entry) -> Option<Place> {
        let (netns, pair) = match entry {
            Entry::Socket(id) => (id.netns, self.sockets.peek(&id)?.pair()),
            Entry::Minisock(address) => (self.minisocks.id(address)?.netns, self.minisocks.pair(address)?),
        };
        Some(self.listings.place(netns, pair))
    }

    fn found_at(&self, place: Place) -> Option<Entry> {
        self.listings.found.get(&place).copied()
    }

    /// Follows a full socket no longer.
    fn take_socket(&mut self, id: ConnectionId) -> Option<Close> {
        let close = self.sockets.pop(&id)?;
        self.roster.note(id, None, &mut self.owners);
        self.count_state(close.closing_state(), None);
        Some(close)
    }

    fn remove(&mut self, key: Entry) {
        let was_there = match key {
            Entry::Socket(id) => self.take_socket(id).is_some(),
            Entry::Minisock(address) => self.pop_minisock(address).is_some(),
        };
        self.listings.corrections.removed += u64::from(was_there);
    }
}
