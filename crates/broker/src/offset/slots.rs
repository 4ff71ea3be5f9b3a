//! Where groups are, by topic and group, then by queue. Pure state.

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// An offset that is not known.
pub(super) const NONE: i64 = -1;

/// Bytes that a place takes.
pub(super) const PLACE_BYTES: usize = size_of::<Place>();
/// Bytes that a slot takes beside its places and the names: in both tables, with what the allocator keeps.
const SLOT_BYTES: usize = 256;

/// A group's place in one queue; -1 is unknown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) queue_id: i32,
    pub(super) consumed: i64,
    pub(super) pulled: i64,
    pub(super) reset: i64,
    /// The group has asked where it is, or has been given messages from the beginning on.
    pub(super) begun: bool,
    /// Damaged messages that were passed over, and the offset of the last one.
    pub(super) damaged: u32,
    pub(super) last_damaged: i64,
}

impl Place {
    fn unknown(queue_id: i32) -> Self {
        Self {
            queue_id,
            consumed: NONE,
            pulled: NONE,
            reset: NONE,
            begun: false,
            damaged: 0,
            last_damaged: NONE,
        }
    }
}

/// A group on a topic: its queues, sorted by id.
#[derive(Debug, Default)]
pub(super) struct Slot(pub(super) Mutex<Vec<Place>>);

impl Slot {
    pub(super) fn has_consumed(&self) -> bool {
        self.0.lock().iter().any(|place| place.consumed != NONE)
    }

    pub(super) fn read<T>(&self, queue_id: i32, look: impl FnOnce(&Place) -> T) -> Option<T> {
        let places = self.0.lock();
        let at = places.binary_search_by_key(&queue_id, |place| place.queue_id).ok()?;
        Some(look(&places[at]))
    }

    /// Changes a place. One that is new takes memory, for which there has to be `room`.
    pub(super) fn change<T, E>(
        &self,
        queue_id: i32,
        room: impl FnOnce() -> Result<(), E>,
        change: impl FnOnce(&mut Place) -> T,
    ) -> Result<T, E> {
        let mut places = self.0.lock();
        let at = match places.binary_search_by_key(&queue_id, |place| place.queue_id) {
            Ok(at) => at,
            Err(at) => {
                room()?;
                places.insert(at, Place::unknown(queue_id));
                at
            }
        };
        Ok(change(&mut places[at]))
    }
}

/// Slots by topic and group, and the way back.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) topics: FxHashMap<Arc<str>, FxHashMap<Box<str>, Arc<Slot>>>,
    /// Topics of each group: those that have a slot of it.
    pub(super) groups: FxHashMap<Box<str>, FxHashSet<Arc<str>>>,
}

impl Slots {
    /// Bytes that the slot of a group on a topic takes without its places.
    pub(super) fn slot_bytes(topic: &str, group: &str) -> usize {
        SLOT_BYTES + topic.len() + group.len()
    }

    pub(super) fn find(&self, topic: &str, group: &str) -> Option<&Arc<Slot>> {
        self.topics.get(topic)?.get(group)
    }

    pub(super) fn find_or_insert(&mut self, topic: &str, group: &str) -> Arc<Slot> {
        let name = match self.topics.get_key_value(topic) {
            Some((name, _)) => Arc::clone(name),
            None => topic.into(),
        };
        let slots = self.topics.entry(Arc::clone(&name)).or_default();
        if let Some(slot) = slots.get(group) {
            return Arc::clone(slot);
        }
        let slot = Arc::default();
        slots.insert(group.into(), Arc::clone(&slot));
        match self.groups.get_mut(group) {
            Some(topics) => topics.insert(name),
            None => self.groups.entry(group.into()).or_default().insert(name),
        };
        slot
    }

    /// Takes out the slots of a topic, each with the bytes it took without its places.
    pub(super) fn remove_topic(&mut self, topic: &str) -> Vec<(usize, Arc<Slot>)> {
        let Some(slots) = self.topics.remove(topic) else {
            return Vec::new();
        };
        for group in slots.keys() {
            if let Some(topics) = self.groups.get_mut(group) {
                topics.remove(topic);
                if topics.is_empty() {
                    self.groups.remove(group);
                }
            }
        }
        let with_bytes = |(group, slot): (Box<str>, Arc<Slot>)| (Self::slot_bytes(topic, &group), slot);
        slots.into_iter().map(with_bytes).collect()
    }

    /// Takes out the slots of a group, each with the bytes it took without its places.
    pub(super) fn remove_group(&mut self, group: &str) -> Vec<(usize, Arc<Slot>)> {
        let mut gone = Vec::new();
        for topic in self.groups.remove(group).unwrap_or_default() {
            if let Some(slots) = self.topics.get_mut(&topic) {
                gone.extend(slots.remove(group).map(|slot| (Self::slot_bytes(&topic, group), slot)));
                if slots.is_empty() {
                    self.topics.remove(&topic);
                }
            }
        }
        gone
    }
}
