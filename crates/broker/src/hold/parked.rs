//! The table of parked requests. It imports nothing but its primitives, so that the interleaving test can compile this file with
//! other ones.

use crate::sync::{AtomicUsize, Mutex, Ordering};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::{SmallVec, smallvec};
use std::collections::BTreeSet;

/// A request that can be parked.
pub trait Waiter: Send {
    /// Topic and queue id that it waits for; [`ANY_QUEUE`] for all queues of the topic.
    fn queue(&self) -> (&str, i32);
    /// Id of the connection that gets the response; never 0.
    fn owner(&self) -> u64;
    /// Whether that connection is closed.
    fn is_disconnected(&self) -> bool;
    /// Hashes of the tags that it subscribes to, without duplicates; `None` for all messages.
    fn tags(&self) -> Option<&[i32]>;
    /// Whether the request has to examine the content of each message. [`Hold::take_by_content`] removes such requests,
    /// [`Hold::take`] does not.
    fn is_by_content(&self) -> bool {
        false
    }
}

/// Limits of parked requests. A request takes one slot, and one more for every [`TAGS_PER_SLOT`] tags.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Slots in all: `apogeeMaxParkedPulls`, of pops and notifications `maxPopPollingSize`.
    pub slots: usize,
    /// Slots of one connection: `apogeeMaxParkedPullsPerConnection`.
    pub slots_per_connection: usize,
}

/// Tags that one slot covers. This bounds the memory of a slot to about 1 KiB.
pub const TAGS_PER_SLOT: usize = 16;

/// Why a request is not parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotParked {
    /// Too many requests are parked.
    #[error("{0} requests are already parked, see apogeeMaxParkedPulls and maxPopPollingSize")]
    Full(usize),
    /// Too many requests of this connection are parked.
    #[error("{0} requests of this connection are already parked, see apogeeMaxParkedPullsPerConnection")]
    FullForOne(usize),
    /// The broker shuts down, or the connection is closed.
    #[error("the broker shuts down or the connection is closed")]
    Closed,
}

/// Parked requests by queue and tag, by deadline, and by connection.
#[derive(Debug)]
pub struct Hold<W> {
    bounds: Bounds,
    count: AtomicUsize,
    /// Number of requests by content among them.
    by_content: AtomicUsize,
    inner: Mutex<Inner<W>>,
}

/// Id of a parked request.
pub type Id = u64;
/// Ids of requests to remove: rarely more than a few.
type Ids = SmallVec<[Id; 8]>;
/// Queue id that stands for all queues of a topic.
pub const ANY_QUEUE: i32 = -1;
/// Hash of a tag, or [`ANY_TAG`].
type Key = i64;
/// Stands for all tags; no 32-bit hash is that large.
const ANY_TAG: Key = i64::MAX;
/// The requests of a queue, by the tags that they subscribe to.
type Queue = BTreeSet<(Key, Id)>;
/// Key of requests that have to look at the content of each message.
const CONTENT: Key = i64::MAX - 1;
/// Empty queues that are kept in the table: most get a new request within milliseconds.
const IDLE_QUEUES: usize = 1_024;

#[derive(Debug)]
struct Inner<W> {
    next_id: Id,
    closed: bool,
    parked: FxHashMap<Id, Parked<W>>,
    queues: FxHashMap<Box<str>, FxHashMap<i32, Queue>>,
    /// Queues in `queues` without a request.
    idle_queues: usize,
    deadlines: BTreeSet<(i64, Id)>,
    /// Connections that have parked a request, until they close.
    owners: FxHashMap<u64, Owner>,
    slots: usize,
}

#[derive(Debug, Default)]
struct Owner {
    parked: FxHashSet<Id>,
    slots: usize,
}

#[derive(Debug)]
struct Parked<W> {
    deadline_ms: i64,
    waiting: W,
}

/// Requests that were removed from the hold.
#[derive(Debug)]
pub struct Taken<W> {
    /// Requests to answer.
    pub requests: Vec<W>,
    /// Whether more requests match.
    pub more: bool,
}

impl<W: Waiter> Hold<W> {
    /// Creates an empty hold.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let inner = Inner {
            next_id: 0,
            closed: false,
            parked: FxHashMap::default(),
            queues: FxHashMap::default(),
            idle_queues: 0,
            deadlines: BTreeSet::new(),
            owners: FxHashMap::default(),
            slots: 0,
        };
        Self {
            bounds,
            count: AtomicUsize::new(0),
            by_content: AtomicUsize::new(0),
            inner: Mutex::new(inner),
        }
    }

    /// Number of parked requests.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether no request is parked. Cheap: called for every stored message.
    pub fn is_empty(&self) -> bool {
        // Pairs with the counter in `park`: a sender that reads 0 here has stored its message before the parking thread checks the
        // queue again.
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Parks a request until `deadline_ms` (since 1970) and returns its id. The caller checks the queue again afterwards.
    ///
    /// # Errors
    /// The request and a [`NotParked`] if a limit is reached, the connection is closed or the broker shuts down.
    pub fn park(&self, deadline_ms: i64, waiting: W) -> Result<Id, (W, NotParked)> {
        let mut inner = self.inner.lock();
        // Under the lock: a connection that closes after this check is removed by `forget` after the insertion.
        if inner.closed || waiting.is_disconnected() {
            return Err((waiting, NotParked::Closed));
        }
        let needed = slots(&waiting);
        let of_connection = inner.owners.get(&waiting.owner()).map_or(0, |owner| owner.slots);
        if inner.slots + needed > self.bounds.slots {
            return Err((waiting, NotParked::Full(self.len())));
        }
        if of_connection + needed > self.bounds.slots_per_connection {
            return Err((waiting, NotParked::FullForOne(of_connection)));
        }
        let by_content = usize::from(waiting.is_by_content());
        let id = inner.insert(deadline_ms, waiting, needed);
        self.by_content.fetch_add(by_content, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
        Ok(id)
    }

    /// Whether a request by content is parked. As cheap as [`Self::is_empty`].
    pub fn has_by_content(&self) -> bool {
        self.by_content.load(Ordering::SeqCst) > 0
    }

    /// Removes up to `most` requests by content that wait for this queue, or for any queue of its topic.
    pub fn take_by_content(&self, topic: &str, queue_id: i32, most: usize) -> Taken<W> {
        self.take_out(most, |inner, wanted| {
            let queues = inner.queues(topic, queue_id).into_iter();
            let ids = queues.flat_map(|queue| queue.range((CONTENT, 0)..=(CONTENT, Id::MAX)));
            ids.map(|(_, id)| *id).take(wanted).collect()
        })
    }

    /// Removes up to `most` requests that wait for this queue, or for any queue of its topic, and match this tag hash.
    pub fn take(&self, topic: &str, queue_id: i32, tags_code: i64, most: usize) -> Taken<W> {
        self.take_out(most, |inner, wanted| {
            let of = |queue: &Queue, key: Key| -> Ids { queue.range((key, 0)..=(key, Id::MAX)).map(|(_, id)| *id).take(wanted).collect() };
            let mut ids = Ids::new();
            for queue in inner.queues(topic, queue_id) {
                ids.extend(of(queue, ANY_TAG));
                ids.extend(of(queue, i64::from(tags_code as i32)));
            }
            ids.truncate(wanted);
            ids
        })
    }

    /// Removes up to `most` requests that wait for this queue, or for any queue of its topic.
    pub fn take_all(&self, topic: &str, queue_id: i32, most: usize) -> Taken<W> {
        self.take_out(most, |inner, wanted| {
            // A request with several tags is listed once for each tag.
            let queues = inner.queues(topic, queue_id);
            let ids: BTreeSet<Id> = queues.into_iter().flatten().map(|(_, id)| *id).collect();
            ids.into_iter().take(wanted).collect()
        })
    }

    /// Removes up to `most` requests that wait for any queue of this topic, or for one of them.
    pub fn take_of(&self, topic: &str, most: usize) -> Taken<W> {
        self.take_out(most, |inner, wanted| {
            let queues = inner.queues.get(topic).into_iter().flatten();
            let ids: BTreeSet<Id> = queues.flat_map(|(_, queue)| queue).map(|(_, id)| *id).collect();
            ids.into_iter().take(wanted).collect()
        })
    }

    /// Number of requests that wait for this queue, not counting those for any queue unless it is [`ANY_QUEUE`].
    pub fn count(&self, topic: &str, queue_id: i32) -> usize {
        let inner = self.inner.lock();
        let queue = inner.queues.get(topic).and_then(|queues| queues.get(&queue_id));
        // A request with several tags is listed once for each tag.
        queue.map_or(0, |queue| queue.iter().map(|(_, id)| *id).collect::<BTreeSet<Id>>().len())
    }

    /// Removes up to `most` requests whose deadline has passed, the earliest deadline first.
    pub fn expired(&self, now_ms: i64, most: usize) -> Taken<W> {
        self.take_out(most, |inner, wanted| {
            let due = inner.deadlines.range(..=(now_ms, Id::MAX));
            due.map(|(_, id)| *id).take(wanted).collect()
        })
    }

    /// Removes the request with this id; `None` if another thread removed it.
    pub fn take_one(&self, id: Id) -> Option<W> {
        self.take_out(1, |_, _| smallvec![id]).requests.pop()
    }

    /// Removes all requests that match `wanted`. Scans all requests, so it must not be called for every message.
    pub fn take_if(&self, wanted: impl Fn(&W) -> bool) -> Vec<W> {
        let all = |inner: &Inner<W>, _| {
            let parked = inner.parked.iter().filter(|(_, parked)| wanted(&parked.waiting));
            parked.map(|(id, _)| *id).collect()
        };
        self.take_out(usize::MAX - 1, all).requests
    }

    /// Drops the requests of a closed connection. Call it for every connection that closes.
    pub fn forget(&self, owner: u64) {
        let mut inner = self.inner.lock();
        let Some(closed_owner) = inner.owners.remove(&owner) else { return };
        let requests: Vec<W> = closed_owner.parked.iter().filter_map(|id| inner.remove(*id)).collect();
        inner.slots -= closed_owner.slots;
        self.left(&requests);
        drop(inner);
        // After the lock is released: dropping a request may drop its connection.
        drop(requests);
    }

    /// Whether nothing is parked and no table keeps an entry of a removed request.
    #[cfg(test)]
    pub(crate) fn is_clean(&self) -> bool {
        self.is_empty() && !self.has_by_content() && self.inner.lock().is_clean()
    }

    /// Number of connections in the table.
    #[cfg(test)]
    pub(crate) fn owners(&self) -> usize {
        self.inner.lock().owners.len()
    }

    /// Refuses new requests from now on. Parked requests stay until they are removed.
    pub fn close(&self) {
        self.inner.lock().closed = true;
    }

    /// Removes the requests that `find` returns. It is asked for one more than `most`, to see whether more match.
    fn take_out(&self, most: usize, find: impl FnOnce(&Inner<W>, usize) -> Ids) -> Taken<W> {
        let mut inner = self.inner.lock();
        let mut ids = find(&inner, most + 1);
        let more = ids.len() > most;
        ids.truncate(most);
        let requests: Vec<W> = ids.into_iter().filter_map(|id| inner.remove(id)).collect();
        self.left(&requests);
        Taken { requests, more }
    }

    /// Counts requests that are no longer parked.
    fn left(&self, requests: &[W]) {
        let by_content = requests.iter().filter(|request| request.is_by_content()).count();
        self.by_content.fetch_sub(by_content, Ordering::SeqCst);
        self.count.fetch_sub(requests.len(), Ordering::SeqCst);
    }
}

impl<W: Waiter> Inner<W> {
    /// Requests that wait for this queue, and those that wait for any queue of the topic.
    fn queues(&self, topic: &str, queue_id: i32) -> impl IntoIterator<Item = &Queue> {
        let queues = self.queues.get(topic);
        [queue_id, ANY_QUEUE].into_iter().filter_map(move |queue_id| queues?.get(&queue_id))
    }

    fn insert(&mut self, deadline_ms: i64, waiting: W, slots: usize) -> Id {
        self.next_id += 1;
        let id = self.next_id;
        self.slots += slots;
        let owner = self.owners.entry(waiting.owner()).or_default();
        owner.slots += slots;
        owner.parked.insert(id);
        self.deadlines.insert((deadline_ms, id));
        let (topic, queue_id) = waiting.queue();
        let queues = match self.queues.get_mut(topic) {
            Some(queues) => queues,
            None => self.queues.entry(topic.into()).or_default(),
        };
        let queue = queues.entry(queue_id).or_insert_with(|| {
            self.idle_queues += 1;
            Queue::new()
        });
        if queue.is_empty() {
            self.idle_queues -= 1;
        }
        for key in keys(&waiting) {
            queue.insert((key, id));
        }
        self.parked.insert(id, Parked { deadline_ms, waiting });
        id
    }

    fn remove(&mut self, id: Id) -> Option<W> {
        let Parked { deadline_ms, waiting } = self.parked.remove(&id)?;
        // `forget` has already removed the owner and released its slots.
        if let Some(owner) = self.owners.get_mut(&waiting.owner()) {
            let slots = slots(&waiting);
            owner.slots -= slots;
            owner.parked.remove(&id);
            self.slots -= slots;
        }
        self.deadlines.remove(&(deadline_ms, id));
        let (topic, queue_id) = waiting.queue();
        if let Some(queue) = self.queues.get_mut(topic).and_then(|queues| queues.get_mut(&queue_id)) {
            for key in keys(&waiting) {
                queue.remove(&(key, id));
            }
            if queue.is_empty() {
                self.idle_queues += 1;
            }
        }
        if self.idle_queues > IDLE_QUEUES + self.parked.len() {
            self.forget_idle_queues();
        }
        Some(waiting)
    }

    #[cfg(test)]
    fn is_clean(&self) -> bool {
        let queues: usize = self.queues.values().map(FxHashMap::len).sum();
        self.parked.is_empty()
            && self.deadlines.is_empty()
            && self.owners.values().all(|owner| owner.parked.is_empty() && owner.slots == 0)
            && (self.slots, self.idle_queues) == (0, queues)
            && queues <= IDLE_QUEUES + 1
    }

    fn forget_idle_queues(&mut self) {
        self.queues.retain(|_, queues| {
            queues.retain(|_, queue| !queue.is_empty());
            !queues.is_empty()
        });
        self.idle_queues = 0;
    }
}

fn slots(waiting: &impl Waiter) -> usize {
    1 + waiting.tags().map_or(0, |tags| tags.len() / TAGS_PER_SLOT)
}

fn keys<W: Waiter>(waiting: &W) -> impl Iterator<Item = Key> {
    let tags = waiting.tags();
    let any = tags.is_none().then(|| if waiting.is_by_content() { CONTENT } else { ANY_TAG });
    any.into_iter().chain(tags.unwrap_or(&[]).iter().map(|tag| Key::from(*tag)))
}
