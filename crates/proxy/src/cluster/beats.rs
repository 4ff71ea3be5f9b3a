//! Heartbeats: what brokers are told of the clients of this proxy.
//!
//! A broker of ours knows clients behind a proxy: each is a member of its groups under its own id, told by connection and client id, and the broker
//! holds messages for it as long as it is online. With a new connection the proxy asks for that by a heartbeat without groups, tells all
//! clients, then only what changes, and all again each period. If a connection breaks, the broker keeps the messages for a while, until the proxy
//! or another one tells it of the clients again.
//!
//! Compat: Apache's broker knows one client of a group on a connection. There the proxy is the member of the groups, under an id of its own, as
//! Apache's proxy is for producers.

use super::members::{Beat, Key, Kind, leaving};
use super::{Cluster, Masters};
use crate::clients::Client;
use crate::codes::Refused;
use crate::time::now_ms;
use broker::clients::Departure;
use parking_lot::Mutex;
use protocol::heartbeat::{HeartbeatData, PROXIED};
use protocol::{Frame, RequestCode, json};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often the proxy looks for new connections to brokers, which do not know its clients yet.
const LOOK: Duration = Duration::from_secs(1);
/// Heartbeats to one broker that are not answered yet.
const PIPELINED: usize = 128;
/// Longest time between two warnings about brokers that take no more clients, ms.
const WARN_EVERY_MS: i64 = 30_000;

/// What a broker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    /// The clients behind this proxy.
    Clients,
    /// This proxy, as the member of their groups.
    Groups,
}

/// What is known of the brokers.
#[derive(Default)]
pub(super) struct Brokers {
    /// By address: the connection that was asked, and the answer.
    known: Mutex<FxHashMap<Box<str>, (u64, Knows)>>,
    /// Held while a broker is asked.
    asking: tokio::sync::Mutex<()>,
    warned_ms: AtomicI64,
}

impl Brokers {
    fn get(&self, address: &str) -> Option<(u64, Knows)> {
        self.known.lock().get(address).copied()
    }
}

impl Cluster {
    pub(crate) async fn join(self: &Arc<Self>, client: &Arc<Client>, data: HeartbeatData) -> Result<(), Refused> {
        let news = self.members.join(client, data)?;
        let has_groups = !news.groups.producers.is_empty() || !news.groups.consumers.is_empty();
        if news.beat.is_none() && !has_groups && news.left.is_empty() {
            return Ok(());
        }
        let Some(masters) = self.known_masters().await else { return Ok(()) };
        self.take_back(&masters, &news.empty).await;
        let tell = masters.values().map(|address| async {
            match (self.knows(address).await, &news.beat) {
                (Some(Knows::Clients), beat) => {
                    for key in &news.left {
                        self.told(address, leaving(&client.client_id, Some(key), None)).await;
                    }
                    if let Some(beat) = beat
                        && !self.beat(address, beat).await
                    {
                        // It is told everything when it answers again.
                        self.brokers_asked.known.lock().remove(address);
                    }
                }
                (Some(Knows::Groups), _) if has_groups => self.beat_for_groups(address, &news.groups).await,
                // One that cannot be reached is told everything when it is there again.
                (Some(Knows::Groups) | None, _) => {}
            }
        });
        futures_util::future::join_all(tell).await;
        Ok(())
    }

    pub(crate) async fn leave(&self, client: &Client, departure: Departure) {
        let left = self.members.leave(client);
        if !left.was_member {
            return;
        }
        let Some(masters) = self.known_masters().await else { return };
        self.tell_those_that_know_clients(&masters, leaving(&client.client_id, None, visible_after(departure)))
            .await;
        self.take_back(&masters, &left.empty).await;
    }

    pub(crate) async fn goodbye(&self, group: &str, client_id: &str, departure: Departure) {
        if let Some(masters) = self.known_masters().await {
            let key = (Kind::Consumers, group.into());
            self.tell_those_that_know_clients(&masters, leaving(client_id, Some(&key), visible_after(departure)))
                .await;
        }
    }

    /// Tells the brokers which clients there are, without an end: those with a new connection soon, all each period.
    pub(crate) async fn keep_members(self: Arc<Self>) {
        let period = self.settings.heartbeat_period;
        let mut told = Instant::now();
        loop {
            tokio::time::sleep(LOOK.min(period)).await;
            if self.members.is_empty() {
                continue;
            }
            let is_due = told.elapsed() >= period;
            let masters = match is_due {
                true => self.known_masters().await,
                false => self.masters().await.ok(),
            };
            let Some(masters) = masters else { continue };
            if is_due {
                told = Instant::now();
                self.brokers_asked
                    .known
                    .lock()
                    .retain(|address, _| masters.values().any(|master| master == address));
            }
            let tell = masters.values().map(|address| async {
                let before = self.brokers_asked.get(address);
                let knows = self.ask(address).await;
                // One with a new connection was told just now.
                if is_due
                    && before == self.brokers_asked.get(address)
                    && let Some(knows) = knows
                {
                    self.tell_all(address, knows).await;
                }
            });
            futures_util::future::join_all(tell).await;
        }
    }

    async fn known_masters(&self) -> Option<Arc<Masters>> {
        let masters = self.masters().await;
        masters
            .inspect_err(|refused| tracing::warn!(reason = refused.text, "no broker is told of clients"))
            .ok()
    }

    /// What a broker knows; `None` if it cannot be reached, or could not a moment ago.
    async fn knows(&self, address: &str) -> Option<Knows> {
        match self.down.contains(address, Instant::now()) {
            true => None,
            false => self.ask(address).await,
        }
    }

    /// What a broker knows. With a new connection it is asked, and told everything.
    async fn ask(&self, address: &str) -> Option<Knows> {
        let current = |knows: (u64, Knows), connection| (knows.0 == connection).then_some(knows.1);
        let connection = self.connection(address).await?;
        if let Some(knows) = self.brokers_asked.get(address).and_then(|known| current(known, connection)) {
            return Some(knows);
        }
        let one = self.brokers_asked.asking.lock().await;
        let connection = self.connection(address).await?;
        if let Some(knows) = self.brokers_asked.get(address).and_then(|known| current(known, connection)) {
            return Some(knows);
        }
        let mut request = Frame::request(RequestCode::HeartBeat).with_body(json::write_standard(&self.members.heartbeat()));
        request.ext.push(PROXIED, true);
        let answer = self.noted(address, self.client.ask(address, request).await);
        let answer = answer
            .inspect_err(|error| tracing::debug!(%error, "a broker did not say whether it knows clients behind a proxy"))
            .ok()?;
        let knows = match answer.ext.bool(PROXIED) {
            Some(true) => Knows::Clients,
            _ => Knows::Groups,
        };
        self.brokers_asked.known.lock().insert(address.into(), (connection, knows));
        drop(one);
        self.tell_all(address, knows).await;
        Some(knows)
    }

    /// The id of the connection to a broker, which is opened if necessary.
    async fn connection(&self, address: &str) -> Option<u64> {
        let peer = self.noted(address, self.client.peer(address).await).ok()?;
        Some(peer.connection().id())
    }

    /// Tells a broker of all clients. One that does not answer is asked again soon, and told all of them.
    async fn tell_all(&self, address: &str, knows: Knows) {
        if knows == Knows::Groups {
            for heartbeat in self.members.heartbeats(self.settings.heartbeat_groups) {
                self.beat_for_groups(address, &heartbeat).await;
            }
            return;
        }
        for beats in self.members.beats().chunks(PIPELINED) {
            let answered = futures_util::future::join_all(beats.iter().map(|beat| self.beat(address, beat))).await;
            if answered.contains(&false) {
                self.brokers_asked.known.lock().remove(address);
                return;
            }
        }
    }

    /// Sends the heartbeat of a client; returns whether the broker answered. One that does not take it holds no messages for the client.
    async fn beat(&self, address: &str, beat: &Beat) -> bool {
        let client = &beat.client;
        if !self.members.contains(client) {
            return true;
        }
        let answer = self.noted(address, self.client.ask(address, beat.request()).await);
        let is_answered = match answer {
            Ok(_) => true,
            Err(error @ (client::Error::Refused { .. } | client::Error::Busy { .. })) => {
                self.refused(address, client, &error);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "a broker did not take the heartbeat of a client");
                false
            }
        };
        if !self.members.contains(client) {
            // It left meanwhile, and the heartbeat may have been behind that.
            self.told(address, leaving(&client.client_id, None, None)).await;
        }
        is_answered
    }

    fn refused(&self, address: &str, client: &Client, error: &client::Error) {
        let now_ms = now_ms();
        // Until the heartbeat after the next one, which may be taken.
        client.refused(now_ms.saturating_add(2 * self.settings.heartbeat_period.as_millis() as i64));
        if now_ms.saturating_sub(self.brokers_asked.warned_ms.load(Relaxed)) > WARN_EVERY_MS {
            self.brokers_asked.warned_ms.store(now_ms, Relaxed);
            tracing::warn!(
                broker = address,
                client = &*client.client_id,
                %error,
                "a broker does not take a client: it does not show it, and this proxy renews its messages"
            );
        }
    }

    async fn beat_for_groups(&self, address: &str, heartbeat: &HeartbeatData) {
        if let Err(error) = self.noted(address, self.client.heartbeat(address, heartbeat).await) {
            tracing::debug!(%error, "a broker did not take a heartbeat");
        }
    }

    async fn tell_those_that_know_clients(&self, masters: &Masters, request: Frame) {
        let knowing = masters
            .values()
            .filter(|address| matches!(self.brokers_asked.get(address), Some((_, Knows::Clients))));
        futures_util::future::join_all(knowing.map(|address| self.told(address, request.clone()))).await;
    }

    /// Tells a broker that a client left.
    async fn told(&self, address: &str, request: Frame) {
        if let Err(error) = self.noted(address, self.client.ask(address, request).await) {
            tracing::debug!(%error, "a broker keeps a client in a group for a while");
        }
    }

    /// The proxy leaves groups without clients, at brokers that know groups only.
    async fn take_back(&self, masters: &Masters, groups: &[Key]) {
        for key in groups {
            let (producers, consumers) = match key.0 {
                Kind::Producers => (Some(&*key.1), None),
                Kind::Consumers => (None, Some(&*key.1)),
            };
            let knowing = masters
                .values()
                .filter(|address| matches!(self.brokers_asked.get(address), Some((_, Knows::Groups))));
            let leaves = knowing.map(|address| async move {
                let left = self.client.leave(address, &self.members.client_id, producers, consumers).await;
                if let Err(error) = self.noted(address, left) {
                    tracing::debug!(%error, "a broker keeps the proxy in a group for a while");
                }
                // A client that joined meanwhile may have told it before.
                if let Some(again) = self.members.heartbeat_of(key) {
                    self.beat_for_groups(address, &again).await;
                }
            });
            futures_util::future::join_all(leaves).await;
        }
    }
}

fn visible_after(departure: Departure) -> Option<i64> {
    match departure {
        Departure::Goodbye(after_ms) => Some(after_ms),
        Departure::Lost => None,
    }
}
