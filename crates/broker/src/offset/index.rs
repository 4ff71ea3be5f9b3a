//! Offsets by topic and group, then by queue. Pure state.

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// No offset.
pub(super) const NONE: i64 = -1;

/// Memory of the offsets of one queue, in bytes.
pub(super) const QUEUE_BYTES: usize = size_of::<QueueOffsets>();
/// Memory of the offsets of a group on a topic in bytes, without its queues and names: entries in both maps, with the allocator's
/// overhead.
const ENTRY_BYTES: usize = 256;

/// The offsets of a group in one queue; -1 is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueOffsets {
    pub(super) queue_id: i32,
    pub(super) consumed: i64,
    pub(super) pulled: i64,
    pub(super) reset: i64,
    /// The group queried its offset, or pulled from the first message on.
    pub(super) started: bool,
    /// Number of damaged messages that were skipped, and the offset of the last one.
    pub(super) damaged: u32,
    pub(super) last_damaged: i64,
}

impl QueueOffsets {
    fn empty(queue_id: i32) -> Self {
        Self {
            queue_id,
            consumed: NONE,
            pulled: NONE,
            reset: NONE,
            started: false,
            damaged: 0,
            last_damaged: NONE,
        }
    }
}

/// The offsets of a group on a topic, sorted by queue id.
#[derive(Debug, Default)]
pub(super) struct GroupOffsets(pub(super) Mutex<Vec<QueueOffsets>>);

impl GroupOffsets {
    pub(super) fn has_consumed(&self) -> bool {
        self.0.lock().iter().any(|queue| queue.consumed != NONE)
    }

    pub(super) fn read<T>(&self, queue_id: i32, look: impl FnOnce(&QueueOffsets) -> T) -> Option<T> {
        let queues = self.0.lock();
        let at = queues.binary_search_by_key(&queue_id, |queue| queue.queue_id).ok()?;
        Some(look(&queues[at]))
    }

    /// Changes the offsets of a queue. `reserve` is called before memory for a new queue is allocated.
    pub(super) fn change<T, E>(
        &self,
        queue_id: i32,
        reserve: impl FnOnce() -> Result<(), E>,
        change: impl FnOnce(&mut QueueOffsets) -> T,
    ) -> Result<T, E> {
        let mut queues = self.0.lock();
        let at = match queues.binary_search_by_key(&queue_id, |queue| queue.queue_id) {
            Ok(at) => at,
            Err(at) => {
                reserve()?;
                queues.insert(at, QueueOffsets::empty(queue_id));
                at
            }
        };
        Ok(change(&mut queues[at]))
    }
}

/// Offsets by topic and group, with a reverse index by group.
#[derive(Debug, Default)]
pub(super) struct OffsetIndex {
    pub(super) topics: FxHashMap<Arc<str>, FxHashMap<Box<str>, Arc<GroupOffsets>>>,
    /// Topics of each group on which it has offsets.
    pub(super) groups: FxHashMap<Box<str>, FxHashSet<Arc<str>>>,
}

impl OffsetIndex {
    /// Memory of the offsets of a group on a topic in bytes, without its queues.
    pub(super) fn entry_bytes(topic: &str, group: &str) -> usize {
        ENTRY_BYTES + topic.len() + group.len()
    }

    pub(super) fn find(&self, topic: &str, group: &str) -> Option<&Arc<GroupOffsets>> {
        self.topics.get(topic)?.get(group)
    }

    pub(super) fn find_or_insert(&mut self, topic: &str, group: &str) -> Arc<GroupOffsets> {
        let name = match self.topics.get_key_value(topic) {
            Some((name, _)) => Arc::clone(name),
            None => topic.into(),
        };
        let index = self.topics.entry(Arc::clone(&name)).or_default();
        if let Some(offsets) = index.get(group) {
            return Arc::clone(offsets);
        }
        let offsets = Arc::default();
        index.insert(group.into(), Arc::clone(&offsets));
        match self.groups.get_mut(group) {
            Some(topics) => topics.insert(name),
            None => self.groups.entry(group.into()).or_default().insert(name),
        };
        offsets
    }

    /// Removes the offsets on a topic. Returns them with their bytes, without those of the queues.
    pub(super) fn remove_topic(&mut self, topic: &str) -> Vec<(usize, Arc<GroupOffsets>)> {
        let Some(index) = self.topics.remove(topic) else {
            return Vec::new();
        };
        for group in index.keys() {
            if let Some(topics) = self.groups.get_mut(group) {
                topics.remove(topic);
                if topics.is_empty() {
                    self.groups.remove(group);
                }
            }
        }
        let with_bytes = |(group, offsets): (Box<str>, Arc<GroupOffsets>)| (Self::entry_bytes(topic, &group), offsets);
        index.into_iter().map(with_bytes).collect()
    }

    /// Removes the offsets of a group. Returns them with their bytes, without those of the queues.
    pub(super) fn remove_group(&mut self, group: &str) -> Vec<(usize, Arc<GroupOffsets>)> {
        let mut removed = Vec::new();
        for topic in self.groups.remove(group).unwrap_or_default() {
            if let Some(index) = self.topics.get_mut(&topic) {
                removed.extend(index.remove(group).map(|offsets| (Self::entry_bytes(&topic, group), offsets)));
                if index.is_empty() {
                    self.topics.remove(&topic);
                }
            }
        }
        removed
    }
}
