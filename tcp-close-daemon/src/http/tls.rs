//! What the web config file says of TLS, as rustls wants it.
//!
//! In: a [`Tls`], and the files that it names. Out: the settings of new connections.

use std::{io, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
    client::danger::HandshakeSignatureValid,
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};

use super::{
    files::Files,
    web_config::{ClientCertificates, Pem, Problem, Tls, WebConfigError},
};

/// The settings of new connections.
pub(super) fn server_config(
    tls: &Tls,
    http2: bool,
    files: &mut Files,
) -> Result<ServerConfig, WebConfigError> {
    let refused =
        |error| WebConfigError::Key { key: "tls_server_config".into(), problem: Problem::Tls(error) };
    let cert = certificates(&tls.cert, files)?;
    let key = private_key(&tls.key, files)?;
    let provider = Arc::new(CryptoProvider {
        cipher_suites: tls.cipher_suites.clone(),
        kx_groups: tls.curves.clone(),
        ..ring::default_provider()
    });
    let versions: Vec<&'static SupportedProtocolVersion> = [(2, &TLS12), (3, &TLS13)]
        .into_iter()
        .filter_map(|(minor, version)| tls.versions.contains(&minor).then_some(version))
        .collect();
    let clients = clients(&tls.clients, &provider, files)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(refused)?
        .with_client_cert_verifier(clients)
        .with_single_cert(cert, key);
    let mut config = config.map_err(|error| pem_error(&tls.key, &error.to_string()))?;
    config.ignore_client_order = tls.server_chooses;
    config.alpn_protocols =
        if http2 { vec![b"h2".into(), b"http/1.1".into()] } else { vec![b"http/1.1".into()] };
    Ok(config)
}

/// A text, and what an error calls it.
fn text(pem: &Pem, files: &mut Files) -> Result<Vec<u8>, WebConfigError> {
    match pem {
        Pem::File(key, path) => files.read(path).map_err(|source| {
            let of = path.display().to_string();
            WebConfigError::of_tls(key, Problem::Pem { of, problem: unreadable(&source) })
        }),
        Pem::Text(_, text) => Ok(text.clone().into_bytes()),
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot read it: {error}")
}

fn pem_error(pem: &Pem, problem: &str) -> WebConfigError {
    let of = match pem {
        Pem::File(_, path) => path.display().to_string(),
        Pem::Text(..) => "its text".to_owned(),
    };
    WebConfigError::of_tls(pem.key(), Problem::Pem { of, problem: problem.to_owned() })
}

fn certificates(pem: &Pem, files: &mut Files) -> Result<Vec<CertificateDer<'static>>, WebConfigError> {
    let text = text(pem, files)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err(pem_error(pem, "there is no certificate in it")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(pem_error(pem, &error.to_string())),
    }
}

fn private_key(pem: &Pem, files: &mut Files) -> Result<PrivateKeyDer<'static>, WebConfigError> {
    let text = text(pem, files)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => pem_error(pem, "there is no private key in it"),
        error => pem_error(pem, &error.to_string()),
    })
}

fn clients(
    clients: &ClientCertificates,
    provider: &Arc<CryptoProvider>,
    files: &mut Files,
) -> Result<Arc<dyn ClientCertVerifier>, WebConfigError> {
    let (ca, needed) = match clients {
        ClientCertificates::NotAsked => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientCertificates::Asked => return Ok(Arc::new(Unverified::new(provider, false))),
        ClientCertificates::Any => return Ok(Arc::new(Unverified::new(provider, true))),
        ClientCertificates::GoodIfGiven(ca) => (ca, false),
        ClientCertificates::Good(ca) => (ca, true),
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca, files)? {
        roots.add(certificate).map_err(|error| pem_error(ca, &error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = if needed { verifier } else { verifier.allow_unauthenticated() };
    verifier.build().map_err(|error| pem_error(ca, &error.to_string()))
}

/// Takes any certificate whose key the client has, whoever made it.
#[derive(Debug)]
struct Unverified {
    needed: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Unverified {
    const fn new(provider: &CryptoProvider, needed: bool) -> Self {
        Self { needed, algorithms: provider.signature_verification_algorithms }
    }
}

impl ClientCertVerifier for Unverified {
    fn client_auth_mandatory(&self) -> bool {
        self.needed
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
