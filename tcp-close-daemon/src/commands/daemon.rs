//! `tcp-close daemon`: follows every close, and serves metrics.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    ops::ControlFlow,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    runtime::Runtime,
    sync::{Notify, mpsc},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use self::{
    close_wait::CloseWait,
    doors::{Api, Doors, cannot_serve},
    reconcile::Reconcile,
    table::Table,
};
use super::{Failure, LossLog, attach, listen_for_signals, runtime};
use crate::{
    api,
    clock::{self, Anchor},
    event::TcpState,
    feed::Feed,
    http::{self, LastTurn, Patience, Served},
    kernel::{
        capabilities,
        limits::{self, Limits},
        netns, priority,
    },
    line::Teller,
    metrics::Metrics,
    owner::Homes,
    pipeline::{MOST_SCRAPES, Pipeline, Request, Turn},
    ports::{Connects, Ports, Report},
    probe::{Hook, HookReport, Preflight, Probe},
    render::page,
    service::{self, Watchdog},
    settings::DaemonSettings,
    shutdown::HeldBack,
};

mod close_wait;
mod doors;
mod reconcile;
mod table;

/// What takes privileges comes first, in the one thread that there is: threads that begin later have no more than what it
/// keeps.
pub(super) fn run(settings: DaemonSettings) -> Result<ExitCode, Failure> {
    let held_back = HeldBack::from_now_on().context("cannot hold signals back").map_err(Failure::Other)?;
    let (preflight, probe) = attach("daemon", &settings.probe)?;
    let doors = Doors::open(&settings)?;
    if let Err(error) = priority::before_others() {
        tracing::debug!(%error, "the daemon gets no more of the processor than others");
    }
    if let Err(error) = capabilities::keep_what_it_takes_to_go_on() {
        tracing::warn!(%error, "capabilities that are no longer needed cannot be given up");
    }
    daemon(settings, (preflight, probe), doors, held_back)
}

/// Attached and listening, it goes on: ready. Stops in the other order: not ready, drained, closed.
///
/// The pipeline has this thread to itself, and waits for its ring with nobody in between; all others have a runtime of their
/// own.
fn daemon(
    settings: DaemonSettings,
    (preflight, probe): (Preflight, Probe),
    doors: Doors,
    held_back: HeldBack,
) -> Result<ExitCode, Failure> {
    // Before there is anything that would have to be told to stop.
    let pipelines = runtime_of_one_task()?;
    let others = runtime()?;
    let among_others = others.enter();
    let mut shutdown = listen_for_signals(None)?;
    held_back.let_through().context("cannot let signals through").map_err(Failure::Other)?;
    let Doors { http: (http_listener, address), api } = doors;
    let reports: Vec<HookReport> = probe.reports().to_vec();
    let events_tell = probe.has(Hook::Minisock) && probe.has(Hook::Witness);
    let table = Arc::new(Table::new(settings.probe.netns.clone(), events_tell));
    let teller = Teller::new(preflight.reset_reasons().clone(), probe.has(Hook::FinRetransmit));
    let watchdog = Watchdog::wanted();
    let heard_every = watchdog.as_ref().map_or(Duration::MAX, Watchdog::every);
    let pipeline = Pipeline::new(probe, &preflight, settings.limits).heard_every(heard_every);
    let homes = Arc::new(Mutex::new(Homes::of_this_host()));
    let ports = Arc::new(Ports::new(settings.probe.netns.clone()));
    let connects = Arc::new(Connects::default());
    let feed = Arc::new(Feed::new(settings.remember, Arc::clone(&homes)));
    let metrics =
        Metrics::new(&reports, preflight.reset_reasons().clone(), settings.limits, pipeline.usual_wait())
            .context("cannot set up the metrics")
            .map_err(Failure::Other)?
            .with_top(Arc::clone(&homes), settings.top);
    preflight.forget();
    let metrics = Arc::new(Mutex::new(metrics));

    let (scrape, asked) = mpsc::channel(MOST_SCRAPES);
    let (ask, requests) = mpsc::channel(1);
    let ready = CancellationToken::new();
    let stopping = CancellationToken::new();
    let last_turn = Arc::new(LastTurn::at(clock::monotonic_now()));
    let served = Arc::new(Served {
        page: page::index(&settings.telemetry_path, &reports),
        telemetry_path: settings.telemetry_path,
        access: settings.access,
        metrics: Arc::clone(&metrics),
        scrape,
        ready: ready.clone(),
        last_turn: Arc::clone(&last_turn),
        stopping: stopping.clone(),
    });
    let mut tasks = JoinSet::new();
    let failed = shutdown.failure();
    let web = tokio::task::spawn_blocking(move || {
        serve_http(http_listener, served).inspect_err(|_error| failed.cancel())
    });
    tasks.spawn(table::forward(asked, ask.clone(), Arc::clone(&table)));
    let events_were_lost = Arc::new(Notify::new());
    let reconcile = Reconcile {
        netns: settings.probe.netns.clone(),
        interval: settings.reconcile_interval,
        events_were_lost: Arc::clone(&events_were_lost),
        pipeline: ask.clone(),
    };
    tasks.spawn(reconcile.run());
    let netns = settings.probe.netns;
    let watches_its_own_netns = has_its_own(&netns);
    let close_wait =
        CloseWait { netns: netns.clone(), after: settings.close_wait_after, pipeline: ask.clone() };
    tasks.spawn(close_wait.run());
    let (looks, interval) = (Arc::clone(&ports), settings.reconcile_interval);
    tasks.spawn(keep_looking(looks, interval, Arc::clone(&connects), ask.clone()));
    let ports_seen = Arc::clone(&ports);
    // It is there for as long as the daemon.
    let mut socket = None;
    if let Some(Api { listener, door, made }) = api {
        let daemon = api::Daemon::new(netns, ask, homes, ports, Arc::clone(&feed), teller);
        let listener = tokio::net::UnixListener::from_std(listener).map_err(cannot_serve)?;
        tasks.spawn(api::serve(listener, door, Arc::new(daemon), stopping.clone()));
        socket = made;
    }

    ready.cancel();
    tracing::info!(%address, "ready: closes are followed");
    service::is_ready(&status(&reports, address));
    let mut after_turn = AfterTurn {
        losses: LossLog::default(),
        lost: 0,
        table,
        events_were_lost,
        connects,
        metrics,
        feed,
        ports: ports_seen,
        exported: Arc::default(),
        watches_its_own_netns,
        last_turn,
        watchdog,
    };
    let each_turn = |turn: Turn<'_>| {
        after_turn.take(&turn);
        ControlFlow::Continue(())
    };
    drop(among_others);
    let outcome = pipelines.block_on(pipeline.run(&mut shutdown, Some(requests), each_turn));
    service::stops();
    stopping.cancel();
    drop(socket);
    others.block_on(all_end(tasks, web))?;
    let reason = outcome?;
    tracing::info!(?reason, "stopped");
    Ok(ExitCode::SUCCESS)
}

/// Once the daemon stops.
async fn all_end(mut tasks: JoinSet<()>, web: JoinHandle<io::Result<()>>) -> Result<(), Failure> {
    while let Some(joined) = tasks.join_next().await {
        joined.context("a task of the daemon broke down").map_err(Failure::Other)?;
    }
    web.await.context("the HTTP server broke down").map_err(Failure::Other)?.map_err(cannot_serve)
}

/// A runtime for the thread that it is made in.
fn runtime_of_one_task() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the pipeline's runtime")
        .map_err(Failure::Other)
}

/// Serves HTTP on a runtime of its own, of one thread: TLS handshakes and renderings take time, of which strangers may
/// have each other's and not the pipeline's.
fn serve_http(listener: TcpListener, served: Arc<Served>) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        // For one password at a time, and for looks at the files of the web config.
        .max_blocking_threads(4)
        .enable_all()
        .build()?
        .block_on(async {
            if let Err(error) = priority::as_others() {
                tracing::debug!(%error, "who comes over HTTP gets as much of the processor as the pipeline");
            }
            let listener = tokio::net::TcpListener::from_std(listener)?;
            http::serve(listener, served, Patience::USUAL).await;
            Ok(())
        })
}

/// Whether the namespace that this process is in is among those that are watched; with none named, all are.
fn has_its_own(netns: &[u32]) -> bool {
    netns.is_empty() || netns::inode("/proc/self/ns/net").is_ok_and(|own| netns.contains(&own))
}

/// Who wants to know what a turn brought.
struct AfterTurn {
    losses: LossLog,
    /// Events lost so far.
    lost: u64,
    table: Arc<Table>,
    events_were_lost: Arc<Notify>,
    connects: Arc<Connects>,
    metrics: Arc<Mutex<Metrics>>,
    feed: Arc<Feed>,
    ports: Arc<Ports>,
    /// What the metrics have of the ports.
    exported: Arc<Report>,
    /// Or else what the kernel counts in it has no like here.
    watches_its_own_netns: bool,
    last_turn: Arc<LastTurn>,
    watchdog: Option<Watchdog>,
}

impl AfterTurn {
    fn take(&mut self, turn: &Turn<'_>) {
        let anchor = Anchor::now();
        self.losses.look(turn.lost_total(), anchor.monotonic());
        if turn.lost_total() > self.lost {
            self.lost = turn.lost_total();
            self.table.events_were_lost();
            self.events_were_lost.notify_one();
        }
        let connects = turn.counters.transitions[TcpState::Close as usize][TcpState::SynSent as usize];
        self.connects.set(connects);
        self.feed.tell(turn.observations, &anchor);
        self.export(turn, &anchor);
        self.last_turn.took(anchor.monotonic());
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.took_a_turn(anchor.monotonic());
        }
    }

    fn export(&mut self, turn: &Turn<'_>, anchor: &Anchor) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.update(turn, anchor);
        if turn.scraped {
            metrics.remembered(self.feed.remembered());
            metrics.update_on_scrape(turn, &Limits::read());
            if self.watches_its_own_netns
                && let Some(opens) = limits::opens()
            {
                metrics.opens(opens);
            }
            let (census, substates) = self.table.census(turn.tracker, anchor.monotonic());
            metrics.census(&census, substates.as_deref());
            if let Some(report) = self.ports.last().filter(|report| !Arc::ptr_eq(report, &self.exported)) {
                metrics.ports(&report.pressures);
                self.exported = report;
            }
        }
    }
}

/// What a service manager shows: where the metrics are, and what is not seen.
fn status(reports: &[HookReport], address: SocketAddr) -> String {
    let lacking: Vec<&str> =
        reports.iter().filter(|report| report.lost.is_some()).map(|report| report.hook.name()).collect();
    let lacking = match lacking.as_slice() {
        [] => String::new(),
        some => format!("; not whole, as its log says: {}", some.join(", ")),
    };
    format!("Follows every close; metrics at {address}{lacking}")
}

/// Looks at the ports until the pipeline ends.
async fn keep_looking(
    ports: Arc<Ports>,
    interval: Duration,
    connects: Arc<Connects>,
    pipeline: mpsc::Sender<Request>,
) {
    tokio::select! {
        () = ports.keep_looking(interval, &connects) => {}
        () = pipeline.closed() => {}
    }
}
