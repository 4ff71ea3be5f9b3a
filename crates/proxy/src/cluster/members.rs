//! The groups of the clients of this proxy. At the brokers the proxy is the member of these groups, by heartbeats (34) under an id of its own,
//! so that brokers ask it how transactions ended, and show that the groups are online.
//!
//! Compat: a broker knows one client of a group on a connection, as Apache's; so the proxy is one client there, whoever its own are. Apache's proxy
//! does the same for producers.

use super::Cluster;
use crate::clients::Client;
use crate::codes::Refused;
use crate::v2::Code;
use broker::clients::ProtocolClient;
use parking_lot::Mutex;
use protocol::heartbeat::{ConsumerData, HeartbeatData, ProducerData};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Clients of a group.
#[derive(Default)]
struct Group {
    clients: Vec<Arc<Client>>,
    /// How its clients consume; the last one that told it counts. None for producers.
    consumers: Option<ConsumerData>,
}

impl Group {
    fn add_to(&self, heartbeat: &mut HeartbeatData, name: &str) {
        match &self.consumers {
            Some(consumers) => heartbeat.consumers.push(consumers.clone()),
            None => heartbeat.producers.push(ProducerData {
                group_name: name.to_owned(),
            }),
        }
    }
}

/// What a client is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Producers,
    Consumers,
}

type Key = (Kind, Box<str>);

#[derive(Default)]
struct State {
    groups: FxHashMap<Key, Group>,
    /// The groups of each client, by its number.
    of: FxHashMap<u64, Vec<Key>>,
    memberships: usize,
}

/// Which clients are in which groups.
pub(super) struct Members {
    state: Mutex<State>,
    most: usize,
    /// The id of this proxy at the brokers.
    client_id: String,
}

impl State {
    /// Removes a client from a group; returns whether the group is empty now.
    fn remove(&mut self, client: u64, key: &Key) -> bool {
        let Some(group) = self.groups.get_mut(key) else { return false };
        let before = group.clients.len();
        group.clients.retain(|member| member.id != client);
        self.memberships -= before - group.clients.len();
        let is_empty = group.clients.is_empty();
        if is_empty {
            self.groups.remove(key);
        }
        is_empty
    }

    /// Removes a client from the groups for which `leaves` is true; returns those that are empty now.
    fn leave(&mut self, client: u64, leaves: impl Fn(&Key) -> bool) -> Vec<Key> {
        let Some(keys) = self.of.remove(&client) else { return Vec::new() };
        let (left, kept): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(leaves);
        if !kept.is_empty() {
            self.of.insert(client, kept);
        }
        left.into_iter().filter(|key| self.remove(client, key)).collect()
    }
}

impl Members {
    pub(super) fn new(most: usize) -> Self {
        Self {
            state: Mutex::default(),
            most,
            client_id: format!("apogeemq-proxy@{}", client::unique_key()),
        }
    }

    /// Adds a client to exactly these groups. Returns what brokers do not know yet, and the groups that are empty now.
    fn join(&self, client: &Arc<Client>, data: HeartbeatData) -> Result<(HeartbeatData, Vec<Key>), Refused> {
        let mut news = self.heartbeat();
        let producers = data
            .producers
            .into_iter()
            .map(|group| ((Kind::Producers, group.group_name.into_boxed_str()), None));
        let consumers = data
            .consumers
            .into_iter()
            .map(|group| ((Kind::Consumers, group.group_name.as_str().into()), Some(group)));
        let wanted: Vec<(Key, Option<ConsumerData>)> = producers.chain(consumers).collect();
        let mut state = self.state.lock();
        let empty = state.leave(client.id, |key| wanted.iter().all(|(wanted, _)| wanted != key));
        for (key, consumers) in wanted {
            let is_member = state.of.get(&client.id).is_some_and(|keys| keys.contains(&key));
            if !is_member && state.memberships >= self.most {
                let text = format!(
                    "the clients are in {} groups together already (apogeeProxyMaxMemberships)",
                    self.most
                );
                return Err(Refused::new(Code::TooManyRequests, text));
            }
            let group = state.groups.entry(key.clone()).or_default();
            let is_new = group.clients.is_empty() || group.consumers != consumers;
            if is_new {
                group.consumers = consumers;
                group.add_to(&mut news, &key.1);
            }
            if !is_member {
                group.clients.push(Arc::clone(client));
                state.memberships += 1;
                state.of.entry(client.id).or_default().push(key);
            }
        }
        Ok((news, empty))
    }

    fn leave(&self, client: &Client) -> Vec<Key> {
        self.state.lock().leave(client.id, |_| true)
    }

    /// A client of the group that is still there; another one each time.
    pub(super) fn one_of(&self, kind: Kind, group: &str) -> Option<Arc<Client>> {
        let mut state = self.state.lock();
        let group = state.groups.get_mut(&(kind, group.into()))?;
        group.clients.rotate_left(1);
        group.clients.iter().find(|client| !client.is_closed()).cloned()
    }

    /// A heartbeat with one group, if it has clients.
    fn heartbeat_of(&self, key: &Key) -> Option<HeartbeatData> {
        let mut heartbeat = self.heartbeat();
        self.state.lock().groups.get(key)?.add_to(&mut heartbeat, &key.1);
        Some(heartbeat)
    }

    fn heartbeat(&self) -> HeartbeatData {
        HeartbeatData {
            client_id: self.client_id.clone(),
            ..HeartbeatData::default()
        }
    }

    /// Heartbeats with all groups, up to `most` in each.
    fn heartbeats(&self, most: usize) -> Vec<HeartbeatData> {
        let state = self.state.lock();
        let mut all: Vec<HeartbeatData> = Vec::new();
        for (at, ((_, name), group)) in state.groups.iter().enumerate() {
            if at % most == 0 {
                all.push(self.heartbeat());
            }
            if let Some(last) = all.last_mut() {
                group.add_to(last, name);
            }
        }
        all
    }
}

impl Cluster {
    pub(crate) async fn join(self: &Arc<Self>, client: &Arc<Client>, data: HeartbeatData) -> Result<(), Refused> {
        let (news, empty) = self.members.join(client, data)?;
        self.take_back(&empty).await;
        if !news.producers.is_empty() || !news.consumers.is_empty() {
            self.beat(&news).await;
        }
        Ok(())
    }

    pub(crate) async fn leave(&self, client: &Client) {
        self.take_back(&self.members.leave(client)).await;
    }

    /// Tells the brokers which groups have clients, now and then, without an end.
    pub(crate) async fn keep_members(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.settings.heartbeat_period).await;
            for heartbeat in self.members.heartbeats(self.settings.heartbeat_groups) {
                self.beat(&heartbeat).await;
            }
        }
    }

    /// Sends a heartbeat to all masters. A failure is logged: the next one is not far.
    async fn beat(&self, heartbeat: &HeartbeatData) {
        let masters = match self.masters().await {
            Ok(masters) => masters,
            Err(refused) => return tracing::warn!(reason = refused.text, "no broker got a heartbeat"),
        };
        let beats = masters.values().map(|address| async move {
            if let Err(error) = self.noted(address, self.client.heartbeat(address, heartbeat).await) {
                tracing::debug!(%error, "a broker did not take a heartbeat");
            }
        });
        futures_util::future::join_all(beats).await;
    }

    /// The proxy leaves groups without clients.
    async fn take_back(&self, groups: &[Key]) {
        if groups.is_empty() {
            return;
        }
        let Ok(masters) = self.masters().await else { return };
        for key in groups {
            let (producers, consumers) = match key.0 {
                Kind::Producers => (Some(&*key.1), None),
                Kind::Consumers => (None, Some(&*key.1)),
            };
            let leaves = masters.values().map(|address| async move {
                let left = self.client.leave(address, &self.members.client_id, producers, consumers).await;
                if let Err(error) = self.noted(address, left) {
                    tracing::debug!(%error, "a broker keeps the proxy in a group for a while");
                }
            });
            futures_util::future::join_all(leaves).await;
            // A client that joined meanwhile may have told it before.
            if let Some(again) = self.members.heartbeat_of(key) {
                self.beat(&again).await;
            }
        }
    }
}
