//! The daemon's HTTP: metrics, health, and a page that says what this is. Nothing but this and `api` names hyper.
//!
//! In: requests, encrypted and with a password where the web config file wants that. Out: what the pipeline's last
//! turn left in [`Served`]. A request can wake the pipeline for fresh figures; none can hold it up.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Body as _, Bytes, Incoming},
    header::{ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Duration, Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    access::Rules,
    connection::Connection,
    limits::{Idle, Network, Seat},
    password::Credentials,
};
use crate::{clock, event::Monotonic, metrics::Metrics};

mod access;
mod connection;
mod files;
mod limits;
mod password;
mod rate;
mod tls;
pub mod web_config;

pub use access::Access;
pub use limits::Patience;

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
    /// When the pipeline took its last turn.
    pub last_turn: Arc<LastTurn>,
    /// Cancelled once the daemon begins to stop.
    pub stopping: CancellationToken,
    /// The page at `/`.
    pub page: String,
    /// Who is let in, and how.
    pub access: Access,
}

/// A pipeline that has taken no turn for so long is stuck: it takes one in a second, however little there is to do.
const STUCK: Duration = Duration::from_secs(10);

/// When the pipeline took its last turn: it writes, and whoever asks whether it goes on reads.
#[derive(Debug)]
pub struct LastTurn(AtomicU64);

impl LastTurn {
    /// It was then.
    pub const fn at(time: Monotonic) -> Self {
        Self(AtomicU64::new(time.as_nanos()))
    }

    /// Another one was taken.
    pub fn took(&self, now: Monotonic) {
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }

    fn is_long_ago(&self, now: Monotonic) -> bool {
        now.since(Monotonic::from_nanos(self.0.load(Ordering::Relaxed))) >= STUCK
    }
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
                let place = tokio::select! {
                    () = served.stopping.cancelled() => break,
                    place = place(&places, &idle) => place,
                };
                let network = Network::of(peer.ip());
                let connection = Connection {
                    peer,
                    served: Arc::clone(&served),
                    patience,
                    // Told from here, not from the task: the oldest is who came first.
                    seat: Seat::take(&idle, network, Instant::now() + patience.first_request),
                    streams: connections.clone(),
                    place,
                };
                connections.spawn(connection.run(stream));
            }
            Err(error) => {
                // Out of descriptors, most likely: one of those in use here may help.
                if std::mem::take(&mut accepts) {
                    tracing::warn!(%error, "cannot accept HTTP connections");
                }
                idle.cut_off_one();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

/// Answers one client, as [`serve`] does each that comes, over a stream that needs no handshake or has had it.
///
/// Whoever has a stream that is no socket may hand it in; nobody is cut off for this client, nor he for another.
pub async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
    peer: SocketAddr,
    served: Arc<Served>,
    patience: Patience,
) {
    let streams = TaskTracker::new();
    let seat = Seat::take(&Arc::default(), Network::of(peer.ip()), Instant::now() + patience.first_request);
    let connection = Connection { peer, served, patience, seat, streams: streams.clone(), place: None };
    connection.run_without_handshake(stream, http2).await;
    streams.close();
    streams.wait().await;
}

/// Room for one more connection, if need be that of another.
async fn place(places: &Arc<Semaphore>, idle: &Idle) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return Some(place);
    }
    let free = Arc::clone(places).acquire_owned();
    let mut free = std::pin::pin!(free);
    let mut cut_off = idle.cut_off_one();
    loop {
        tokio::select! {
            // It fails only once the semaphore is closed, which nobody does.
            place = free.as_mut() => return place.ok(),
            // Where all were busy, the first who no longer is.
            () = idle.more(), if !cut_off => cut_off = idle.cut_off_one(),
        }
    }
}

/// Answers one request, if it is let in.
async fn answer(
    request: &Request<Incoming>,
    served: &Served,
    seat: &Arc<Seat>,
    patience: Duration,
) -> Response<Full<Bytes>> {
    let rules = served.access.rules().await;
    let refusal = refusal(request, served, &rules, seat.network()).await;
    let mut response =
        if let Some(refusal) = refusal { refusal } else { content(request, served, seat, patience).await };
    for (name, value) in &rules.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// What is answered to whoever is not let in, which tells nothing else.
async fn refusal(
    request: &Request<Incoming>,
    served: &Served,
    rules: &Rules,
    from: Network,
) -> Option<Response<Full<Bytes>>> {
    if rules.rate.as_ref().is_some_and(|rate| !rate.allows(from, Instant::now())) {
        return Some(plain(StatusCode::TOO_MANY_REQUESTS, "too many requests\n"));
    }
    if !request.body().is_end_stream() {
        let mut response = plain(StatusCode::PAYLOAD_TOO_LARGE, "a request has no body here\n");
        // Nobody reads it, so there is nothing behind it either. HTTP/2 tells them apart by itself.
        if request.version() < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        return Some(response);
    }
    if let Some(users) = &rules.users {
        let who = request.headers().get(AUTHORIZATION).and_then(Credentials::read);
        let known = match who {
            Some(who) => users.know(who, from, &served.access.desk).await,
            None => false,
        };
        if !known {
            let mut response = plain(StatusCode::UNAUTHORIZED, "unauthorized\n");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
            return Some(response);
        }
    }
    None
}

async fn content(
    request: &Request<Incoming>,
    served: &Served,
    seat: &Arc<Seat>,
    patience: Duration,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        path if path == served.telemetry_path => metrics(served, seat, patience).await,
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" if is_ready(served) => plain(StatusCode::OK, "ready\n"),
        "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/" => respond(StatusCode::OK, HTML, served.page.clone()),
        _ => plain(StatusCode::NOT_FOUND, "not found; metrics are at the path that / names\n"),
    }
}

/// A pipeline that is gone takes no more scrapes; one that is stuck, no more turns.
fn is_ready(served: &Served) -> bool {
    served.ready.is_cancelled()
        && !served.stopping.is_cancelled()
        && !served.scrape.is_closed()
        && !served.last_turn.is_long_ago(clock::monotonic_now())
}

async fn metrics(served: &Served, seat: &Arc<Seat>, patience: Duration) -> Response<Full<Bytes>> {
    let fresh = async {
        let turn = served.access.turns.take(seat.network()).await.ok()?;
        // Only now is it more than idle: a crowd that waits for its turn makes room for others.
        let standing = seat.stand();
        let (done, fresh) = oneshot::channel();
        served.scrape.send(done).await.ok()?;
        fresh.await.ok()?;
        Some((turn, standing))
    };
    let Ok(Some(_until_it_is_rendered)) = timeout(patience, fresh).await else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "the pipeline is busy or stopping\n");
    };
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
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
