//! tcp-close, watching the namespaces of one test, in this process; and the kernel's counters it must agree with.

use std::{
    collections::HashSet,
    env,
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, OnceLock, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use clap::ValueEnum as _;
use tcp_close::{
    cli::ProbeFamily,
    clock,
    event::{ConnectionId, Monotonic, TcpState},
    lifecycle::{
        Census, Limits, Observation, Stats,
        observation::{Absorbed, Closed, EndCause, MinisockEnded, Story, Then, TimeWait, Witness},
    },
    pipeline::{Losses, Pipeline},
    probe::{Family, Hook, HookReport, Preflight, Probe, ProbeSettings, Rung, Verdict},
    settings,
    shutdown::Shutdown,
};
use tcp_close_abi::Counters;
use tcp_close_test::{
    netns::Netns,
    oracle::{self, Netstat, Timer},
};
use tokio_util::sync::CancellationToken;

use crate::recorder::{self, Recorder};

/// How long a test waits for something to be told; a close is told within a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// By then a close is told that is over.
const SETTLES: Duration = Duration::from_millis(100);

/// What has been told so far.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) observations: Vec<Observation>,
    pub(crate) counters: Counters,
    /// What is closing, and when that was so.
    pub(crate) census: (Monotonic, Census),
    losses: Losses,
    stats: Stats,
    /// What happened before is taken in.
    complete: Monotonic,
}

impl Told {
    pub(crate) fn closed(&self) -> Vec<Closed> {
        let closed = self.observations.iter().filter_map(|observation| match observation {
            Observation::Closed(closed) => Some(*closed),
            _ => None,
        });
        closed.collect()
    }

    pub(crate) fn minisocks_ended(&self) -> Vec<MinisockEnded> {
        let ended = self.observations.iter().filter_map(|observation| match observation {
            Observation::MinisockEnded(ended) => Some(*ended),
            _ => None,
        });
        ended.collect()
    }

    /// Of those that replaced these full sockets: once a namespace is gone, its number may soon be that of another test's.
    pub(crate) fn minisocks_ended_of(&self, closed: &[Closed]) -> Vec<MinisockEnded> {
        let ids: HashSet<ConnectionId> = closed.iter().map(|closed| closed.story.id).collect();
        self.minisocks_ended().into_iter().filter(|ended| ids.contains(&ended.id)).collect()
    }

    pub(crate) fn minisocks_began(&self) -> usize {
        self.observations
            .iter()
            .filter(|observation| matches!(observation, Observation::MinisockBegan(_)))
            .count()
    }

    /// Whether a minisock was seen to go over from FIN-WAIT-2 to TIME-WAIT.
    pub(crate) fn flipped(&self) -> bool {
        let is_flip = |observation: &Observation| matches!(observation, Observation::Restarted(restarted) if restarted.flipped);
        self.observations.iter().any(is_flip)
    }

    /// FINs that came again to minisocks in TIME-WAIT, and strays.
    pub(crate) fn absorbed(&self) -> (usize, usize) {
        let count = |wanted| {
            self.observations
                .iter()
                .filter(|&observation| *observation == Observation::Absorbed(wanted))
                .count()
        };
        (count(Absorbed::FinAgain), count(Absorbed::Stray))
    }

    /// Events that our programs are known to have missed, at most.
    pub(crate) const fn missed(&self) -> u64 {
        self.losses.missed
    }

    /// What has been told and counted so far, for who waits for more in vain.
    fn summary(&self) -> String {
        let changes: Vec<_> = TcpState::ALL
            .into_iter()
            .flat_map(|from| TcpState::ALL.map(|to| (from, to, self.transitions(from, to))))
            .filter(|&(_, _, count)| count > 0)
            .collect();
        let last = self.observations.iter().rev().take(20).rev().collect::<Vec<_>>();
        format!(
            "{} observations, {} closed, {} minisocks ended; {:?} {:?}; lost in the kernel {:?}; {changes:?}; the last of it {last:#?}",
            self.observations.len(),
            self.closed().len(),
            self.minisocks_ended().len(),
            self.losses,
            self.stats,
            self.counters.lost,
        )
    }

    /// Entries that the core still has: full sockets, and minisocks.
    pub(crate) const fn left(&self) -> (usize, usize) {
        (self.stats.sockets, self.stats.minisocks)
    }

    /// Ends of minisocks whose time was up, in either substate.
    fn expired(&self) -> usize {
        let expired =
            |ended: &&MinisockEnded| matches!(ended.cause, EndCause::Expired | EndCause::FinWait2Timeout);
        self.minisocks_ended().iter().filter(expired).count()
    }

    /// Ends of minisocks by a local connect.
    fn reused(&self) -> usize {
        self.minisocks_ended().iter().filter(|ended| ended.cause == EndCause::Reused).count()
    }

    /// TIME-WAITs that the kernel refused to make.
    fn refused(&self) -> usize {
        self.closed().iter().filter(|closed| closed.then == Some(Then::Refused)).count()
    }

    /// The kernel side's count of a state change.
    pub(crate) const fn transitions(&self, from: TcpState, to: TcpState) -> u64 {
        self.counters.transitions[from as usize][to as usize]
    }
}

/// tcp-close, attached to some namespaces.
pub(crate) struct Observer {
    told: Arc<(Mutex<Told>, Condvar)>,
    stop: CancellationToken,
    pipeline: Option<JoinHandle<()>>,
    hooks: Vec<HookReport>,
    counts_what_is_missed: bool,
    before: Vec<Netstat>,
}

impl Observer {
    /// Attaches every hook, and remembers what the kernel has counted so far in these namespaces.
    pub(crate) fn attach(namespaces: &[&Netns]) -> Self {
        Self::attach_with_ring(namespaces, 1 << 20)
    }

    /// [`Self::attach`] with a ring of this many bytes.
    pub(crate) fn attach_with_ring(namespaces: &[&Netns], ring_bytes: u32) -> Self {
        let settings = ProbeSettings { ring_bytes, ..ProbeSettings::default() };
        Self::attach_with(namespaces, preflight(), &settings)
    }

    /// [`Self::attach`] without a witness of segments.
    pub(crate) fn attach_without_witness(namespaces: &[&Netns]) -> Self {
        let settings = ProbeSettings { ring_bytes: 1 << 20, witness: false, ..ProbeSettings::default() };
        Self::attach_with(namespaces, preflight(), &settings)
    }

    /// [`Self::attach`] with the kernel seen in another way, and settings of one's own.
    pub(crate) fn attach_with(
        namespaces: &[&Netns],
        preflight: &'static Preflight,
        settings: &ProbeSettings,
    ) -> Self {
        let netns = namespaces.iter().map(|netns| netns.inode()).collect();
        // A test that is about one family asks for it; all others take what this run is about.
        let family = if settings.family == Family::Auto { family() } else { settings.family };
        let settings = ProbeSettings { netns, family, ..settings.clone() };
        let told = Told {
            observations: Vec::new(),
            counters: Counters::ZERO,
            census: (Monotonic::default(), Census::default()),
            losses: Losses::default(),
            stats: Stats::default(),
            complete: Monotonic::default(),
        };
        let told = Arc::new((Mutex::new(told), Condvar::new()));
        let recording = recorder::file_of_this_test();
        let (attached, outcome) = mpsc::channel();
        let pipeline = thread::spawn({
            let told = Arc::clone(&told);
            move || observe(preflight, &settings, recording, &attached, &told)
        });
        let Attached { stop, hooks, counts_what_is_missed } =
            outcome.recv().expect("tcp-close attaches its hooks; live tests need root");
        let before = namespaces.iter().map(|netns| Netstat::of(netns)).collect();
        Self { told, stop, pipeline: Some(pipeline), hooks, counts_what_is_missed, before }
    }

    /// The rung that a hook hangs on.
    pub(crate) fn rung(&self, hook: Hook) -> Option<Rung> {
        self.hooks.iter().find(|report| report.hook == hook)?.rung
    }

    /// Whether every start of a minisock's timer is seen, as opposed to those that the timer wheel shows.
    pub(crate) fn sees_starts(&self) -> bool {
        self.rung(Hook::Witness).is_some() || self.rung(Hook::Minisock).is_some_and(Rung::is_function)
    }

    /// Whether the segments are seen that a minisock deals with.
    fn sees_segments(&self) -> bool {
        self.rung(Hook::Witness).is_some()
    }

    /// How the entry into a TIME-WAIT must be known that began before these eyes.
    pub(crate) fn witness(&self) -> Witness {
        if self.sees_starts() { Witness::Exact } else { Witness::Inferred }
    }

    /// The value where the segments are seen that a minisock deals with, and nothing where they are not.
    pub(crate) fn if_segments_are_seen<T>(&self, value: T) -> Option<T> {
        self.sees_segments().then_some(value)
    }

    /// Asserts that the restarts that are known of are these, or where starts may leave no trace, that at least one of
    /// them is known, if they came so much later that the timer shows it.
    #[track_caller]
    pub(crate) fn restarts_are(&self, time_wait: &TimeWait, made: u32, least: u32) {
        if self.sees_starts() {
            assert_eq!(time_wait.restarts, made, "{time_wait:#?}");
        } else {
            assert!((least..=made).contains(&time_wait.restarts), "{time_wait:#?}");
        }
    }

    /// What became of a hook.
    pub(crate) fn verdict(&self, hook: Hook) -> Verdict {
        self.hooks
            .iter()
            .find(|report| report.hook == hook)
            .expect("every hook that is wanted is reported")
            .verdict
    }

    /// Whether the kernel counts the events that our programs miss.
    pub(crate) const fn counts_what_is_missed(&self) -> bool {
        self.counts_what_is_missed
    }

    /// Whether a hook hangs on a kprobe, which is not run where another is.
    pub(crate) fn uses_kprobes(&self) -> bool {
        self.hooks.iter().any(|report| report.rung == Some(Rung::Kprobe))
    }

    /// Whether a hook tells everything that it is for.
    pub(crate) fn lacks_nothing(&self, hook: Hook) -> bool {
        self.verdict(hook) == Verdict::Ok
    }

    /// Whether changes of state are seen that do not pass through `tcp_set_state`.
    pub(crate) fn sees_clones(&self) -> bool {
        self.rung(Hook::StateChange) == Some(Rung::TpBtf)
    }

    /// Waits until what has been told is enough, and hands it over.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, enough: impl Fn(&Told) -> bool) -> Told {
        self.wait_at_most(PATIENCE, what, enough)
    }

    /// [`Self::wait_until`] with more patience.
    #[track_caller]
    pub(crate) fn wait_at_most(
        &self,
        patience: Duration,
        what: &str,
        enough: impl Fn(&Told) -> bool,
    ) -> Told {
        let (told, changed) = &*self.told;
        let told = told.lock().expect("the observer is alive");
        let (told, timeout) =
            changed.wait_timeout_while(told, patience, |told| !enough(told)).expect("the observer is alive");
        assert!(!timeout.timed_out(), "{what}: told so far {}", told.summary());
        told.clone()
    }

    /// What is told and counted of everything that has happened by now.
    #[track_caller]
    pub(crate) fn now(&self) -> Told {
        let settled = clock::monotonic_now() + SETTLES;
        self.wait_until("what has happened", |told| told.complete >= settled)
    }

    /// What is told by now, what the kernel has counted since the beginning, and the minisocks that there are: all of it
    /// between two ends of minisocks.
    #[track_caller]
    fn now_and_counts(&self, namespaces: &[&Netns]) -> (Told, Vec<Netstat>, i64) {
        let time_waits = || namespaces.iter().map(|netns| oracle::sockstat(netns)["tw"]).sum::<i64>();
        for _ in 0..20 {
            let before = time_waits();
            let counts = namespaces.iter().zip(&self.before);
            let since = counts.map(|(netns, before)| Netstat::of(netns).since(before)).collect();
            let told = self.now();
            if time_waits() == before {
                return (told, since, before);
            }
        }
        panic!("minisocks go on ending while their ends are told");
    }

    /// Waits for the ends of this many full sockets.
    #[track_caller]
    pub(crate) fn closed(&self, count: usize) -> Vec<Closed> {
        let told = self.wait_until("full sockets closed", |told| told.closed().len() >= count);
        let closed = told.closed();
        assert_eq!(closed.len(), count, "{closed:#?}");
        closed
    }

    /// Does something while nobody reads the ring.
    pub(crate) fn stall<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        let told = self.told.0.lock().expect("the observer is alive");
        let result = meanwhile();
        drop(told);
        result
    }

    /// Every count that the kernel keeps too must be the kernel's, summed over the namespaces; nothing may have
    /// been lost on the way. Call it when all that was to happen has been told.
    #[track_caller]
    pub(crate) fn agrees_with_the_kernel(&self, namespaces: &[&Netns]) {
        let (told, since, time_waits) = self.now_and_counts(namespaces);
        let kernel = |group: &str, name: &str| {
            since
                .iter()
                .map(|counters| u64::try_from(counters.get(group, name)).expect("counters grow"))
                .sum::<u64>()
        };
        let ours = |from, to| told.transitions(from, to);

        assert_eq!(told.counters.lost_total() + told.counters.unreadable, 0, "nothing lost in the kernel");
        // What kprobes miss is told of the whole host: here or beside other tests.
        let missed = if self.uses_kprobes() { told.losses.missed } else { 0 };
        let losses = Losses { missed, ..Losses::default() };
        assert_eq!(told.losses, losses, "nothing missed, and nothing lost in user space");
        assert_eq!(ours(TcpState::Close, TcpState::SynSent), kernel("Tcp", "ActiveOpens"), "active opens");
        let passive_opens = if self.sees_clones() { kernel("Tcp", "PassiveOpens") } else { 0 };
        assert_eq!(ours(TcpState::Listen, TcpState::SynRecv), passive_opens, "passive opens");
        assert_eq!(
            ours(TcpState::Established, TcpState::Close) + ours(TcpState::CloseWait, TcpState::Close),
            kernel("Tcp", "EstabResets"),
            "resets of established connections"
        );
        let resets_sent = told.counters.resets_sent.iter().sum::<u64>();
        if self.lacks_nothing(Hook::ResetSent) {
            assert_eq!(resets_sent, kernel("Tcp", "OutRsts"), "resets sent");
        } else {
            assert!(resets_sent <= kernel("Tcp", "OutRsts"), "resets sent, of those that are told");
        }
        for socket in namespaces.iter().flat_map(|netns| oracle::sockets(netns)) {
            // Where sockets are not known by their cookies, the pair is what there is to go by; one that had it before
            // is over, minisock and all. An address says little, for it is soon another socket's.
            let is_over = |closed: &Closed| {
                let same =
                    |story: &Story| (story.pair, story.fin.seq) == (closed.story.pair, closed.story.fin.seq);
                told.minisocks_ended().iter().filter_map(|ended| ended.story.as_ref()).any(same)
            };
            let has_pair = |closed: &Closed| {
                (closed.story.pair.local, closed.story.pair.remote) == (socket.local, socket.remote)
            };
            let told_of = |closed: &&Closed| match closed.story.id.cookie() {
                Some(cookie) => cookie == socket.cookie,
                None => has_pair(closed) && !is_over(closed),
            };
            let closed = told.closed().iter().find(told_of).copied();
            if socket.timer == Timer::TimeWait {
                let closed = closed.unwrap_or_else(|| panic!("the close before {socket} was told"));
                assert!(
                    matches!(closed.then, Some(Then::TimeWait | Then::FinWait2)),
                    "{socket}: {closed:#?}"
                );
                assert_eq!(
                    (closed.story.pair.local, closed.story.pair.remote),
                    (socket.local, socket.remote)
                );
            } else {
                assert!(closed.is_none(), "{socket} is not closed: {closed:#?}");
            }
        }
        let began = told.minisocks_began();
        let ended = told.minisocks_ended().len();
        let counted = kernel("TcpExt", "TW") + kernel("TcpExt", "TWKilled");
        if oracle::counts_minisocks_as_they_begin() {
            assert_eq!(began as u64, counted, "minisocks made");
        } else {
            assert_eq!(told.expired() as u64, counted, "minisocks whose time was up");
        }
        assert_eq!(i64::try_from(began - ended), Ok(time_waits), "minisocks alive");
        assert_eq!(told.reused() as u64, kernel("TcpExt", "TWRecycled"), "pairs taken by connect");
        assert_eq!(told.refused() as u64, kernel("TcpExt", "TCPTimeWaitOverflow"), "TIME-WAITs refused");
        let unknown = told.minisocks_ended().iter().filter(|ended| ended.cause == EndCause::Unknown).count();
        assert_eq!(unknown, 0, "every end has a cause");
        assert!(
            told.counters.fin_retransmits.iter().sum::<u64>() <= kernel("Tcp", "RetransSegs"),
            "no more FINs than segments are sent again"
        );

        assert_eq!(told.stats.unmatched + told.stats.sockets_evicted + told.stats.minisocks_evicted, 0);
        assert!(
            missed > 0 || told.closed().iter().all(|closed| !closed.story.gap),
            "nothing is marked as a gap"
        );
    }
}

/// The running kernel, looked at once for all tests.
pub(crate) fn preflight() -> &'static Preflight {
    static PREFLIGHT: OnceLock<Preflight> = OnceLock::new();
    PREFLIGHT.get_or_init(|| Preflight::run().expect("the kernel publishes BTF"))
}

/// The kind of hooks that the tests are to use: said as it is to the program, which reads the same variable.
fn family() -> Family {
    let name = env::var("TCP_CLOSE_PROBE").unwrap_or_default();
    let typed = if name.is_empty() {
        ProbeFamily::default()
    } else {
        ProbeFamily::from_str(&name, false).unwrap_or_else(|error| panic!("TCP_CLOSE_PROBE: {error}"))
    };
    settings::family(typed)
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(pipeline) = self.pipeline.take() {
            let outcome = pipeline.join();
            assert!(outcome.is_ok() || thread::panicking(), "the pipeline panicked");
        }
    }
}

/// Only one hook may be missing: before Linux 6.12 no tracepoint tells of a minisock's segments.
fn is_as_expected(report: &HookReport) -> bool {
    report.rung.is_some() || (report.hook == Hook::Witness && report.verdict == Verdict::Unsupported)
}

/// The probes are attached.
struct Attached {
    stop: CancellationToken,
    hooks: Vec<HookReport>,
    counts_what_is_missed: bool,
}

/// Runs the pipeline until it is stopped; says that it is attached with the means to stop it.
fn observe(
    preflight: &Preflight,
    settings: &ProbeSettings,
    recording: Option<PathBuf>,
    attached: &mpsc::Sender<Attached>,
    told: &(Mutex<Told>, Condvar),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let probe = Probe::attach(preflight, settings).expect("attach the probes");
        let hooks = probe.reports().to_vec();
        let counts_what_is_missed = probe.counts_what_is_missed();
        let failing: Vec<_> = hooks.iter().filter(|report| !is_as_expected(report)).collect();
        assert!(failing.is_empty(), "every hook is attached: {failing:#?}");
        let limits = Limits { sockets: 65_536, minisocks: 65_536 };
        let sees_fin_retransmits = probe.has(Hook::FinRetransmit);
        let mut pipeline = Pipeline::new(probe, preflight, limits);
        let recorder = recording.map(|file| {
            let core = (limits, pipeline.usual_wait(), pipeline.sees());
            let reasons = preflight.reset_reasons().clone();
            Recorder::new(&file, core, sees_fin_retransmits, reasons)
        });
        if let Some(recorder) = &recorder {
            pipeline = pipeline.recorded(recorder.steps());
        }
        let mut shutdown = Shutdown::listen(None).expect("listen for signals");
        let stop = shutdown.failure();
        attached.send(Attached { stop, hooks, counts_what_is_missed }).expect("the test waits");
        let (told, changed) = told;
        let turn = |turn: tcp_close::pipeline::Turn<'_>| {
            if let Some(recorder) = &recorder {
                recorder.turn_ends(turn.observations);
            }
            let mut told = told.lock().expect("the test is alive");
            told.observations.extend_from_slice(turn.observations);
            told.counters = *turn.counters;
            let now = clock::monotonic_now();
            told.census = (now, turn.tracker.census(now));
            told.losses = turn.losses;
            told.stats = turn.stats();
            told.complete = turn.complete;
            changed.notify_all();
            ControlFlow::Continue(())
        };
        pipeline.run(&mut shutdown, None, turn).await.expect("the pipeline runs");
    });
}
