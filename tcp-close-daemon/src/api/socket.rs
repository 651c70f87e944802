//! The socket's file: where it is, and who may use it.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::unistd::Uid;
use procfs::process::Process;

/// Members of this group may ask, if there is one; otherwise only the daemon's own user, and root.
const GROUP: &str = "tcp-close";

/// The groups of this host (group(5)).
///
/// The C library, asked for a group, loads what `/etc/nsswitch.conf` names into the program, and a program that needs no
/// file but its own, as tcp-close is shipped, does not survive that. Packages make the group here.
const GROUPS: &str = "/etc/group";

/// Its own user and the group, to read and to write: that is what it takes to connect.
const MODE: u32 = 0o660;

/// What a mode has that lets others in.
const FOR_OTHERS: u32 = 0o006;

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// There is another daemon.
    #[error("another daemon answers at {0}")]
    InUse(PathBuf),
    /// Something else.
    #[error("cannot make the socket {path}")]
    Io {
        /// Its path.
        path: PathBuf,
        /// Why it cannot be made.
        #[source]
        source: io::Error,
    },
}

/// The socket, for as long as this is kept.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Device and inode, which tell it from one that took its place.
    identity: (u64, u64),
}

impl Socket {
    /// Makes the socket, in place of one that nobody answers at any more.
    pub fn bind(path: &Path) -> Result<(Self, UnixListener), BindError> {
        if UnixStream::connect(path).is_ok() {
            return Err(BindError::InUse(path.to_owned()));
        }
        let failed = |source| BindError::Io { path: path.to_owned(), source };
        if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket()) {
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there")));
        }
        // A folder of its own, as below /run, and no more: what is missing above that is a mistake in what was typed.
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty())
            && let Err(error) = DirBuilder::new().mode(0o755).create(directory)
            && !directory.is_dir()
        {
            return Err(failed(error));
        }
        // It gets its name once it is open to those who may use it, and to nobody else.
        let unnamed = path.with_extension(format!("{}.new", std::process::id()));
        let made = make(&unnamed).and_then(|listener| {
            let metadata = fs::metadata(&unnamed)?;
            fs::rename(&unnamed, path)?;
            Ok((Self { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) }, listener))
        });
        made.map_err(|error| {
            // What was half made is of no use.
            let _not_there = fs::remove_file(&unnamed);
            failed(error)
        })
    }
}

fn make(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    // Where there is no such file there is no group either: an image with nothing else in it has none.
    let group = match fs::read(GROUPS) {
        Ok(groups) => number_of(GROUP, &String::from_utf8_lossy(&groups)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(%error, "group {GROUP} cannot be looked up in {GROUPS}");
            None
        }
    };
    // A filter of system calls may forbid even what would change nothing.
    if let Some(group) = group
        && fs::metadata(path)?.gid() != group
        && let Err(error) = chown(path, None, Some(group))
    {
        tracing::warn!(%error, "the socket cannot be given to group {GROUP}: only this user and root may use it");
    }
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok(listener)
}

/// The number of a group, in the words of `/etc/group`.
fn number_of(group: &str, groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == group).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// Whoever asks has to be of the socket's group, whatever mode somebody has given it since.
#[derive(Clone, Debug)]
pub struct Door {
    path: PathBuf,
}

impl Door {
    /// That of the socket which listens at this path.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Whether the process at the other end may ask: root's, the daemon's own user's, or one in the group of the socket.
    pub(super) fn admits(&self, peer: &tokio::net::UnixStream) -> bool {
        let Ok(metadata) = fs::metadata(&self.path) else {
            return false;
        };
        // Whom a mode of ours keeps out, the kernel has kept out.
        if metadata.mode() & FOR_OTHERS == 0 {
            return true;
        }
        peer.peer_cred().is_ok_and(|peer| {
            [0, Uid::effective().as_raw()].contains(&peer.uid())
                || peer.gid() == metadata.gid()
                || peer.pid().is_some_and(|pid| is_in_group(pid, metadata.gid()))
        })
    }
}

/// Whether a process has this among its supplementary groups.
fn is_in_group(pid: i32, group: u32) -> bool {
    let status = Process::new(pid).and_then(|process| process.status());
    status.is_ok_and(|status| status.groups.contains(&group))
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if fs::metadata(&self.path).is_ok_and(is_ours) {
            // Nobody can be told any more.
            let _left_behind = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups =
            "root:x:0:\ntcp-closed:x:7:\n# tcp-close\ntcp-close:x:992:member,other\nbroken:x:\nodd\n";
        let number = |name| number_of(name, groups);
        assert_eq!([number("tcp-close"), number("root"), number("tcp")], [Some(992), Some(0), None]);
        assert_eq!([number("broken"), number("odd")], [None, None]);
    }

    #[test]
    fn one_daemon_answers_at_a_socket() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("run/tcp-close.sock");
        let (socket, listener) = Socket::bind(&path).expect("a socket");
        let metadata = fs::metadata(&path).expect("it is there");
        assert_eq!(metadata.permissions().mode() & 0o777, MODE);
        assert!(matches!(Socket::bind(&path), Err(BindError::InUse(_))));
        drop(listener);
        // Nobody answers there any more.
        let (next, _listener) = Socket::bind(&path).expect("a socket in its place");
        drop(socket);
        assert!(path.exists(), "it is another one's");
        drop(next);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(path.parent().expect("a directory")).expect("entries").count(), 0);
    }

    #[test]
    fn what_is_in_the_way_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file/tcp-close.sock");
        fs::write(directory.path().join("file"), "").expect("a file");
        let error = Socket::bind(&path).expect_err("a file is no directory");
        assert!(error.to_string().contains("cannot make the socket"), "{error}");
        let file = directory.path().join("file");
        Socket::bind(&file).expect_err("a file is not to be replaced");
        assert!(file.is_file());
    }
}
