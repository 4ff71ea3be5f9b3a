//! The offsets themselves. Pure state; the file is in `table.rs`.
//!
//! Committing is a hot path: two look-ups by text that make none, and a short lock on the group's own slot.

use super::slots::{NONE, PLACE_BYTES, Place, Slot, Slots};
use parking_lot::{Mutex, RwLock};
use protocol::DataVersion;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Commits for each step of the version.
const COMMITS_A_VERSION: u64 = 500;

/// Compat: Apache's words for it.
pub(super) const RESET_PENDING: &str = "Offset has been previously reset";

/// Why an offset was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffsetError {
    /// No more groups on topics may be added.
    #[error("the broker keeps offsets of {0} groups on topics already, see apogeeMaxCommittedOffsets")]
    Full(usize),
    /// No more bytes may be taken.
    #[error("the broker keeps {0} bytes of offsets already, see apogeeMaxOffsetBytes")]
    FullBytes(usize),
    /// An operator moved the group, and no pull has taken that yet: whoever commits does not know of it.
    #[error("{RESET_PENDING}")]
    ResetPending,
    /// A queue or an offset below zero.
    #[error("queue {queue_id} or offset {offset} is below zero")]
    Negative {
        /// As given.
        queue_id: i32,
        /// As given.
        offset: i64,
    },
}

/// Offsets by queue id.
pub type ByQueue = BTreeMap<i32, i64>;
/// A topic and a group.
pub type TopicGroup = (Box<str>, Box<str>);

/// The bounds, each a setting. What was saved is kept whatever they are.
#[derive(Clone, Copy, Debug)]
pub struct OffsetLimits {
    /// Pairs of topic and group: `apogeeMaxCommittedOffsets`.
    pub pairs: usize,
    /// Bytes that they take with their queues: `apogeeMaxOffsetBytes`.
    pub bytes: usize,
}

impl Default for OffsetLimits {
    fn default() -> Self {
        Self {
            pairs: 1_000_000,
            bytes: 512 << 20,
        }
    }
}

/// Whether the bounds count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bounded {
    Yes,
    /// What was saved is taken as it is.
    No,
}

/// The offsets of all groups on all topics.
#[derive(Debug)]
pub struct Offsets {
    slots: RwLock<Slots>,
    count: AtomicUsize,
    bytes: AtomicUsize,
    limits: OffsetLimits,
    resets: AtomicUsize,
    commits: AtomicU64,
    dirty: AtomicBool,
    /// An operator moved or removed offsets, and waits until that is saved.
    moved: AtomicBool,
    version: Mutex<Version>,
}

/// The table's version, and how many commits it covers.
#[derive(Clone, Copy, Debug, Default)]
struct Version {
    version: DataVersion,
    commits: u64,
}

impl Offsets {
    /// No offsets.
    #[must_use]
    pub fn new(limits: OffsetLimits) -> Self {
        Self {
            slots: RwLock::default(),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            limits,
            resets: AtomicUsize::new(0),
            commits: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            version: Mutex::default(),
        }
    }

    fn with<T>(&self, topic: &str, group: &str, look: impl FnOnce(&Slot) -> T) -> Option<T> {
        let slots = self.slots.read();
        Some(look(slots.find(topic, group)?))
    }

    fn change<T>(&self, topic: &str, group: &str, queue_id: i32, change: impl FnOnce(&mut Place) -> T) -> Result<T, OffsetError> {
        self.change_within(Bounded::Yes, topic, group, queue_id, change)
    }

    fn change_within<T>(
        &self,
        bounded: Bounded,
        topic: &str,
        group: &str,
        queue_id: i32,
        change: impl FnOnce(&mut Place) -> T,
    ) -> Result<T, OffsetError> {
        let room = || self.take_bytes(bounded, PLACE_BYTES);
        let slots = self.slots.read();
        if let Some(slot) = slots.find(topic, group) {
            return slot.change(queue_id, room, change);
        }
        drop(slots);
        if bounded == Bounded::Yes && self.count.load(Relaxed) >= self.limits.pairs {
            return Err(OffsetError::Full(self.limits.pairs));
        }
        let mut slots = self.slots.write();
        if slots.find(topic, group).is_none() {
            self.take_bytes(bounded, Slots::slot_bytes(topic, group))?;
            self.count.fetch_add(1, Relaxed);
        }
        slots.find_or_insert(topic, group).change(queue_id, room, change)
    }

    fn take_bytes(&self, bounded: Bounded, bytes: usize) -> Result<(), OffsetError> {
        let most = if bounded == Bounded::Yes { self.limits.bytes } else { usize::MAX };
        let fits = |taken: usize| (taken.saturating_add(bytes) <= most).then_some(taken + bytes);
        let taken = self.bytes.fetch_update(Relaxed, Relaxed, fits);
        taken.map(drop).map_err(OffsetError::FullBytes)
    }

    /// Takes an offset, and a reset that waits for a pull, as they were saved.
    pub(super) fn restore(&self, topic: &str, group: &str, queue_id: i32, offset: i64, is_reset: bool) -> Result<(), OffsetError> {
        if queue_id < 0 || offset < 0 {
            return Err(OffsetError::Negative { queue_id, offset });
        }
        let fresh = self.change_within(Bounded::No, topic, group, queue_id, |place| {
            place.consumed = offset;
            is_reset && std::mem::replace(&mut place.reset, offset) == NONE
        })?;
        self.resets.fetch_add(usize::from(fresh), Relaxed);
        Ok(())
    }

    /// Takes a committed offset as it is and returns the one before.
    ///
    /// # Errors
    /// Below zero, no room, or a reset is pending, which a commit does not overrule.
    pub fn commit(&self, topic: &str, group: &str, queue_id: i32, offset: i64) -> Result<Option<i64>, OffsetError> {
        if queue_id < 0 || offset < 0 {
            return Err(OffsetError::Negative { queue_id, offset });
        }
        let before = self.change(topic, group, queue_id, |place| {
            if place.reset == NONE {
                Ok(std::mem::replace(&mut place.consumed, offset))
            } else {
                Err(OffsetError::ResetPending)
            }
        })??;
        if before != offset {
            self.commits.fetch_add(1, Relaxed);
            self.dirty.store(true, Relaxed);
        }
        Ok((before != NONE).then_some(before))
    }

    /// Notes that a group has begun to consume a queue: from now on it knows where it is.
    ///
    /// # Errors
    /// No room.
    pub fn begin(&self, topic: &str, group: &str, queue_id: i32) -> Result<(), OffsetError> {
        self.change(topic, group, queue_id, |place| place.begun = true)
    }

    /// Whether a group has begun to consume a queue of this topic, or has an offset in it.
    #[must_use]
    pub fn has_begun(&self, topic: &str, group: &str, queue_id: i32) -> bool {
        let has_begun = |place: &Place| place.begun || place.consumed != NONE;
        let begun = self.with(topic, group, |slot| slot.read(queue_id, has_begun));
        begun.flatten().unwrap_or(false)
    }

    /// Takes the offset up to which a group was given messages.
    ///
    /// # Errors
    /// No room.
    pub fn pulled_to(&self, topic: &str, group: &str, queue_id: i32, offset: i64) -> Result<(), OffsetError> {
        self.change(topic, group, queue_id, |place| place.pulled = offset)
    }

    /// Counts a damaged message that a group was led past; whether it is the first time.
    ///
    /// # Errors
    /// No room.
    pub fn passed_damaged(&self, topic: &str, group: &str, queue_id: i32, offset: i64) -> Result<bool, OffsetError> {
        self.change(topic, group, queue_id, |place| {
            let is_new = offset > place.last_damaged;
            place.damaged = place.damaged.saturating_add(u32::from(is_new));
            place.last_damaged = place.last_damaged.max(offset);
            is_new
        })
    }

    /// How many damaged messages a group was led past in a queue since the start.
    #[must_use]
    pub fn damaged(&self, topic: &str, group: &str, queue_id: i32) -> u32 {
        let damaged = self.with(topic, group, |slot| slot.read(queue_id, |place| place.damaged));
        damaged.flatten().unwrap_or(0)
    }

    /// The group's place: the pending reset if there is one, else what was committed.
    #[must_use]
    pub fn committed(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        let known = |place: &Place| if place.reset != NONE { place.reset } else { place.consumed };
        let offset = self.with(topic, group, |slot| slot.read(queue_id, known))??;
        (offset != NONE).then_some(offset)
    }

    /// The offset up to which the group was given messages, else its place.
    #[must_use]
    pub fn pulled(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        let pulled = self.with(topic, group, |slot| slot.read(queue_id, |place| place.pulled));
        match pulled.flatten() {
            Some(offset) if offset != NONE => Some(offset),
            _ => self.committed(topic, group, queue_id),
        }
    }

    /// Moves the group to `offset` by order of an operator, also for clients that are away.
    ///
    /// # Errors
    /// Below zero, or no room.
    pub fn reset(&self, topic: &str, group: &str, queue_id: i32, offset: i64) -> Result<(), OffsetError> {
        if queue_id < 0 || offset < 0 {
            return Err(OffsetError::Negative { queue_id, offset });
        }
        let fresh = self.change(topic, group, queue_id, |place| {
            place.consumed = offset;
            std::mem::replace(&mut place.reset, offset) == NONE
        })?;
        if fresh {
            self.resets.fetch_add(1, Relaxed);
        }
        self.commits.fetch_add(1, Relaxed);
        self.dirty.store(true, Relaxed);
        self.mark_moved();
        Ok(())
    }

    /// Whether a reset waits for the next pull of the queue.
    #[must_use]
    pub fn reset_pending(&self, topic: &str, group: &str, queue_id: i32) -> bool {
        self.resets.load(Relaxed) > 0
            && self
                .with(topic, group, |slot| slot.read(queue_id, |place| place.reset != NONE))
                .flatten()
                .unwrap_or(false)
    }

    /// Takes the pending reset of a queue; for every pull, so one atomic load when there is none anywhere.
    pub fn take_reset(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        if self.resets.load(Relaxed) == 0 || !self.reset_pending(topic, group, queue_id) {
            return None;
        }
        let taken = self
            .change(topic, group, queue_id, |place| std::mem::replace(&mut place.reset, NONE))
            .ok()?;
        if taken == NONE {
            return None;
        }
        self.resets.fetch_sub(1, Relaxed);
        self.dirty.store(true, Relaxed);
        Some(taken)
    }

    /// Offsets committed by a group on a topic.
    #[must_use]
    pub fn of_group_on_topic(&self, topic: &str, group: &str) -> ByQueue {
        self.with(topic, group, consumed).unwrap_or_default()
    }

    /// Topics a group has committed offsets on. One that only pulled has not consumed.
    #[must_use]
    pub fn topics_of(&self, group: &str) -> BTreeSet<String> {
        let slots = self.slots.read();
        let topics = slots.groups.get(group).into_iter().flatten();
        let has_consumed = |topic: &&Arc<str>| slots.find(topic, group).is_some_and(|slot| slot.has_consumed());
        topics.filter(has_consumed).map(ToString::to_string).collect()
    }

    /// Groups that have committed offsets on a topic.
    #[must_use]
    pub fn groups_of(&self, topic: &str) -> BTreeSet<String> {
        let slots = self.slots.read();
        slots
            .topics
            .get(topic)
            .map(|groups| {
                let consumed = groups.iter().filter(|(_, slot)| slot.has_consumed());
                consumed.map(|(group, _)| group.to_string()).collect()
            })
            .unwrap_or_default()
    }

    /// Copies a group's offsets on a topic to another group.
    ///
    /// # Errors
    /// No room.
    pub fn clone_group(&self, topic: &str, from: &str, to: &str) -> Result<(), OffsetError> {
        for (queue_id, offset) in self.of_group_on_topic(topic, from) {
            match self.commit(topic, to, queue_id, offset) {
                // Whoever reset it wanted it elsewhere.
                Ok(_) | Err(OffsetError::ResetPending) => {}
                Err(error) => return Err(error),
            }
        }
        self.mark_moved();
        Ok(())
    }

    /// Moves every offset that is beyond its queue's end back to it, and tells `moved` of each with topic, group, queue, the
    /// offset and the end. For a start after a crash that took messages: what comes at those offsets from now on is new.
    pub fn limit(&self, end: impl Fn(&str, i32) -> i64, mut moved: impl FnMut(&str, &str, i32, i64, i64)) {
        let slots = self.slots.read();
        for (topic, groups) in &slots.topics {
            for (group, slot) in groups {
                for place in slot.0.lock().iter_mut() {
                    let end = end(topic, place.queue_id);
                    if place.consumed > end {
                        moved(topic, group, place.queue_id, place.consumed, end);
                        place.consumed = end;
                        self.commits.fetch_add(1, Relaxed);
                        self.dirty.store(true, Relaxed);
                    }
                    place.pulled = place.pulled.min(end);
                    place.reset = place.reset.min(end);
                }
            }
        }
    }

    /// Forgets what was committed on a deleted topic.
    pub fn forget_topic(&self, topic: &str) {
        let gone = self.slots.write().remove_topic(topic);
        self.forgotten(&gone);
    }

    /// Forgets what a deleted group committed.
    pub fn forget_group(&self, group: &str) {
        let gone = self.slots.write().remove_group(group);
        self.forgotten(&gone);
    }

    fn forgotten(&self, slots: &[(usize, Arc<Slot>)]) {
        for (bytes, slot) in slots {
            let places = slot.0.lock();
            let pending = places.iter().filter(|place| place.reset != NONE).count();
            self.resets.fetch_sub(pending, Relaxed);
            self.count.fetch_sub(1, Relaxed);
            self.bytes.fetch_sub(bytes + places.len() * PLACE_BYTES, Relaxed);
            self.dirty.store(true, Relaxed);
            self.mark_moved();
        }
    }

    /// The table's version. As in Apache it grows once in [`COMMITS_A_VERSION`] commits, not with each.
    pub fn version(&self, now_ms: i64) -> DataVersion {
        let mut known = self.version.lock();
        let steps = (self.commits.load(Relaxed) - known.commits) / COMMITS_A_VERSION;
        if steps > 0 {
            known.commits += steps * COMMITS_A_VERSION;
            let counter = known.version.counter.wrapping_add(i64::try_from(steps).unwrap_or(i64::MAX));
            known.version = DataVersion {
                counter,
                timestamp: now_ms,
                ..known.version
            };
        }
        known.version
    }

    /// Goes on from the version the table was saved with.
    pub(super) fn set_version(&self, version: DataVersion) {
        let commits = self.commits.load(Relaxed);
        *self.version.lock() = Version { version, commits };
    }

    /// Whether something changed since the last call, which takes the mark.
    pub fn take_dirty(&self) -> bool {
        self.dirty.swap(false, Relaxed)
    }

    /// Whether an operator moved or removed offsets since the last call, which takes the mark.
    pub fn take_moved(&self) -> bool {
        self.moved.swap(false, Relaxed)
    }

    /// Has the offsets saved with the next change of other tables.
    pub fn mark_moved(&self) {
        self.moved.store(true, Relaxed);
    }

    /// Sets the mark again after a write that failed.
    pub fn mark_dirty(&self) {
        self.dirty.store(true, Relaxed);
    }

    /// Everything that the file holds. A slot is locked only while it is copied.
    #[must_use]
    pub fn all(&self) -> AllOffsets {
        let slots: Vec<(TopicGroup, Arc<Slot>)> = {
            let slots = self.slots.read();
            let pairs = slots
                .topics
                .iter()
                .flat_map(|(topic, groups)| groups.iter().map(move |(group, slot)| (topic, group, slot)));
            pairs
                .map(|(topic, group, slot)| (((**topic).into(), group.clone()), Arc::clone(slot)))
                .collect()
        };
        let mut all = AllOffsets::default();
        for (pair, slot) in slots {
            add(&mut all.committed, &pair, consumed(&slot));
            add(&mut all.pulled, &pair, by_queue(&slot, |place| place.pulled));
            add(&mut all.resets, &pair, by_queue(&slot, |place| place.reset));
        }
        all
    }
}

/// Offsets of all groups on all topics, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllOffsets {
    /// What was committed.
    pub committed: BTreeMap<TopicGroup, ByQueue>,
    /// What groups were given.
    pub pulled: BTreeMap<TopicGroup, ByQueue>,
    /// Resets that no pull has taken yet.
    pub resets: BTreeMap<TopicGroup, ByQueue>,
}

fn add(table: &mut BTreeMap<TopicGroup, ByQueue>, pair: &TopicGroup, offsets: ByQueue) {
    if !offsets.is_empty() {
        table.insert(pair.clone(), offsets);
    }
}

fn consumed(slot: &Slot) -> ByQueue {
    by_queue(slot, |place| place.consumed)
}

fn by_queue(slot: &Slot, of: impl Fn(&Place) -> i64) -> ByQueue {
    let places = slot.0.lock();
    places
        .iter()
        .filter(|place| of(place) != NONE)
        .map(|place| (place.queue_id, of(place)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OffsetLimits = OffsetLimits { pairs: 10, bytes: 1 << 20 };

    #[test]
    fn what_is_committed_is_answered() {
        let offsets = Offsets::new(LIMITS);
        assert_eq!(offsets.committed("t", "g", 0), None);
        assert_eq!(offsets.commit("t", "g", 0, 7), Ok(None));
        assert_eq!(offsets.commit("t", "g", 0, 5), Ok(Some(7)));
        assert_eq!(offsets.committed("t", "g", 0), Some(5));
        assert_eq!(offsets.committed("t", "g", 1), None);
        assert_eq!(offsets.committed("t", "h", 0), None);
        assert!(offsets.commit("t", "g", -1, 5).is_err());
        assert!(offsets.commit("t", "g", 0, -5).is_err());
    }

    #[test]
    fn topics_and_groups_find_each_other_until_one_is_forgotten() {
        let offsets = Offsets::new(LIMITS);
        for (topic, group) in [("t", "g"), ("u", "g"), ("t", "h")] {
            offsets.commit(topic, group, 0, 1).unwrap();
            offsets.commit(topic, group, 1, 1).unwrap();
        }
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(
            (offsets.topics_of("g"), offsets.topics_of("h")),
            (names(&["t", "u"]), names(&["t"]))
        );
        assert_eq!(
            (offsets.groups_of("t"), offsets.groups_of("u")),
            (names(&["g", "h"]), names(&["g"]))
        );
        offsets.forget_topic("t");
        assert_eq!((offsets.topics_of("g"), offsets.topics_of("h")), (names(&["u"]), names(&[])));
        offsets.forget_group("g");
        assert_eq!((offsets.groups_of("t"), offsets.groups_of("u")), (names(&[]), names(&[])));
        let slots = offsets.slots.read();
        assert!(slots.topics.is_empty() && slots.groups.is_empty());
        assert_eq!((offsets.count.load(Relaxed), offsets.bytes.load(Relaxed)), (0, 0));
    }

    #[test]
    fn only_a_change_makes_the_file_stale() {
        let offsets = Offsets::new(LIMITS);
        offsets.commit("t", "g", 0, 7).unwrap();
        assert!(offsets.take_dirty());
        offsets.commit("t", "g", 0, 7).unwrap();
        offsets.pulled_to("t", "g", 0, 9).unwrap();
        assert!(!offsets.take_dirty());
    }

    #[test]
    fn a_reset_is_answered_until_one_pull_takes_it() {
        let offsets = Offsets::new(LIMITS);
        offsets.commit("t", "g", 0, 7).unwrap();
        assert_eq!(offsets.take_reset("t", "g", 0), None);
        offsets.reset("t", "g", 0, 3).unwrap();
        assert_eq!(offsets.commit("t", "g", 0, 9), Err(OffsetError::ResetPending));
        assert!(offsets.reset_pending("t", "g", 0));
        assert!(!offsets.reset_pending("t", "g", 1));
        assert_eq!(offsets.committed("t", "g", 0), Some(3));
        assert_eq!(offsets.take_reset("t", "g", 0), Some(3));
        assert_eq!(offsets.take_reset("t", "g", 0), None);
        assert_eq!(offsets.committed("t", "g", 0), Some(3));
    }

    #[test]
    fn the_pulled_offset_falls_back_to_the_committed_one() {
        let offsets = Offsets::new(LIMITS);
        offsets.commit("t", "g", 0, 7).unwrap();
        assert_eq!(offsets.pulled("t", "g", 0), Some(7));
        offsets.pulled_to("t", "g", 0, 9).unwrap();
        assert_eq!(offsets.pulled("t", "g", 0), Some(9));
    }

    #[test]
    fn a_group_that_only_pulled_has_not_consumed() {
        let offsets = Offsets::new(LIMITS);
        offsets.pulled_to("t", "g", 0, 9).unwrap();
        assert!(offsets.topics_of("g").is_empty() && offsets.groups_of("t").is_empty());
        assert_eq!(offsets.committed("t", "g", 0), None);
        assert!(offsets.all().committed.is_empty());
        assert!(!offsets.has_begun("t", "g", 0));
        assert_eq!(
            [7, 7, 9, 8].map(|at| offsets.passed_damaged("t", "g", 0, at).unwrap()),
            [true, false, true, false]
        );
        assert_eq!((offsets.damaged("t", "g", 0), offsets.damaged("t", "g", 1)), (2, 0));
        offsets.begin("t", "g", 0).unwrap();
        assert!(offsets.has_begun("t", "g", 0) && !offsets.has_begun("t", "g", 1));
        assert!(offsets.topics_of("g").is_empty());
    }

    #[test]
    fn deleted_topics_and_groups_leave_nothing() {
        let offsets = Offsets::new(OffsetLimits { pairs: 2, ..LIMITS });
        offsets.commit("t", "g", 0, 1).unwrap();
        offsets.reset("u", "g", 0, 1).unwrap();
        assert_eq!(offsets.commit("u", "h", 0, 1), Err(OffsetError::Full(2)));
        offsets.forget_topic("t");
        assert_eq!(offsets.topics_of("g"), BTreeSet::from(["u".to_owned()]));
        offsets.forget_group("g");
        assert!(offsets.groups_of("u").is_empty());
        assert_eq!(offsets.commit("u", "h", 0, 1), Ok(None));
        assert_eq!(offsets.take_reset("u", "g", 0), None);
    }

    #[test]
    fn offsets_are_bounded_in_bytes_but_not_those_that_were_saved() {
        let two = Slots::slot_bytes("t", "g") + 2 * PLACE_BYTES;
        let offsets = Offsets::new(OffsetLimits { bytes: two, ..LIMITS });
        offsets.commit("t", "g", 0, 1).unwrap();
        offsets.commit("t", "g", 1, 1).unwrap();
        assert_eq!(offsets.commit("t", "g", 2, 1), Err(OffsetError::FullBytes(two)));
        assert_eq!(offsets.commit("u", "g", 0, 1), Err(OffsetError::FullBytes(two)));
        assert_eq!(offsets.commit("t", "g", 1, 5), Ok(Some(1)), "what is there may change");
        offsets.restore("t", "g", 2, 7, false).unwrap();
        offsets.restore("u", "h", 0, 8, true).unwrap();
        assert_eq!(
            (offsets.committed("t", "g", 2), offsets.take_reset("u", "h", 0)),
            (Some(7), Some(8))
        );
        offsets.forget_group("g");
        offsets.forget_group("h");
        assert_eq!((offsets.count.load(Relaxed), offsets.bytes.load(Relaxed)), (0, 0));
    }

    #[test]
    fn the_version_grows_with_every_five_hundredth_commit() {
        let offsets = Offsets::new(LIMITS);
        offsets.set_version(DataVersion {
            counter: 7,
            ..DataVersion::default()
        });
        for offset in 0..1001 {
            offsets.commit("t", "g", 0, offset).unwrap();
        }
        let version = offsets.version(5);
        assert_eq!((version.counter, version.timestamp), (9, 5));
        assert_eq!(offsets.version(6), version);
    }

    #[test]
    fn cloned_offsets_are_those_of_the_source() {
        let offsets = Offsets::new(LIMITS);
        offsets.commit("t", "g", 0, 1).unwrap();
        offsets.commit("t", "g", 3, 9).unwrap();
        offsets.clone_group("t", "g", "h").unwrap();
        assert_eq!(offsets.of_group_on_topic("t", "h"), ByQueue::from([(0, 1), (3, 9)]));
    }
}
