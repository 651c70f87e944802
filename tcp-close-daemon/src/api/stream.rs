//! What ends, line by line, to one client at his own pace.

use std::{io, time::Duration};

use http_body_util::channel::Sender;
use hyper::body::Bytes;
use tokio::{sync::OwnedSemaphorePermit, task::yield_now, time::timeout};
use tokio_util::sync::CancellationToken;

use super::Missed;
use crate::{
    feed::{Heard, Listener, Told},
    filter::{Expression, Subject},
    line::Teller,
};

/// Whoever reads nothing for so long is not expected to do so any more, and his place is given to others.
const STUCK: Duration = Duration::from_secs(600);

/// One client, who wants some of what is told.
pub(super) struct Stream {
    pub(super) listener: Listener,
    pub(super) filter: Expression,
    pub(super) teller: Teller,
    /// Go on when all that is remembered is told.
    pub(super) follow: bool,
    /// Kept for as long as this takes.
    pub(super) _place: OwnedSemaphorePermit,
    /// The client is no longer there, or the daemon stops.
    pub(super) gone: CancellationToken,
}

impl Stream {
    /// Sends lines until there are no more, or nobody reads them.
    pub(super) async fn send(mut self, mut client: Sender<Bytes, io::Error>) {
        loop {
            while let Some(heard) = self.listener.next_remembered() {
                let lines = self.lines(heard);
                if lines.is_empty() {
                    // Others want to be answered too.
                    yield_now().await;
                    continue;
                }
                match timeout(STUCK, client.send_data(Bytes::from(lines))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_gone)) => return,
                    Err(_elapsed) => {
                        client.abort(io::Error::new(io::ErrorKind::TimedOut, "nobody reads"));
                        return;
                    }
                }
            }
            if !self.follow {
                return;
            }
            tokio::select! {
                () = self.gone.cancelled() => return,
                () = self.listener.news() => {}
            }
        }
    }

    fn lines(&self, heard: Heard) -> String {
        match heard {
            Heard::Told(told) => {
                told.iter().filter(|told| self.wants(told)).filter_map(|told| self.line(told)).collect()
            }
            Heard::Missed(lines) => serde_json::to_string(&Missed { lines })
                .map_or_else(|_error| String::new(), |line| line + "\n"),
        }
    }

    fn wants(&self, told: &Told) -> bool {
        Subject::of(&told.observation, told.home.as_deref())
            .is_some_and(|subject| self.filter.holds(&subject))
    }

    fn line(&self, told: &Told) -> Option<String> {
        told.line(&self.teller).map(|line| line.json() + "\n")
    }
}
