//! Shared by consumers and producers: members by connection, and the groups of each connection.

use super::budget::{BytesFull, BytesLimits};
use net::RequestError;
use protocol::Language;
use protocol::frame::{Frame, MAX_FRAME_LEN, PREFIX_LEN};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The connection of a member, whatever protocol the client speaks. In tests a number.
pub trait Channel: Clone {
    /// Connection id; of a client behind a proxy, an id of its own.
    fn id(&self) -> u64;
    /// The connection whose limits count: of a client behind a proxy, that of the proxy.
    fn owner(&self) -> u64 {
        self.id()
    }
    /// Address of the client.
    fn peer(&self) -> SocketAddr;
    /// Sends a one-way request; dropped if the connection is closed.
    fn send_oneway(&self, request: &Frame);
    /// Sends a request and calls `done` once, with the response or the error. `done` must not block.
    ///
    /// The size of the request is limited, see [`check_forwarded`].
    fn call(&self, request: Frame, timeout: Duration, done: OnResponse) {
        match check_forwarded(&request) {
            Ok(()) => self.call_unchecked(request, timeout, done),
            Err(error) => done(Err(error)),
        }
    }
    /// [`Self::call`] without the size check. For implementations.
    fn call_unchecked(&self, request: Frame, timeout: Duration, done: OnResponse);
    /// Closes the connection.
    fn close(&self);
    /// Whether the connection is closed.
    fn is_closed(&self) -> bool;
}

/// Called with the response of a client, or the reason why there is none.
pub type OnResponse = Box<dyn FnOnce(Result<Frame, ClientCallError>) + Send>;

/// Largest header of a request forwarded between clients, in bytes: enough for the longest properties of a message, escaped.
pub const MAX_FORWARDED_HEADER: usize = 256 << 10;

/// Why a client did not respond.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientCallError {
    /// The request would exceed the frame limit of the receiver, or take too much memory. Nothing was sent.
    #[error(
        "too long to be forwarded: up to {header} bytes of header (limit {MAX_FORWARDED_HEADER}) and {body} bytes of body (limit of a frame {MAX_FRAME_LEN}); send less data"
    )]
    TooLong {
        /// Upper bound of the header's bytes after escaping.
        header: usize,
        /// Bytes of the body.
        body: usize,
    },
    /// Its connection has too many unsent bytes. Nothing was sent, so that the connection stays open.
    #[error("the client does not read from its connection; try again later")]
    Congested,
    /// No response arrived.
    #[error(transparent)]
    Unanswered(#[from] RequestError),
}

/// Checks whether a frame of one client may be forwarded to another. A sender must not be able to have the receiver's connection,
/// or its own, closed for a frame that is too long. Lengths are those after escaping, which makes a text up to six times as long.
///
/// # Errors
/// [`ClientCallError::TooLong`] if the header or the frame is over its limit.
pub fn check_forwarded(frame: &Frame) -> Result<(), ClientCallError> {
    let (header, body) = (frame.most_header_bytes(), frame.body.len());
    if header > MAX_FORWARDED_HEADER || PREFIX_LEN + header + body > MAX_FRAME_LEN {
        return Err(ClientCallError::TooLong { header, body });
    }
    Ok(())
}

/// The limits, each a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Members of all groups together, for consumers and producers separately: `apogeeMaxClients`. It also bounds the number of
    /// groups.
    pub clients: usize,
    /// Groups of one connection, of a proxy's those of all clients behind it, for consumers and producers separately:
    /// `apogeeMaxClientsPerConnection`.
    pub per_connection: usize,
    /// Topics one group subscribes to: `apogeeMaxSubscriptionsPerGroup`.
    pub subscriptions: usize,
    /// Bytes of subscriptions.
    pub subscription_bytes: BytesLimits,
    /// A member without a heartbeat for this long is removed, in ms: `channelExpiredTimeout`.
    pub expiry_ms: i64,
    /// A consumer that is gone without a goodbye may come back to its messages for this long, in ms: `apogeePopHolderGraceMillis`.
    pub grace_ms: i64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            clients: 100_000,
            per_connection: 10_000,
            subscriptions: 1_000,
            subscription_bytes: BytesLimits {
                all: 256 << 20,
                of_connection: 32 << 20,
                of_group: 1 << 20,
            },
            expiry_ms: 120_000,
            grace_ms: 30_000,
        }
    }
}

/// Why a client cannot join a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// All groups together have too many members.
    #[error("cannot join group {group}: {max} producers or consumers are already online, see apogeeMaxClients")]
    Full {
        /// The group.
        group: String,
        /// The limit.
        max: usize,
    },
    /// The connection is in too many groups.
    #[error(
        "cannot join group {group}: the connection, or the clients behind this proxy, are already in {max} groups, see apogeeMaxClientsPerConnection"
    )]
    FullForOne {
        /// The group.
        group: String,
        /// The limit.
        max: usize,
    },
    /// The heartbeat has too many topics.
    #[error("group {group} subscribes to {count} topics, the limit is {max}, see apogeeMaxSubscriptionsPerGroup")]
    TooManyTopics {
        /// The group.
        group: String,
        /// Topics in the heartbeat.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// The subscriptions in the heartbeat are too long.
    #[error("group {group} subscribes with {bytes} bytes of topics, expressions and tags, which is too much: {full}")]
    TooManyBytes {
        /// The group.
        group: String,
        /// Bytes of its subscriptions.
        bytes: usize,
        /// The limit that is exceeded.
        full: BytesFull,
    },
}

/// A client in a group.
#[derive(Clone, Debug)]
pub struct Member<C> {
    /// Its connection.
    pub channel: C,
    /// The client id, chosen by the client.
    pub client_id: Arc<str>,
    /// Language of the client library.
    pub language: Language,
    /// Version of the client library, as Apache numbers them.
    pub version: i32,
    /// Time of the last heartbeat, in ms since 1970.
    pub last_seen_ms: i64,
    /// A hash of the subscriptions in its last heartbeat; 0 if there were none yet, and for a producer.
    pub subscribes: u64,
}

/// Numbers of members with one client id, in the order in which they joined.
type Numbers = SmallVec<[u64; 1]>;

/// Members by connection and by client id, in the order in which they joined: each has a number.
#[derive(Debug)]
pub(super) struct Members<C> {
    by_number: BTreeMap<u64, Member<C>>,
    by_channel: FxHashMap<u64, u64>,
    by_client: FxHashMap<Arc<str>, Numbers>,
    next: u64,
}

impl<C> Default for Members<C> {
    fn default() -> Self {
        Self {
            by_number: BTreeMap::new(),
            by_channel: FxHashMap::default(),
            by_client: FxHashMap::default(),
            next: 0,
        }
    }
}

impl<C: Channel> Members<C> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member<C>> {
        self.by_number.values()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    pub(super) fn channels(&self) -> Vec<C> {
        self.iter().map(|member| member.channel.clone()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// The member on this connection.
    pub(super) fn find(&self, channel: u64) -> Option<&Member<C>> {
        self.by_number.get(self.by_channel.get(&channel)?)
    }

    /// The first member with this client id.
    pub(super) fn of_client(&self, client_id: &str) -> Option<&Member<C>> {
        self.by_number.get(self.by_client.get(client_id)?.first()?)
    }

    /// The first member that joined after the one on this connection and has the same client id, after that one.
    pub(super) fn later_with_same_client_id(&self, channel: u64) -> Option<(&Member<C>, &Member<C>)> {
        let number = self.by_channel.get(&channel)?;
        let member = self.by_number.get(number)?;
        let later = self.by_client.get(&member.client_id)?.iter().find(|other| *other > number)?;
        Some((member, self.by_number.get(later)?))
    }

    pub(super) fn contains(&self, channel: u64) -> bool {
        self.by_channel.contains_key(&channel)
    }

    /// Adds the member, or replaces it and returns the previous state.
    pub(super) fn refresh(&mut self, member: Member<C>) -> Option<Member<C>> {
        let channel = member.channel.id();
        let known = self.by_channel.get(&channel).copied();
        let number = known.unwrap_or(self.next);
        self.next += u64::from(known.is_none());
        let client_id = Arc::clone(&member.client_id);
        let before = self.by_number.insert(number, member);
        if before.as_ref().is_some_and(|before| before.client_id == client_id) {
            return before;
        }
        if let Some(before) = &before {
            self.forget_client(&before.client_id, number);
        }
        self.by_channel.insert(channel, number);
        let numbers = self.by_client.entry(client_id).or_default();
        let at = numbers.partition_point(|other| *other < number);
        numbers.insert(at, number);
        before
    }

    fn forget_client(&mut self, client_id: &str, number: u64) {
        if let Some(numbers) = self.by_client.get_mut(client_id) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_client.remove(client_id);
            }
        }
    }

    pub(super) fn remove(&mut self, channel: u64) -> Option<Member<C>> {
        let number = self.by_channel.remove(&channel)?;
        let member = self.by_number.remove(&number)?;
        self.forget_client(&member.client_id, number);
        Some(member)
    }

    /// Removes members without a heartbeat for longer than `expiry_ms`.
    pub(super) fn expire(&mut self, now_ms: i64, expiry_ms: i64) -> Vec<Member<C>> {
        let silent = self.iter().filter(|member| now_ms - member.last_seen_ms > expiry_ms);
        let silent: Vec<u64> = silent.map(|member| member.channel.id()).collect();
        silent.into_iter().filter_map(|channel| self.remove(channel)).collect()
    }
}

/// The groups of each connection, so that closing one does not scan all groups.
#[derive(Debug, Default)]
pub(super) struct ByChannel {
    channels: FxHashMap<u64, Groups>,
    /// Memberships of the connections that count for others, their own included: those of proxies.
    of_owners: FxHashMap<u64, usize>,
    members: usize,
}

/// The groups of a connection, or of a client behind a proxy.
#[derive(Debug)]
struct Groups {
    /// The connection whose limit counts.
    owner: u64,
    names: Vec<Arc<str>>,
}

impl ByChannel {
    /// Groups of a connection, or of a client behind a proxy.
    pub(super) fn count_own(&self, channel: u64) -> usize {
        self.channels.get(&channel).map_or(0, |groups| groups.names.len())
    }

    /// Memberships that count for one connection.
    fn count(&self, owner: u64) -> usize {
        let own = self.count_own(owner);
        self.of_owners.get(&owner).map_or(own, |others| own + others)
    }

    /// Checks whether a client of this connection may join one more group.
    ///
    /// # Errors
    /// [`ClientError::Full`] or [`ClientError::FullForOne`].
    pub(super) fn check(&self, owner: u64, group: &str, limits: &ClientLimits) -> Result<(), ClientError> {
        let group = || group.to_owned();
        if self.members >= limits.clients {
            let max = limits.clients;
            return Err(ClientError::Full { group: group(), max });
        }
        if self.count(owner) >= limits.per_connection {
            let max = limits.per_connection;
            return Err(ClientError::FullForOne { group: group(), max });
        }
        Ok(())
    }

    pub(super) fn add(&mut self, channel: &impl Channel, group: &Arc<str>) {
        let (id, owner) = (channel.id(), channel.owner());
        let groups = self.channels.entry(id).or_insert_with(|| Groups { owner, names: Vec::new() });
        groups.names.push(Arc::clone(group));
        self.members += 1;
        if owner != id {
            *self.of_owners.entry(owner).or_default() += 1;
        }
    }

    fn forget(&mut self, channel: u64, owner: u64, groups: usize) {
        self.members -= groups;
        if owner != channel
            && let Some(count) = self.of_owners.get_mut(&owner)
        {
            *count -= groups;
            if *count == 0 {
                self.of_owners.remove(&owner);
            }
        }
    }

    pub(super) fn remove(&mut self, channel: u64, group: &str) {
        let Some(groups) = self.channels.get_mut(&channel) else { return };
        let Some(at) = groups.names.iter().position(|entry| &**entry == group) else {
            return;
        };
        groups.names.remove(at);
        let (owner, is_empty) = (groups.owner, groups.names.is_empty());
        if is_empty {
            self.channels.remove(&channel);
        }
        self.forget(channel, owner, 1);
    }

    pub(super) fn take(&mut self, channel: u64) -> Vec<Arc<str>> {
        let Some(groups) = self.channels.remove(&channel) else {
            return Vec::new();
        };
        self.forget(channel, groups.owner, groups.names.len());
        groups.names
    }

    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.channels.is_empty() && self.of_owners.is_empty() && self.members == 0
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    impl Channel for u64 {
        fn id(&self) -> u64 {
            *self
        }

        fn peer(&self) -> SocketAddr {
            SocketAddr::from(([127, 0, 0, 1], *self as u16))
        }

        fn send_oneway(&self, _: &Frame) {}

        fn call_unchecked(&self, _: Frame, _: Duration, done: OnResponse) {
            done(Err(RequestError::Closed.into()));
        }

        fn close(&self) {}

        fn is_closed(&self) -> bool {
            false
        }
    }

    /// A connection that records the requests sent to it.
    #[derive(Clone, Debug)]
    pub(crate) struct Recorder(pub(crate) u64, pub(crate) Arc<Mutex<Vec<Frame>>>, Arc<AtomicBool>);

    impl Recorder {
        pub(crate) fn new(id: u64) -> Self {
            Self(id, Arc::default(), Arc::default())
        }

        pub(crate) fn take(&self) -> Vec<Frame> {
            std::mem::take(&mut *self.1.lock())
        }
    }

    impl Channel for Recorder {
        fn id(&self) -> u64 {
            self.0
        }

        fn peer(&self) -> SocketAddr {
            self.0.peer()
        }

        fn send_oneway(&self, request: &Frame) {
            self.1.lock().push(request.clone());
        }

        /// Responds with the request's own fields and body.
        fn call_unchecked(&self, request: Frame, _: Duration, done: OnResponse) {
            self.1.lock().push(request.clone());
            let mut answer = Frame::response_to(&request);
            answer.ext = request.ext;
            answer.body = request.body;
            done(Ok(answer));
        }

        fn close(&self) {
            self.2.store(true, Relaxed);
        }

        fn is_closed(&self) -> bool {
            self.2.load(Relaxed)
        }
    }

    pub(crate) fn member<C>(channel: C, client_id: &str, now_ms: i64) -> Member<C> {
        Member {
            channel,
            client_id: client_id.into(),
            language: Language::Java,
            version: 0,
            last_seen_ms: now_ms,
            subscribes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::member;
    use super::*;

    /// A client behind a proxy: its id, and that of the proxy's connection.
    #[derive(Clone, Debug)]
    struct Behind(u64, u64);

    impl Channel for Behind {
        fn id(&self) -> u64 {
            self.0
        }

        fn owner(&self) -> u64 {
            self.1
        }

        fn peer(&self) -> SocketAddr {
            self.1.peer()
        }

        fn send_oneway(&self, _: &Frame) {}

        fn call_unchecked(&self, _: Frame, _: Duration, done: OnResponse) {
            done(Err(RequestError::Closed.into()));
        }

        fn close(&self) {}

        fn is_closed(&self) -> bool {
            false
        }
    }

    #[test]
    fn the_groups_of_clients_behind_a_proxy_count_for_its_connection() {
        let limits = ClientLimits {
            clients: 10,
            per_connection: 3,
            ..ClientLimits::default()
        };
        let (mut by_channel, group): (_, Arc<str>) = (ByChannel::default(), "g".into());
        for client in [Behind(1, 7), Behind(2, 7), Behind(7, 7)] {
            by_channel.check(client.owner(), "g", &limits).unwrap();
            by_channel.add(&client, &group);
        }
        assert!(matches!(
            by_channel.check(7, "g", &limits),
            Err(ClientError::FullForOne { max: 3, .. })
        ));
        by_channel.check(8, "g", &limits).unwrap();
        assert_eq!((by_channel.count_own(1), by_channel.take(1)), (1, vec![Arc::clone(&group)]));
        by_channel.check(7, "g", &limits).unwrap();
        by_channel.remove(2, "g");
        by_channel.remove(7, "g");
        assert!(by_channel.is_clean());
    }

    #[test]
    fn members_are_found_by_connection_and_by_client_id_in_the_order_in_which_they_joined() {
        let mut members = Members::default();
        for (channel, client) in [(3_u64, "a"), (1, "b"), (2, "a")] {
            assert!(members.refresh(member(channel, client, 0)).is_none());
        }
        assert_eq!(members.channels(), [3, 1, 2]);
        assert_eq!(members.of_client("a").map(|member| member.channel), Some(3));
        let (one, other) = members.later_with_same_client_id(3).unwrap();
        assert_eq!((one.channel, other.channel), (3, 2));
        assert!(members.later_with_same_client_id(2).is_none());
        // Its connection has another client id now.
        let before = members.refresh(member(3, "c", 5)).unwrap();
        assert_eq!((&*before.client_id, members.of_client("a").unwrap().channel), ("a", 2));
        assert_eq!(members.expire(4, 3).len(), 2);
        assert_eq!((members.channels(), members.of_client("b").is_none()), (vec![3], true));
        members.remove(3).unwrap();
        assert!(members.is_empty() && members.by_client.is_empty() && members.by_channel.is_empty());
    }
}
