//! From one network namespace to the next, on a thread that nobody else needs.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::Path,
};

use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{BlindSpot, PortTable, Snapshot, SnapshotError, dump, proc_net};
use crate::{
    clock,
    event::TcpState,
    kernel::{netns, port_settings::PortSettings},
    owner::Home,
};

/// What a namespace is called that nobody gave a name.
const UNNAMED: &str = "unnamed";

/// The kernel's counts of the sockets of the namespace that a thread is in.
const SOCKSTAT: &str = "/proc/thread-self/net/sockstat";

/// Reads the tables of one namespace after the other. The thread is left in the last one.
pub(super) fn walk(wanted: &[u32], states: &[TcpState]) -> Result<Snapshot, SnapshotError> {
    let at = clock::monotonic_now();
    let mut snapshot = Snapshot { at, rows: Vec::new(), read: Vec::new(), blind_spot: None };
    snapshot.blind_spot = visit_each(wanted, |netns, way| {
        let at = clock::monotonic_now();
        let mut rows = match way {
            Way::Inside(_) => dump::dump(netns, states)?,
            Way::Outside(process) => match proc_net::read(netns, process, states) {
                Ok(rows) if netns::lives_in(process, netns) => rows,
                // The process has ended meanwhile, or gone elsewhere.
                _ => return Ok(false),
            },
        };
        snapshot.read.push((netns, at));
        snapshot.rows.append(&mut rows);
        Ok::<bool, SnapshotError>(true)
    })?;
    Ok(snapshot)
}

/// Reads the tables of one namespace after the other, whole, and its settings. The thread is left in the last one.
pub(super) fn ports(wanted: &[u32]) -> Result<(Vec<PortTable>, Option<BlindSpot>), SnapshotError> {
    let names = netns::names();
    let mut tables = Vec::new();
    let blind_spot = visit_each(wanted, |netns, way| {
        // Settings are to be seen from inside only.
        let Way::Inside(path) = way else {
            return Ok(false);
        };
        let at = clock::monotonic_now();
        let Some(settings) = PortSettings::read() else {
            return Ok(false);
        };
        let name = names.get(&netns).cloned().or_else(|| inhabitant(path));
        let name = name.unwrap_or_else(|| UNNAMED.to_owned());
        let rows = dump::dump(netns, &TcpState::ALL)?;
        tables.push(PortTable { netns, name, at, settings, rows });
        Ok::<bool, SnapshotError>(true)
    })?;
    Ok((tables, blind_spot))
}

/// Reads the kernel's count of one namespace after the other. The thread is left in the last one.
pub(super) fn minisocks(wanted: &[u32]) -> HashMap<u32, u64> {
    let mut counts = HashMap::new();
    let visited = visit_each(wanted, |netns, way| {
        let path = match way {
            Way::Inside(_) => Path::new(SOCKSTAT).to_owned(),
            Way::Outside(process) => process.join("net/sockstat"),
        };
        counts.extend(fs::read_to_string(path).ok().and_then(|text| Some((netns, count(&text)?))));
        Ok::<bool, std::convert::Infallible>(true)
    });
    match visited {
        // What cannot be seen is told of where sockets are looked for.
        Ok(_blind_spot) => counts,
        Err(never) => match never {},
    }
}

/// The minisocks in `TCP: inuse 5 orphan 0 tw 2 alloc 7 mem 1`.
fn count(sockstat: &str) -> Option<u64> {
    let mut words = sockstat.lines().find_map(|line| line.strip_prefix("TCP: "))?.split_ascii_whitespace();
    words.find(|&word| word == "tw")?;
    words.next()?.parse().ok()
}

/// Whoever lives in a namespace that a process leads to: its container or unit.
fn inhabitant(path: &Path) -> Option<String> {
    let cgroups = fs::read_to_string(process_of(path)?.join("cgroup")).ok()?;
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Home::of_path(path).service().map(str::to_owned)
}

/// How a namespace is looked at.
#[derive(Clone, Copy, Debug)]
enum Way<'a> {
    /// This thread is in it, and got there by this path.
    Inside(&'a Path),
    /// This thread may not enter it, but a process lives there, whose directory below /proc this is.
    Outside(&'a Path),
}

/// The directory of the process that leads to a namespace by this path.
fn process_of(path: &Path) -> Option<&Path> {
    path.ends_with("ns/net").then(|| path.ancestors().nth(2))?
}

/// Goes into one namespace after the other, and where that is refused looks in from outside; `visit` says whether that will
/// do. Gives back why there may be more.
fn visit_each<E>(
    wanted: &[u32],
    mut visit: impl FnMut(u32, Way<'_>) -> Result<bool, E>,
) -> Result<Option<BlindSpot>, E> {
    let found = netns::find(wanted);
    let mut blind_spot = found.hidden.then_some(BlindSpot::Hidden);
    // Its own comes first: it takes no privilege to stay there.
    let own = netns::inode(netns::OWN).ok();
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        found.namespaces.iter().partition(|&(&inode, _)| Some(inode) == own);
    for (&inode, path) in here.into_iter().chain(elsewhere) {
        let entered = if Some(inode) == own { Ok(true) } else { enter(inode, path) };
        let is_seen = match entered {
            Ok(true) => visit(inode, Way::Inside(path))?,
            Ok(false) => true,
            Err(error) => {
                tracing::debug!(inode, %error, "a network namespace cannot be entered");
                match process_of(path) {
                    Some(process) => visit(inode, Way::Outside(process))?,
                    None => false,
                }
            }
        };
        if !is_seen {
            blind_spot.get_or_insert(BlindSpot::Closed(inode));
        }
    }
    Ok(blind_spot)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minisocks_are_counted_by_name() {
        let text = "sockets: used 290\nTCP: inuse 5 orphan 0 tw 42 alloc 7 mem 1\nUDP: inuse 1 mem 0\n";
        assert_eq!(count(text), Some(42));
        assert_eq!(count("TCP: inuse 5\n"), None);
        assert_eq!(count("UDP: inuse 1 tw 3\n"), None);
    }
}
