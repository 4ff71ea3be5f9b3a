//! The connection of one client to one broker: opened when it is first needed, and closed with the client.
//!
//! So a broker sees each client as itself, on a connection of its own. What a broker asks goes to this client; what the client asks keeps its opaque.
//! Nothing is known here of what a frame means.
//!
//! Everything runs on the thread of the client's connection. Requests keep their order: those that come while the connection is being opened
//! wait for it.
//!
//! A side that does not read stops the other one. A client that does not read: its brokers are not read. A broker that does not read: its client is
//! not read, but only for a while ([`RemotingSettings::stall_time`](super::settings::RemotingSettings)), so that its other brokers go on; then
//! requests to this broker are refused.

use super::Shared;
use super::answer::{Reply, Unserved};
use super::questions::FromBroker;
use super::session::Session;
use bytes::Bytes;
use net::client::{Peer, PeerOptions};
use net::{Connection, Owed};
use parking_lot::Mutex;
use protocol::{Frame, RequestCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A broker that could not be reached is tried again after this time.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Announced for a side that is not to be read: more than any limit.
const NOT_READ: usize = usize::MAX / 8;
/// Memory of a request that waits, beside its bytes.
const WAITING_BYTES: usize = 256;

/// The connection of a client to a broker.
pub(super) struct Upstream {
    name: Arc<str>,
    state: Mutex<State>,
    /// The broker is not read, because the client does not read.
    is_paused: AtomicBool,
    /// The broker does not read.
    lags: AtomicBool,
    /// The broker does not read for longer than the client may wait for it.
    is_stuck: AtomicBool,
}

enum State {
    /// It is opened with the next request.
    Idle,
    Opening(Waiting),
    Open(Arc<Peer>),
    /// It could not be opened.
    Failed {
        until: Instant,
        why: Unserved,
    },
    /// The client is gone.
    Closed,
}

/// Requests that wait for the connection.
#[derive(Default)]
struct Waiting {
    requests: Vec<(Frame, Option<Reply>)>,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, request: &Frame, reply: Option<Reply>) {
        self.bytes += bytes_of(request);
        // What waits must not keep the buffer of a read alive.
        let request = Frame {
            ext: request.ext.detached(),
            body: Bytes::copy_from_slice(&request.body),
            ..request.clone()
        };
        self.requests.push((request, reply));
    }
}

fn bytes_of(request: &Frame) -> usize {
    request.body.len() + request.ext.memory() + WAITING_BYTES
}

/// What to do with a request.
enum Step {
    Send(Arc<Peer>),
    Open,
    Refuse(Unserved),
    Wait,
}

impl Upstream {
    pub(super) fn new(name: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            name,
            state: Mutex::new(State::Idle),
            is_paused: AtomicBool::new(false),
            lags: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it could not be opened a moment ago.
    pub(super) fn has_failed(&self) -> bool {
        matches!(&*self.state.lock(), State::Failed { until, .. } if Instant::now() < *until)
    }

    /// Whether there is a connection, or will be.
    pub(super) fn is_used(&self) -> bool {
        match &*self.state.lock() {
            State::Open(peer) => !peer.is_closed(),
            State::Opening(_) => true,
            _ => false,
        }
    }

    /// The open connection.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        match &*self.state.lock() {
            State::Open(peer) if !peer.is_closed() => Some(Arc::clone(peer.connection())),
            _ => None,
        }
    }

    /// Closes the connection. What waits is dropped.
    pub(super) fn close(&self) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Closed);
        if let State::Open(peer) = before {
            peer.connection().close();
        }
    }

    /// Passes a request on. `reply` gets the outcome; a one-way request has none.
    pub(super) fn pass(self: &Arc<Self>, session: &Arc<Session>, request: &Frame, reply: Option<Reply>) {
        let mut reply = reply;
        match self.step(session.shared(), request, &mut reply) {
            Step::Send(peer) => self.send(session, &peer, request, reply),
            Step::Open => drop(tokio::spawn(Arc::clone(self).open(Arc::clone(session)))),
            Step::Refuse(why) => refuse(reply, why),
            Step::Wait => {}
        }
    }

    fn step(&self, shared: &Shared, request: &Frame, reply: &mut Option<Reply>) -> Step {
        let mut state = self.state.lock();
        match &mut *state {
            State::Open(peer) if !peer.is_closed() => Step::Send(Arc::clone(peer)),
            State::Opening(waiting) => {
                let settings = &shared.settings;
                if waiting.bytes + bytes_of(request) > settings.unread_bytes || waiting.requests.len() >= settings.max_pending_requests {
                    return Step::Refuse(Unserved::busy(format!(
                        "the connection to broker {} is being opened, and much waits for it (apogeeProxyRemotingUnreadBytes, apogeeProxyRemotingMaxPendingRequests)",
                        self.name
                    )));
                }
                waiting.push(request, reply.take());
                Step::Wait
            }
            State::Failed { until, why } if Instant::now() < *until => Step::Refuse(why.clone()),
            State::Closed => Step::Refuse(Unserved::unreachable("the connection of the client is closed")),
            State::Idle | State::Open(_) | State::Failed { .. } => {
                let mut waiting = Waiting::default();
                waiting.push(request, reply.take());
                *state = State::Opening(waiting);
                Step::Open
            }
        }
    }

    async fn open(self: Arc<Self>, session: Arc<Session>) {
        let outcome = self.connect(&session).await;
        let waiting = {
            let mut state = self.state.lock();
            let next = match &outcome {
                Ok(peer) => State::Open(Arc::clone(peer)),
                Err(why) => State::Failed {
                    until: Instant::now() + AFTER_FAILURE,
                    why: why.clone(),
                },
            };
            match std::mem::replace(&mut *state, next) {
                State::Opening(waiting) => waiting,
                other => {
                    *state = other;
                    return;
                }
            }
        };
        // A broker that has not heard of the client hears of it first. Its answer is not needed: the next heartbeat is not far.
        let is_told = waiting
            .requests
            .iter()
            .any(|(request, _)| request.code == i32::from(RequestCode::HeartBeat));
        let repeat = if is_told { None } else { session.heartbeat().lock().repeat() };
        // No request comes in between: this thread has it.
        let requests = waiting.requests.into_iter();
        net::together(|| match outcome {
            Ok(peer) => repeat
                .into_iter()
                .map(|repeat| (repeat, None))
                .chain(requests)
                .for_each(|(request, reply)| self.send(&session, &peer, &request, reply)),
            Err(why) => requests.for_each(|(_, reply)| refuse(reply, why.clone())),
        });
    }

    async fn connect(self: &Arc<Self>, session: &Arc<Session>) -> Result<Arc<Peer>, Unserved> {
        let shared = session.shared();
        let Some(address) = shared.directory.master(&self.name).await? else {
            session.forget(&self.name);
            let text = format!("no name server of the proxy knows a master of broker '{}'", self.name);
            return Err(Unserved::unreachable(text));
        };
        let slot = Slot::take(shared)?;
        let settings = &shared.settings;
        let service = FromBroker::new(Arc::clone(session), Arc::clone(self), slot);
        let options = PeerOptions {
            connect_timeout: settings.connect_timeout,
            limits: shared.broker_limits.clone(),
            service: Some(Arc::new(service)),
            connector: shared.connector.clone(),
            unread: Some(shared.unread.clone()),
        };
        match Peer::connect(&address, options).await {
            Ok(peer) => Ok(Arc::new(peer)),
            Err(error) => {
                shared.directory.expire_masters();
                Err(Unserved::unreachable(format!(
                    "the proxy cannot reach broker {}: {error}",
                    self.name
                )))
            }
        }
    }

    fn send(self: &Arc<Self>, session: &Arc<Session>, peer: &Peer, request: &Frame, reply: Option<Reply>) {
        let connection = peer.connection();
        if self.is_stuck.load(Ordering::Relaxed) {
            return refuse(
                reply,
                Unserved::busy(format!("broker {} does not read the requests that it has", self.name)),
            );
        }
        match reply {
            None => drop(connection.send_later(|out| out.forwarded(request, request.opaque))),
            Some(reply) => {
                let (this, session, from) = (Arc::clone(self), Arc::clone(session), Arc::clone(connection));
                connection.forward(request, session.shared().settings.request_timeout, move |outcome| {
                    reply.end(outcome.map_err(|error| Unserved::of(&this.name, error)));
                    this.mind_client(&session, &from);
                });
            }
        }
        self.mind_broker(session, connection);
    }

    /// Reads no more of the broker while the client does not read.
    pub(super) fn mind_client(self: &Arc<Self>, session: &Session, broker: &Arc<Connection>) {
        let client = session.client();
        if !client.peer_lags() || self.is_paused.swap(true, Ordering::Relaxed) {
            return;
        }
        let pause = Pause {
            upstream: Arc::clone(self),
            _owed: broker.owe(NOT_READ),
        };
        // Dropped at once if it reads again.
        client.when_peer_reads(move || drop(pause));
    }

    /// Reads no more of the client while the broker does not read, for a while.
    fn mind_broker(self: &Arc<Self>, session: &Session, broker: &Arc<Connection>) {
        if !broker.peer_lags() || self.lags.swap(true, Ordering::Relaxed) {
            return;
        }
        let stall = Arc::new(Stall {
            upstream: Arc::clone(self),
            owed: Mutex::new(Some(session.client().owe(NOT_READ))),
        });
        let (time, late) = (session.shared().settings.stall_time, Arc::downgrade(&stall));
        if broker.when_peer_reads(move || drop(stall)) {
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                if let Some(stall) = late.upgrade() {
                    stall.upstream.is_stuck.store(true, Ordering::Relaxed);
                    stall.owed.lock().take();
                }
            });
        }
    }
}

fn refuse(reply: Option<Reply>, why: Unserved) {
    match reply {
        Some(reply) => reply.end(Err(why)),
        None => tracing::debug!(reason = why.text(), "a one-way request was dropped"),
    }
}

/// While it exists the broker is not read.
struct Pause {
    upstream: Arc<Upstream>,
    _owed: Owed,
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.upstream.is_paused.store(false, Ordering::Relaxed);
    }
}

/// While it exists the broker does not read; while it has `owed`, the client is not read.
struct Stall {
    upstream: Arc<Upstream>,
    owed: Mutex<Option<Owed>>,
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.upstream.is_stuck.store(false, Ordering::Relaxed);
        self.upstream.lags.store(false, Ordering::Relaxed);
    }
}

/// One of the connections to brokers that there may be.
pub(super) struct Slot(Arc<Shared>);

impl Slot {
    fn take(shared: &Arc<Shared>) -> Result<Self, Unserved> {
        let slot = Self(Arc::clone(shared));
        let before = shared.broker_connections.fetch_add(1, Ordering::Relaxed);
        if before < shared.settings.max_broker_connections {
            return Ok(slot);
        }
        Err(Unserved::busy(format!(
            "the proxy has {before} connections to brokers already (apogeeProxyRemotingMaxBrokerConnections)"
        )))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.broker_connections.fetch_sub(1, Ordering::Relaxed);
    }
}
