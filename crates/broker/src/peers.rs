//! Connections to name servers and other brokers that are opened when they are needed and kept.

use net::client::{Peer, PeerOptions};
use net::session::Connector;
use parking_lot::Mutex;
use protocol::{Frame, ResponseCode};
use rustc_hash::FxHashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Connections that are kept at most; with one more, all others are forgotten.
const MAX_KEPT: usize = 256;

/// Connections by `host:port`. Clones share them.
#[derive(Clone)]
pub struct Peers {
    connector: Option<Arc<dyn Connector>>,
    kept: Arc<Mutex<FxHashMap<String, Arc<Peer>>>>,
}

impl Peers {
    /// With sessions of `connector`, or plain TCP.
    #[must_use]
    pub fn new(connector: Option<Arc<dyn Connector>>) -> Self {
        Self {
            connector,
            kept: Arc::default(),
        }
    }

    /// The connection to this address, which is opened if there is none.
    ///
    /// # Errors
    /// `io::Error` as of [`Peer::connect`].
    pub async fn to(&self, address: &str, timeout: Duration) -> io::Result<Arc<Peer>> {
        if let Some(peer) = self.kept.lock().get(address).filter(|peer| !peer.is_closed()) {
            return Ok(Arc::clone(peer));
        }
        let options = PeerOptions {
            connect_timeout: timeout,
            connector: self.connector.clone(),
            ..PeerOptions::default()
        };
        let peer = Arc::new(Peer::connect(address, options).await?);
        let mut kept = self.kept.lock();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(address.to_owned(), Arc::clone(&peer));
        Ok(peer)
    }

    /// Closes all. The tasks of a connection end with the runtime on which it was opened, so this comes before that ends.
    pub fn close_all(&self) {
        self.kept.lock().clear();
    }

    /// Sends a request and returns its answer, whatever its code.
    ///
    /// # Errors
    /// `io::Error` with the address in its text if there is no connection or no answer within `timeout`.
    pub async fn ask(&self, address: &str, frame: Frame, timeout: Duration) -> io::Result<Frame> {
        let peer = self.to(address, timeout).await?;
        let answer = peer.request(frame, timeout).await;
        answer.map_err(|error| io::Error::other(format!("{address}: {error}")))
    }

    /// As [`Self::ask`], for requests whose only good answer is success.
    ///
    /// # Errors
    /// `io::Error` as [`Self::ask`], and for an answer with another code, which is in its text.
    pub async fn ask_for(&self, address: &str, frame: Frame, timeout: Duration) -> io::Result<Frame> {
        let answer = self.ask(address, frame, timeout).await?;
        if answer.code == i32::from(ResponseCode::Success) {
            return Ok(answer);
        }
        let remark = answer.remark.as_deref().unwrap_or_default();
        Err(io::Error::other(format!("{address} answered with code {}: {remark}", answer.code)))
    }
}
