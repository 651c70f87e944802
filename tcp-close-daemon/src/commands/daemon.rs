//! `tcp-close daemon`: follows every close, and serves metrics.

use std::{
    net::SocketAddr,
    ops::ControlFlow,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Notify, mpsc},
};
use tokio_util::sync::CancellationToken;

use self::{close_wait::CloseWait, reconcile::Reconcile, table::Table};
use super::{Failure, LossLog, attach, listen_for_signals, runtime};
use crate::{
    api::{self, BindError, Socket},
    clock::{self, Anchor},
    event::TcpState,
    feed::Feed,
    http::{self, Patience, Served},
    kernel::limits::Limits,
    line::Teller,
    metrics::Metrics,
    owner::Homes,
    pipeline::{MOST_SCRAPES, Pipeline, Request, Turn},
    ports::{Connects, Ports, Report},
    probe::{Hook, HookReport},
    render::page,
    settings::DaemonSettings,
};

mod close_wait;
mod reconcile;
mod table;

pub(super) fn run(settings: DaemonSettings) -> Result<ExitCode, Failure> {
    runtime()?.block_on(daemon(settings))
}

/// Starts in this order: attach, listen, ready. Stops in the other: not ready, drained, closed.
async fn daemon(settings: DaemonSettings) -> Result<ExitCode, Failure> {
    let mut shutdown = listen_for_signals(None)?;
    let (preflight, probe) = attach("daemon", &settings.probe)?;
    let reports: Vec<HookReport> = probe.reports().to_vec();
    let events_tell = probe.has(Hook::Minisock) && probe.has(Hook::Witness);
    let table = Arc::new(Table::new(settings.probe.netns.clone(), events_tell));
    let teller = Teller::new(preflight.reset_reasons().clone(), probe.has(Hook::FinRetransmit));
    let pipeline = Pipeline::new(probe, &preflight, settings.limits);
    let homes = Arc::new(Mutex::new(Homes::of_this_host()));
    let ports = Arc::new(Ports::new(settings.probe.netns.clone()));
    let connects = Arc::new(Connects::default());
    let feed = Arc::new(Feed::new(settings.remember, Arc::clone(&homes)));
    let metrics =
        Metrics::new(&reports, preflight.reset_reasons().clone(), settings.limits, pipeline.usual_wait())
            .context("cannot set up the metrics")
            .map_err(Failure::Other)?
            .with_top(Arc::clone(&homes), settings.top);
    // What it knows of the kernel's types takes megabytes.
    drop(preflight);
    let metrics = Arc::new(Mutex::new(metrics));

    let (listener, address) = listen(settings.listen_address).await?;
    let (scrape, asked) = mpsc::channel(MOST_SCRAPES);
    let (ask, requests) = mpsc::channel(1);
    let ready = CancellationToken::new();
    let stopping = CancellationToken::new();
    let served = Arc::new(Served {
        page: page::index(&settings.telemetry_path, &reports),
        telemetry_path: settings.telemetry_path,
        metrics: Arc::clone(&metrics),
        scrape,
        ready: ready.clone(),
        stopping: stopping.clone(),
    });
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(http::serve(listener, served, Patience::USUAL));
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
    let close_wait =
        CloseWait { netns: netns.clone(), after: settings.close_wait_after, pipeline: ask.clone() };
    tasks.spawn(close_wait.run());
    tasks.spawn(keep_looking(
        Arc::clone(&ports),
        settings.reconcile_interval,
        Arc::clone(&connects),
        ask.clone(),
    ));
    let ports_seen = Arc::clone(&ports);
    // It is there for as long as the daemon.
    let socket = bind(&settings.socket)?.map(|(socket, listener)| {
        let daemon = api::Daemon::new(netns, ask, homes, ports, Arc::clone(&feed), teller);
        tasks.spawn(api::serve(listener, socket.door(), Arc::new(daemon), stopping.clone()));
        socket
    });

    ready.cancel();
    tracing::info!(%address, "ready: closes are followed");
    let mut losses = LossLog::default();
    let mut lost = 0;
    let mut exported = Arc::new(Report::default());
    let each_turn = |turn: Turn<'_>| {
        losses.look(turn.lost_total(), clock::monotonic_now());
        if turn.lost_total() > lost {
            lost = turn.lost_total();
            table.events_were_lost();
            events_were_lost.notify_one();
        }
        connects.set(turn.counters.transitions[TcpState::Close as usize][TcpState::SynSent as usize]);
        let anchor = Anchor::now();
        let mut metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.update(&turn, &anchor);
        feed.tell(turn.observations, &anchor);
        if turn.scraped {
            metrics.remembered(feed.remembered());
            metrics.update_on_scrape(&turn, &Limits::read());
            let (census, substates) = table.census(turn.tracker, anchor.monotonic());
            metrics.census(&census, substates.as_deref());
            if let Some(report) = ports_seen.last().filter(|report| !Arc::ptr_eq(report, &exported)) {
                metrics.ports(&report.pressures);
                exported = report;
            }
        }
        ControlFlow::Continue(())
    };
    let outcome = pipeline.run(&mut shutdown, Some(requests), each_turn).await;
    stopping.cancel();
    drop(socket);
    while let Some(joined) = tasks.join_next().await {
        joined.context("a task of the HTTP server broke down").map_err(Failure::Other)?;
    }
    let reason = outcome?;
    tracing::info!(?reason, "stopped");
    Ok(ExitCode::SUCCESS)
}

/// Listens for HTTP, and tells where: port 0 lets the kernel choose.
async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (choose another with --web.listen-address)"))
        .map_err(Failure::Other)?;
    let address = listener.local_addr().unwrap_or(address);
    Ok((listener, address))
}

/// The socket that the other commands ask at. Where nobody has said which, none is no reason not to start.
fn bind(place: &api::Place) -> Result<Option<(Socket, UnixListener)>, Failure> {
    match Socket::bind(&place.path) {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if place.named => Err(Failure::Other(error.into())),
        Err(error) => {
            match &error {
                BindError::InUse(_) => tracing::warn!("{error}: the other commands ask that one, not this"),
                BindError::Io { source, .. } => {
                    tracing::warn!("{error}: {source}; the other commands cannot ask this daemon");
                }
            }
            Ok(None)
        }
    }
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
