//! Where the daemon can be asked: sockets of its own, or handed over by a service manager.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
};

use anyhow::Context as _;

use crate::{
    api::{self, BindError, Door, Socket},
    commands::Failure,
    service::HandedOver,
    settings::DaemonSettings,
};

/// Where the daemon can be asked.
pub(super) struct Doors {
    /// For HTTP, and at which address.
    pub(super) http: (TcpListener, SocketAddr),
    /// For the other commands, if that can be had.
    pub(super) api: Option<Api>,
}

/// Where the other commands ask.
pub(super) struct Api {
    pub(super) listener: UnixListener,
    pub(super) door: Door,
    /// The socket's file, if it is ours.
    pub(super) made: Option<Socket>,
}

impl Doors {
    /// Takes what a service manager hands over, and opens the rest.
    pub(super) fn open(settings: &DaemonSettings) -> Result<Self, Failure> {
        let HandedOver { http, api } = HandedOver::take().map_err(cannot_serve)?;
        let http = match http {
            Some(http) => {
                tracing::debug!(
                    "HTTP listens where the service manager says, and not at --web.listen-address"
                );
                http
            }
            None => listen(settings.listen_address)?,
        };
        http.set_nonblocking(true).map_err(cannot_serve)?;
        let address = http.local_addr().map_err(cannot_serve)?;
        let api = match api {
            Some(listener) => Some(Api::handed_over(listener).map_err(cannot_serve)?),
            None => bind(&settings.socket)?,
        };
        Ok(Self { http: (http, address), api })
    }
}

impl Api {
    fn handed_over(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let path = address.as_pathname().ok_or_else(|| io::Error::other("its socket has no path"))?;
        Ok(Self { door: Door::at(path), listener, made: None })
    }
}

pub(super) fn cannot_serve(error: io::Error) -> Failure {
    Failure::Other(anyhow::Error::new(error).context("cannot serve"))
}

/// Connections that may wait to be accepted, as many as the unit's socket lets: whoever finds no room has his SYN sent
/// again a second later. `net.core.somaxconn` may allow fewer.
const BACKLOG: i32 = 1024;

/// Listens for HTTP: port 0 lets the kernel choose.
fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        // The standard library lets 128 wait; a socket that listens may be told another number.
        .and_then(|listener| {
            rustix::net::listen(&listener, BACKLOG)?;
            Ok(listener)
        })
        .with_context(|| format!("cannot listen on {address} (choose another with --web.listen-address)"))
        .map_err(Failure::Other)
}

/// The socket that the other commands ask at. Where nobody has said which, none is no reason not to start.
fn bind(place: &api::Place) -> Result<Option<Api>, Failure> {
    match Socket::bind(&place.path) {
        Ok((socket, listener)) => Ok(Some(Api { listener, door: Door::at(&place.path), made: Some(socket) })),
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
