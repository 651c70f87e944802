//! The daemon's side of the socket.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::{
    Either, Full,
    channel::{Channel, Sender},
};
use hyper::{
    Method, Request as HttpRequest, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, join, simplex, split},
    net::UnixListener,
    sync::{Semaphore, mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{BLIND_SPOT, CLOSING, Door, ENDS, PORTS, Question, TRANSITIONS, VERSION, stream::Stream};
use crate::{
    clock::{self, Anchor},
    closing::{self, ClosingSocket, Known},
    event::{Monotonic, TcpState},
    feed::{self, Feed, Topic},
    filter::{Expression, Subject},
    line::Teller,
    owner::{Holders, Homes},
    pipeline::{EVENTS_COME_IN, Request},
    ports::{Ports, Pressure},
    snapshot::Snapshot,
};

/// Clients that are answered at once; one more waits.
const CLIENTS: usize = 32;

/// Sockets that the pipeline looks up at a time.
const LOOKED_UP_AT_ONCE: usize = 1 << 12;

/// Bytes that are sent at a time.
const CHUNK: usize = 64 << 10;

/// Chunks that a client may be behind; then its answer waits.
const CHUNKS_BEHIND: usize = 4;

/// Bytes of a question, which is a few lines, with its headers.
const QUESTION_BYTES: usize = 64 << 10;

/// Bytes that a client may say: more than is taken for a question.
const MOST_SAID: usize = 2 * QUESTION_BYTES;

/// Answers that may be on their way at a time: each has a whole table in it.
const ANSWERS: usize = 2;

/// Time from a client's beginning to the end of its question.
const QUESTION: Duration = Duration::from_secs(10);

/// Time for all of an answer to be read. Whoever is cut off then knows that there was more.
const ANSWER: Duration = Duration::from_secs(60);

/// Clients that may listen to what happens: they stay, and others want to be answered too.
const LISTENERS: usize = 16;

/// Time for answers to be ended in order when the daemon stops.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Said of changes of state.
const OPENING: &str = "the daemon does not follow how connections are opened";

/// Said of a list of sockets of which not all holders could be found.
const INCOMPLETE: &str = "not every process shows the daemon which sockets it holds";

/// Said where a question names no namespaces and the daemon does not watch them all.
const PARTIAL: &str = "the daemon watches only some network namespaces";

const JSON_LINES: HeaderValue = HeaderValue::from_static("application/jsonl");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What questions are answered from.
pub struct Daemon {
    /// Inode numbers of the namespaces that are watched; empty for all.
    netns: Vec<u32>,
    /// The way to the pipeline.
    pipeline: mpsc::Sender<Request>,
    /// Where cgroups are.
    homes: Arc<Mutex<Homes>>,
    /// How far ports are used up.
    ports: Arc<Ports>,
    /// What has ended, and what ends.
    feed: Arc<Feed>,
    /// Puts that into words.
    teller: Teller,
    /// Room for those who listen.
    listeners: Arc<Semaphore>,
    /// Answers that are on their way.
    answers: TaskTracker,
    /// Room for those.
    room: Arc<Semaphore>,
}

/// Answers until the daemon stops.
pub async fn serve(listener: UnixListener, door: Door, daemon: Arc<Daemon>, stopping: CancellationToken) {
    let clients = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    break;
                };
                let (daemon, stopping) = (Arc::clone(&daemon), stopping.clone());
                let is_admitted = door.admits(&stream);
                clients.spawn(async move {
                    let stops = async {
                        stopping.cancelled().await;
                        sleep(LAST_WORDS).await;
                    };
                    tokio::select! {
                        () = stops => {}
                        () = converse(stream, is_admitted, daemon, stopping.child_token()) => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept at the daemon's socket");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
    clients.close();
    clients.wait().await;
}

/// Answers one client, as [`serve`] does each that comes, until `gone` is cancelled or he goes.
pub async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    is_admitted: bool,
    daemon: Arc<Daemon>,
    gone: CancellationToken,
) {
    let _goes = gone.clone().drop_guard();
    let client = Client { is_admitted, gone, listens: Arc::default() };
    let service = service_fn(|request| {
        let (daemon, client) = (Arc::clone(&daemon), client.clone());
        async move { Ok::<_, Infallible>(answer(&request, &daemon, &client).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(QUESTION)
        .keep_alive(false)
        .max_buf_size(QUESTION_BYTES);
    let (says, hears) = split(stream);
    let (question, said) = simplex(MOST_SAID);
    tokio::select! {
        ended = http.serve_connection(TokioIo::new(join(question, hears)), service) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a client of the daemon's socket went away");
            }
        }
        () = goes(says, said) => {
            tracing::debug!("a client of the daemon's socket went away, or said too much");
        }
        () = client.patience() => {
            tracing::debug!("a client of the daemon's socket took too long and was cut off");
        }
    }
}

/// Hands on what a client says, until some time after he says no more, which means that he is gone.
///
/// hyper notices that by itself only where it has read all that was said, and what is behind the question it does not read.
/// Whoever listened would then keep his place for as long as there is nothing to tell him.
async fn goes(says: impl AsyncRead + Unpin, mut said: impl AsyncWrite + Unpin) {
    // However it ended, nothing more will be said.
    let _how = copy(&mut says.take(MOST_SAID as u64), &mut said).await;
    let _ended_already = said.shutdown().await;
    sleep(LAST_WORDS).await;
}

/// Whoever asks.
#[derive(Clone)]
struct Client {
    /// He may ask.
    is_admitted: bool,
    /// Cancelled when the conversation is over, or the daemon stops.
    gone: CancellationToken,
    /// What is told as it happens takes as long as it is wanted.
    listens: Arc<AtomicBool>,
}

impl Client {
    /// Waits for as long as the client may take.
    async fn patience(&self) {
        sleep(QUESTION + ANSWER).await;
        if self.listens.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

/// Lines of an answer, and why there may be more.
type Lines<I> = (I, Option<String>);

type Answer = Response<Either<Full<Bytes>, Channel<Bytes, io::Error>>>;

async fn answer(request: &HttpRequest<Incoming>, daemon: &Daemon, client: &Client) -> Answer {
    if !client.is_admitted {
        return refuse(StatusCode::FORBIDDEN, "this socket is for members of its group, and for root");
    }
    if request.method() != Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here");
    }
    let question = match Question::parse(request.uri().query().unwrap_or_default()) {
        Ok(question) => question,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    let names_netns = !question.netns.is_empty();
    let answered = match request.uri().path() {
        CLOSING => daemon.answer(names_netns, || daemon.closing(question)).await,
        PORTS => daemon.answer(names_netns, || daemon.ports(question)).await,
        ENDS => daemon.listen(Topic::Ends, question, client).await,
        TRANSITIONS => daemon.listen(Topic::Transitions, question, client).await,
        path if path.starts_with(VERSION) => {
            return refuse(StatusCode::NOT_FOUND, "there is no such question");
        }
        _ => {
            let why = "this daemon speaks version 1: every path begins with /v1/";
            return refuse(StatusCode::NOT_FOUND, why);
        }
    };
    answered.unwrap_or_else(|refusal| refuse(refusal.status(), refusal.to_string()))
}

/// There is no answer.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("this daemon does not watch network namespace {0}")]
    NotWatched(u32),
    #[error("netns and state are of sockets that are closing; of what ends, a filter says what is wanted")]
    OfSockets,
    #[error("the daemon is stopping")]
    Stopping,
    #[error("{LISTENERS} listen to the daemon already, which is as many as may")]
    TooMany,
    #[error("{0:#}")]
    Broken(anyhow::Error),
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::NotWatched(_) => StatusCode::NOT_FOUND,
            Self::OfSockets => StatusCode::BAD_REQUEST,
            Self::Stopping | Self::TooMany => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Daemon {
    /// Answers from these.
    pub fn new(
        netns: Vec<u32>,
        pipeline: mpsc::Sender<Request>,
        homes: Arc<Mutex<Homes>>,
        ports: Arc<Ports>,
        feed: Arc<Feed>,
        teller: Teller,
    ) -> Self {
        let room = Arc::new(Semaphore::new(ANSWERS));
        let listeners = Arc::new(Semaphore::new(LISTENERS));
        Self { netns, pipeline, homes, ports, feed, teller, listeners, answers: TaskTracker::new(), room }
    }

    /// Says what there is to say, one line after the other, as fast as they are read.
    async fn answer<I, F>(&self, names_netns: bool, ask: impl FnOnce() -> F) -> Result<Answer, Refusal>
    where
        I: Iterator<Item: Serialize> + Send + 'static,
        F: Future<Output = Result<Lines<I>, Refusal>>,
    {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(broken)?;
        let (lines, mut blind_spot) = ask().await?;
        if !(self.netns.is_empty() || names_netns) {
            blind_spot.get_or_insert_with(|| PARTIAL.to_owned());
        }
        let (sender, body) = Channel::new(CHUNKS_BEHIND);
        self.answers.spawn(async move {
            send(sender, lines).await;
            drop(room);
        });
        Ok(streamed(body, blind_spot.as_deref()))
    }

    /// Says what has ended, and what ends from now on, for as long as the client listens.
    async fn listen(&self, topic: Topic, question: Question, client: &Client) -> Result<Answer, Refusal> {
        if !(question.netns.is_empty() && question.states.is_empty()) {
            return Err(Refusal::OfSockets);
        }
        let follow = question.follow || topic == Topic::Transitions;
        let place = if follow {
            Arc::clone(&self.listeners).try_acquire_owned().map_err(|_full| Refusal::TooMany)?
        } else {
            Arc::clone(&self.room).acquire_owned().await.map_err(broken)?
        };
        let named = question.filter.netns().map(Vec::from_iter);
        let netns = self.among_the_watched(named.clone().unwrap_or_default())?;
        let mut blind_spots = Vec::new();
        if topic == Topic::Transitions {
            blind_spots.push(OPENING.to_owned());
        } else if named.is_none() && !netns.is_empty() {
            blind_spots.push(PARTIAL.to_owned());
        }
        let since = match question.since {
            Some(since) => feed::ago(since),
            None if follow => clock::monotonic_now(),
            None => Monotonic::default(),
        };
        let forgotten = self.feed.begins().filter(|&begins| begins > Anchor::now().wall(since));
        if let Some(begins) = forgotten {
            let begins = begins.strftime("%Y-%m-%d %H:%M:%S UTC");
            blind_spots.push(format!("the daemon remembers nothing from before {begins}"));
        }
        client.listens.store(follow, Ordering::Relaxed);
        let stream = Stream {
            listener: if follow { self.feed.listen(topic, since) } else { self.feed.recall(since) },
            filter: question.filter,
            teller: self.teller.clone(),
            follow,
            gone: client.gone.clone(),
            _place: place,
        };
        let (sender, body) = Channel::new(1);
        self.answers.spawn(stream.send(sender));
        Ok(streamed(body, Some(blind_spots.join("; ")).filter(|spots| !spots.is_empty()).as_deref()))
    }

    /// Every socket that is closing now, and why there may be more.
    async fn closing(
        &self,
        question: Question,
    ) -> Result<Lines<impl Iterator<Item = ClosingSocket> + use<>>, Refusal> {
        let filter = question.filter;
        let named = filter.netns().map(Vec::from_iter).filter(|_| question.netns.is_empty());
        let netns = self.among_the_watched(named.unwrap_or(question.netns))?;
        let states = wanted_states(question.states, &filter);
        let table = (netns.clone(), states.clone());
        let snapshot = blocking(move || Snapshot::take(&table.0, &table.1)).await?.map_err(broken)?;
        sleep(EVENTS_COME_IN).await;
        let minisocks = states.iter().any(|state| matches!(state, TcpState::FinWait2 | TcpState::TimeWait));
        let known = self.known(&netns, minisocks).await.ok_or(Refusal::Stopping)?;
        let homes = Arc::clone(&self.homes);
        blocking(move || {
            let holders = Holders::of(&snapshot.inodes());
            // The pipeline wants to know too, and is not to wait for all of them.
            let home = move |cgroup| {
                homes.lock().unwrap_or_else(PoisonError::into_inner).get(cgroup, clock::monotonic_now)
            };
            let blind_spot = snapshot.blind_spot.map(|blind_spot| blind_spot.to_string());
            let blind_spot = blind_spot.or_else(|| holders.incomplete.then(|| INCOMPLETE.to_owned()));
            let sockets = closing::join(snapshot, known, &states, holders, home)
                .filter(move |socket| filter.holds(&Subject::of_socket(socket)));
            (sockets, blind_spot)
        })
        .await
    }

    /// How far ports are used up, and why there may be more of them.
    async fn ports(
        &self,
        question: Question,
    ) -> Result<Lines<impl Iterator<Item = Pressure> + use<>>, Refusal> {
        let netns = self.among_the_watched(question.netns)?;
        let report = self.ports.now().await.map_err(broken)?;
        let wanted = |pressure: &&Pressure| netns.is_empty() || netns.contains(&pressure.netns);
        let blind_spot = report.blind_spot.map(|blind_spot| blind_spot.to_string());
        let pressures: Vec<_> = report.pressures.iter().filter(wanted).cloned().collect();
        Ok((pressures.into_iter(), blind_spot))
    }

    fn among_the_watched(&self, wanted: Vec<u32>) -> Result<Vec<u32>, Refusal> {
        if self.netns.is_empty() {
            return Ok(wanted);
        }
        match wanted.iter().find(|netns| !self.netns.contains(netns)) {
            Some(&other) => Err(Refusal::NotWatched(other)),
            None if wanted.is_empty() => Ok(self.netns.clone()),
            None => Ok(wanted),
        }
    }

    /// What the tracker knows, piece by piece, of minisocks only if those are wanted: there may be a million. `None` if the
    /// pipeline has ended.
    async fn known(&self, netns: &[u32], minisocks: bool) -> Option<Known> {
        let (answer, entries) = oneshot::channel();
        self.pipeline.send(Request::Entries { netns: netns.to_vec(), minisocks, answer }).await.ok()?;
        let entries = entries.await.ok()?;
        let mut known = Known::at(clock::monotonic_now(), entries.len());
        for some in entries.chunks(LOOKED_UP_AT_ONCE) {
            let (answer, closing) = oneshot::channel();
            self.pipeline.send(Request::Closing(some.to_vec(), answer)).await.ok()?;
            known.add(closing.await.ok()?);
        }
        Some(known)
    }
}

/// An answer that comes line by line.
fn streamed(body: Channel<Bytes, io::Error>, blind_spot: Option<&str>) -> Answer {
    let mut answer = Response::new(Either::Right(body));
    answer.headers_mut().insert(CONTENT_TYPE, JSON_LINES);
    if let Some(blind_spot) = blind_spot.and_then(|spot| HeaderValue::from_str(spot).ok()) {
        answer.headers_mut().insert(BLIND_SPOT, blind_spot);
    }
    answer
}

/// The states that need be looked for.
fn wanted_states(named: Vec<TcpState>, filter: &Expression) -> Vec<TcpState> {
    let mut states = if named.is_empty() { TcpState::CLOSING.to_vec() } else { named };
    if let Some(wanted) = filter.states() {
        states.retain(|state| wanted.contains(state));
    }
    states
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    spawn_blocking(work).await.map_err(broken)
}

fn broken(error: impl Into<anyhow::Error>) -> Refusal {
    Refusal::Broken(error.into())
}

/// Sends lines to a client, who has seen enough once he goes away. No more of them are made than one piece ahead of what there is room for.
async fn send<I>(mut client: Sender<Bytes, io::Error>, mut lines: I)
where
    I: Iterator<Item: Serialize> + Send + 'static,
{
    loop {
        // Whose a socket is may have to be read from files.
        let made = spawn_blocking(move || {
            let chunk = chunk_of(&mut lines);
            (lines, chunk)
        });
        let chunk = match made.await {
            Ok((rest, Ok(chunk))) => {
                lines = rest;
                chunk
            }
            Ok((_, Err(error))) => return client.abort(error.into()),
            Err(error) => return client.abort(error.into()),
        };
        if chunk.is_empty() || client.send_data(chunk.into()).await.is_err() {
            return;
        }
    }
}

/// As many lines as are sent at a time; empty after the last.
fn chunk_of(lines: &mut impl Iterator<Item: Serialize>) -> serde_json::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    while chunk.len() < CHUNK
        && let Some(line) = lines.next()
    {
        serde_json::to_writer(&mut chunk, &line)?;
        chunk.push(b'\n');
    }
    Ok(chunk)
}

fn refuse(status: StatusCode, why: impl Into<String>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(why.into() + "\n"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, TEXT);
    answer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::{net::UnixStream, time::timeout};

    use super::*;

    fn daemon() -> Arc<Daemon> {
        let (pipeline, _nobody) = mpsc::channel(1);
        let homes = Arc::new(Mutex::new(Homes::of_this_host()));
        let feed = Arc::new(Feed::new(1, Arc::clone(&homes)));
        let teller = Teller::new(BTreeMap::new(), true);
        Arc::new(Daemon::new(Vec::new(), pipeline, homes, Arc::new(Ports::new(Vec::new())), feed, teller))
    }

    #[tokio::test]
    async fn what_does_not_narrow_down_is_refused() {
        for path in ["/v1/ends?netns=1", "/v1/ends?state=close_wait", "/v1/transitions?netns=1&follow=true"] {
            let (mut client, server) = UnixStream::pair().expect("two ends");
            let asks = async {
                let question = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
                client.write_all(question.as_bytes()).await.expect("a question");
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.expect("an answer");
                assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
            };
            let conversation = converse(server, true, daemon(), CancellationToken::new());
            let both = async { tokio::join!(asks, conversation) };
            timeout(Duration::from_secs(10), both).await.expect("the conversation ends");
        }
    }

    #[tokio::test]
    async fn who_goes_away_makes_room_whatever_he_has_said() {
        let daemon = daemon();
        for behind in ["", "and more", "GET / HTTP/1.1\r\n\r\n"] {
            let (mut client, server) = UnixStream::pair().expect("two ends");
            let asks = async {
                let question = format!("GET /v1/transitions HTTP/1.1\r\nHost: here\r\n\r\n{behind}");
                client.write_all(question.as_bytes()).await.expect("a question");
                client.read_u8().await.expect("an answer begins");
                assert_eq!(daemon.listeners.available_permits(), LISTENERS - 1);
                drop(client);
            };
            let conversation = converse(server, true, Arc::clone(&daemon), CancellationToken::new());
            let both = async { tokio::join!(asks, conversation) };
            timeout(Duration::from_secs(10), both).await.expect("the conversation ends");
            daemon.answers.close();
            timeout(Duration::from_secs(10), daemon.answers.wait()).await.expect("the answer ends");
            assert_eq!(daemon.listeners.available_permits(), LISTENERS, "{behind:?}");
        }
    }
}
