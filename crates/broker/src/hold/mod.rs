//! Requests that wait for messages of a queue: parked pulls, later pop and notification.
//!
//! A request is parked under its queue. The arrival of a message takes out those that it concerns and serves them, on the
//! thread that stored it: no hand-over, no poll. A request that waits too long is given back by [`Hold::expired`].
//!
//! Invariants:
//! - A request is in the hold at most once, and whoever takes it out answers it.
//! - Whoever parks looks at the queue once more afterwards, so that a message that came in between is not missed.
//! - There are never more than `capacity` requests here; more are refused.

use net::Connection;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What can be parked.
pub trait Waits: Send {
    /// Whether a message with this hash of its tag is what it waits for.
    fn wants(&self, tags_code: i64) -> bool;
    /// Where its answer goes; it is dropped once that is closed.
    fn connection(&self) -> &Arc<Connection>;
}

/// Parked requests by queue and by deadline.
#[derive(Debug)]
pub struct Hold<W> {
    capacity: usize,
    count: AtomicUsize,
    inner: Mutex<Inner<W>>,
}

#[derive(Debug)]
struct Inner<W> {
    next_id: u64,
    topics: FxHashMap<Box<str>, FxHashMap<i32, Vec<Parked<W>>>>,
    /// Deadline and id to place.
    deadlines: BTreeMap<(i64, u64), (Box<str>, i32)>,
}

#[derive(Debug)]
struct Parked<W> {
    id: u64,
    deadline_ms: i64,
    waiting: W,
}

impl<W: Waits> Hold<W> {
    /// A hold for `capacity` requests at most.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let inner = Inner {
            next_id: 0,
            topics: FxHashMap::default(),
            deadlines: BTreeMap::new(),
        };
        Self {
            capacity,
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

    /// Parks a request until `deadline_ms`. The caller looks at the queue again afterwards.
    ///
    /// # Errors
    /// The hold is full; the request comes back.
    pub fn park(&self, topic: &str, queue_id: i32, deadline_ms: i64, waiting: W) -> Result<(), W> {
        let mut inner = self.inner.lock();
        if self.count.load(Ordering::Relaxed) >= self.capacity {
            return Err(waiting);
        }
        inner.next_id += 1;
        let id = inner.next_id;
        inner.deadlines.insert((deadline_ms, id), (topic.into(), queue_id));
        let parked = Parked { id, deadline_ms, waiting };
        match inner.topics.get_mut(topic) {
            Some(queues) => queues.entry(queue_id).or_default().push(parked),
            None => {
                inner.topics.entry(topic.into()).or_default().insert(queue_id, vec![parked]);
            }
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Takes out the requests of a queue that want a message with this tag hash.
    pub fn take(&self, topic: &str, queue_id: i32, tags_code: i64) -> Vec<W> {
        self.take_if(topic, queue_id, |w| w.wants(tags_code))
    }

    /// Takes out all requests of a queue.
    pub fn take_all(&self, topic: &str, queue_id: i32) -> Vec<W> {
        self.take_if(topic, queue_id, |_| true)
    }

    /// Takes out all requests of a topic.
    pub fn take_topic(&self, topic: &str) -> Vec<W> {
        let queues: Vec<i32> = {
            let inner = self.inner.lock();
            inner
                .topics
                .get(topic)
                .map(|queues| queues.keys().copied().collect())
                .unwrap_or_default()
        };
        queues.into_iter().flat_map(|queue_id| self.take_all(topic, queue_id)).collect()
    }

    fn take_if(&self, topic: &str, queue_id: i32, wanted: impl Fn(&W) -> bool) -> Vec<W> {
        let mut guard = self.inner.lock();
        let Inner { topics, deadlines, .. } = &mut *guard;
        let Some(parked) = topics.get_mut(topic).and_then(|queues| queues.get_mut(&queue_id)) else {
            return Vec::new();
        };
        let taken: Vec<W> = parked
            .extract_if(.., |p| wanted(&p.waiting))
            .map(|p| {
                deadlines.remove(&(p.deadline_ms, p.id));
                p.waiting
            })
            .collect();
        self.count.fetch_sub(taken.len(), Ordering::SeqCst);
        taken
    }

    /// Takes out the requests whose deadline has passed.
    pub fn expired(&self, now_ms: i64) -> Vec<W> {
        let mut guard = self.inner.lock();
        let Inner { topics, deadlines, .. } = &mut *guard;
        let later = deadlines.split_off(&(now_ms.saturating_add(1), 0));
        let due = std::mem::replace(deadlines, later);
        let mut taken = Vec::new();
        for ((_, id), (topic, queue_id)) in due {
            let Some(parked) = topics.get_mut(&topic).and_then(|queues| queues.get_mut(&queue_id)) else {
                continue;
            };
            if let Some(at) = parked.iter().position(|p| p.id == id) {
                taken.push(parked.swap_remove(at).waiting);
            }
        }
        self.count.fetch_sub(taken.len(), Ordering::SeqCst);
        taken
    }

    /// Drops the requests whose connection is closed, and forgets queues nobody waits for any more. Looks at all requests:
    /// for every few seconds.
    pub fn forget_closed(&self) {
        let mut guard = self.inner.lock();
        let Inner { topics, deadlines, .. } = &mut *guard;
        let mut gone = 0;
        for queues in topics.values_mut() {
            for parked in queues.values_mut() {
                gone += parked
                    .extract_if(.., |p| p.waiting.connection().is_closed())
                    .map(|p| deadlines.remove(&(p.deadline_ms, p.id)))
                    .count();
            }
            queues.retain(|_, parked| !parked.is_empty());
        }
        topics.retain(|_, queues| !queues.is_empty());
        self.count.fetch_sub(gone, Ordering::SeqCst);
    }
}
