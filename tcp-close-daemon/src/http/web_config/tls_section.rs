//! The section `tls_server_config`: which certificate, which clients, which versions and ciphers.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use rustls::{
    SupportedCipherSuite,
    crypto::{SupportedKxGroup, ring},
};
use serde::Deserialize;

use super::{Problem, WebConfigError};

/// What Go calls the groups of a key exchange, and what they are called elsewhere.
const CURVES: [(&str, &dyn SupportedKxGroup); 3] = [
    ("X25519", ring::kx_group::X25519),
    ("CurveP256", ring::kx_group::SECP256R1),
    ("CurveP384", ring::kx_group::SECP384R1),
];

/// Encryption.
pub struct Tls {
    /// The certificate, and those that lead to its root.
    pub cert: Pem,
    /// Its key.
    pub key: Pem,
    /// What is asked of clients.
    pub clients: ClientCertificates,
    /// Versions of TLS, by their minor number.
    pub versions: RangeInclusive<u8>,
    /// Ciphers, the best first.
    pub cipher_suites: Vec<SupportedCipherSuite>,
    /// Whether the server's order of them counts, and not the client's.
    pub server_chooses: bool,
    /// Groups for the exchange of keys, the best first.
    pub curves: Vec<&'static dyn SupportedKxGroup>,
}

/// What is asked of clients, and by which roots it is judged.
pub enum ClientCertificates {
    /// No certificate.
    NotAsked,
    /// A certificate, which is not looked at, and without which they get in as well.
    Asked,
    /// Any certificate.
    Any,
    /// A good certificate or none.
    GoodIfGiven(Pem),
    /// A good certificate.
    Good(Pem),
}

/// Text with certificates or a key, and what it is called.
pub enum Pem {
    /// In a file, by this key.
    File(&'static str, PathBuf),
    /// In the web config file itself, by this key.
    Text(&'static str, String),
}

impl Pem {
    /// The key that says what it is.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::File(key, _) | Self::Text(key, _) => key,
        }
    }

    fn one_of(
        text: (&'static str, Option<String>),
        file: (&'static str, Option<PathBuf>),
        folder: &Path,
    ) -> Result<Option<Self>, WebConfigError> {
        // Whoever sets a key to nothing means the same as who leaves it out.
        let written = text.1.filter(|text| !text.is_empty());
        let named = file.1.filter(|path| !path.as_os_str().is_empty());
        match (written, named) {
            (Some(_), Some(_)) => Err(WebConfigError::of_tls(file.0, Problem::Twice(text.0))),
            (Some(written), None) => Ok(Some(Self::Text(text.0, written))),
            (None, Some(path)) => Ok(Some(Self::File(file.0, folder.join(path)))),
            (None, None) => Ok(None),
        }
    }
}

#[derive(Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsSection {
    cert: Option<String>,
    cert_file: Option<PathBuf>,
    key: Option<String>,
    key_file: Option<PathBuf>,
    client_ca: Option<String>,
    client_ca_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Vec<String>>,
}

impl TlsSection {
    /// A section without a single key means no encryption, as the whole section left out does.
    pub(super) fn read(self, folder: &Path) -> Result<Option<Tls>, WebConfigError> {
        if self == Self::default() {
            return Ok(None);
        }
        let missing = |key| WebConfigError::of_tls(key, Problem::Missing);
        let cert = Pem::one_of(("cert", self.cert), ("cert_file", self.cert_file), folder)?;
        let key = Pem::one_of(("key", self.key), ("key_file", self.key_file), folder)?;
        let ca = Pem::one_of(("client_ca", self.client_ca), ("client_ca_file", self.client_ca_file), folder)?;
        if self.client_allowed_sans.is_some() {
            return Err(WebConfigError::of_tls("client_allowed_sans", Problem::NotSupported));
        }
        let clients = clients(self.client_auth_type.as_deref().unwrap_or_default(), ca)?;
        let min = self.min_version.map_or(Ok(2), |name| version("min_version", name))?;
        let max = self.max_version.map_or(Ok(3), |name| version("max_version", name))?;
        if min > max {
            return Err(WebConfigError::of_tls("min_version", Problem::AboveMost));
        }
        Ok(Some(Tls {
            cert: cert.ok_or_else(|| missing("cert_file"))?,
            key: key.ok_or_else(|| missing("key_file"))?,
            clients,
            versions: min..=max,
            cipher_suites: cipher_suites(self.cipher_suites.unwrap_or_default())?,
            server_chooses: self.prefer_server_cipher_suites.unwrap_or(true),
            curves: curves(self.curve_preferences.unwrap_or_default())?,
        }))
    }
}

fn clients(name: &str, ca: Option<Pem>) -> Result<ClientCertificates, WebConfigError> {
    let needs_ca = || WebConfigError::of_tls("client_ca_file", Problem::Missing);
    let clients = match name {
        "" | "NoClientCert" => ClientCertificates::NotAsked,
        "RequestClientCert" => ClientCertificates::Asked,
        // The latter is the toolkit's name of old.
        "RequireAnyClientCert" | "RequireClientCert" => ClientCertificates::Any,
        "VerifyClientCertIfGiven" => return ca.map(ClientCertificates::GoodIfGiven).ok_or_else(needs_ca),
        "RequireAndVerifyClientCert" => return ca.map(ClientCertificates::Good).ok_or_else(needs_ca),
        _ => {
            let offered = "it takes NoClientCert, RequestClientCert, RequireAnyClientCert, \
                           VerifyClientCertIfGiven or RequireAndVerifyClientCert";
            let problem = Problem::NotOffered { value: name.to_owned(), offered: offered.to_owned() };
            return Err(WebConfigError::of_tls("client_auth_type", problem));
        }
    };
    match ca {
        // Whoever names it believes that certificates are held against it.
        Some(ca) => {
            let verified = "client_auth_type VerifyClientCertIfGiven or RequireAndVerifyClientCert";
            Err(WebConfigError::of_tls(ca.key(), Problem::Without(verified)))
        }
        None => Ok(clients),
    }
}

fn version(key: &str, name: String) -> Result<u8, WebConfigError> {
    match name.as_str() {
        "TLS12" => Ok(2),
        "TLS13" => Ok(3),
        _ => {
            let offered = "it takes TLS12 or TLS13".to_owned();
            Err(WebConfigError::of_tls(key, Problem::NotOffered { value: name, offered }))
        }
    }
}

/// Those that are named; of a version of TLS that none is named of, all.
fn cipher_suites(names: Vec<String>) -> Result<Vec<SupportedCipherSuite>, WebConfigError> {
    let mut chosen = Vec::new();
    for name in names {
        let suite = ring::ALL_CIPHER_SUITES.iter().find(|suite| suite_name(suite) == name);
        let Some(suite) = suite else {
            let all: Vec<String> = ring::ALL_CIPHER_SUITES.iter().map(suite_name).collect();
            let problem =
                Problem::NotOffered { value: name, offered: format!("it takes {}", all.join(", ")) };
            return Err(WebConfigError::of_tls("cipher_suites", problem));
        };
        chosen.push(*suite);
    }
    for is_13 in [true, false] {
        let of_version = |suite: &&SupportedCipherSuite| suite.tls13().is_some() == is_13;
        if !chosen.iter().any(|suite| of_version(&suite)) {
            chosen.extend(ring::ALL_CIPHER_SUITES.iter().filter(of_version));
        }
    }
    Ok(chosen)
}

/// As Go calls it, which has no version in the names of TLS 1.3.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    name.replace("TLS13_", "TLS_")
}

fn curves(names: Vec<String>) -> Result<Vec<&'static dyn SupportedKxGroup>, WebConfigError> {
    if names.is_empty() {
        return Ok(CURVES.map(|(_, group)| group).into());
    }
    let group = |name: String| {
        let found = CURVES.into_iter().find(|(known, _)| *known == name).map(|(_, group)| group);
        found.ok_or_else(|| {
            let offered = format!("it takes {}", CURVES.map(|(known, _)| known).join(", "));
            WebConfigError::of_tls("curve_preferences", Problem::NotOffered { value: name, offered })
        })
    };
    names.into_iter().map(group).collect()
}
