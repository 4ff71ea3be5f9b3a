//! The task of one name server: when it is told anything, and what becomes of a failure. What it is told is in `telling.rs`.

mod telling;

use super::Order;
use super::greeting::Greeting;
use super::standing::Standings;
use crate::clock::now_ms;
use net::client::{Peer, PeerOptions};
use net::{Connection, RequestError, Service};
use parking_lot::Mutex;
use protocol::{Frame, ResponseCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use telling::Told;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// After a failure the task tries again by itself, first after a second, then ever later up to this.
const MAX_RETRY_WAIT: Duration = Duration::from_secs(8);
/// The same after a refusal, which another try will hardly change.
const MAX_REFUSED_WAIT: Duration = Duration::from_secs(64);
/// How long a name server may take for a goodbye, or for its settings.
const SHORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a name server does not have what it should have.
#[derive(Debug)]
enum Failure {
    /// The connection failed, or an answer took too long.
    Lost(String),
    /// It answered that it does not want it.
    Refused(String),
}

impl Failure {
    fn why(&self) -> &str {
        match self {
            Self::Lost(why) | Self::Refused(why) => why,
        }
    }
}

pub(super) struct Target {
    name_server: String,
    greeting: Greeting,
    peer: Option<Peer>,
    /// Notified when the connection is gone.
    lost: Arc<Notify>,
    told: Option<Told>,
    /// Under which address we were registered last.
    address: Arc<Mutex<Option<Arc<str>>>>,
    standings: Standings,
    failures: u32,
    /// When to try again after a failure. Until then orders change nothing: the name server is away or full.
    retry_at: Option<Instant>,
    confirm_at: Option<Instant>,
    /// Parts of registrations so far, for versions of their own.
    parts: i64,
}

/// Why the task woke.
enum Woken {
    Order,
    /// To try again, or to confirm.
    Timer,
    /// The connection is gone.
    Lost,
    /// Nobody orders any more.
    Ended,
}

impl Target {
    pub(super) fn new(name_server: &str, greeting: Greeting, address: Arc<Mutex<Option<Arc<str>>>>, standings: Standings) -> Self {
        Self {
            name_server: name_server.to_owned(),
            greeting,
            peer: None,
            lost: Arc::default(),
            told: None,
            address,
            standings,
            failures: 0,
            retry_at: None,
            confirm_at: None,
            // Versions of parts differ from those of the process before, as long as it sent fewer than a part a millisecond.
            parts: now_ms(),
        }
    }

    /// Follows orders until the last one, and reports each round when it is over, done or failed.
    pub(super) async fn run(mut self, mut orders: watch::Receiver<Order>, report: watch::Sender<u64>) {
        loop {
            let woken = self.wait(&mut orders).await;
            // May be one that came after what woke us: all that is said below is true for it, too.
            let order = *orders.borrow_and_update();
            if order.stop {
                self.goodbye().await;
                report.send_replace(order.round);
                return;
            }
            match woken {
                Woken::Ended => return,
                // Nobody waits for a name server that is away; when it is back, it is told all.
                Woken::Order if self.retry_at.is_some() => {}
                Woken::Order => self.greet(order.changed).await,
                Woken::Timer => self.greet(false).await,
                Woken::Lost => self.forget_connection(),
            }
            report.send_replace(order.round);
        }
    }

    async fn wait(&self, orders: &mut watch::Receiver<Order>) -> Woken {
        let timer = async {
            match self.retry_at.or(self.confirm_at) {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = orders.changed() => if order.is_ok() { Woken::Order } else { Woken::Ended },
            () = timer => Woken::Timer,
            () = self.lost.notified(), if self.peer.is_some() => Woken::Lost,
        }
    }

    async fn greet(&mut self, changed: bool) {
        self.confirm_at = None;
        match self.register(changed).await {
            Ok(()) => {
                if self.standings.registered(&self.name_server) {
                    tracing::info!(name_server = self.name_server, "registered");
                }
                self.failures = 0;
                self.retry_at = None;
            }
            Err(failure) => {
                self.fail(failure.why());
                if let Failure::Refused(_) = failure {
                    self.retry_after(MAX_REFUSED_WAIT);
                } else {
                    self.peer = None;
                    self.retry_after(MAX_RETRY_WAIT);
                }
            }
        }
    }

    fn fail(&mut self, why: &str) {
        // Once for each outage and reason, not once for each try.
        if self.standings.lacking(&self.name_server, why, now_ms()) {
            tracing::warn!(name_server = self.name_server, why, "not registered, trying again");
        }
        self.told = None;
        self.confirm_at = None;
    }

    fn retry_after(&mut self, longest: Duration) {
        let wait = Duration::from_secs(1 << self.failures.min(6)).min(longest);
        self.retry_at = Some(Instant::now() + wait);
        self.failures = self.failures.saturating_add(1);
    }

    fn forget_connection(&mut self) {
        if self.peer.as_ref().is_some_and(Peer::is_closed) {
            self.fail("the connection closed");
            self.peer = None;
            self.retry_after(MAX_RETRY_WAIT);
        }
    }

    /// Connects if there is no connection; says which address its end here has.
    async fn connected(&mut self) -> Result<SocketAddr, Failure> {
        if let Some(peer) = self.peer.as_ref().filter(|peer| !peer.is_closed()) {
            return Ok(peer.connection().local());
        }
        self.told = None;
        self.lost = Arc::default();
        let options = PeerOptions {
            service: Some(Arc::new(Watch(Arc::clone(&self.lost)))),
            ..PeerOptions::default()
        };
        let peer = Peer::connect(&self.name_server, options).await;
        let peer = peer.map_err(|error| Failure::Lost(error.to_string()))?;
        let local = peer.connection().local();
        self.peer = Some(peer);
        Ok(local)
    }

    fn connection(&self) -> Result<&Arc<Connection>, Failure> {
        let peer = self.peer.as_ref().ok_or_else(|| Failure::Lost("not connected".to_owned()))?;
        Ok(peer.connection())
    }

    async fn ask(&self, frame: Frame) -> Result<Frame, Failure> {
        let timeout = self.greeting.settings.current().register_broker_timeout;
        self.ask_within(frame, timeout).await
    }

    /// One request; an answer with another code than success is a refusal with its text.
    async fn ask_within(&self, frame: Frame, timeout: Duration) -> Result<Frame, Failure> {
        let peer = self.peer.as_ref().ok_or_else(|| Failure::Lost("not connected".to_owned()))?;
        peer.request(frame, timeout).await.map_err(lost).and_then(succeeded)
    }

    /// Only to a name server that knows us.
    async fn goodbye(&mut self) {
        if self.address.lock().is_none() {
            return;
        }
        let Ok(local) = self.connected().await else { return };
        match self.ask_within(self.greeting.goodbye(local), SHORT_TIMEOUT).await {
            Ok(_) => tracing::info!(name_server = self.name_server, "unregistered"),
            Err(failure) => tracing::warn!(
                name_server = self.name_server,
                why = failure.why(),
                "not unregistered: it forgets us by itself"
            ),
        }
    }
}

fn lost(error: RequestError) -> Failure {
    Failure::Lost(error.to_string())
}

fn succeeded(answer: Frame) -> Result<Frame, Failure> {
    if answer.code == i32::from(ResponseCode::Success) {
        return Ok(answer);
    }
    let remark = answer.remark.unwrap_or_default();
    Err(Failure::Refused(format!("answered code {}: {remark}", answer.code)))
}

/// Notices the end of a connection. Name servers ask nothing of brokers here.
struct Watch(Arc<Notify>);

impl Service for Watch {
    fn serve(&self, _conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        frames.clear();
    }

    fn closed(&self, _conn: &Arc<Connection>) {
        self.0.notify_one();
    }
}
