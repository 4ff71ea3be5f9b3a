//! What consumers and producers share: members by connection, and the groups each connection is in.

use super::budget::{BytesFull, BytesLimits};
use net::RequestError;
use protocol::Language;
use protocol::frame::{Frame, MAX_FRAME_LEN, PREFIX_LEN};
use rustc_hash::FxHashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What the tables know of a member's connection, whatever face the client came through. In tests a number.
pub trait Channel: Clone {
    /// Tells connections apart.
    fn id(&self) -> u64;
    /// Address of the client.
    fn peer(&self) -> SocketAddr;
    /// Sends a request that wants no answer; a connection that is gone drops it.
    fn tell(&self, request: &Frame);
    /// Sends a request and calls `done` once, with the answer or the reason why there is none. `done` must not block.
    ///
    /// What one client asks of another is bounded here, see [`check_forwarded`].
    fn ask(&self, request: Frame, timeout: Duration, done: Done) {
        match check_forwarded(&request) {
            Ok(()) => self.ask_unchecked(request, timeout, done),
            Err(error) => done(Err(error)),
        }
    }
    /// [`Self::ask`] without a bound: for the implementation.
    fn ask_unchecked(&self, request: Frame, timeout: Duration, done: Done);
    /// Closes the connection.
    fn close(&self);
    /// Whether the connection is closed.
    fn is_closed(&self) -> bool;
}

/// What becomes of a request to a client.
pub type Done = Box<dyn FnOnce(Result<Frame, AskError>) + Send>;

/// Most bytes of the header of what is forwarded between clients: room for the longest properties of a message, escaped.
pub const MAX_FORWARDED_HEADER: usize = 256 << 10;

/// Why a client gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Sending it would close the connection of who is asked, or take memory out of proportion. Nothing was sent.
    #[error(
        "too long to be forwarded: up to {header} bytes of header (allowed are {MAX_FORWARDED_HEADER}) and {body} of body (a frame has at most {MAX_FRAME_LEN}); send less"
    )]
    TooLong {
        /// Most bytes that the header takes once its text is escaped.
        header: usize,
        /// Bytes of the body.
        body: usize,
    },
    /// Nothing was sent, so that the connection of who is asked stays open.
    #[error("the client does not read what it was sent before; try later")]
    Congested,
    /// There was no answer.
    #[error(transparent)]
    Unanswered(#[from] RequestError),
}

/// Whether a frame of one client may be forwarded to another: who asks must not be able to close the connection of who is asked,
/// or of who asked. Lengths are those after escaping, which makes a text up to six times as long.
///
/// # Errors
/// [`AskError::TooLong`].
pub fn check_forwarded(frame: &Frame) -> Result<(), AskError> {
    let (header, body) = (frame.most_header_bytes(), frame.body.len());
    if header > MAX_FORWARDED_HEADER || PREFIX_LEN + header + body > MAX_FRAME_LEN {
        return Err(AskError::TooLong { header, body });
    }
    Ok(())
}

/// The bounds, each a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Members of all groups together, consumers and producers each: `apogeeMaxClients`. Bounds the groups as well.
    pub clients: usize,
    /// Groups one connection is in, as consumer and as producer each: `apogeeMaxClientsPerConnection`.
    pub of_one: usize,
    /// Topics one group subscribes to: `apogeeMaxSubscriptionsPerGroup`.
    pub subscriptions: usize,
    /// Bytes that subscriptions take.
    pub subscription_bytes: BytesLimits,
    /// After how long without a heartbeat a member is gone, in ms: `channelExpiredTimeout`.
    pub expiry_ms: i64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            clients: 100_000,
            of_one: 10_000,
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

/// Why a client is not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Too many members of groups.
    #[error("group {group} takes in nobody: {max} producers or consumers are online already, see apogeeMaxClients")]
    Full {
        /// Which group.
        group: String,
        /// How many may be.
        max: usize,
    },
    /// Too many groups of one connection.
    #[error("group {group} does not take this client in: its connection is in {max} groups already, see apogeeMaxClientsPerConnection")]
    FullForOne {
        /// Which group.
        group: String,
        /// How many may be.
        max: usize,
    },
    /// Too many topics in a heartbeat.
    #[error("group {group} subscribes to {count} topics, allowed are {max}, see apogeeMaxSubscriptionsPerGroup")]
    TooManyTopics {
        /// Which group.
        group: String,
        /// How many it asks for.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// Too long subscriptions in a heartbeat.
    #[error("group {group} subscribes with {bytes} bytes of topics, expressions and tags: {full}")]
    TooManyBytes {
        /// Which group.
        group: String,
        /// How many bytes.
        bytes: usize,
        /// Which bound.
        full: BytesFull,
    },
}

/// A client in a group.
#[derive(Clone, Debug)]
pub struct Member<C> {
    /// Its connection.
    pub channel: C,
    /// The id it gave itself.
    pub client_id: Arc<str>,
    /// Its language.
    pub language: Language,
    /// Ordinal of its version.
    pub version: i32,
    /// When it was last heard of, in ms since 1970.
    pub last_seen_ms: i64,
    /// A hash of what it said it subscribes to; 0 while it has not said, and for a producer.
    pub subscribes: u64,
}

/// Members by connection, in the order they came.
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

    /// A member with the client id of the one on this connection that joined after it.
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

    /// Adds the member, or refreshes it and returns what was known of it.
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

    /// Takes out who was not heard of for too long.
    pub(super) fn expire(&mut self, now_ms: i64, expiry_ms: i64) -> Vec<Member<C>> {
        self.0.extract_if(.., |member| now_ms - member.last_seen_ms > expiry_ms).collect()
    }
}

/// The groups of each connection, so that a close need not look at all groups.
#[derive(Debug, Default)]
pub(super) struct ByChannel {
    channels: FxHashMap<u64, Vec<Arc<str>>>,
    members: usize,
}

impl ByChannel {
    /// Groups of one connection.
    pub(super) fn count(&self, channel: u64) -> usize {
        self.channels.get(&channel).map_or(0, Vec::len)
    }

    /// Whether one more group of this connection is within the limits.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn room(&self, channel: u64, group: &str, limits: &ClientLimits) -> Result<(), ClientError> {
        let group = || group.to_owned();
        if self.members >= limits.clients {
            let max = limits.clients;
            return Err(ClientError::Full { group: group(), max });
        }
        if self.count(channel) >= limits.of_one {
            let max = limits.of_one;
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
        let Some(at) = groups.iter().position(|known| &**known == group) else {
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

        fn tell(&self, _: &Frame) {}

        fn ask_unchecked(&self, _: Frame, _: Duration, done: Done) {
            done(Err(RequestError::Closed.into()));
        }

        fn close(&self) {}

        fn is_closed(&self) -> bool {
            false
        }
    }

    /// A connection that remembers what it was told.
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

        fn tell(&self, request: &Frame) {
            self.1.lock().push(request.clone());
        }

        /// Answers with what it was asked.
        fn ask_unchecked(&self, request: Frame, _: Duration, done: Done) {
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
