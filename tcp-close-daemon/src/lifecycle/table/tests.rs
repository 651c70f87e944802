use super::*;
use crate::lifecycle::tracker::Sees;

const SEES: Sees = Sees { minisocks: true, starts: true, segments: true };

/// A minisock that was there before anybody looked, at this address.
fn put(table: &mut MinisockTable, owners: &mut Owners, address: u64) {
    let pair = Pair { local: ([192, 0, 2, 1], 80).into(), remote: ([192, 0, 2, 2], 50_000).into() };
    let id = ConnectionId { netns: 1, socket: 1000 + address };
    let nominal_end = Monotonic::from_nanos(60_000_000_000);
    table.put(address, Minisock::listed(id, pair, TcpState::TimeWait, nominal_end, SEES));
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
    let usual =
        Wait { nominal: std::time::Duration::from_secs(60), slack: std::time::Duration::from_secs(4) };
    let overdue = |seconds: u64| table.overdue(Monotonic::from_nanos(seconds * 1_000_000_000), usual).len();
    assert_eq!([59, 60, 61, 74, 75].map(overdue), [0, 0, 0, 0, 1]);
}
