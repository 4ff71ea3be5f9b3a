//! Shared by consumers and producers: members by connection, and the groups of each connection.

use super::budget::{BytesFull, BytesLimits};
use net::RequestError;
use protocol::Language;
use protocol::frame::{Frame, MAX_FRAME_LEN, PREFIX_LEN};
use rustc_hash::FxHashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The connection of a member, whatever protocol the client speaks. In tests a number.
pub trait Channel: Clone {
    /// Connection id.
    fn id(&self) -> u64;
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
    /// Groups of one connection, for consumers and producers separately: `apogeeMaxClientsPerConnection`.
    pub per_connection: usize,
    /// Topics one group subscribes to: `apogeeMaxSubscriptionsPerGroup`.
    pub subscriptions: usize,
    /// Bytes of subscriptions.
    pub subscription_bytes: BytesLimits,
    /// A member without a heartbeat for this long is removed, in ms: `channelExpiredTimeout`.
    pub expiry_ms: i64,
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
    #[error("cannot join group {group}: the connection is already in {max} groups, see apogeeMaxClientsPerConnection")]
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

/// Members by connection, in the order in which they joined.
#[derive(Debug)]
pub(super) struct Members<C>(Vec<Member<C>>);

impl<C> Default for Members<C> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<C: Channel> Members<C> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member<C>> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn channels(&self) -> Vec<C> {
        self.0.iter().map(|member| member.channel.clone()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The member on this connection.
    pub(super) fn find(&self, channel: u64) -> Option<&Member<C>> {
        self.at(channel).map(|at| &self.0[at])
    }

    /// The first member that joined after the one on this connection and has the same client id, after that one.
    pub(super) fn later_with_same_client_id(&self, channel: u64) -> Option<(&Member<C>, &Member<C>)> {
        let (member, after) = self.0[self.at(channel)?..].split_first()?;
        let other = after.iter().find(|other| other.client_id == member.client_id)?;
        Some((member, other))
    }

    fn at(&self, channel: u64) -> Option<usize> {
        self.0.iter().position(|member| member.channel.id() == channel)
    }

    pub(super) fn contains(&self, channel: u64) -> bool {
        self.at(channel).is_some()
    }

    /// Adds the member, or replaces it and returns the previous state.
    pub(super) fn refresh(&mut self, member: Member<C>) -> Option<Member<C>> {
        if let Some(at) = self.at(member.channel.id()) {
            return Some(std::mem::replace(&mut self.0[at], member));
        }
        self.0.push(member);
        None
    }

    pub(super) fn remove(&mut self, channel: u64) -> Option<Member<C>> {
        let at = self.at(channel)?;
        Some(self.0.remove(at))
    }

    /// Removes members without a heartbeat for longer than `expiry_ms`.
    pub(super) fn expire(&mut self, now_ms: i64, expiry_ms: i64) -> Vec<Member<C>> {
        self.0.extract_if(.., |member| now_ms - member.last_seen_ms > expiry_ms).collect()
    }
}

/// The groups of each connection, so that closing one does not scan all groups.
#[derive(Debug, Default)]
pub(super) struct ByChannel {
    channels: FxHashMap<u64, Vec<Arc<str>>>,
    members: usize,
}

impl ByChannel {
    /// Number of groups of one connection.
    pub(super) fn count(&self, channel: u64) -> usize {
        self.channels.get(&channel).map_or(0, Vec::len)
    }

    /// Checks whether this connection may join one more group.
    ///
    /// # Errors
    /// [`ClientError::Full`] or [`ClientError::FullForOne`].
    pub(super) fn check(&self, channel: u64, group: &str, limits: &ClientLimits) -> Result<(), ClientError> {
        let group = || group.to_owned();
        if self.members >= limits.clients {
            let max = limits.clients;
            return Err(ClientError::Full { group: group(), max });
        }
        if self.count(channel) >= limits.per_connection {
            let max = limits.per_connection;
            return Err(ClientError::FullForOne { group: group(), max });
        }
        Ok(())
    }

    pub(super) fn add(&mut self, channel: u64, group: &Arc<str>) {
        self.channels.entry(channel).or_default().push(Arc::clone(group));
        self.members += 1;
    }

    pub(super) fn remove(&mut self, channel: u64, group: &str) {
        let Some(groups) = self.channels.get_mut(&channel) else { return };
        let Some(at) = groups.iter().position(|entry| &**entry == group) else {
            return;
        };
        groups.remove(at);
        self.members -= 1;
        if groups.is_empty() {
            self.channels.remove(&channel);
        }
    }

    pub(super) fn take(&mut self, channel: u64) -> Vec<Arc<str>> {
        let groups = self.channels.remove(&channel).unwrap_or_default();
        self.members -= groups.len();
        groups
    }

    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.channels.is_empty() && self.members == 0
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
