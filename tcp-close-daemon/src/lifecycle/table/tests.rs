use std::time::Duration;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::lifecycle::tracker::Sees;

const SEES: Sees = Sees { minisocks: true, starts: true, segments: true };

const NOMINAL_END: Monotonic = Monotonic::from_nanos(60_000_000_000);

const USUAL: Wait = Wait { nominal: Duration::from_secs(60), slack: Duration::from_secs(4) };

/// A minisock that was there before anybody looked.
fn listed(id: ConnectionId, substate: TcpState) -> Minisock {
    let pair = Pair { local: ([192, 0, 2, 1], 80).into(), remote: ([192, 0, 2, 2], 50_000).into() };
    Minisock::listed(id, pair, substate, NOMINAL_END, SEES)
}

/// One of those, at this address.
fn put(table: &mut MinisockTable, owners: &mut Owners, address: u64) {
    let id = ConnectionId { netns: 1, socket: 1000 + address };
    table.put(address, listed(id, TcpState::TimeWait));
    table.note(address, owners, true);
}

fn table_of(addresses: impl Iterator<Item = u64>) -> (MinisockTable, Owners) {
    let (mut table, mut owners) = (MinisockTable::new(), Owners::default());
    addresses.for_each(|address| put(&mut table, &mut owners, address));
    (table, owners)
}

fn socket(minisock: Option<Minisock>) -> Option<u64> {
    minisock.map(|minisock| minisock.id().socket)
}

fn pop_oldest(table: &mut MinisockTable, owners: &mut Owners) -> Option<u64> {
    socket(table.pop(table.oldest()?, owners))
}

#[test]
fn what_nothing_was_heard_of_for_longest_goes_first() {
    let (mut table, mut owners) = table_of(1..=4);
    assert!(table.get_mut(1).is_some());
    table.note(1, &mut owners, true);
    assert_eq!(socket(table.pop(3, &mut owners)), Some(1003));
    put(&mut table, &mut owners, 3);
    let order: Vec<_> = std::iter::from_fn(|| pop_oldest(&mut table, &mut owners)).collect();
    assert_eq!(order, [1002, 1004, 1001, 1003]);
    assert_eq!((table.len(), table.oldest()), (0, None));
}

#[test]
fn a_slot_that_is_free_is_taken_again() {
    let (mut table, mut owners) = table_of(1..=3);
    table.pop(2, &mut owners);
    put(&mut table, &mut owners, 9);
    put(&mut table, &mut owners, 9);
    assert_eq!((table.slots.len(), table.len()), (3, 3));
    let mut addresses: Vec<_> = table.ids().map(|(address, _)| address).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, [1, 3, 9]);
}

#[test]
fn what_a_flood_has_left_is_given_back() {
    let (mut table, mut owners) = table_of(1..=2000);
    for address in (1..=2000).filter(|address| address % 100 != 0) {
        table.pop(address, &mut owners);
    }
    table.give_back();
    assert_eq!((table.slots.len(), table.len()), (20, 20));
    assert_eq!(table.id(1500), Some(ConnectionId { netns: 1, socket: 2500 }));
    assert_eq!(pop_oldest(&mut table, &mut owners), Some(1100), "in the same order");
}

#[test]
fn what_is_at_rest_is_packed_until_it_is_changed() {
    let (mut table, mut owners) = table_of(1..=1);
    let is_packed = |table: &MinisockTable| matches!(table.slots[0].form, Form::Packed(_));
    assert!(is_packed(&table));
    assert!(table.get_mut(1).is_some() && !is_packed(&table));
    table.note(1, &mut owners, true);
    assert!(is_packed(&table));
    table.gap();
    assert!(table.peek(1).is_some_and(|minisock| !minisock.is_whole()), "whatever form it has");
}

#[test]
fn few_are_looked_at_more_closely_for_being_overdue() {
    let (table, _) = table_of(1..=1);
    let overdue = |seconds: u64| table.overdue(Monotonic::from_nanos(seconds * 1_000_000_000), USUAL).len();
    assert_eq!([59, 60, 61, 74, 75].map(overdue), [0, 0, 0, 0, 1]);
}

/// What may happen to the table.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// One that was there before anybody looked is at this address from now on.
    Put(u64, ConnectionId, TcpState),
    /// Something is heard of the one at this address: it is in TIME-WAIT now.
    Flip(u64),
    Pop(u64),
    PopOldest,
    Gap,
}

fn step() -> impl Strategy<Value = Step> {
    let address = || 1..=8_u64;
    let id = (1..=2_u32, 1..=99_u64).prop_map(|(netns, socket)| ConnectionId { netns, socket });
    let substate = select(vec![TcpState::FinWait2, TcpState::TimeWait]);
    prop_oneof![
        4 => (address(), id, substate).prop_map(|(address, id, substate)| Step::Put(address, id, substate)),
        2 => address().prop_map(Step::Flip),
        2 => address().prop_map(Step::Pop),
        1 => Just(Step::PopOldest),
        1 => Just(Step::Gap),
    ]
}

/// What the table should have of a minisock.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Expected {
    address: u64,
    id: ConnectionId,
    substate: TcpState,
    is_whole: bool,
}

/// What it has of all of them, the one that nothing was heard of for longest first.
fn all_of(table: &MinisockTable) -> Vec<Expected> {
    let mut next = table.oldest;
    std::iter::from_fn(|| {
        let slot = table.slots.get(next as usize)?;
        next = slot.newer;
        let address = slot.address;
        let minisock = table.peek(address)?;
        let (id, substate) = (table.id(address)?, table.substate(address)?);
        assert_eq!((minisock.id(), minisock.substate()), (id, substate), "beside it stands the same");
        Some(Expected { address, id, substate, is_whole: minisock.is_whole() })
    })
    .collect()
}

proptest! {
    /// Whatever happens, in whatever order: it is a list, and each minisock is counted once.
    #[test]
    fn it_has_what_was_put_there(steps in vec(step(), 0..60)) {
        let (mut table, mut owners) = (MinisockTable::new(), Owners::default());
        let mut expected: Vec<Expected> = Vec::new();
        let take = |expected: &mut Vec<Expected>, address| {
            let place = expected.iter().position(|minisock| minisock.address == address)?;
            Some(expected.remove(place))
        };
        for step in steps {
            match step {
                Step::Put(address, id, substate) => {
                    take(&mut expected, address);
                    table.put(address, listed(id, substate));
                    table.note(address, &mut owners, true);
                    expected.push(Expected { address, id, substate, is_whole: true });
                }
                Step::Flip(address) => {
                    let flipped = table.get_mut(address).map(|minisock| minisock.has_flipped(NOMINAL_END, USUAL));
                    table.note(address, &mut owners, true);
                    let was = take(&mut expected, address);
                    prop_assert_eq!(flipped.is_some(), was.is_some());
                    expected.extend(was.map(|was| Expected { substate: TcpState::TimeWait, is_whole: false, ..was }));
                }
                Step::Pop(address) => {
                    let popped = table.pop(address, &mut owners).map(|minisock| minisock.id());
                    prop_assert_eq!(popped, take(&mut expected, address).map(|was| was.id));
                }
                Step::PopOldest => {
                    prop_assert_eq!(table.oldest(), expected.first().map(|oldest| oldest.address));
                    if let Some(oldest) = table.oldest() {
                        table.pop(oldest, &mut owners);
                        expected.remove(0);
                    }
                }
                Step::Gap => {
                    table.gap();
                    for minisock in &mut expected {
                        minisock.is_whole = false;
                    }
                }
            }
            prop_assert_eq!(&all_of(&table), &expected);
            prop_assert_eq!(table.len(), expected.len());
            let mut by_netns = HashMap::new();
            for minisock in &expected {
                *by_netns.entry(minisock.id.netns).or_default() += 1;
            }
            prop_assert_eq!(table.by_netns(), &by_netns);
            let counted = table.together(NOMINAL_END).iter().map(|(_, state)| state.sockets).sum::<u64>();
            prop_assert_eq!(usize::try_from(counted)? + table.unsure().count(), expected.len());
            let unsure = table.unsure().all(|(_, stand)| stand.state == TcpState::FinWait2 && !stand.sure);
            prop_assert!(unsure, "of TIME-WAIT everything is known");
        }
    }
}
