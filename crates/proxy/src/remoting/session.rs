//! One connection of a client, with its connections to brokers.

use super::answer::{Asked, Reply, Unserved};
use super::codes::{self, Way};
use super::upstream::Upstream;
use super::{Shared, body, heartbeat, route};
use net::Connection;
use parking_lot::Mutex;
use protocol::{Frame, RequestCode, ResponseCode};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A request that has not ended. Dropping it ends it.
pub(super) struct Pending(Arc<Session>);

impl Pending {
    pub(super) fn session(&self) -> &Arc<Session> {
        &self.0
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's connection.
pub(super) struct Session {
    client: Arc<Connection>,
    shared: Arc<Shared>,
    upstreams: Mutex<FxHashMap<Arc<str>, Arc<Upstream>>>,
    /// Requests that have not ended, see [`Pending`].
    pending: AtomicUsize,
    heartbeat: Mutex<heartbeat::Known>,
}

impl Session {
    pub(super) fn new(client: Arc<Connection>, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            client,
            shared,
            upstreams: Mutex::default(),
            pending: AtomicUsize::new(0),
            heartbeat: Mutex::default(),
        })
    }

    pub(super) fn client(&self) -> &Arc<Connection> {
        &self.client
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What the last heartbeat told.
    pub(super) fn heartbeat(&self) -> &Mutex<heartbeat::Known> {
        &self.heartbeat
    }

    /// The next heartbeat is passed on, also if it is the same as the last one.
    pub(super) fn forget_heartbeat(&self) {
        self.heartbeat.lock().forget_answer();
    }

    /// Closes the connections to brokers.
    pub(super) fn close(&self) {
        self.all().iter().for_each(|upstream| upstream.close());
    }

    /// Ends requests that brokers have not answered in time.
    pub(super) fn expire(&self) {
        for connection in self.all().iter().filter_map(|upstream| upstream.connection()) {
            connection.expire_requests();
        }
    }

    fn all(&self) -> Vec<Arc<Upstream>> {
        self.upstreams.lock().values().cloned().collect()
    }

    /// The names of the brokers to which there is a connection, or will be.
    pub(super) fn connected(&self) -> Vec<Arc<str>> {
        let upstreams = self.upstreams.lock();
        let open = upstreams.iter().filter(|(_, upstream)| upstream.is_used());
        open.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Whether a broker could not be reached a moment ago.
    pub(super) fn has_failed(&self, name: &str) -> bool {
        let upstream = self.upstreams.lock().get(name).cloned();
        upstream.is_some_and(|upstream| upstream.has_failed())
    }

    /// Forgets a broker that does not exist.
    pub(super) fn forget(&self, name: &str) {
        self.upstreams.lock().remove(name);
    }

    fn upstream(&self, name: &str) -> Result<Arc<Upstream>, Unserved> {
        let mut upstreams = self.upstreams.lock();
        if let Some(upstream) = upstreams.get(name) {
            return Ok(Arc::clone(upstream));
        }
        if self.client.is_closed() {
            return Err(Unserved::unreachable("the connection of the client is closed"));
        }
        let most = self.shared.settings.max_brokers_per_client;
        if upstreams.len() >= most {
            return Err(Unserved::busy(format!(
                "this connection uses {most} brokers already (apogeeProxyRemotingMaxBrokersPerClient)"
            )));
        }
        let name: Arc<str> = name.into();
        let upstream = Upstream::new(Arc::clone(&name));
        upstreams.insert(name, Arc::clone(&upstream));
        Ok(upstream)
    }

    /// Passes a request to a broker.
    pub(super) fn pass(self: &Arc<Self>, broker: &str, request: &Frame, reply: Option<Reply>) {
        match (self.upstream(broker), reply) {
            (Ok(upstream), reply) => upstream.pass(self, request, reply),
            (Err(why), Some(reply)) => reply.end(Err(why)),
            (Err(why), None) => tracing::debug!(reason = why.text(), "a one-way request was dropped"),
        }
    }

    /// Serves a request of the client.
    pub(super) fn take(self: &Arc<Self>, request: &Frame) {
        let Ok(code) = RequestCode::try_from(request.code) else {
            return self.refuse(
                request,
                ResponseCode::RequestCodeNotSupported,
                &format!("request code {} is not known", request.code),
            );
        };
        let way = codes::way(code);
        match way {
            Way::Refused => {
                let text = format!(
                    "the proxy does not serve {} ({}) on its port for remoting clients: ask the port of a broker or name server",
                    code.name(),
                    code.feature()
                );
                self.refuse(request, ResponseCode::RequestCodeNotSupported, &text);
            }
            Way::Named => match codes::broker_of(code, &request.ext) {
                Some(broker) => self.forward(broker, code, request),
                None => self.forward_to_only_master(code, request),
            },
            Way::Queues | Way::Acks => match body::broker_of(way, request) {
                Ok(Some(broker)) => self.forward(&broker, code, request),
                Ok(None) => self.forward_to_only_master(code, request),
                Err(why) => self.refuse(request, ResponseCode::InvalidParameter, &why),
            },
            Way::Heartbeat => heartbeat::beat(self, request),
            Way::Unregister => heartbeat::leave(self, request),
            Way::Route => self.spawn(code, request, route::answer),
            Way::Assignment => self.spawn(code, request, heartbeat::pass_to_one_of_topic),
            Way::Group => self.spawn(code, request, heartbeat::pass_to_one_of_group),
            Way::Any => self.spawn(code, request, heartbeat::pass_to_any),
        }
    }

    fn forward(self: &Arc<Self>, broker: &str, code: RequestCode, request: &Frame) {
        if request.is_oneway() {
            return self.pass(broker, request, None);
        }
        if let Some(asked) = self.asked(code, request) {
            self.pass(broker, request, Some(Reply::Client(asked)));
        }
    }

    /// A request that names no broker is clear if there is only one.
    fn forward_to_only_master(self: &Arc<Self>, code: RequestCode, request: &Frame) {
        if let Some(masters) = self.shared.directory.fresh_masters() {
            return match only(masters.keys()) {
                Some(name) => self.forward(name, code, request),
                None => self.refuse_nameless(code, request, masters.len()),
            };
        }
        let Some(pending) = self.pending(request) else { return };
        let request = request.clone();
        tokio::spawn(async move {
            let this = Arc::clone(pending.session());
            match this.shared.directory.masters().await {
                Ok(masters) => match only(masters.keys()) {
                    Some(name) => this.forward(name, code, &request),
                    None => this.refuse_nameless(code, &request, masters.len()),
                },
                Err(why) => this.end(&request, why),
            }
        });
    }

    fn refuse_nameless(&self, code: RequestCode, request: &Frame, brokers: usize) {
        let text = format!(
            "{} names no broker (field bname, or n), and the proxy has {brokers}: use a client of RocketMQ 5, or the port of a broker",
            code.name()
        );
        self.refuse(request, ResponseCode::VersionNotSupported, &text);
    }

    /// Counts a request that does not end at once. `None` if there are too many: then it is refused.
    pub(super) fn pending(self: &Arc<Self>, request: &Frame) -> Option<Pending> {
        let most = self.shared.settings.max_pending_requests;
        if self.pending.load(Ordering::Relaxed) >= most {
            self.expire();
        }
        if self.pending.load(Ordering::Relaxed) >= most {
            let text = format!("{most} requests of this connection are not answered yet (apogeeProxyRemotingMaxPendingRequests)");
            self.refuse(request, ResponseCode::SystemBusy, &text);
            return None;
        }
        self.pending.fetch_add(1, Ordering::Relaxed);
        Some(Pending(Arc::clone(self)))
    }

    /// A request that will be answered. `None` if there are too many: then it is refused.
    pub(super) fn asked(self: &Arc<Self>, code: RequestCode, request: &Frame) -> Option<Asked> {
        let pending = self.pending(request)?;
        let owed = (!codes::is_poll(code)).then(|| self.client.owe(0));
        Some(Asked::new(pending, request, owed))
    }

    /// Serves a request with a task; it has no place where it is one-way.
    fn spawn<F>(self: &Arc<Self>, code: RequestCode, request: &Frame, serve: impl FnOnce(Arc<Self>, Frame, Asked) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if request.is_oneway() {
            return;
        }
        if let Some(asked) = self.asked(code, request) {
            tokio::spawn(serve(Arc::clone(self), request.clone(), asked));
        }
    }

    /// Refuses a request, unless it is one-way.
    pub(super) fn refuse(&self, request: &Frame, code: ResponseCode, text: &str) {
        self.end(request, Unserved::new(code, text));
    }

    fn end(&self, request: &Frame, why: Unserved) {
        if request.is_oneway() {
            return tracing::debug!(reason = why.text(), "a one-way request was dropped");
        }
        let answer = why.frame(request.opaque, request.encoding);
        // A client that is gone gets nothing.
        let _ = self.client.send_later(|out| out.frame(&answer));
    }
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next();
    first.filter(|_| items.next().is_none())
}
