//! The other commands' side of the socket.

use std::{io, path::PathBuf, pin::pin, time::Duration};

use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::HOST,
    http::uri::InvalidUri,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    task::JoinSet,
    time::timeout,
};

use super::{BLIND_SPOT, CLOSING, ENDS, Missed, PORTS, Place, Question, TRANSITIONS};
use crate::line::Line;

/// Time until whoever waits is told what for.
const SOON: Duration = Duration::from_secs(3);

/// Time for an answer to begin: the daemon may have to read the kernel's table first, and to answer others before.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there.
    #[error("no daemon answers at {0}")]
    NoDaemon(PathBuf),
    /// Somebody is there, and this user may not ask.
    #[error("the daemon's socket {0} is for members of group tcp-close, and for root")]
    NotAllowed(PathBuf),
    /// The socket cannot be used.
    #[error("cannot connect to the daemon's socket {path}")]
    Connect {
        /// Its path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the conversation with the daemon broke off")]
    Http(#[from] hyper::Error),
    /// The daemon does not answer in time.
    #[error("the daemon does not answer")]
    Silent,
    /// More is asked than there is room for.
    #[error("the filter is too long to be asked of the daemon; --standalone does without it")]
    TooLong(#[source] InvalidUri),
    /// The daemon refuses.
    #[error("the daemon says: {0}")]
    Refused(String),
    /// The daemon is of another version.
    #[error("the daemon's answer is not understood: is it of another version?")]
    NotUnderstood(#[source] serde_json::Error),
}

/// Asks a daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    sender: http1::SendRequest<Empty<Bytes>>,
    /// Reads and writes, for as long as the client is there.
    connection: JoinSet<hyper::Result<()>>,
    /// Says what it waits for.
    tells: bool,
}

/// Lines that come in.
#[derive(Debug)]
pub struct Lines {
    /// Why there may be more.
    pub blind_spot: Option<String>,
    /// How many were forgotten before they could be sent, at most, since somebody last asked.
    missed: u64,
    body: Incoming,
    received: Vec<u8>,
    /// Goes on for as long as there may be more.
    _client: Client,
}

impl Client {
    /// Connects to the daemon at this socket.
    pub async fn connect(place: &Place) -> Result<Self, AskError> {
        let path = || place.path.clone();
        let stream = UnixStream::connect(&place.path).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NoDaemon(path()),
            io::ErrorKind::PermissionDenied => AskError::NotAllowed(path()),
            _ => AskError::Connect { path: path(), source },
        })?;
        Self::over(stream, place).await
    }

    /// Speaks to the daemon of this place over a connection that is there already.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        place: &Place,
    ) -> Result<Self, AskError> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut client = Self { path: place.path.clone(), sender, connection: JoinSet::new(), tells: true };
        // How it ends is told by the answer.
        client.connection.spawn(connection);
        Ok(client)
    }

    /// Says nothing while it waits: who draws a screen has no place for it.
    #[must_use]
    pub fn quiet(self) -> Self {
        Self { tells: false, ..self }
    }

    /// Asks for every socket that is closing.
    pub async fn closing(self, question: &Question) -> Result<Lines, AskError> {
        self.ask(CLOSING, question).await
    }

    /// Asks how far ports are used up.
    pub async fn ports(self, question: &Question) -> Result<Lines, AskError> {
        self.ask(PORTS, question).await
    }

    /// Asks what has ended, and what ends from now on.
    pub async fn ends(self, question: &Question) -> Result<Lines, AskError> {
        self.ask(ENDS, question).await
    }

    /// Asks for changes of state from now on.
    pub async fn transitions(self, question: &Question) -> Result<Lines, AskError> {
        self.ask(TRANSITIONS, question).await
    }

    async fn ask(mut self, path: &str, question: &Question) -> Result<Lines, AskError> {
        let mut request = Request::new(Empty::new());
        // Whatever is in the query is encoded there.
        *request.uri_mut() = format!("{path}?{}", question.query()).parse().map_err(AskError::TooLong)?;
        request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("localhost"));
        let mut answer = pin!(self.sender.send_request(request));
        let answer = if let Ok(answer) = timeout(SOON, &mut answer).await {
            answer?
        } else {
            if self.tells {
                tracing::warn!("the daemon at {} has not answered yet", self.path.display());
            }
            timeout(PATIENCE, answer).await.map_err(|_elapsed| AskError::Silent)??
        };
        if answer.status() == StatusCode::FORBIDDEN {
            return Err(AskError::NotAllowed(self.path));
        }
        if !answer.status().is_success() {
            let why = answer.into_body().collect().await?.to_bytes();
            return Err(AskError::Refused(in_print(&why)));
        }
        let blind_spot =
            answer.headers().get(BLIND_SPOT).and_then(|spot| spot.to_str().ok()).map(str::to_owned);
        Ok(Lines { blind_spot, missed: 0, body: answer.into_body(), received: Vec::new(), _client: self })
    }
}

impl Lines {
    /// The lines that have come in since the last time; `None` after the last.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, AskError> {
        let Some(whole) = self.next_bytes().await? else {
            return Ok(None);
        };
        let lines = serde_json::Deserializer::from_slice(&whole).into_iter();
        lines.collect::<Result<_, _>>().map(Some).map_err(AskError::NotUnderstood)
    }

    /// Those of `watch`, as they came, each with its end of line.
    pub async fn next_told(&mut self) -> Result<Option<Vec<Vec<u8>>>, AskError> {
        let Some(whole) = self.next_bytes().await? else {
            return Ok(None);
        };
        let mut told = Vec::new();
        for line in whole.split_inclusive(|&byte| byte == b'\n') {
            match Missed::read(line) {
                Some(missed) => self.missed = self.missed.saturating_add(missed.lines),
                None => told.push(line.to_owned()),
            }
        }
        Ok(Some(told))
    }

    /// How many lines were forgotten before they could be sent, at most, since this was last asked.
    pub const fn missed(&mut self) -> u64 {
        std::mem::replace(&mut self.missed, 0)
    }

    async fn next_bytes(&mut self) -> Result<Option<Vec<u8>>, AskError> {
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            self.received.extend_from_slice(&data);
            if let Some(end) = self.received.iter().rposition(|&byte| byte == b'\n') {
                let rest = self.received.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.received, rest)));
            }
        }
        Ok(None)
    }
}

/// A daemon's own words, of one line or more, as a terminal may show them.
fn in_print(words: &[u8]) -> String {
    let is_safe = |character: char| character == '\n' || !character.is_control();
    let words = String::from_utf8_lossy(words);
    words.trim().chars().map(|character| if is_safe(character) { character } else { '?' }).collect()
}

/// What was told, by its JSON.
pub fn told(line: &[u8]) -> Result<Line, AskError> {
    serde_json::from_slice(line).map_err(AskError::NotUnderstood)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a client makes of this answer to a question for what has ended.
    async fn told_by(answer: &[u8]) -> Result<(Vec<Vec<u8>>, u64), AskError> {
        let (client, mut daemon) = UnixStream::pair().expect("two ends");
        let answers = async {
            // The question; what it says is another test's.
            let _asked = daemon.read(&mut [0; 4096]).await.expect("a question");
            daemon.write_all(answer).await.expect("an answer");
            drop(daemon);
        };
        let hears = async {
            let client = Client::over(client, &Place::new(None)).await?;
            let mut lines = client.ends(&Question::default()).await?;
            let (mut told, mut missed) = (Vec::new(), 0);
            while let Some(some) = lines.next_told().await? {
                told.extend(some);
                missed = lines.missed();
            }
            Ok((told, missed))
        };
        tokio::join!(answers, hears).1
    }

    #[tokio::test]
    async fn a_daemon_that_counts_wildly_is_believed_as_far_as_it_can_be() {
        let line = br#"{"event":"missed","lines":18446744073709551615}"#;
        let answer = [b"HTTP/1.1 200 OK\r\n\r\n", line.as_slice(), b"\n", line, b"\nanything\n"].concat();
        let (told, missed) = told_by(&answer).await.expect("lines");
        assert_eq!((told, missed), (vec![b"anything\n".to_vec()], u64::MAX));
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_what_a_terminal_may_show() {
        let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 12\r\n\r\nno: \x1b[2J\n^\n\n";
        let error = told_by(answer).await.expect_err("it was refused");
        assert_eq!(error.to_string(), "the daemon says: no: ?[2J\n^");
    }
}
