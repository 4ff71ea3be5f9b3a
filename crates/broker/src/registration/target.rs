//! The task of one name server.

use super::Order;
use super::greeting::Greeting;
use net::client::{Peer, PeerOptions};
use parking_lot::Mutex;
use protocol::register::RegisterBrokerResult;
use protocol::{Frame, ResponseCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// After a failure the task tries again by itself, first after a second, then ever later up to this.
const MAX_RETRY_WAIT: Duration = Duration::from_secs(8);
/// How long a name server may take for a goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Target {
    name_server: String,
    greeting: Greeting,
    peer: Option<Peer>,
    address: Arc<Mutex<Option<Arc<str>>>>,
    failures: u32,
}

impl Target {
    pub(super) fn new(name_server: &str, greeting: Greeting, address: Arc<Mutex<Option<Arc<str>>>>) -> Self {
        Self {
            name_server: name_server.to_owned(),
            greeting,
            peer: None,
            address,
            failures: 0,
        }
    }

    /// Follows orders until the last one, and reports each round when it is over, done or failed.
    pub(super) async fn run(mut self, mut orders: watch::Receiver<Order>, report: watch::Sender<u64>) {
        loop {
            if !self.ordered(&mut orders).await {
                return;
            }
            let order = *orders.borrow_and_update();
            if order.stop {
                self.goodbye().await;
                report.send_replace(order.round);
                return;
            }
            // After a failure the name server may have lost us: no use in asking what it has.
            let must = order.changed || self.failures > 0;
            self.greet(must).await;
            report.send_replace(order.round);
        }
    }

    /// Waits for an order, or for the moment to try again. False: nobody orders any more.
    async fn ordered(&self, orders: &mut watch::Receiver<Order>) -> bool {
        if self.failures == 0 {
            return orders.changed().await.is_ok();
        }
        let wait = Duration::from_secs(1 << (self.failures - 1).min(3)).min(MAX_RETRY_WAIT);
        !matches!(tokio::time::timeout(wait, orders.changed()).await, Ok(Err(_)))
    }

    async fn greet(&mut self, must: bool) {
        match self.register(must).await {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!(name_server = self.name_server, "registered again");
                }
                self.failures = 0;
            }
            Err(why) => {
                // Once for each outage, not once for each try.
                if self.failures == 0 {
                    tracing::warn!(name_server = self.name_server, why, "not registered, trying again");
                }
                self.failures = self.failures.saturating_add(1);
                self.peer = None;
            }
        }
    }

    async fn register(&mut self, must: bool) -> Result<(), String> {
        let timeout = self.greeting.settings.current().register_broker_timeout;
        let local = self.connected().await?;
        if !must && !self.greeting.settings.current().force_register {
            let answer = ask(&self.peer, self.greeting.ask(local), timeout).await?;
            if answer.ext.bool("changed") == Some(false) {
                return Ok(());
            }
        }
        let (frame, _) = self.greeting.register(local);
        let answer = ask(&self.peer, frame, timeout).await?;
        *self.address.lock() = Some(self.greeting.identity.addresses(local).0.into());
        match RegisterBrokerResult::decode(&answer) {
            Ok(result) => self.take_order(&result),
            Err(error) => tracing::warn!(name_server = self.name_server, %error, "order of topics not understood"),
        }
        Ok(())
    }

    /// Topics whose order the name server keeps are ordered topics here.
    fn take_order(&self, result: &RegisterBrokerResult) {
        if let Some(ordered) = &result.order_topics {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
            self.greeting.topics.mark_ordered(ordered.table.keys().map(String::as_str), now_ms);
        }
    }

    /// Connects if there is no connection; says which address its end here has.
    async fn connected(&mut self) -> Result<SocketAddr, String> {
        if let Some(peer) = self.peer.as_ref().filter(|peer| !peer.is_closed()) {
            return Ok(peer.connection().local());
        }
        let peer = Peer::connect(&self.name_server, PeerOptions::default()).await;
        let peer = peer.map_err(|error| error.to_string())?;
        let local = peer.connection().local();
        self.peer = Some(peer);
        Ok(local)
    }

    /// Only to a name server that knows us.
    async fn goodbye(&mut self) {
        if self.address.lock().is_none() {
            return;
        }
        let Ok(local) = self.connected().await else { return };
        let frame = self.greeting.goodbye(local);
        match ask(&self.peer, frame, GOODBYE_TIMEOUT).await {
            Ok(_) => tracing::info!(name_server = self.name_server, "unregistered"),
            Err(why) => tracing::warn!(name_server = self.name_server, why, "not unregistered: it forgets us by itself"),
        }
    }
}

/// One request; an answer with another code than success is a failure with its text.
async fn ask(peer: &Option<Peer>, frame: Frame, timeout: Duration) -> Result<Frame, String> {
    let Some(peer) = peer else { return Err("not connected".to_owned()) };
    let answer = peer.request(frame, timeout).await.map_err(|error| error.to_string())?;
    if answer.code == i32::from(ResponseCode::Success) {
        return Ok(answer);
    }
    let remark = answer.remark.unwrap_or_default();
    Err(format!("answered code {}: {remark}", answer.code))
}
