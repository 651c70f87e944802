//! Who is let in, and how: what the web config file says, and says by now.
//!
//! In: the file's path. Out: [`Rules`], made anew when one of the files that they are made of has changed. That is
//! looked for when somebody asks, and at most once a second, so that neither many clients nor none cost anything.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hyper::header::{HeaderName, HeaderValue};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    files::Files,
    limits::Turns,
    password::{Desk, Users},
    rate::Rate,
    tls,
    web_config::{ClientCertificates, WebConfig, WebConfigError},
};
use crate::sentence::sentence;

/// How often it is looked whether files have changed, at most.
const PAUSE: Duration = Duration::from_secs(1);

/// How long somebody waits for that look; a disk that does not answer holds nobody up for longer.
const LOOK: Duration = Duration::from_secs(1);

/// Who is let in, and how.
pub struct Access {
    rules: Arc<RwLock<Arc<Rules>>>,
    /// Where there is no file, nothing can change.
    watch: Option<Arc<Mutex<Watch>>>,
    pub(super) desk: Desk,
    /// For figures from the pipeline.
    pub(super) turns: Turns,
}

/// What is in force for a connection or a request.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) tls: Option<TlsAcceptor>,
    clients_are_verified: bool,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) users: Option<Users>,
    pub(super) rate: Option<Rate>,
}

struct Watch {
    path: PathBuf,
    files: Files,
    /// When it was looked last.
    looked: Option<Instant>,
}

impl fmt::Debug for Access {
    /// Nothing of it: it has secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// Everybody, in the clear.
    pub fn open() -> Self {
        Self { rules: Arc::default(), watch: None, desk: Desk::default(), turns: Turns::default() }
    }

    /// As this file says.
    pub fn load(path: &Path) -> Result<Self, WebConfigError> {
        let (rules, files) = Rules::load(path);
        let watch = Watch { path: path.to_owned(), files, looked: None };
        Ok(Self {
            rules: Arc::new(RwLock::new(Arc::new(rules?))),
            watch: Some(Arc::new(Mutex::new(watch))),
            desk: Desk::default(),
            turns: Turns::default(),
        })
    }

    /// The rules by now. Whoever comes while another looks takes those that there are.
    pub(super) async fn rules(&self) -> Arc<Rules> {
        if let Some(watch) = &self.watch
            && let Ok(mut watch) = Arc::clone(watch).try_lock_owned()
            && watch.looked.is_none_or(|looked| looked.elapsed() >= PAUSE)
        {
            watch.looked = Some(Instant::now());
            let rules = Arc::clone(&self.rules);
            let look = tokio::task::spawn_blocking(move || watch.look(&rules));
            if !matches!(timeout(LOOK, look).await, Ok(Ok(()))) {
                tracing::debug!("it takes long to see whether the web config file has changed");
            }
        }
        self.in_force()
    }

    fn in_force(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Watch {
    /// Puts new rules in force if there are good ones.
    fn look(&mut self, in_force: &RwLock<Arc<Rules>>) {
        if !self.files.changed() {
            return;
        }
        let (rules, files) = Rules::load(&self.path);
        // Bad ones, too, are looked at again only when they have changed.
        self.files = files;
        let old = Arc::clone(&in_force.read().unwrap_or_else(PoisonError::into_inner));
        match rules.and_then(|rules| rules.no_weaker_than(&old)) {
            Ok(rules) => {
                *in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
                tracing::info!("the web config file or what it names has changed, and is in force");
            }
            Err(error) => tracing::warn!(
                "{} has changed and is no use; what was before goes on: {}",
                self.path.display(),
                sentence(&error)
            ),
        }
    }
}

impl Rules {
    /// Those of a file, and all files that were read for them, as far as it went.
    fn load(path: &Path) -> (Result<Self, WebConfigError>, Files) {
        let mut files = Files::default();
        let rules = Self::read(path, &mut files);
        (rules, files)
    }

    fn read(path: &Path, files: &mut Files) -> Result<Self, WebConfigError> {
        let unreadable = |source| WebConfigError::Unreadable { path: path.to_owned(), source };
        let text = files.read(path).map_err(unreadable)?;
        let text = String::from_utf8(text).map_err(|error| unreadable(std::io::Error::other(error)))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let config = WebConfig::parse(&text, folder)?;
        let tls = match &config.tls {
            Some(tls) => Some(tls::server_config(tls, config.http2, files)?),
            None => None,
        };
        Ok(Self {
            tls: tls.map(|tls| TlsAcceptor::from(Arc::new(tls))),
            clients_are_verified: matches!(
                config.tls.map(|tls| tls.clients),
                Some(ClientCertificates::Good(_))
            ),
            headers: config.headers,
            users: Users::new(config.users),
            rate: config.rate_limit.map(Rate::new),
        })
    }

    /// A file that is just being written looks like one that says less. What protects is not given up for that.
    fn no_weaker_than(self, old: &Self) -> Result<Self, WebConfigError> {
        for (had, has, what) in [
            (old.tls.is_some(), self.tls.is_some(), "TLS"),
            (old.users.is_some(), self.users.is_some(), "users"),
            (old.clients_are_verified, self.clients_are_verified, "clients' certificates that are verified"),
        ] {
            if had && !has {
                return Err(WebConfigError::Weaker(what));
            }
        }
        Ok(self)
    }
}
