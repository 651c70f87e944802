//! The other commands' side of the socket.

use std::{io, path::PathBuf};

use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::HOST,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, task::JoinSet};

use super::{BLIND_SPOT, CLOSING, PORTS, Place};
use crate::event::TcpState;

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
    sender: http1::SendRequest<Empty<Bytes>>,
    /// Reads and writes, for as long as the client is there.
    connection: JoinSet<hyper::Result<()>>,
}

/// Lines that come in.
#[derive(Debug)]
pub struct Lines {
    /// Why there may be more.
    pub blind_spot: Option<String>,
    body: Incoming,
    received: Vec<u8>,
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
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut client = Self { sender, connection: JoinSet::new() };
        // How it ends is told by the answer.
        client.connection.spawn(connection);
        Ok(client)
    }

    /// Asks for every socket that is closing, in these namespaces, or in all, and in these states.
    pub async fn closing(&mut self, netns: &[u32], states: &[TcpState]) -> Result<Lines, AskError> {
        let joined = |parts: Vec<String>| parts.join(",");
        let mut query =
            format!("state={}", joined(states.iter().map(|state| state.label().to_owned()).collect()));
        if !netns.is_empty() {
            query = format!("{query}&netns={}", joined(netns.iter().map(u32::to_string).collect()));
        }
        self.ask(&format!("{CLOSING}?{query}")).await
    }

    /// Asks how far ports are used up, in these namespaces, or in all.
    pub async fn ports(&mut self, netns: &[u32]) -> Result<Lines, AskError> {
        let netns: Vec<String> = netns.iter().map(u32::to_string).collect();
        let query = if netns.is_empty() { String::new() } else { format!("?netns={}", netns.join(",")) };
        self.ask(&format!("{PORTS}{query}")).await
    }

    async fn ask(&mut self, path: &str) -> Result<Lines, AskError> {
        let mut request = Request::new(Empty::new());
        // It is made of numbers and names here.
        *request.uri_mut() = path.parse().unwrap_or_else(|_invalid| Uri::default());
        request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("localhost"));
        let answer = self.sender.send_request(request).await?;
        if !answer.status().is_success() {
            let why = answer.into_body().collect().await?.to_bytes();
            return Err(AskError::Refused(String::from_utf8_lossy(&why).trim().to_owned()));
        }
        let blind_spot =
            answer.headers().get(BLIND_SPOT).and_then(|spot| spot.to_str().ok()).map(str::to_owned);
        Ok(Lines { blind_spot, body: answer.into_body(), received: Vec::new() })
    }
}

impl Lines {
    /// The lines that have come in since the last time; `None` after the last.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, AskError> {
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            self.received.extend_from_slice(&data);
            if let Some(end) = self.received.iter().rposition(|&byte| byte == b'\n') {
                let rest = self.received.split_off(end + 1);
                let whole = std::mem::replace(&mut self.received, rest);
                let lines = serde_json::Deserializer::from_slice(&whole).into_iter();
                return lines.collect::<Result<_, _>>().map(Some).map_err(AskError::NotUnderstood);
            }
        }
        Ok(None)
    }
}
