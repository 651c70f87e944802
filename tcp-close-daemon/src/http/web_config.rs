//! The web config file: what it may say, in the form that Prometheus' exporter-toolkit gave it.
//!
//! In: its text. Out: a [`WebConfig`] all of which is honored, or an error that names the key. It reads no file,
//! and knows nothing of connections.

use std::{collections::BTreeMap, io, path::Path, path::PathBuf, str::FromStr as _, time::Duration};

use hyper::header::{HeaderName, HeaderValue};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_saphyr::UserMessageFormatter;

use self::tls_section::TlsSection;

mod tls_section;

pub use tls_section::{ClientCertificates, Pem, Tls};

/// The headers that may be added to answers, and their values where only some make sense.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// The highest cost of a password's hash: a check then takes some seconds, which is what a request has.
const MOST_COST: u32 = 16;

/// The longest from one request to the next.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a web config file is no use.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no YAML, or has keys that nobody knows.
    #[error("{key}: {}", problem.render_with_formatter(&UserMessageFormatter))]
    Yaml {
        /// The key, with those above it.
        key: String,
        /// Why.
        problem: Box<serde_saphyr::Error>,
    },
    /// What a key says cannot be honored.
    #[error("{key}: {problem}")]
    Key {
        /// The key, with those above it.
        key: String,
        /// Why.
        problem: Problem,
    },
    /// While the daemon runs, the file may say how it is protected, but not that it no longer is.
    #[error("it no longer has {0}; restart the daemon if that is meant")]
    Weaker(&'static str),
}

impl WebConfigError {
    fn of(key: impl Into<String>, problem: Problem) -> Self {
        Self::Key { key: key.into(), problem }
    }

    /// That of a key of `tls_server_config`.
    pub(super) fn of_tls(key: &str, problem: Problem) -> Self {
        Self::of(format!("tls_server_config.{key}"), problem)
    }
}

/// Why what a key says cannot be honored.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There has to be such a key.
    #[error("it is missing")]
    Missing,
    /// It and another say the same thing twice.
    #[error("{0} is given as well; one of them is enough")]
    Twice(&'static str),
    /// It makes sense only with another.
    #[error("it says nothing without {0}")]
    Without(&'static str),
    /// It is a part of the format that this server does not have.
    #[error("it is not supported")]
    NotSupported,
    /// The value is none of those that there are.
    #[error("{value:?} is not offered; {offered}")]
    NotOffered {
        /// The value.
        value: String,
        /// Those that are.
        offered: String,
    },
    /// The lowest is above the highest.
    #[error("it is above max_version")]
    AboveMost,
    /// A header has bytes that no header may have.
    #[error("it is no value of a header")]
    NoHeaderValue,
    /// A time makes no sense.
    #[error("{0:?} is no time; it takes a number with a unit, such as 100ms or 1s")]
    NoTime(String),
    /// A number is too small.
    #[error("it must be at least 1")]
    TooFew,
    /// A password is not there as its hash.
    #[error("it is no bcrypt hash; `htpasswd -nBC 10 \"\"` makes one")]
    NoHash,
    /// A password's hash takes too long to check.
    #[error("a check at cost {cost} takes longer than a request may; at most {MOST_COST} is possible")]
    TooCostly {
        /// The hash's cost.
        cost: u32,
    },
    /// A user's name can never be sent.
    #[error("a name that has a colon cannot be sent")]
    NoName,
    /// It is no certificate, no key, or not the key of that certificate.
    #[error("{of}: {problem}")]
    Pem {
        /// The file.
        of: String,
        /// What is the matter with it.
        problem: String,
    },
    /// rustls does not take all of it together.
    #[error("{0}")]
    Tls(rustls::Error),
}

/// What the file says.
pub struct WebConfig {
    /// Encryption, if any.
    pub tls: Option<Tls>,
    /// Whether encrypted connections may speak HTTP/2.
    pub http2: bool,
    /// Headers of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who may ask, and the bcrypt hash of the password; empty for everybody.
    pub users: BTreeMap<String, String>,
    /// How often may be asked.
    pub rate_limit: Option<RateLimit>,
}

/// How often may be asked.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// Time from one request to the next.
    pub interval: Duration,
    /// How many may come at once.
    pub burst: u32,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sections {
    tls_server_config: Option<TlsSection>,
    http_server_config: Option<HttpSection>,
    basic_auth_users: Option<BTreeMap<String, String>>,
    rate_limit: Option<RateLimitSection>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpSection {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RateLimitSection {
    interval: Option<String>,
    burst: Option<u32>,
}

impl WebConfig {
    /// Reads the text of a file in this folder, which is where relative paths begin.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, WebConfigError> {
        // The lines around an error may have secrets, and errors are logged.
        let options = serde_saphyr::options! { with_snippet: false };
        let mut key = String::new();
        let sections = serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
            serde_path_to_error::deserialize(yaml).map_err(|error| {
                key = error.path().to_string();
                error.into_inner()
            })
        });
        let sections: Option<Sections> = sections.map_err(|problem| {
            // It has none where it is no YAML at all, and calls the whole of it a dot.
            let key = if key.is_empty() || key == "." { "the file".to_owned() } else { key };
            WebConfigError::Yaml { key, problem: Box::new(problem) }
        })?;
        let Sections { tls_server_config, http_server_config, basic_auth_users, rate_limit } =
            sections.unwrap_or_default();
        let http = http_server_config.unwrap_or_default();
        Ok(Self {
            tls: tls_server_config.map(|section| section.read(folder)).transpose()?.flatten(),
            http2: http.http2.unwrap_or(true),
            headers: http.headers.unwrap_or_default().into_iter().map(header).collect::<Result<_, _>>()?,
            users: basic_auth_users.unwrap_or_default().into_iter().map(user).collect::<Result<_, _>>()?,
            rate_limit: rate_limit.map(RateLimitSection::read).transpose()?.flatten(),
        })
    }
}

fn header((name, value): (String, String)) -> Result<(HeaderName, HeaderValue), WebConfigError> {
    let key = format!("http_server_config.headers.{name}");
    let Some((known, values)) = HEADERS.into_iter().find(|(known, _)| *known == name) else {
        let offered = HEADERS.map(|(known, _)| known).join(", ");
        let problem = Problem::NotOffered { value: name, offered: format!("headers are {offered}") };
        return Err(WebConfigError::of("http_server_config.headers", problem));
    };
    if !values.is_empty() && !values.contains(&value.as_str()) {
        let offered = format!("it takes {}", values.join(" or "));
        return Err(WebConfigError::of(key, Problem::NotOffered { value, offered }));
    }
    let (Ok(known), Ok(value)) = (HeaderName::from_str(known), HeaderValue::from_str(&value)) else {
        return Err(WebConfigError::of(key, Problem::NoHeaderValue));
    };
    Ok((known, value))
}

fn user((name, hash): (String, String)) -> Result<(String, String), WebConfigError> {
    let refused = |problem| Err(WebConfigError::of(format!("basic_auth_users.{name}"), problem));
    if name.contains(':') {
        return refused(Problem::NoName);
    }
    match bcrypt::HashParts::from_str(&hash).map(|parts| parts.get_cost()) {
        Ok(cost) if cost > MOST_COST => refused(Problem::TooCostly { cost }),
        // One that no password has ever had is found out here, and not by whoever is refused.
        Ok(4..) if is_whole(&hash) => Ok((name, hash)),
        _ => refused(Problem::NoHash),
    }
}

/// Whether a password can be held against it: tried at the lowest cost there is, which is a millisecond.
fn is_whole(hash: &str) -> bool {
    let digits = hash.rsplit('$').next().unwrap_or_default();
    bcrypt::verify("", &format!("$2b$04${digits}")).is_ok()
}

impl RateLimitSection {
    /// Without an interval there is no limit.
    fn read(self) -> Result<Option<RateLimit>, WebConfigError> {
        let text = self.interval.unwrap_or_default();
        if text.is_empty() || text == "0" {
            return match self.burst {
                None | Some(0) => Ok(None),
                Some(_) => Err(WebConfigError::of("rate_limit.burst", Problem::Without("interval"))),
            };
        }
        let interval = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
        let Some(interval) = interval else {
            return Err(WebConfigError::of("rate_limit.interval", Problem::NoTime(text)));
        };
        if interval.is_zero() {
            return Ok(None);
        }
        if interval > LONGEST_INTERVAL {
            let problem = Problem::NotOffered { value: text, offered: "it takes at most 24h".to_owned() };
            return Err(WebConfigError::of("rate_limit.interval", problem));
        }
        match self.burst {
            None => Err(WebConfigError::of("rate_limit.burst", Problem::Missing)),
            Some(0) => Err(WebConfigError::of("rate_limit.burst", Problem::TooFew)),
            Some(burst) => Ok(Some(RateLimit { interval, burst })),
        }
    }
}
