//! The groups of the clients of this proxy. Brokers are told by heartbeats (34), so that they ask how transactions ended, show who is online,
//! and hold messages for clients: [`super::beats`].

use crate::clients::Client;
use crate::codes::Refused;
use crate::v2::Code;
use broker::clients::ProtocolClient;
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::heartbeat::{CLIENT_ADDRESS, ConsumerData, HeartbeatData, PROXIED, ProducerData, UnregisterClientHeader, VISIBLE_AFTER};
use protocol::{Frame, RequestCode, json, version};
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

pub(super) type Key = (Kind, Box<str>);

/// What a client is in, and its heartbeat.
struct Member {
    client: Arc<Client>,
    keys: Vec<Key>,
    /// The body of its heartbeat.
    body: Bytes,
}

impl Member {
    fn beat(&self) -> Beat {
        Beat {
            client: Arc::clone(&self.client),
            body: self.body.clone(),
        }
    }
}

/// A heartbeat of one client, for brokers that know clients behind a proxy.
#[derive(Clone)]
pub(super) struct Beat {
    pub(super) client: Arc<Client>,
    body: Bytes,
}

impl Beat {
    pub(super) fn request(&self) -> Frame {
        let mut request = Frame::request(RequestCode::HeartBeat);
        request.body = self.body.clone();
        (request.language, request.version) = (self.client.language, version::V5_0_0);
        request.ext.push(PROXIED, true);
        request.ext.push(CLIENT_ADDRESS, &*self.client.peer().to_string());
        request
    }
}

/// What brokers do not know yet of a client that joined.
pub(super) struct News {
    /// Its heartbeat, if it changed.
    pub(super) beat: Option<Beat>,
    /// Groups that are new, or have changed, for brokers that know groups only.
    pub(super) groups: HeartbeatData,
    /// Groups that the client left.
    pub(super) left: Vec<Key>,
    /// Those of them that have no clients any more.
    pub(super) empty: Vec<Key>,
}

/// What brokers do not know yet of a client that left.
pub(super) struct Left {
    /// Whether it was in any group.
    pub(super) was_member: bool,
    /// Groups that have no clients any more.
    pub(super) empty: Vec<Key>,
}

/// The request with which a client leaves the groups that are named, or all; with a time after which what is held for it is visible, it says
/// goodbye.
pub(super) fn leaving(client_id: &str, key: Option<&Key>, visible_after_ms: Option<i64>) -> Frame {
    let mut request = Frame::request(RequestCode::UnregisterClient);
    let named = |kind: Kind| key.filter(|key| key.0 == kind).map(|key| &*key.1);
    UnregisterClientHeader {
        client_id,
        producer_group: named(Kind::Producers),
        consumer_group: named(Kind::Consumers),
    }
    .encode(&mut request.ext);
    request.ext.push(PROXIED, true);
    if let Some(after_ms) = visible_after_ms {
        request.ext.push(VISIBLE_AFTER, after_ms);
    }
    request
}

#[derive(Default)]
struct State {
    groups: FxHashMap<Key, Group>,
    /// By the number of the client.
    of: FxHashMap<u64, Member>,
    memberships: usize,
}

/// Which clients are in which groups.
pub(super) struct Members {
    state: Mutex<State>,
    most: usize,
    /// The id of this proxy at brokers that do not know its clients.
    pub(super) client_id: String,
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

    /// Removes a client from the groups for which `leaves` is true; returns those, and those of them that are empty now.
    fn leave(&mut self, client: u64, leaves: impl Fn(&Key) -> bool) -> (Vec<Key>, Vec<Key>) {
        let Some(member) = self.of.get_mut(&client) else {
            return (Vec::new(), Vec::new());
        };
        let left: Vec<Key> = member.keys.extract_if(.., |key| leaves(key)).collect();
        if member.keys.is_empty() {
            self.of.remove(&client);
        }
        let empty = left.iter().filter(|key| self.remove(client, key)).cloned().collect();
        (left, empty)
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

    /// Adds a client to exactly these groups. Returns what brokers do not know yet.
    ///
    /// # Errors
    /// `TooManyRequests` if the limit is reached; the client is in the groups before the one that is refused.
    pub(super) fn join(&self, client: &Arc<Client>, data: HeartbeatData) -> Result<News, Refused> {
        let body = Bytes::from(json::write_standard(&data));
        let mut groups = self.heartbeat();
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
        let (left, empty) = state.leave(client.id, |key| wanted.iter().all(|(wanted, _)| wanted != key));
        for (key, consumers) in wanted {
            let is_member = state.of.get(&client.id).is_some_and(|member| member.keys.contains(&key));
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
                group.add_to(&mut groups, &key.1);
            }
            if !is_member {
                group.clients.push(Arc::clone(client));
                state.memberships += 1;
                let member = state.of.entry(client.id).or_insert_with(|| Member {
                    client: Arc::clone(client),
                    keys: Vec::new(),
                    body: Bytes::new(),
                });
                member.keys.push(key);
            }
        }
        let beat = state.of.get_mut(&client.id).filter(|member| member.body != body).map(|member| {
            member.body = body;
            member.beat()
        });
        Ok(News { beat, groups, left, empty })
    }

    pub(super) fn leave(&self, client: &Client) -> Left {
        let (left, empty) = self.state.lock().leave(client.id, |_| true);
        Left {
            was_member: !left.is_empty(),
            empty,
        }
    }

    /// Whether the client is in any group.
    pub(super) fn contains(&self, client: &Client) -> bool {
        self.state.lock().of.contains_key(&client.id)
    }

    /// Whether no client is in any group.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().of.is_empty()
    }

    /// The heartbeats of all clients.
    pub(super) fn beats(&self) -> Vec<Beat> {
        self.state.lock().of.values().map(Member::beat).collect()
    }

    /// A client of the group that is still there; another one each time.
    pub(super) fn one_of(&self, kind: Kind, group: &str) -> Option<Arc<Client>> {
        let mut state = self.state.lock();
        let group = state.groups.get_mut(&(kind, group.into()))?;
        group.clients.rotate_left(1);
        group.clients.iter().find(|client| !client.is_closed()).cloned()
    }

    /// A heartbeat with one group, if it has clients.
    pub(super) fn heartbeat_of(&self, key: &Key) -> Option<HeartbeatData> {
        let mut heartbeat = self.heartbeat();
        self.state.lock().groups.get(key)?.add_to(&mut heartbeat, &key.1);
        Some(heartbeat)
    }

    /// A heartbeat of this proxy, without groups.
    pub(super) fn heartbeat(&self) -> HeartbeatData {
        HeartbeatData {
            client_id: self.client_id.clone(),
            ..HeartbeatData::default()
        }
    }

    /// Heartbeats with all groups, up to `most` in each.
    pub(super) fn heartbeats(&self, most: usize) -> Vec<HeartbeatData> {
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
