//! A test's certificates, its web config file, and a client that speaks TLS.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Who makes certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub(crate) struct Certificate {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub(crate) fn cert(&self) -> String {
        self.0.pem()
    }

    /// A certificate for whoever listens or connects on loopback.
    pub(crate) fn certificate(&self) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Certificate { cert: cert.pem(), key: key.serialize_pem() }
    }
}

/// A folder with what a web config file names.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file in its place at once, as one should.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.path(name), self.path("new"));
        std::fs::write(&new, text).expect("write a file");
        std::fs::rename(&new, &path).expect("put it in its place");
        path
    }

    pub(crate) fn write_certificate(&self, certificate: &Certificate) {
        // The key first: between the two, they do not fit.
        self.write("server.key", &certificate.key);
        self.write("server.crt", &certificate.cert);
    }
}

/// How a client goes about TLS.
#[derive(Default)]
pub(crate) struct Client<'a> {
    /// By which roots it judges.
    pub(crate) roots: Vec<&'a Authority>,
    pub(crate) certificate: Option<&'a Certificate>,
    /// Only this version.
    pub(crate) version: Option<&'static SupportedProtocolVersion>,
    pub(crate) alpn: &'a [&'a str],
}

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Client<'_> {
    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for authority in &self.roots {
            let cert = CertificateDer::from_pem_slice(authority.cert().as_bytes()).expect("PEM");
            roots.add(cert).expect("a root");
        }
        let versions = self.version.map_or_else(|| vec![&TLS12, &TLS13], |only| vec![only]);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match self.certificate {
            Some(Certificate { cert, key }) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                config.with_client_auth_cert(vec![cert], key).expect("they fit")
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// Connects, and finishes its side of the handshake.
    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<Stream> {
        let name = "localhost".try_into().expect("a name");
        let mut tls = ClientConnection::new(Arc::new(self.config()), name).map_err(io::Error::other)?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(tls, stream))
    }

    /// The status of what is at `/healthz`, asked with these lines in the head as well.
    pub(crate) fn status(&self, address: SocketAddr, lines: &str) -> io::Result<u16> {
        let mut stream = self.connect(address)?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{lines}\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.ok_or_else(|| io::Error::other(answer))
    }

    /// The statuses of what is at these paths, asked over one connection at once.
    pub(crate) fn http2(&self, address: SocketAddr, paths: &[&str]) -> Vec<u16> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tls = tokio_rustls::TlsConnector::from(Arc::new(self.config()));
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.expect("connect");
            let stream = tls.connect("localhost".try_into().expect("a name"), stream).await;
            let stream = TokioIo::new(stream.expect("a handshake"));
            let (client, connection) =
                hyper::client::conn::http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), stream)
                    .await
                    .expect("HTTP/2");
            let mut asked = JoinSet::new();
            asked.spawn(async move { drop(connection.await) });
            let mut answers = Vec::new();
            for path in paths {
                let request = hyper::Request::get(format!("https://localhost{path}"));
                let request = request.body(Empty::new()).expect("a request");
                answers.push(client.clone().send_request(request));
            }
            let mut statuses = Vec::new();
            for answer in answers {
                statuses.push(answer.await.expect("an answer").status().as_u16());
            }
            statuses
        })
    }
}
