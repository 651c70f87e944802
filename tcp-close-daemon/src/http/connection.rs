//! One client's connection, from its TLS handshake to its last answer.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::{
    Served, answer,
    limits::{Patience, Seat},
};

/// Longest head of a request, in bytes.
const MOST_HEAD: usize = 16 << 10;

/// Requests that one connection may have under way at once, with HTTP/2.
///
/// Each may have an exposition that its client does not read: 256 connections with two are 50 MB or so.
const MOST_STREAMS: u32 = 2;

/// With what every TLS connection begins: a record that has a handshake in it (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// For whoever forgot the s; in these words because that is what Go's servers say.
const NOT_HTTPS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// How a connection ends.
type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// One client's connection.
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) served: Arc<Served>,
    pub(super) patience: Patience,
    pub(super) seat: Arc<Seat>,
    /// For the requests that HTTP/2 has under way at once.
    pub(super) streams: TaskTracker,
    pub(super) place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Answers requests until the client has enough, or takes too long.
    pub(super) async fn run(self, stream: TcpStream) {
        self.until_lost(self.talk(stream)).await;
        // Only now is there room for another.
        drop(self.place);
    }

    /// The same, over a stream that needs no handshake or has had it.
    pub(super) async fn run_without_handshake(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        http2: bool,
    ) {
        self.until_lost(self.serve(stream, http2)).await;
    }

    async fn until_lost(&self, talk: impl Future<Output = Ended>) {
        let ended = tokio::select! {
            // In this order: a request that is here counts before the client's time is up.
            biased;
            ended = talk => ended,
            why = self.seat.lost() => Err(why.into()),
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %self.peer, "an HTTP connection was cut off: {error}");
        }
        self.seat.leave();
    }

    async fn talk(&self, stream: TcpStream) -> Ended {
        let rules = self.served.access.rules().await;
        let Some(tls) = &rules.tls else {
            return self.serve(stream, false).await;
        };
        let encrypted = tokio::select! {
            // A handshake is nothing that has to be finished first.
            () = self.served.stopping.cancelled() => return Ok(()),
            encrypted = shake_hands(tls, stream) => encrypted?,
        };
        let Some(encrypted) = encrypted else {
            return Ok(());
        };
        let http2 = encrypted.get_ref().1.alpn_protocol() == Some(b"h2");
        drop(rules);
        self.serve(encrypted, http2).await
    }

    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        http2: bool,
    ) -> Ended {
        let service = service_fn(|request| {
            let (served, seat, patience) = (Arc::clone(&self.served), Arc::clone(&self.seat), self.patience);
            async move { Ok::<_, Infallible>(take(request, &served, &seat, patience).await) }
        });
        let mut http = auto::Builder::new(Streams(self.streams.clone()));
        http.http1().max_buf_size(MOST_HEAD);
        #[expect(clippy::cast_possible_truncation, reason = "it is 16384")]
        http.http2().max_concurrent_streams(MOST_STREAMS).max_header_list_size(MOST_HEAD as u32);
        // What is spoken was settled by the handshake, and is not for the client's first bytes to change.
        let http = if http2 { http.http2_only() } else { http.http1_only() };
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = self.served.stopping.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        self.seat.at_most_until(Instant::now() + self.patience.stop);
        connection.await
    }
}

/// The client's TLS handshake, unless what it sends is none.
async fn shake_hands(
    tls: &TlsAcceptor,
    mut stream: TcpStream,
) -> std::io::Result<Option<tokio_rustls::server::TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first != [HANDSHAKE] && first[0].is_ascii_uppercase() {
        // What is left unread when a connection is closed turns the close into a reset, which may overtake the answer.
        let _nobody_reads_it = stream.read(&mut [0; 4096]).await?;
        stream.write_all(NOT_HTTPS).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    tls.accept(stream).await.map(Some)
}

/// Answers one request, if it is let in.
async fn take(
    request: Request<Incoming>,
    served: &Served,
    seat: &Arc<Seat>,
    patience: Patience,
) -> Response<Full<Bytes>> {
    seat.until(Instant::now() + patience.answer);
    // Whoever is not yet known to be a user is idle still, and makes room for others.
    let response = answer(&request, served, seat, patience.scrape).await;
    if !served.stopping.is_cancelled() {
        seat.until(Instant::now() + patience.next_request);
    }
    response
}

/// Runs what HTTP/2 has under way at once, where it is waited for.
#[derive(Clone)]
struct Streams(TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}
