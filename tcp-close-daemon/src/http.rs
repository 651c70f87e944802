//! The daemon's HTTP: metrics, health, and a page that says what this is. Nothing but this and `api` names hyper.
//!
//! In: requests. Out: what the pipeline's last turn left in [`Served`]. A request can wake the pipeline for
//! fresh figures; none can hold it up.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::metrics::Metrics;

/// Longest head of a request, in bytes.
const MOST_HEAD: usize = 16 << 10;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// What requests are answered from.
pub struct Served {
    /// Path of the metrics.
    pub telemetry_path: String,
    /// The metrics; the pipeline is their only writer.
    pub metrics: Arc<Mutex<Metrics>>,
    /// Wakes the pipeline for fresh figures.
    pub scrape: mpsc::Sender<oneshot::Sender<()>>,
    /// Cancelled once the hooks are attached and this listener accepts, and never before.
    pub ready: CancellationToken,
    /// Cancelled once the daemon begins to stop.
    pub stopping: CancellationToken,
    /// The page at `/`.
    pub page: String,
}

/// How much clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Connections open at once; for one more, that which has been idle longest is cut off. More than there are
    /// scrapes that may wait, and few enough to leave descriptors of the usual 1024 for everything else.
    pub connections: usize,
    /// Time from a connection's beginning to the end of its first request's head.
    pub first_request: Duration,
    /// Time from one request to the next, reading the answer included. Longer than the usual scrape interval:
    /// a connection that is kept leaves no TIME-WAIT, of which this host may have enough.
    pub next_request: Duration,
    /// Time a scrape waits for the pipeline.
    pub scrape: Duration,
    /// Time for the answers under way once the daemon stops.
    pub stop: Duration,
}

impl Patience {
    /// That of the daemon.
    pub const USUAL: Self = Self {
        connections: 256,
        first_request: Duration::from_secs(10),
        next_request: Duration::from_secs(90),
        scrape: Duration::from_secs(5),
        stop: Duration::from_millis(500),
    };
}

/// Accepts connections until the daemon stops; then waits for the answers under way.
///
/// Whoever comes is let in, if need be for another who is idle: thousands of idle connections harm each other
/// and nobody else.
pub async fn serve(listener: TcpListener, served: Arc<Served>, patience: Patience) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(patience.connections));
    let idle = Arc::new(Idle::default());
    let mut accepts = true;
    loop {
        let accepted = tokio::select! {
            () = served.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                accepts = true;
                let place = match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => place,
                    Err(_full) => {
                        idle.cut_off_oldest();
                        tokio::select! {
                            () = served.stopping.cancelled() => break,
                            Ok(place) = Arc::clone(&places).acquire_owned() => place,
                        }
                    }
                };
                let connection = Connection {
                    peer,
                    served: Arc::clone(&served),
                    patience,
                    // Told from here, not from the task: the oldest is who came first.
                    seat: Seat::take(&idle, Instant::now() + patience.first_request),
                    place,
                };
                connections.spawn(connection.run(stream));
            }
            Err(error) => {
                // Out of descriptors, most likely: one of those in use here may help.
                if std::mem::take(&mut accepts) {
                    tracing::warn!(%error, "cannot accept HTTP connections");
                }
                idle.cut_off_oldest();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

/// The connections that no request is under way on, the longest idle first.
#[derive(Default)]
struct Idle(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, CancellationToken>,
}

impl Idle {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut_off_oldest(&self) {
        let oldest = self.queue().waiting.pop_first();
        if let Some((_, cut_off)) = oldest {
            cut_off.cancel();
        }
    }
}

/// A connection's seat among the idle ones. Nobody who is being answered is cut off for another.
struct Seat {
    idle: Arc<Idle>,
    number: Mutex<Option<u64>>,
    cut_off: CancellationToken,
    /// When the client's time is up.
    deadline: watch::Sender<Instant>,
}

impl Seat {
    fn take(idle: &Arc<Idle>, deadline: Instant) -> Arc<Self> {
        let seat = Self {
            idle: Arc::clone(idle),
            number: Mutex::new(None),
            cut_off: CancellationToken::new(),
            deadline: watch::Sender::new(deadline),
        };
        seat.sit();
        Arc::new(seat)
    }

    /// Idle from now on.
    fn sit(&self) {
        let number = {
            let mut queue = self.idle.queue();
            queue.next += 1;
            let number = queue.next;
            queue.waiting.insert(number, self.cut_off.clone());
            number
        };
        *self.number.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
    }

    /// Not idle any more.
    fn stand(&self) {
        let number = self.number.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(number) = number {
            self.idle.queue().waiting.remove(&number);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stand();
    }
}

struct Connection {
    peer: SocketAddr,
    served: Arc<Served>,
    patience: Patience,
    seat: Arc<Seat>,
    place: OwnedSemaphorePermit,
}

impl Connection {
    /// Answers requests until the client has enough, or takes too long.
    async fn run(self, stream: TcpStream) {
        let Self { peer, served, patience, seat, place } = self;
        let service = service_fn(|request| {
            let (served, seat) = (Arc::clone(&served), Arc::clone(&seat));
            async move {
                seat.stand();
                let response = answer(&request, &served, patience.scrape).await;
                if !served.stopping.is_cancelled() {
                    seat.deadline.send_replace(Instant::now() + patience.next_request);
                }
                seat.sit();
                Ok::<_, Infallible>(response)
            }
        });
        let mut deadline = seat.deadline.subscribe();
        let mut http = http1::Builder::new();
        http.max_buf_size(MOST_HEAD);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut stopping = false;
        let result = loop {
            let until = *deadline.borrow_and_update();
            tokio::select! {
                // In this order: a request that is here counts before the client's time is up.
                biased;
                result = connection.as_mut() => break result,
                () = served.stopping.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                    let stop = Instant::now() + patience.stop;
                    seat.deadline.send_modify(|deadline| *deadline = stop.min(*deadline));
                }
                // There is a sender for as long as there is a seat.
                Ok(()) = deadline.changed() => {}
                () = seat.cut_off.cancelled() => {
                    tracing::debug!(%peer, "an idle HTTP connection was cut off to let another in");
                    break Ok(());
                }
                () = sleep_until(until) => {
                    tracing::debug!(%peer, "an HTTP connection took too long and was cut off");
                    break Ok(());
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "an HTTP connection ended early");
        }
        // Only now is there room for another.
        drop(place);
    }
}

async fn answer(request: &Request<Incoming>, served: &Served, patience: Duration) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        path if path == served.telemetry_path => metrics(served, patience).await,
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" if is_ready(served) => plain(StatusCode::OK, "ready\n"),
        "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/" => respond(StatusCode::OK, HTML, served.page.clone()),
        _ => plain(StatusCode::NOT_FOUND, "not found; metrics are at the path that / names\n"),
    }
}

/// A pipeline that is gone takes no more scrapes.
fn is_ready(served: &Served) -> bool {
    served.ready.is_cancelled() && !served.stopping.is_cancelled() && !served.scrape.is_closed()
}

async fn metrics(served: &Served, patience: Duration) -> Response<Full<Bytes>> {
    let (done, fresh) = oneshot::channel();
    let asked = served.scrape.try_send(done).is_ok();
    if !asked || !matches!(timeout(patience, fresh).await, Ok(Ok(()))) {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "the pipeline is busy or stopping\n");
    }
    let exposition = served.metrics.lock().unwrap_or_else(PoisonError::into_inner).exposition();
    match exposition {
        Ok(text) => respond(StatusCode::OK, Metrics::MEDIA_TYPE, text),
        Err(error) => {
            tracing::error!(%error, "cannot render the metrics");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "cannot render the metrics\n")
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    respond(status, TEXT, text)
}

fn respond(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(media_type));
    response
}
