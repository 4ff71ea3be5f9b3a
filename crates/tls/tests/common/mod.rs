//! Certificates made for a test, a server that answers each request with its body, and clients.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::client::{Peer, PeerOptions};
use net::{Connection, Limits, Options, Server, Service};
use protocol::Frame;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tls::{Tls, TlsSettings};
use tokio::runtime::{Builder, Runtime};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A certificate authority in a directory of its own.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    /// File with the certificate of the authority.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Writes a certificate for `host` and its key.
    pub(crate) fn issue(&self, host: &str, cert: &Path, key: &Path) {
        let own = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let signed = params.signed_by(&own, &self.issuer).unwrap();
        std::fs::write(cert, signed.pem()).unwrap();
        std::fs::write(key, own.serialize_pem()).unwrap();
    }

    /// Files of a new certificate and its key.
    pub(crate) fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (
            self.dir.path().join(format!("{name}.pem")),
            self.dir.path().join(format!("{name}.key")),
        );
        self.issue(name, &cert, &key);
        (cert, key)
    }
}

struct Echo;

impl Service for Echo {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            conn.send_frame(&Frame::response_to(&frame).with_body(frame.body));
        }
    }
}

/// A server with these settings.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    _tls: Tls,
}

pub(crate) fn serve(settings: &TlsSettings) -> Fixture {
    serve_within(settings, Limits::default())
}

pub(crate) fn serve_within(settings: &TlsSettings, limits: Limits) -> Fixture {
    let tls = Tls::open(settings).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let options = Options {
        name: "test".into(),
        listen: vec![any],
        workers: 1,
        limits,
        encryption: tls.transport().encryption,
    };
    let server = Server::start(options, Arc::new(Echo)).unwrap();
    Fixture { server, _tls: tls }
}

impl Fixture {
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.local_addrs()[0]
    }

    /// Whether a client with these settings is served.
    pub(crate) fn try_ask(&self, client: &TlsSettings) -> io::Result<()> {
        let runtime = runtime();
        runtime.block_on(async { ask(&connect(self.address(), client).await?, "one").await })
    }

    /// Waits until a client with these settings is served.
    pub(crate) fn wait_for(&self, client: &TlsSettings) {
        wait_for("the client is served", || self.try_ask(client).is_ok());
    }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub(crate) async fn connect(address: SocketAddr, client: &TlsSettings) -> io::Result<Peer> {
    let options = PeerOptions {
        connect_timeout: DEADLINE,
        connector: Tls::connector_once(client).unwrap(),
        ..PeerOptions::default()
    };
    Peer::connect(&address.to_string(), options).await
}

pub(crate) async fn ask(peer: &Peer, body: &str) -> io::Result<()> {
    let request = Frame::request(1).with_body(body.to_owned());
    let answer = peer.request(request, DEADLINE).await.map_err(io::Error::other)?;
    assert_eq!(answer.body, body);
    Ok(())
}

/// Settings of a client that uses TLS and trusts everybody.
pub(crate) fn client() -> TlsSettings {
    TlsSettings {
        enable: Some(true),
        ..TlsSettings::default()
    }
}

/// Settings of a client that uses TLS and trusts an authority.
pub(crate) fn trusting(authority: &Authority) -> TlsSettings {
    TlsSettings {
        client_verifies: true,
        client_trust: Some(authority.file()),
        ..client()
    }
}

pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
