//! Sends that cannot duplicate: a topic with `dedup.window.seconds` stores a message once, however often its producer sends it.
//!
//! A producer that gets no answer sends again, with the same UNIQ_KEY. Such a repeat is answered like the first send, with its queue,
//! offset and message id, and nothing is stored. `dedup.by=KEYS` recognises a message by the whole of its KEYS instead, where it has any.
//!
//! Life of a key: a send claims it before its append and places it after ([`keys`]). A repeat that comes between the two waits for the
//! append; one that comes later waits until the log is as durable up to its end as the flush mode promises ([`crate::send`]). If the first
//! send is refused, its key is free again and the repeat is stored. The key leaves when the window has passed. A transaction that is rolled
//! back or given up frees the key of its message at once.
//!
//! A batch is looked at message by message: what is new is stored, and the answer names each message where it is.
//!
//! Invariants
//! - The log is the only truth. A start reads the keys of the window from it ([`rebuild`]) before the ports open.
//! - The key belongs to the topic that the producer names, wherever the message waits first.
//! - Two messages are taken for one only if 128 bits of a keyed hash are equal, whose secret changes with each start.
//! - Ages are measured on a clock that never steps back. Only a start has to use store timestamps: those that step back count as no time.
//! - A topic without the attribute costs a look at a field: no lock, no allocation.
//! - All topics together keep `apogeeMaxDedupKeys` keys. Beyond that the oldest of the topic with most keys leave before their time, since
//!   refusing sends would be worse than recognising only repeats that come soon, as nearly all do. It is counted and warned about.
//!
//! Not here: retry and dead letter topics, where one UNIQ_KEY is stored for each retry; the attribute is refused there.

mod keys;
mod rebuild;
mod window;

pub(crate) use rebuild::rebuild;

use crate::attributes::DedupRule;
use crate::core::Core;
use crate::feature::{self, Feature, Work};
use crate::keyed_hash::KeyedHash;
use crate::settings::BrokerSettings;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering, RwLock};
use crate::topic::{Topic, Topics};
use keys::{SHARDS, TopicKeys, shard_of};
use message::properties;
use message::record::Placement;
use message::{LogOffset, QueueOffset};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use window::{Claimed, Key, Place};

/// How often keys of idle topics are dropped.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// At the limit so many keys leave at once: a fraction of the limit.
const LEAVE_TOGETHER: usize = 128;
/// Addresses of this broker in message ids that are remembered; a repeat of a message with another one gets that of its own connection.
const MAX_HOSTS: usize = 1_000;

/// Keys of the messages that topics recognise.
pub struct Dedup {
    topics: RwLock<FxHashMap<Box<str>, Arc<TopicKeys>>>,
    /// For the rules.
    table: Arc<Topics>,
    settings: Arc<config::Live<BrokerSettings>>,
    secret: KeyedHash,
    hosts: RwLock<Vec<SocketAddr>>,
    begun: Instant,
    /// Entries of all topics.
    total: Arc<AtomicUsize>,
    repeats: AtomicU64,
    evicted: AtomicU64,
    evicting: Mutex<()>,
    has_warned: AtomicBool,
}

/// The messages of a request in a topic that recognises repeats.
pub(crate) struct Recognition {
    keys: Arc<TopicKeys>,
    window_ms: i64,
    messages: SmallVec<[Message; 1]>,
}

enum Message {
    /// Has nothing to be recognised by.
    Unkeyed,
    Keyed(Key),
    /// Is stored by this send: the sequence number of its claim.
    New(Key, u32),
    /// Was stored by this send.
    Placed,
    /// Is stored already.
    Repeat(Place),
    /// Repeats the message of this number of the same request.
    RepeatOf(usize, Key),
    /// Another send has claimed its key.
    Busy(Key),
}

/// What a message can be recognised by; empty if it has none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity<'a> {
    pub(crate) uniq_key: &'a [u8],
    pub(crate) keys: &'a [u8],
}

impl<'a> Identity<'a> {
    /// From the properties of a message.
    pub(crate) fn of(properties: &'a [u8]) -> Self {
        let mut identity = Self::default();
        properties::for_each(properties, |name, value| {
            if name == properties::UNIQ_KEY.as_bytes() {
                identity.uniq_key = value;
            } else if name == properties::KEYS.as_bytes() {
                identity.keys = value;
            }
        });
        identity
    }
}

/// The keys of one topic, once they were looked up.
#[derive(Default)]
pub(crate) struct KnownKeys(Option<Arc<TopicKeys>>);

/// What is to be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Store those of its messages that are new.
    Store,
    /// All of them are stored already.
    Repeat,
    /// Another send is about to store one of them.
    Busy(BusyKey),
}

/// A key that another send has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BusyKey(Key);

/// How messages are recognised.
#[derive(Clone, Copy)]
enum Kind {
    UniqKey = 1,
    Keys = 2,
}

impl Dedup {
    /// Knows no keys yet; see [`rebuild`].
    #[must_use]
    pub fn new(core: &Core) -> Self {
        Self {
            topics: RwLock::default(),
            table: core.topics.clone(),
            settings: core.settings.clone(),
            secret: KeyedHash::new(),
            hosts: RwLock::default(),
            begun: Instant::now(),
            total: Arc::default(),
            repeats: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            evicting: Mutex::default(),
            has_warned: AtomicBool::new(false),
        }
    }

    /// For a request with these messages, which are about to be stored. [`None`] if the topic stores every send.
    pub(crate) fn recognise<'p>(
        &self,
        topic: &Topic,
        messages: impl Iterator<Item = Identity<'p>>,
        known: &mut KnownKeys,
    ) -> Option<Recognition> {
        let rule = topic.dedup?;
        let keys = Arc::clone(known.0.get_or_insert_with(|| self.keys_of(&topic.name)));
        let mut recognition = Recognition {
            keys,
            window_ms: rule.window_ms,
            messages: SmallVec::new(),
        };
        for identity in messages {
            let message = self.key_of(rule, identity).map_or(Message::Unkeyed, Message::Keyed);
            recognition.messages.push(message);
        }
        Some(recognition)
    }

    /// A message that was sent to this topic and waits at this queue offset, stored at this log offset or before, is never delivered:
    /// another one with its key may be.
    pub(crate) fn forget(&self, topic: &str, properties: &[u8], queue_offset: QueueOffset, until: LogOffset) {
        let Some(rule) = self.table.find(topic).and_then(|topic| topic.dedup) else {
            return;
        };
        let keys = self.topics.read().get(topic).cloned();
        if let Some(keys) = keys
            && let Some(key) = self.key_of(rule, Identity::of(properties))
        {
            keys.forget(key, queue_offset.0, until.0);
        }
    }

    /// Time on the clock of all windows, in ms.
    pub(crate) fn now_ms(&self) -> i64 {
        self.begun.elapsed().as_millis() as i64
    }

    /// The number of one of this broker's addresses.
    pub(crate) fn host(&self, host: SocketAddr) -> u16 {
        const NONE: u16 = u16::MAX;
        let number = |hosts: &[SocketAddr]| hosts.iter().position(|known| *known == host);
        let known = number(&self.hosts.read());
        let number = known.or_else(|| {
            let mut hosts = self.hosts.write();
            number(&hosts).or_else(|| {
                let has_room = hosts.len() < MAX_HOSTS;
                has_room.then(|| {
                    hosts.push(host);
                    hosts.len() - 1
                })
            })
        });
        number.and_then(|number| u16::try_from(number).ok()).unwrap_or(NONE)
    }

    /// Entries of all topics: keys in their window, and a few that have left it.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Messages that were not stored again since the start.
    #[must_use]
    pub fn repeats(&self) -> u64 {
        self.repeats.load(Ordering::Relaxed)
    }

    /// Keys that left before their time since the start, because there were too many.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Makes room for so many keys if there are too many. Call it before they are claimed.
    pub(crate) fn make_room(&self, keys: usize) {
        let most = self.settings.current().max_dedup_keys;
        let too_many = || (self.entries() + keys).saturating_sub(most);
        if too_many() == 0 {
            return;
        }
        // Another thread makes room already: it takes out more than all threads bring meanwhile.
        let Some(_alone) = self.evicting.try_lock() else { return };
        let Some((name, keys)) = self.largest() else { return };
        let Some(rule) = self.table.find(&name).and_then(|topic| topic.dedup) else {
            self.topics.write().remove(&name);
            return;
        };
        let now_ms = self.now_ms();
        keys.expire(now_ms, rule.window_ms);
        if too_many() == 0 {
            return;
        }
        let (evicted, age_ms) = keys.evict(too_many().max(most / LEAVE_TOGETHER), now_ms);
        self.evicted.fetch_add(evicted as u64, Ordering::Relaxed);
        if evicted > 0 && !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                topic = &*name,
                limit = most,
                reaches_back_ms = age_ms,
                window_ms = rule.window_ms,
                "too many keys of messages are remembered (apogeeMaxDedupKeys): the oldest are forgotten before dedup.window.seconds, \
                 and their messages would be stored again. Raise the limit or shorten the windows. apogeeDedupEvicted counts them; this \
                 warning is not repeated"
            );
        }
    }

    /// The topic with most keys.
    fn largest(&self) -> Option<(Box<str>, Arc<TopicKeys>)> {
        let topics = self.topics.read();
        let (name, keys) = topics.iter().max_by_key(|(_, keys)| keys.len())?;
        Some((name.clone(), keys.clone()))
    }

    fn keys_of(&self, topic: &str) -> Arc<TopicKeys> {
        let known = self.topics.read().get(topic).cloned();
        known.unwrap_or_else(|| {
            let mut topics = self.topics.write();
            let keys = topics.entry(topic.into());
            keys.or_insert_with(|| Arc::new(TopicKeys::new(self.total.clone()))).clone()
        })
    }

    fn key_of(&self, rule: DedupRule, identity: Identity<'_>) -> Option<Key> {
        let Identity { uniq_key, keys } = identity;
        match (rule.by_keys && !keys.is_empty(), uniq_key.is_empty()) {
            (true, _) => Some(self.hash(Kind::Keys, keys)),
            (false, false) => Some(self.hash(Kind::UniqKey, uniq_key)),
            (false, true) => None,
        }
    }

    fn hash(&self, kind: Kind, text: &[u8]) -> Key {
        Key(self.secret.of(|hasher| {
            hasher.write_u8(kind as u8);
            hasher.write(text);
        }))
    }

    /// Drops what is not needed any more.
    fn tidy(&self) {
        let all: Vec<_> = {
            let topics = self.topics.read();
            topics.iter().map(|(name, keys)| (name.clone(), keys.clone())).collect()
        };
        for (name, keys) in all {
            match self.table.find(&name).and_then(|topic| topic.dedup) {
                Some(rule) => keys.expire(self.now_ms(), rule.window_ms),
                None => drop(self.topics.write().remove(&name)),
            }
        }
    }
}

impl Feature for Dedup {
    fn run(self: Arc<Self>) -> Work {
        Box::pin(feature::every(TIDY_EVERY, move |_| self.tidy()))
    }

    fn topic_deleted(&self, topic: &str) {
        self.topics.write().remove(topic);
    }
}

/// Claims the keys of requests that were read together. Those of which a message is busy hold no claims afterwards. `now_ms` is
/// [`Dedup::now_ms`].
pub(crate) fn claim_all(requests: &mut [&mut Recognition], now_ms: i64) {
    for same in requests.chunk_by_mut(|one, next| Arc::ptr_eq(&one.keys, &next.keys)) {
        let Some((keys, window_ms)) = same.first().map(|one| (Arc::clone(&one.keys), one.window_ms)) else {
            continue;
        };
        let claims = Spot::of(same, |message| match message {
            Message::Keyed(key) => Some(*key),
            _ => None,
        });
        for (shard, spots) in claims.iter().enumerate().filter(|(_, spots)| !spots.is_empty()) {
            keys.change(shard, |window| {
                window.fetch(spots.iter().map(|spot| spot.key));
                for spot in spots {
                    let message = &mut same[spot.request].messages[spot.message];
                    *message = match window.claim(spot.key, now_ms, window_ms) {
                        Claimed::New(seq) => Message::New(spot.key, seq),
                        Claimed::Repeat(place) => Message::Repeat(place),
                        Claimed::Busy => Message::Busy(spot.key),
                    };
                }
            });
        }
    }
}

/// The new messages of requests that were stored together were appended. `place` has the place of the `m`th new message of the `n`th request.
pub(crate) fn place_all(requests: &mut [&mut Recognition], place: impl Fn(usize, usize) -> Place) {
    let mut first = 0;
    for same in requests.chunk_by_mut(|one, next| Arc::ptr_eq(&one.keys, &next.keys)) {
        let Some(keys) = same.first().map(|one| Arc::clone(&one.keys)) else {
            continue;
        };
        let claimed = Spot::of(same, |message| match message {
            Message::New(key, _) => Some(*key),
            _ => None,
        });
        for (shard, spots) in claimed.iter().enumerate().filter(|(_, spots)| !spots.is_empty()) {
            keys.end_claims(shard, |window| {
                for spot in spots {
                    let message = &mut same[spot.request].messages[spot.message];
                    if let Message::New(_, seq) = *message {
                        window.place(seq, place(first + spot.request, spot.new));
                        *message = Message::Placed;
                    }
                }
            });
        }
        first += same.len();
    }
}

/// Where a message stands among requests of one topic.
struct Spot {
    key: Key,
    request: usize,
    message: usize,
    /// How many messages before it in its request are stored by it.
    new: usize,
}

/// The messages of each shard, which is locked once.
type Spots = [SmallVec<[Spot; 12]>; SHARDS];

impl Spot {
    /// The messages for which `key_of` has a key.
    fn of(requests: &[&mut Recognition], key_of: impl Fn(&Message) -> Option<Key>) -> Spots {
        let mut spots = Spots::default();
        for (one, request) in requests.iter().zip(0..) {
            let mut new = 0;
            for (message, n) in one.messages.iter().zip(0..) {
                if let Some(key) = key_of(message) {
                    spots[shard_of(key)].push(Self {
                        key,
                        request,
                        message: n,
                        new,
                    });
                }
                new += usize::from(message.is_stored());
            }
        }
        spots
    }
}

impl Recognition {
    /// What is to be done, after [`claim_all`].
    pub(crate) fn verdict(&mut self) -> Verdict {
        if self.messages.iter().any(|message| matches!(message, Message::Busy(_)))
            && let Some(busy) = self.find_busy()
        {
            self.release();
            return Verdict::Busy(busy);
        }
        match self.stored() {
            0 => Verdict::Repeat,
            _ => Verdict::Store,
        }
    }

    /// Finds out which messages repeat another one of this request. Returns a key that another request has claimed.
    fn find_busy(&mut self) -> Option<BusyKey> {
        let mut firsts = FxHashMap::default();
        for (message, n) in self.messages.iter_mut().zip(0..) {
            match *message {
                Message::New(key, _) => drop(firsts.insert(key.0, n)),
                Message::Busy(key) => match firsts.get(&key.0) {
                    Some(first) => *message = Message::RepeatOf(*first, key),
                    None => return Some(BusyKey(key)),
                },
                _ => {}
            }
        }
        None
    }

    /// Number of its messages.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Waits until no other send is about to store the message of this key. The caller must hold no claims.
    pub(crate) fn wait_for(&self, busy: BusyKey) {
        self.keys.wait_for(busy.0);
    }

    /// The message of this number is to be stored, or was just stored.
    pub(crate) fn is_stored(&self, n: usize) -> bool {
        self.messages.get(n).is_some_and(Message::is_stored)
    }

    /// How many messages are to be stored, or were just stored.
    pub(crate) fn stored(&self) -> usize {
        self.messages.iter().filter(|message| message.is_stored()).count()
    }

    /// The places of all messages, after [`place_all`], if some of them were stored before. `new` are those of the others.
    pub(crate) fn all_places(&self, dedup: &Dedup, new: &[Placement]) -> Option<Vec<Placement>> {
        let repeats = self.messages.len() - new.len();
        if repeats == 0 {
            return None;
        }
        dedup.repeats.fetch_add(repeats as u64, Ordering::Relaxed);
        let (mut all, mut new) = (Vec::with_capacity(self.messages.len()), new.iter());
        for message in &self.messages {
            all.extend(match message {
                Message::Repeat(place) => Some(placement_of(*place)),
                Message::RepeatOf(first, _) => all.get(*first).copied(),
                _ => new.next().copied(),
            });
        }
        Some(all)
    }

    /// The places of its messages if all of them are stored already, with the queue and this broker's address of the first.
    pub(crate) fn places(&self, dedup: &Dedup) -> (Vec<Placement>, i32, Option<SocketAddr>) {
        let places = self.messages.iter().filter_map(|message| match message {
            Message::Repeat(place) => Some(*place),
            _ => None,
        });
        let first = places.clone().next();
        let host = first.and_then(|first| dedup.hosts.read().get(usize::from(first.host)).copied());
        dedup.repeats.fetch_add(self.messages.len() as u64, Ordering::Relaxed);
        (
            places.map(placement_of).collect(),
            first.map_or(0, |first| first.queue_id.into()),
            host,
        )
    }

    /// Gives up what was claimed; those messages are looked up again.
    fn release(&mut self) {
        for message in &mut self.messages {
            match *message {
                Message::New(key, seq) => {
                    self.keys.end_claims(shard_of(key), |window| window.release(seq));
                    *message = Message::Keyed(key);
                }
                Message::RepeatOf(_, key) | Message::Busy(key) => *message = Message::Keyed(key),
                _ => {}
            }
        }
    }
}

impl Message {
    fn is_stored(&self) -> bool {
        matches!(self, Self::Unkeyed | Self::New(..) | Self::Placed)
    }
}

impl Drop for Recognition {
    fn drop(&mut self) {
        self.release();
    }
}

/// Where a message was appended that was sent to this queue. `host` is from [`Dedup::host`].
pub(crate) fn place_of(placement: Placement, queue_id: i32, host: u16) -> Place {
    Place {
        log_offset: placement.log_offset.0,
        queue_offset: placement.queue_offset.0,
        queue_id: queue_id as u16,
        host,
    }
}

fn placement_of(place: Place) -> Placement {
    Placement {
        queue_offset: QueueOffset(place.queue_offset),
        log_offset: LogOffset(place.log_offset),
        store_timestamp: 0,
    }
}
