//! Takes in the kernel's table, piece by piece, so that nobody waits long for the ring to be read.

use std::{collections::HashMap, vec};

use tokio::sync::oneshot;

use super::{NOBODY, Pipeline};
use crate::{
    event::{ConnectionId, Event, EventKind, Monotonic},
    snapshot::{Row, Snapshot},
};

/// Minisocks that are gone through at a turn before the kernel's table is asked for: nobody reads the ring meanwhile, and
/// that may take some milliseconds at most.
const PREPARED_PER_TURN: usize = 1 << 15;

/// Sockets of the kernel's table that are taken in at a turn, for the same reason.
const LISTED_PER_TURN: usize = 1 << 14;

/// The kernel's table, as far as it has not been taken in yet.
pub(super) struct Listing {
    arrived: Monotonic,
    rows: vec::IntoIter<Row>,
    /// The namespaces that were read, and when.
    read: HashMap<u32, Monotonic>,
    /// No namespace that is watched was kept from whoever looked for them.
    is_all_there_is: bool,
    /// Told when all of it is taken in.
    done: oneshot::Sender<()>,
}

impl Listing {
    /// A table that arrived just now; all namespaces that are watched were looked for, or not.
    pub(super) fn new(
        arrived: Monotonic,
        snapshot: Snapshot,
        of_all: bool,
        done: oneshot::Sender<()>,
    ) -> Self {
        let Snapshot { rows, read, blind_spot, .. } = snapshot;
        Self {
            arrived,
            rows: rows.into_iter(),
            read: read.into_iter().collect(),
            is_all_there_is: of_all && blind_spot.is_none(),
            done,
        }
    }
}

impl Pipeline {
    /// Prepares for a table of the kernel's, if somebody is about to ask for it, and tells when that is done.
    pub(super) fn prepare_listing(&mut self, now: Monotonic) {
        if self.listing_begins.is_some() && self.tracker.prepare_listing(PREPARED_PER_TURN) {
            self.sequencer.push(Event { at: now, id: NOBODY, kind: EventKind::ListingBegan });
            // Whoever waits may have gone away meanwhile.
            let _gone = self.listing_begins.take().map(|known| known.send(()));
        }
    }

    /// Takes in some of the kernel's table, once all events are in that are older.
    pub(super) fn take_in_listing(&mut self, complete: Monotonic) {
        let Some(mut listing) = self.listing.take_if(|listing| listing.arrived <= complete) else {
            return;
        };
        for row in listing.rows.by_ref().take(LISTED_PER_TURN) {
            let read_at = listing.read.get(&row.id.netns).copied().unwrap_or(listing.arrived);
            self.apply(complete, row.id, EventKind::Listed(row.listed(read_at)));
        }
        if listing.rows.len() > 0 {
            self.listing = Some(listing);
            return;
        }
        for &netns in listing.read.keys() {
            self.apply(complete, ConnectionId { netns, socket: 0 }, EventKind::NamespaceListed);
        }
        if listing.is_all_there_is {
            // No way leads into them any more, so their tables are empty.
            for netns in self.tracker.doubtful_namespaces() {
                self.apply(complete, ConnectionId { netns, socket: 0 }, EventKind::NamespaceListed);
            }
        }
        self.apply(complete, NOBODY, EventKind::ListingEnded);
        self.last_listing = Some(complete);
        self.listings += 1;
        // Whoever waits may have gone away meanwhile.
        let _gone = listing.done.send(());
    }
}
