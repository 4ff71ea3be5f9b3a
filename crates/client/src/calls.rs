//! Requests to addresses, with one connection per address.
//!
//! Invariant: of several concurrent callers for one address, one opens the connection and the others wait for it; if it fails, it has failed for all of
//! them. A closed connection is replaced by the next call, never within a call, so a request is sent at most once.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use net::client::{Peer, PeerOptions};
use parking_lot::Mutex;
use protocol::{Frame, json};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex as Waiting;

use crate::Error;
use crate::error::OrMalformed;
use crate::lookup::Options;

/// The connection to one address.
#[derive(Default)]
struct Held {
    /// If there is one.
    peer: Option<Arc<Peer>>,
    /// The last attempt to open it, if that failed.
    failure: Option<Failure>,
}

struct Failure {
    at: Instant,
    kind: io::ErrorKind,
    text: String,
}

type Slot = Waiting<Held>;

/// Requests to name servers and brokers. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    options: Options,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// The number of the name server that answered last.
    pub(crate) name_server: AtomicUsize,
}

impl Client {
    /// Creates a client. It connects with its first request.
    pub fn new(options: Options) -> Self {
        Self {
            inner: Arc::new(Inner {
                options,
                slots: Mutex::default(),
                name_server: AtomicUsize::new(0),
            }),
        }
    }

    /// The options of this client.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Sends a request and waits for its answer, whatever its code.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Unanswered`], or [`Error::Busy`] if too many requests are in flight.
    pub async fn call(&self, address: &str, request: Frame) -> Result<Frame, Error> {
        self.call_within(address, request, self.options().request_timeout).await
    }

    /// [`Client::call`] with another time-out.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::call`].
    pub async fn call_within(&self, address: &str, request: Frame, timeout: Duration) -> Result<Frame, Error> {
        let code = request.code;
        let peer = self.peer(address).await?;
        let answer = peer.request(request, timeout).await;
        answer.map_err(|reason| Error::unanswered(address, code, reason))
    }

    /// Sends a request and waits for an answer of success.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::call`]; any code but 0 is [`Error::Busy`] or [`Error::Refused`].
    pub async fn ask(&self, address: &str, request: Frame) -> Result<Frame, Error> {
        let code = request.code;
        let answer = self.call(address, request).await?;
        if answer.code == 0 {
            Ok(answer)
        } else {
            Err(Error::of(address, code, &answer))
        }
    }

    /// Sends a request and reads the JSON body of its answer.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`]; [`Error::Malformed`] if the body is not of this shape.
    pub async fn ask_for<T: DeserializeOwned>(&self, address: &str, request: Frame) -> Result<T, Error> {
        let answer = self.ask(address, request).await?;
        json::read(&answer.body).or_malformed(address)
    }

    /// Sends a one-way request. Success does not mean that it arrived.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::Unanswered`] if the connection closed meanwhile.
    pub async fn one_way(&self, address: &str, request: Frame) -> Result<(), Error> {
        let (code, request) = (request.code, request.oneway());
        let peer = self.peer(address).await?;
        peer.one_way(&request).map_err(|reason| Error::unanswered(address, code, reason))
    }

    /// The open connection to an address, or a new one.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if the connection cannot be opened.
    pub async fn peer(&self, address: &str) -> Result<Arc<Peer>, Error> {
        let begun = Instant::now();
        let slot = self.slot(address);
        let mut held = slot.lock().await;
        if let Some(peer) = held.peer.as_ref().filter(|peer| !peer.is_closed()) {
            return Ok(Arc::clone(peer));
        }
        if let Some(failure) = held.failure.as_ref().filter(|failure| failure.at >= begun) {
            return Err(Error::Unreachable(io::Error::new(failure.kind, failure.text.clone())));
        }
        match Peer::connect(address, self.peer_options()).await {
            Ok(peer) => {
                held.failure = None;
                Ok(Arc::clone(held.peer.insert(Arc::new(peer))))
            }
            Err(error) => {
                held.failure = Some(Failure {
                    at: Instant::now(),
                    kind: error.kind(),
                    text: error.to_string(),
                });
                Err(Error::Unreachable(error))
            }
        }
    }

    fn slot(&self, address: &str) -> Arc<Slot> {
        let mut slots = self.inner.slots.lock();
        if let Some(slot) = slots.get(address) {
            return Arc::clone(slot);
        }
        if slots.len() >= self.options().max_connections {
            // Callers that still use the removed connection keep it open.
            let unused = slots.iter().find(|(_, slot)| Arc::strong_count(slot) == 1);
            if let Some(address) = unused.map(|(address, _)| address.clone()) {
                slots.remove(&address);
            }
        }
        Arc::clone(slots.entry(address.to_owned()).or_default())
    }

    fn peer_options(&self) -> PeerOptions {
        let Options {
            connect_timeout,
            limits,
            service,
            connector,
            ..
        } = self.options();
        PeerOptions {
            connect_timeout: *connect_timeout,
            limits: limits.clone(),
            service: service.clone(),
            connector: connector.clone(),
            unread: None,
        }
    }
}
