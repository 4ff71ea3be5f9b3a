//! The task of one name server: when it registers, and how it handles errors. The registration itself is in `registering.rs`.

mod registering;

use super::Command;
use super::requests::Requests;
use super::standing::Standings;
use crate::clock::now_ms;
use net::client::{Peer, PeerOptions};
use net::session::Connector;
use net::{Connection, RequestError, Service};
use parking_lot::Mutex;
use protocol::{Frame, ResponseCode};
use registering::Confirmed;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Longest delay between retries after a lost connection. The delays start at one second and double.
const MAX_RETRY_WAIT: Duration = Duration::from_secs(8);
/// Longest delay between retries after a refusal, which a retry rarely changes.
const MAX_REFUSED_WAIT: Duration = Duration::from_secs(64);
/// Timeout for unregistering and for reading the name server's settings.
const SHORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a registration failed.
#[derive(Debug)]
enum Failure {
    /// The connection failed, or the request timed out.
    Lost(String),
    /// The name server answered with an error code.
    Refused(String),
}

impl Failure {
    fn why(&self) -> &str {
        match self {
            Self::Lost(why) | Self::Refused(why) => why,
        }
    }
}

pub(super) struct NameServerTask {
    name_server: String,
    connector: Option<Arc<dyn Connector>>,
    requests: Requests,
    peer: Option<Peer>,
    /// Notified when the connection closes.
    lost: Arc<Notify>,
    confirmed: Option<Confirmed>,
    /// The address that the broker was last registered with.
    address: Arc<Mutex<Option<Arc<str>>>>,
    standings: Standings,
    failures: u32,
    /// When to retry after a failure. Until then new rounds are ignored: the name server is down or full.
    retry_at: Option<Instant>,
    confirm_at: Option<Instant>,
    /// Number of parts sent so far, for their data versions.
    parts: i64,
}

/// Why the task woke up.
enum Woken {
    Command,
    /// Time to retry or to confirm.
    Timer,
    /// The connection closed.
    Lost,
    /// The sender of commands was dropped.
    Ended,
}

impl NameServerTask {
    pub(super) fn new(
        name_server: &str,
        connector: Option<Arc<dyn Connector>>,
        requests: Requests,
        address: Arc<Mutex<Option<Arc<str>>>>,
        standings: Standings,
    ) -> Self {
        Self {
            name_server: name_server.to_owned(),
            connector,
            requests,
            peer: None,
            lost: Arc::default(),
            confirmed: None,
            address,
            standings,
            failures: 0,
            retry_at: None,
            confirm_at: None,
            // Data versions of parts differ from those of an earlier process, if that sent less than one part per millisecond.
            parts: now_ms(),
        }
    }

    /// Executes commands until the last one, and reports the end of each round, whether it succeeded or not.
    pub(super) async fn run(mut self, mut commands: watch::Receiver<Command>, report: watch::Sender<u64>) {
        loop {
            let woken = self.wait(&mut commands).await;
            // May be a newer command than the one that woke the task; the round below covers both.
            let command = *commands.borrow_and_update();
            if command.stop {
                self.unregister().await;
                report.send_replace(command.round);
                return;
            }
            match woken {
                Woken::Ended => return,
                // A name server that is down is not waited for; when it is back, all topics are registered.
                Woken::Command if self.retry_at.is_some() => {}
                Woken::Command => self.run_round(command.changed).await,
                Woken::Timer => self.run_round(false).await,
                Woken::Lost => self.connection_lost(),
            }
            report.send_replace(command.round);
        }
    }

    async fn wait(&self, commands: &mut watch::Receiver<Command>) -> Woken {
        let timer = async {
            match self.retry_at.or(self.confirm_at) {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = commands.changed() => if command.is_ok() { Woken::Command } else { Woken::Ended },
            () = timer => Woken::Timer,
            () = self.lost.notified(), if self.peer.is_some() => Woken::Lost,
        }
    }

    async fn run_round(&mut self, changed: bool) {
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
        // Logged once per outage and reason, not for every retry.
        if self.standings.not_registered(&self.name_server, why, now_ms()) {
            tracing::warn!(name_server = self.name_server, why, "not registered, retrying");
        }
        self.confirmed = None;
        self.confirm_at = None;
    }

    fn retry_after(&mut self, max_delay: Duration) {
        let wait = Duration::from_secs(1 << self.failures.min(6)).min(max_delay);
        self.retry_at = Some(Instant::now() + wait);
        self.failures = self.failures.saturating_add(1);
    }

    fn connection_lost(&mut self) {
        if self.peer.as_ref().is_some_and(Peer::is_closed) {
            self.fail("the connection closed");
            self.peer = None;
            self.retry_after(MAX_RETRY_WAIT);
        }
    }

    /// Connects if there is no connection; returns its local address.
    async fn connected(&mut self) -> Result<SocketAddr, Failure> {
        if let Some(peer) = self.peer.as_ref().filter(|peer| !peer.is_closed()) {
            return Ok(peer.connection().local());
        }
        self.confirmed = None;
        self.lost = Arc::default();
        let options = PeerOptions {
            service: Some(Arc::new(CloseListener(Arc::clone(&self.lost)))),
            connector: self.connector.clone(),
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

    async fn request(&self, frame: Frame) -> Result<Frame, Failure> {
        let timeout = self.requests.settings.current().register_broker_timeout;
        self.request_within(frame, timeout).await
    }

    /// Sends one request. A response with an error code is [`Failure::Refused`] with its remark.
    async fn request_within(&self, frame: Frame, timeout: Duration) -> Result<Frame, Failure> {
        let peer = self.peer.as_ref().ok_or_else(|| Failure::Lost("not connected".to_owned()))?;
        peer.request(frame, timeout).await.map_err(lost).and_then(succeeded)
    }

    /// Unregisters the broker if the name server has registered it.
    async fn unregister(&mut self) {
        if self.address.lock().is_none() {
            return;
        }
        let Ok(local) = self.connected().await else { return };
        match self.request_within(self.requests.unregister(local), SHORT_TIMEOUT).await {
            Ok(_) => tracing::info!(name_server = self.name_server, "unregistered"),
            Err(failure) => tracing::warn!(
                name_server = self.name_server,
                why = failure.why(),
                "not unregistered: the name server expires the broker after its timeout"
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

/// Notifies the task that the connection closed. Name servers send no requests to brokers here.
struct CloseListener(Arc<Notify>);

impl Service for CloseListener {
    fn serve(&self, _conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        frames.clear();
    }

    fn closed(&self, _conn: &Arc<Connection>) {
        self.0.notify_one();
    }
}
