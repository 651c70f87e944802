//! From one network namespace to the next, on a thread that nobody else needs.

use std::{fs::File, io, os::fd::AsFd as _, path::Path};

use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{BlindSpot, Snapshot, SnapshotError, dump};
use crate::{clock, event::TcpState, kernel::netns};

/// Reads one namespace after the other. The thread is left in the last one.
pub(super) fn walk(wanted: &[u32], states: &[TcpState]) -> Result<Snapshot, SnapshotError> {
    let at = clock::monotonic_now();
    let found = netns::find(wanted);
    let mut snapshot =
        Snapshot { at, rows: Vec::new(), blind_spot: found.hidden.then_some(BlindSpot::Hidden) };
    // Its own comes first: it takes no privilege to stay there.
    let own = netns::inode(netns::OWN).ok();
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        found.namespaces.iter().partition(|&(&inode, _)| Some(inode) == own);
    for (&inode, path) in here.into_iter().chain(elsewhere) {
        let entered = if Some(inode) == own { Ok(true) } else { enter(inode, path) };
        match entered {
            Ok(true) => snapshot.rows.append(&mut dump::dump(inode, states)?),
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(inode, %error, "a network namespace cannot be entered");
                snapshot.blind_spot.get_or_insert(BlindSpot::Closed(inode));
            }
        }
    }
    Ok(snapshot)
}

/// Moves this thread into a namespace; `false` if it is gone. It is held open for no longer than that takes: whoever
/// holds a namespace keeps it alive.
fn enter(inode: u32, path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_gone(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    // The process that led to it may live in another by now.
    if netns::inode_of(&file) != Some(inode) {
        return Ok(false);
    }
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(true)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}
