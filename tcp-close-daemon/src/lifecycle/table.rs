//! The table of minisocks: every one that is followed, by its kernel address.
//!
//! In: minisocks as they begin, change and end. Out: each of them, and of all together what a census needs. Rationale:
//! there may be a million, and most wait for a minute in which nothing happens to them. One to which nothing is happening
//! lies packed in its slot, and what a census asks for beside it: nothing is kept twice, and nothing allocated for one at
//! rest.

use std::{borrow::Cow, collections::HashMap, mem, ops::Range};

use hashbrown::HashSet;
use numbers::Numbers;

use crate::{
    event::{ConnectionId, Monotonic, Pair, TcpState},
    lifecycle::{
        census::{InState, Tally},
        minisock::{Minisock, Packed, Wait, is_of},
        owners::{OwnerKey, Owners},
        roster::Stand,
    },
};

mod numbers;

/// A slot, by its number.
type Number = u32;

/// No slot.
const NONE: Number = Number::MAX;

/// So many slots are kept, however few are taken.
const FEW: usize = 1024;

/// Every minisock that is followed.
pub(super) struct MinisockTable {
    slots: Vec<Slot>,
    numbers: Numbers,
    /// The ends of a chain: the slot that was touched last, and the one that nothing was heard of for longest.
    newest: Number,
    oldest: Number,
    /// The first of a chain of free slots.
    free: Number,
    fin_wait2: Tally,
    time_wait: Tally,
    /// Addresses of those that may have left FIN-WAIT-2 unseen, which are in neither.
    unsure: HashSet<u64>,
    by_netns: HashMap<u32, u64>,
}

/// Room for a minisock. What is asked of all of them stands first.
struct Slot {
    address: u64,
    /// Of the connection's id.
    socket: u64,
    /// When it entered its substate, in nanoseconds of `CLOCK_MONOTONIC`; all ones if that was not seen.
    since: u64,
    /// Of the connection's id.
    netns: u32,
    owner: u32,
    /// Neighbors in the chain.
    newer: Number,
    older: Number,
    /// When its wait is nominally up, in whole seconds of `CLOCK_MONOTONIC`; all ones if that is not known.
    ends: u32,
    state: TcpState,
    sure: bool,
    /// It is counted where it stands.
    is_counted: bool,
    /// Of one that is packed: events of its life were lost.
    gap: bool,
    form: Form,
}

enum Form {
    /// Something is happening to it.
    Open(Box<Minisock>),
    /// It is at rest.
    Packed(Packed),
    /// There is none.
    Free,
}

// Its number takes another five to ten bytes.
const _: () = assert!(size_of::<Slot>() <= 136);

impl Slot {
    /// A slot with nobody in it, of a chain of such.
    const fn vacant(older: Number) -> Self {
        Self {
            address: 0,
            socket: 0,
            since: 0,
            netns: 0,
            owner: Owners::THE_REST,
            newer: NONE,
            older,
            ends: u32::MAX,
            state: TcpState::TimeWait,
            sure: true,
            is_counted: false,
            gap: false,
            form: Form::Free,
        }
    }

    const fn id(&self) -> ConnectionId {
        ConnectionId { netns: self.netns, socket: self.socket }
    }

    /// Packed times are told from here.
    const fn since(&self) -> Monotonic {
        Monotonic::from_nanos(self.since)
    }

    fn stand(&self) -> Stand {
        let since = Some(self.since()).filter(|_| self.since != u64::MAX);
        Stand { state: self.state, since, sure: self.sure, owner: self.owner }
    }

    /// Its socket pair, and whether it began without a cookie; to know that, it need not be unpacked whole.
    fn identity(&self) -> Option<(Pair, bool)> {
        match &self.form {
            Form::Open(minisock) => Some(minisock.identity()),
            Form::Packed(packed) => Some(packed.identity()),
            Form::Free => None,
        }
    }

    fn minisock(&self) -> Option<Cow<'_, Minisock>> {
        match &self.form {
            Form::Open(minisock) => Some(Cow::Borrowed(minisock)),
            Form::Packed(packed) => Some(Cow::Owned(packed.unpacked(self.since(), self.id(), self.gap))),
            Form::Free => None,
        }
    }

    fn into_minisock(self) -> Option<Minisock> {
        let (since, id, gap) = (self.since(), self.id(), self.gap);
        match self.form {
            Form::Open(minisock) => Some(*minisock),
            Form::Packed(packed) => Some(packed.unpacked(since, id, gap)),
            Form::Free => None,
        }
    }
}

impl MinisockTable {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            numbers: Numbers::new(),
            newest: NONE,
            oldest: NONE,
            free: NONE,
            fin_wait2: Tally::default(),
            time_wait: Tally::default(),
            unsure: HashSet::new(),
            by_netns: HashMap::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn contains(&self, address: u64) -> bool {
        self.number(address).is_some()
    }

    /// What its connection is known by.
    pub(super) fn id(&self, address: u64) -> Option<ConnectionId> {
        self.number(address).map(|number| self.slot(number).id())
    }

    /// The substate it was last seen in.
    pub(super) fn substate(&self, address: u64) -> Option<TcpState> {
        self.number(address).map(|number| self.slot(number).state)
    }

    /// Whether events were lost while it was followed.
    pub(super) fn has_gap(&self, address: u64) -> bool {
        let slot = self.number(address).map(|number| self.slot(number));
        slot.is_some_and(|slot| match &slot.form {
            Form::Open(minisock) => !minisock.is_whole(),
            Form::Packed(_) | Form::Free => slot.gap,
        })
    }

    /// Whether an event at this address [speaks of the minisock](Minisock::is) that is there; `None` if none is.
    pub(super) fn is(&self, address: u64, id: ConnectionId, pair: Pair) -> Option<bool> {
        let slot = self.slot(self.number(address)?);
        let (known_pair, nameless) = slot.identity()?;
        Some(is_of((slot.id(), known_pair, nameless), id, pair))
    }

    /// Its socket pair.
    pub(super) fn pair(&self, address: u64) -> Option<Pair> {
        self.slot(self.number(address)?).identity().map(|(pair, _)| pair)
    }

    /// The minisock at this address.
    pub(super) fn peek(&self, address: u64) -> Option<Cow<'_, Minisock>> {
        self.number(address).and_then(|number| self.slot(number).minisock())
    }

    /// The same, to be changed; [`note`](Self::note) comes after that.
    pub(super) fn get_mut(&mut self, address: u64) -> Option<&mut Minisock> {
        let number = self.number(address)?;
        self.touch(number);
        let slot = self.slot_mut(number);
        if let Form::Packed(packed) = &slot.form {
            slot.form = Form::Open(Box::new(packed.unpacked(slot.since(), slot.id(), slot.gap)));
        }
        match &mut slot.form {
            Form::Open(minisock) => Some(minisock),
            Form::Packed(_) | Form::Free => None,
        }
    }

    /// This minisock is at the address from now on, whichever was; [`note`](Self::note) comes after that.
    pub(super) fn put(&mut self, address: u64, minisock: Minisock) {
        let form = Form::Open(Box::new(minisock));
        match self.number(address) {
            Some(number) => {
                self.touch(number);
                self.slot_mut(number).form = form;
            }
            None => self.insert(Slot { address, form, ..Slot::vacant(NONE) }),
        }
    }

    /// A minisock has changed: what stands beside it is brought up to date, and if it is at rest from now on, it is packed.
    pub(super) fn note(&mut self, address: u64, owners: &mut Owners, sees_flips: bool) {
        let Some(number) = self.number(address) else {
            return;
        };
        let slot = self.slot_mut(number);
        let Form::Open(minisock) = &mut slot.form else {
            return;
        };
        let stand = Stand::of_minisock(minisock, sees_flips);
        let (id, owner) = (minisock.id(), minisock.owner());
        slot.ends = minisock.nominal_end().map_or(u32::MAX, whole_seconds);
        slot.gap = !minisock.is_whole();
        self.count(number, id, stand, (owner, owners));
        let slot = self.slot_mut(number);
        let Form::Open(minisock) = &mut slot.form else {
            return;
        };
        let since = Monotonic::from_nanos(slot.since);
        if let Some(packed) = Packed::of(minisock, since) {
            debug_assert_eq!(packed.unpacked(since, minisock.id(), slot.gap), **minisock, "nothing is lost");
            slot.form = Form::Packed(packed);
        }
    }

    /// A minisock is followed no longer.
    pub(super) fn pop(&mut self, address: u64, owners: &mut Owners) -> Option<Minisock> {
        let slots = &self.slots;
        let number = self.numbers.remove(address, |number| slots[number as usize].address)?;
        self.unchain(number);
        let slot = self.slot(number);
        if slot.is_counted {
            owners.leave(slot.owner, slot.state);
            self.discount(number);
        }
        let vacant = Slot::vacant(self.free);
        self.free = number;
        mem::replace(self.slot_mut(number), vacant).into_minisock()
    }

    /// Where the minisock in this slot stands now, and whose it is, is counted, and no longer where it stood.
    fn count(
        &mut self,
        number: Number,
        id: ConnectionId,
        stand: Stand,
        (owner, owners): (OwnerKey, &mut Owners),
    ) {
        let slot = self.slot(number);
        let before = (slot.owner, slot.state);
        let is_new = !slot.is_counted;
        let stays = !is_new && slot.netns == id.netns && slot.stand().stands_like(&stand);
        if !stays && !is_new {
            self.discount(number);
        }
        let slot = self.slot_mut(number);
        slot.owner =
            if is_new { owners.enter(owner, stand.state) } else { owners.pass(before, (owner, stand.state)) };
        slot.state = stand.state;
        slot.sure = stand.sure;
        slot.since = stand.since.map_or(u64::MAX, Monotonic::as_nanos);
        slot.is_counted = true;
        (slot.netns, slot.socket) = (id.netns, id.socket);
        if stays {
            return;
        }
        let (address, stand) = (slot.address, slot.stand());
        *self.by_netns.entry(id.netns).or_default() += 1;
        if stand.sure {
            self.tally(stand.state).enter(stand.since);
        } else {
            self.unsure.insert(address);
        }
    }

    /// The minisock in this slot is not counted any more where it stands.
    fn discount(&mut self, number: Number) {
        let slot = self.slot(number);
        let (address, netns, stand) = (slot.address, slot.netns, slot.stand());
        if stand.sure {
            self.tally(stand.state).leave(stand.since);
        } else {
            self.unsure.remove(&address);
        }
        if let Some(count) = self.by_netns.get_mut(&netns) {
            *count -= 1;
            if *count == 0 {
                self.by_netns.remove(&netns);
            }
        }
    }

    const fn tally(&mut self, substate: TcpState) -> &mut Tally {
        match substate {
            TcpState::FinWait2 => &mut self.fin_wait2,
            _ => &mut self.time_wait,
        }
    }

    /// The address of the one that nothing was heard of for longest.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.slots.get(self.oldest as usize).map(|slot| slot.address)
    }

    /// Events were lost, of any of them.
    pub(super) fn gap(&mut self) {
        for slot in &mut self.slots {
            slot.gap = true;
            if let Form::Open(minisock) = &mut slot.form {
                minisock.mark_gap();
            }
            // The flip may be among what was lost.
            if slot.is_counted && slot.sure && slot.state == TcpState::FinWait2 {
                self.fin_wait2.leave(slot.stand().since);
                self.unsure.insert(slot.address);
                slot.sure = false;
            }
        }
    }

    /// Those that [must have ended long ago](Minisock::is_overdue).
    pub(super) fn overdue(&self, now: Monotonic, usual: Wait) -> Vec<u64> {
        let is_overdue = |slot: &&Slot| {
            slot.ends < whole_seconds(now)
                && slot.minisock().is_some_and(|minisock| minisock.is_overdue(now, usual))
        };
        self.slots.iter().filter(is_overdue).map(|slot| slot.address).collect()
    }

    /// All of them, in no order: address, and connection.
    pub(super) fn ids(&self) -> impl Iterator<Item = (u64, ConnectionId)> {
        self.taken().map(|slot| (slot.address, slot.id()))
    }

    /// Where those stand that may have left FIN-WAIT-2 unseen.
    pub(super) fn unsure(&self) -> impl Iterator<Item = (ConnectionId, Stand)> {
        self.unsure.iter().filter_map(|&address| {
            let slot = self.slot(self.number(address)?);
            Some((slot.id(), slot.stand()))
        })
    }

    /// Where all others stand now.
    pub(super) fn together(&self, now: Monotonic) -> [(TcpState, InState); 2] {
        let tallies = [(TcpState::FinWait2, &self.fin_wait2), (TcpState::TimeWait, &self.time_wait)];
        tallies.map(|(state, tally)| (state, tally.in_state(now)))
    }

    /// How many slots there are.
    pub(super) const fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Those in these slots: address, connection, and socket pair.
    pub(super) fn pairs(&self, slots: Range<usize>) -> impl Iterator<Item = (u64, ConnectionId, Pair)> {
        let slots = self.slots.get(slots).unwrap_or_default();
        slots.iter().filter_map(|slot| slot.identity().map(|(pair, _)| (slot.address, slot.id(), pair)))
    }

    /// How many there are in each network namespace.
    pub(super) const fn by_netns(&self) -> &HashMap<u32, u64> {
        &self.by_netns
    }

    /// Gives back what a flood has left, if hardly any of it is in use.
    pub(super) fn give_back(&mut self) {
        if self.slots.len() <= FEW || self.len() > self.slots.len() / 8 {
            return;
        }
        let mut slots = mem::take(&mut self.slots);
        let mut next = self.oldest;
        self.numbers = Numbers::new();
        (self.newest, self.oldest, self.free) = (NONE, NONE, NONE);
        self.unsure.shrink_to_fit();
        self.fin_wait2.give_back();
        self.time_wait.give_back();
        while let Some(slot) = slots.get_mut(next as usize) {
            next = slot.newer;
            let slot = mem::replace(slot, Slot::vacant(NONE));
            self.insert(slot);
        }
    }

    /// All of them, whole, in no order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = Cow<'_, Minisock>> {
        self.slots.iter().filter_map(Slot::minisock)
    }

    fn taken(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| !matches!(slot.form, Form::Free))
    }

    fn number(&self, address: u64) -> Option<Number> {
        self.numbers.find(address, |number| self.slot(number).address)
    }

    fn slot(&self, number: Number) -> &Slot {
        &self.slots[number as usize]
    }

    fn slot_mut(&mut self, number: Number) -> &mut Slot {
        &mut self.slots[number as usize]
    }

    /// It takes a free slot, and the newest end of the chain.
    fn insert(&mut self, slot: Slot) {
        let address = slot.address;
        let number = self.free;
        let number = if let Some(free) = self.slots.get_mut(number as usize) {
            self.free = free.older;
            *free = slot;
            number
        } else {
            self.slots.push(slot);
            Number::try_from(self.slots.len() - 1).expect("memory for as many slots as numbers")
        };
        let slots = &self.slots;
        self.numbers.insert(address, number, |number| slots[number as usize].address);
        self.chain(number);
    }

    /// Something was heard of the minisock in this slot.
    fn touch(&mut self, number: Number) {
        if self.newest != number {
            self.unchain(number);
            self.chain(number);
        }
    }

    /// Puts a slot at the newest end of the chain.
    fn chain(&mut self, number: Number) {
        let newest = mem::replace(&mut self.newest, number);
        let slot = self.slot_mut(number);
        (slot.newer, slot.older) = (NONE, newest);
        match self.slots.get_mut(newest as usize) {
            Some(newest) => newest.newer = number,
            None => self.oldest = number,
        }
    }

    /// Takes a slot out of the chain.
    fn unchain(&mut self, number: Number) {
        let &Slot { newer, older, .. } = self.slot(number);
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }
}

/// Whole seconds of `CLOCK_MONOTONIC`, for as many years as fit.
fn whole_seconds(time: Monotonic) -> u32 {
    u32::try_from(time.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
