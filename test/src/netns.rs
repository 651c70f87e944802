//! Network namespaces: each has a worker thread that lives in it, and dies with its last user.

use std::any::Any;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, bail};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::breakage::OrGiveUp as _;
use crate::interface;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace of our own, with loopback up.
///
/// The kernel destroys it after the last of these is gone: this value, the threads of [`Netns::spawn`], every
/// socket made inside, and every [`Tun`](crate::tun::Tun) (so also a wire or a peer that uses it).
/// Destruction purges its TIME-WAIT sockets, and happens on a kernel thread a moment later.
#[derive(Debug)]
pub struct Netns {
    handle: Arc<File>,
    inode: u32,
    jobs: Option<SyncSender<Job>>,
    worker: Option<JoinHandle<()>>,
}

impl Netns {
    /// Makes a namespace. Gives up with a clear sentence when that is not allowed.
    #[expect(clippy::new_without_default, reason = "a namespace is a deed, not a default value")]
    #[track_caller]
    pub fn new() -> Self {
        Self::create().or_give_up()
    }

    fn create() -> anyhow::Result<Self> {
        let (jobs, inbox) = mpsc::sync_channel(0);
        let (entered, outcome) = mpsc::sync_channel(1);
        let worker = thread::Builder::new()
            .name("netns worker".into())
            .spawn(move || {
                let namespace = enter_new();
                let fit_for_work = namespace.is_ok();
                if entered.send(namespace).is_ok() && fit_for_work {
                    work(&inbox);
                }
            })
            .context("start the worker of a namespace")?;
        let handle = outcome.recv().context("the worker of a namespace died")??;
        let inode = inode_of(&handle)?;
        Ok(Self { handle: Arc::new(handle), inode, jobs: Some(jobs), worker: Some(worker) })
    }

    /// The number by which the kernel, `lsns` and a kernel program know the namespace.
    pub const fn inode(&self) -> u32 {
        self.inode
    }

    /// Moves the calling thread here: where the main thread of a process is, others take the process to be.
    #[track_caller]
    pub fn enter(&self) {
        move_into_link_name_space(self.handle(), Some(LinkNameSpaceType::Network))
            .context("enter the network namespace")
            .or_give_up();
    }

    /// The namespace, open.
    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Runs a closure on the namespace's worker and waits for it; its panic becomes the caller's.
    ///
    /// Sockets belong to the namespace of the thread that made them, so it is enough to make them here.
    /// One job at a time: what blocks for long belongs into [`Netns::spawn`].
    pub fn run<T, F>(&self, job: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (done, outcome) = mpsc::sync_channel::<Result<T, Box<dyn Any + Send>>>(1);
        let job = Box::new(move || {
            let result = panic::catch_unwind(AssertUnwindSafe(job));
            done.send(result).expect("the caller of Netns::run waits for the outcome");
        });
        self.jobs
            .as_ref()
            .expect("the worker has its inbox until the namespace is dropped")
            .send(job)
            .expect("the worker of the namespace is alive");
        match outcome.recv().expect("the worker of the namespace answers") {
            Ok(value) => value,
            Err(panic) => panic::resume_unwind(panic),
        }
    }

    /// Runs a closure on a new thread inside the namespace: for whatever blocks.
    #[track_caller]
    pub fn spawn<T, F>(&self, job: F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let handle = Arc::clone(&self.handle);
        thread::Builder::new()
            .name("netns guest".into())
            .spawn(move || {
                move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("enter the network namespace");
                drop(handle);
                job()
            })
            .context("start a thread in the namespace")
            .or_give_up()
    }

    /// From now on every segment to 127.0.0.1 is acknowledged at once: no timer does it, in a softirq that a host may keep
    /// programs away from.
    #[track_caller]
    pub fn acknowledge_at_once(&self) {
        self.run(interface::acknowledge_at_once).or_give_up();
    }

    /// Writes a kernel setting of this namespace: `netns.sysctl("net/ipv4/tcp_fin_timeout", "5")`.
    ///
    /// The kernel resolves `/proc/sys/net` in the namespace of the thread that looks the path up,
    /// and the worker is that thread.
    #[track_caller]
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = setting(name);
        let bytes = value.as_bytes().to_vec();
        self.run(move || fs::write(&path, bytes).with_context(|| format!("write {path}"))).or_give_up();
    }

    /// [`Self::sysctl`], if this kernel has the setting; tells whether it has.
    #[track_caller]
    pub fn try_sysctl(&self, name: &str, value: &str) -> bool {
        let path = setting(name);
        if !self
            .run({
                let path = path.clone();
                move || fs::exists(path)
            })
            .context("look for a setting")
            .or_give_up()
        {
            return false;
        }
        self.sysctl(name, value);
        true
    }

    /// Reads a kernel setting of this namespace.
    #[track_caller]
    pub fn sysctl_value(&self, name: &str) -> String {
        let path = setting(name);
        let text =
            self.run(move || fs::read_to_string(&path).with_context(|| format!("read {path}"))).or_give_up();
        text.trim_end().to_owned()
    }

    /// Lets go of the namespace; the same as dropping it, but visible in a test.
    pub fn destroy(self) {
        drop(self);
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(worker) = self.worker.take() {
            // An error would be a panic of the worker itself, and its jobs keep theirs to their callers.
            drop(worker.join());
        }
    }
}

fn setting(name: &str) -> String {
    format!("/proc/sys/{name}")
}

fn work(inbox: &Receiver<Job>) {
    for job in inbox {
        job();
    }
}

/// Moves the calling thread into a new namespace and brings loopback up.
fn enter_new() -> anyhow::Result<File> {
    // SAFETY: CLONE_NEWNET leaves the table of file descriptors shared, which is what makes unshare unsafe
    // otherwise.
    match unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
        Ok(()) => {}
        Err(Errno::PERM) => bail!("live tests need root: unshare(CLONE_NEWNET): EPERM"),
        Err(errno) => return Err(errno).context("unshare(CLONE_NEWNET)"),
    }
    interface::bring_up("lo", None)?;
    File::open("/proc/thread-self/ns/net").context("open /proc/thread-self/ns/net")
}

fn inode_of(handle: &File) -> anyhow::Result<u32> {
    let status = rustix::fs::fstat(handle).context("stat a network namespace")?;
    u32::try_from(status.st_ino).context("inode of a network namespace")
}
