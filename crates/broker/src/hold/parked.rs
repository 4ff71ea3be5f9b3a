//! The hold itself. Nothing but its primitives is known here, so that the test of interleavings can compile this file over others.

use crate::sync::{AtomicUsize, Mutex, Ordering};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::{SmallVec, smallvec};
use std::collections::BTreeSet;

/// What can be parked.
pub trait Waits: Send {
    /// The queue it waits for, or [`ANY_QUEUE`] of a topic.
    fn queue(&self) -> (&str, i32);
    /// The connection its answer goes to; never 0.
    fn owner(&self) -> u64;
    /// That connection is closed.
    fn is_gone(&self) -> bool;
    /// The hashes of the tags it wants, without doubles; `None` for all messages.
    fn tags(&self) -> Option<&[i32]>;
}

/// How much is parked at most. A request takes a place, and another one for every [`TAGS_A_PLACE`] tags it wants.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Places in all: `apogeeMaxParkedPulls`.
    pub places: usize,
    /// Places of one connection: `apogeeMaxParkedPullsPerConnection`.
    pub places_of_one: usize,
}

/// See [`Bounds`]. It bounds the memory behind a place, too: about 1 KiB.
pub const TAGS_A_PLACE: usize = 16;

/// Why a request is not parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotParked {
    /// Too many are parked.
    #[error("{0} pulls are parked already, over apogeeMaxParkedPulls")]
    Full(usize),
    /// Too many are parked of this connection.
    #[error("{0} pulls of this connection are parked already, over apogeeMaxParkedPullsPerConnection")]
    FullForOne(usize),
    /// Nothing is parked any more: the broker stops, or the connection is closed.
    #[error("nobody waits any more")]
    Closed,
}

/// Parked requests by queue and tag, by deadline, and by connection.
#[derive(Debug)]
pub struct Hold<W> {
    bounds: Bounds,
    count: AtomicUsize,
    inner: Mutex<Inner<W>>,
}

/// Number of a parked request.
pub type Id = u64;
/// Requests to take out: seldom more than a few.
type Ids = SmallVec<[Id; 8]>;
/// Stands for every queue of a topic.
pub const ANY_QUEUE: i32 = -1;
/// Hash of a tag, or [`ANY`].
type Key = i64;
/// Stands for every tag; no hash of 32 bits is as large.
const ANY: Key = i64::MAX;
/// A queue's requests by what they want.
type Queue = BTreeSet<(Key, Id)>;
/// Queues nobody waits for that are remembered beside those somebody waits for: most are waited for again within milliseconds.
const IDLE_QUEUES: usize = 1_024;

#[derive(Debug)]
struct Inner<W> {
    next_id: Id,
    closed: bool,
    parked: FxHashMap<Id, Parked<W>>,
    queues: FxHashMap<Box<str>, FxHashMap<i32, Queue>>,
    /// Queues among them nobody waits for.
    idle_queues: usize,
    deadlines: BTreeSet<(i64, Id)>,
    /// Connections that have parked something; until they close.
    owners: FxHashMap<u64, Owner>,
    places: usize,
}

#[derive(Debug, Default)]
struct Owner {
    parked: FxHashSet<Id>,
    places: usize,
}

#[derive(Debug)]
struct Parked<W> {
    deadline_ms: i64,
    waiting: W,
}

/// Requests that were taken out.
#[derive(Debug)]
pub struct Taken<W> {
    /// To be answered.
    pub requests: Vec<W>,
    /// There are more of the kind.
    pub more: bool,
}

impl<W: Waits> Hold<W> {
    /// A hold with nothing in it.
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
            places: 0,
        };
        Self {
            bounds,
            count: AtomicUsize::new(0),
            inner: Mutex::new(inner),
        }
    }

    /// How many requests are parked.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether none is parked. Cheap: asked for every message stored.
    pub fn is_empty(&self) -> bool {
        // Pairs with the store in `park`: a sender that reads 0 here has stored its message before a parker's last look.
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Parks a request until `deadline_ms` and returns its number. The caller looks at the queue again afterwards.
    ///
    /// # Errors
    /// A bound is reached, or nothing is parked any more; the request comes back.
    pub fn park(&self, deadline_ms: i64, waiting: W) -> Result<Id, (W, NotParked)> {
        let mut inner = self.inner.lock();
        // Under the lock: a connection that closes later than this is forgotten later, too.
        if inner.closed || waiting.is_gone() {
            return Err((waiting, NotParked::Closed));
        }
        let needed = places(&waiting);
        let of_one = inner.owners.get(&waiting.owner()).map_or(0, |owner| owner.places);
        if inner.places + needed > self.bounds.places {
            return Err((waiting, NotParked::Full(self.len())));
        }
        if of_one + needed > self.bounds.places_of_one {
            return Err((waiting, NotParked::FullForOne(of_one)));
        }
        let id = inner.insert(deadline_ms, waiting, needed);
        self.count.fetch_add(1, Ordering::SeqCst);
        Ok(id)
    }

    /// Takes out up to `most` requests that wait for this queue, or for any of its topic, and want a message with this tag hash.
    pub fn take(&self, topic: &str, queue_id: i32, tags_code: i64, most: usize) -> Taken<W> {
        self.take_out(most, |inner, wanted| {
            let of = |queue: &Queue, key: Key| -> Ids { queue.range((key, 0)..=(key, Id::MAX)).map(|(_, id)| *id).take(wanted).collect() };
            let mut ids = Ids::new();
            for queue in inner.queues(topic, queue_id) {
                ids.extend(of(queue, ANY));
                ids.extend(of(queue, i64::from(tags_code as i32)));
            }
            ids.truncate(wanted);
            ids
        })
    }

    /// Takes out up to `most` requests that wait for this queue, or for any of its topic.
    pub fn take_all(&self, topic: &str, queue_id: i32, most: usize) -> Taken<W> {
        self.take_out(most, |inner, wanted| {
            // One that wants several tags is there as often.
            let queues = inner.queues(topic, queue_id);
            let ids: BTreeSet<Id> = queues.into_iter().flatten().map(|(_, id)| *id).collect();
            ids.into_iter().take(wanted).collect()
        })
    }

    /// Takes out up to `most` requests whose deadline has passed, those that waited longest first.
    pub fn expired(&self, now_ms: i64, most: usize) -> Taken<W> {
        self.take_out(most, |inner, wanted| {
            let due = inner.deadlines.range(..=(now_ms, Id::MAX));
            due.map(|(_, id)| *id).take(wanted).collect()
        })
    }

    /// Takes out the request of this number, unless somebody was faster.
    pub fn take_one(&self, id: Id) -> Option<W> {
        self.take_out(1, |_, _| smallvec![id]).requests.pop()
    }

    /// Takes out all requests that `wanted` says. Looks at all, so not for every message.
    pub fn take_if(&self, wanted: impl Fn(&W) -> bool) -> Vec<W> {
        let all = |inner: &Inner<W>, _| {
            let parked = inner.parked.iter().filter(|(_, parked)| wanted(&parked.waiting));
            parked.map(|(id, _)| *id).collect()
        };
        self.take_out(usize::MAX - 1, all).requests
    }

    /// Drops the requests of a connection that closed. To be called for each that closes.
    pub fn forget(&self, owner: u64) {
        let mut inner = self.inner.lock();
        let Some(gone) = inner.owners.remove(&owner) else { return };
        let requests: Vec<W> = gone.parked.iter().filter_map(|id| inner.remove(*id)).collect();
        inner.places -= gone.places;
        self.count.fetch_sub(requests.len(), Ordering::SeqCst);
        drop(inner);
        // Not under the lock: each keeps a connection alive.
        drop(requests);
    }

    /// Whether nothing is parked and no trace is left of what was.
    #[cfg(test)]
    pub(crate) fn is_clean(&self) -> bool {
        self.is_empty() && self.inner.lock().is_clean()
    }

    /// Connections that are known.
    #[cfg(test)]
    pub(crate) fn owners(&self) -> usize {
        self.inner.lock().owners.len()
    }

    /// Nothing is parked from now on. What is parked stays, to be taken out.
    pub fn close(&self) {
        self.inner.lock().closed = true;
    }

    /// `find` is asked for one more than wanted, which tells whether there are more.
    fn take_out(&self, most: usize, find: impl FnOnce(&Inner<W>, usize) -> Ids) -> Taken<W> {
        let mut inner = self.inner.lock();
        let mut ids = find(&inner, most + 1);
        let more = ids.len() > most;
        ids.truncate(most);
        let requests: Vec<W> = ids.into_iter().filter_map(|id| inner.remove(id)).collect();
        self.count.fetch_sub(requests.len(), Ordering::SeqCst);
        Taken { requests, more }
    }
}

impl<W: Waits> Inner<W> {
    /// Who waits for this queue, and who for any of the topic.
    fn queues(&self, topic: &str, queue_id: i32) -> impl IntoIterator<Item = &Queue> {
        let queues = self.queues.get(topic);
        [queue_id, ANY_QUEUE].into_iter().filter_map(move |queue_id| queues?.get(&queue_id))
    }

    fn insert(&mut self, deadline_ms: i64, waiting: W, places: usize) -> Id {
        self.next_id += 1;
        let id = self.next_id;
        self.places += places;
        let owner = self.owners.entry(waiting.owner()).or_default();
        owner.places += places;
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
        // One that is gone took its places with it.
        if let Some(owner) = self.owners.get_mut(&waiting.owner()) {
            let places = places(&waiting);
            owner.places -= places;
            owner.parked.remove(&id);
            self.places -= places;
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
            && self.owners.values().all(|owner| owner.parked.is_empty() && owner.places == 0)
            && (self.places, self.idle_queues) == (0, queues)
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

fn places(waiting: &impl Waits) -> usize {
    1 + waiting.tags().map_or(0, |tags| tags.len() / TAGS_A_PLACE)
}

fn keys<W: Waits>(waiting: &W) -> impl Iterator<Item = Key> {
    let tags = waiting.tags();
    let any = tags.is_none().then_some(ANY);
    any.into_iter().chain(tags.unwrap_or(&[]).iter().map(|tag| Key::from(*tag)))
}
