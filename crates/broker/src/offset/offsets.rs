//! The table of offsets. Pure state; the file is in `table.rs`.
//!
//! Committing is a hot path: two lookups without allocation, and a short lock on the offsets of one group on one topic.

use super::index::{GroupOffsets, NONE, OffsetIndex, QUEUE_BYTES, QueueOffsets};
use message::names;
use parking_lot::{Mutex, RwLock};
use protocol::DataVersion;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Commits per increment of the data version.
const COMMITS_PER_VERSION: u64 = 500;

/// Compat: Apache's remark.
pub(super) const RESET_PENDING: &str = "Offset has been previously reset";

/// Why an offset was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffsetError {
    /// Too many pairs of topic and group.
    #[error("the broker already has offsets of {0} pairs of topic and group, which is the limit, see apogeeMaxCommittedOffsets")]
    Full(usize),
    /// The offsets take too many bytes.
    #[error("the committed offsets already take {0} bytes, see apogeeMaxOffsetBytes")]
    FullBytes(usize),
    /// An operator reset the offset, and no pull has applied the reset yet: the committing client does not know of it.
    #[error("{RESET_PENDING}")]
    ResetPending,
    /// A negative queue id or offset.
    #[error("queue {queue_id} or offset {offset} is negative")]
    Negative {
        /// The requested queue.
        queue_id: i32,
        /// The requested offset.
        offset: i64,
    },
}

/// Offsets by queue id.
pub type ByQueue = BTreeMap<i32, i64>;
/// Topic and group.
pub type TopicGroup = (Box<str>, Box<str>);

/// The limits, each a setting. Offsets from the file are loaded even if they exceed them.
#[derive(Clone, Copy, Debug)]
pub struct OffsetLimits {
    /// Pairs of topic and group: `apogeeMaxCommittedOffsets`.
    pub pairs: usize,
    /// Memory of the offsets, in bytes: `apogeeMaxOffsetBytes`.
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

/// Whether the limits apply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limited {
    Yes,
    /// Offsets from the file are always loaded.
    No,
}

/// The offsets of all groups on all topics.
#[derive(Debug)]
pub struct Offsets {
    index: RwLock<OffsetIndex>,
    count: AtomicUsize,
    bytes: AtomicUsize,
    limits: OffsetLimits,
    resets: AtomicUsize,
    commits: AtomicU64,
    dirty: AtomicBool,
    /// As `dirty`, of light queues.
    light_dirty: AtomicBool,
    /// An operator moved or removed offsets, and the response waits until they are saved.
    moved: AtomicBool,
    version: Mutex<Version>,
}

/// The table's data version, and the number of commits it covers.
#[derive(Clone, Copy, Debug, Default)]
struct Version {
    version: DataVersion,
    commits: u64,
}

impl Offsets {
    /// Creates an empty table.
    #[must_use]
    pub fn new(limits: OffsetLimits) -> Self {
        Self {
            index: RwLock::default(),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            limits,
            resets: AtomicUsize::new(0),
            commits: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            light_dirty: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            version: Mutex::default(),
        }
    }

    fn with<T>(&self, topic: &str, group: &str, look: impl FnOnce(&GroupOffsets) -> T) -> Option<T> {
        let index = self.index.read();
        Some(look(index.find(topic, group)?))
    }

    fn change<T>(&self, topic: &str, group: &str, queue_id: i32, change: impl FnOnce(&mut QueueOffsets) -> T) -> Result<T, OffsetError> {
        self.change_within(Limited::Yes, topic, group, queue_id, change)
    }

    fn change_within<T>(
        &self,
        limited: Limited,
        topic: &str,
        group: &str,
        queue_id: i32,
        change: impl FnOnce(&mut QueueOffsets) -> T,
    ) -> Result<T, OffsetError> {
        let reserve = || self.reserve_bytes(limited, QUEUE_BYTES);
        let index = self.index.read();
        if let Some(offsets) = index.find(topic, group) {
            return offsets.change(queue_id, reserve, change);
        }
        drop(index);
        if limited == Limited::Yes && self.count.load(Relaxed) >= self.limits.pairs {
            return Err(OffsetError::Full(self.limits.pairs));
        }
        let mut index = self.index.write();
        if index.find(topic, group).is_none() {
            self.reserve_bytes(limited, OffsetIndex::entry_bytes(topic, group))?;
            self.count.fetch_add(1, Relaxed);
        }
        index.find_or_insert(topic, group).change(queue_id, reserve, change)
    }

    fn reserve_bytes(&self, limited: Limited, bytes: usize) -> Result<(), OffsetError> {
        let limit = if limited == Limited::Yes { self.limits.bytes } else { usize::MAX };
        let fits = |taken: usize| (taken.saturating_add(bytes) <= limit).then_some(taken + bytes);
        let taken = self.bytes.fetch_update(Relaxed, Relaxed, fits);
        taken.map(drop).map_err(OffsetError::FullBytes)
    }

    /// Loads an offset, or a pending reset, from the file.
    pub(super) fn restore(&self, topic: &str, group: &str, queue_id: i32, offset: i64, is_reset: bool) -> Result<(), OffsetError> {
        if queue_id < 0 || offset < 0 {
            return Err(OffsetError::Negative { queue_id, offset });
        }
        let is_new = self.change_within(Limited::No, topic, group, queue_id, |queue| {
            queue.consumed = offset;
            is_reset && std::mem::replace(&mut queue.reset, offset) == NONE
        })?;
        self.resets.fetch_add(usize::from(is_new), Relaxed);
        Ok(())
    }

    /// Stores a committed offset and returns the previous one.
    ///
    /// # Errors
    /// [`OffsetError::Negative`], [`OffsetError::ResetPending`], or [`OffsetError::Full`] or [`OffsetError::FullBytes`] if a limit
    /// is reached.
    pub fn commit(&self, topic: &str, group: &str, queue_id: i32, offset: i64) -> Result<Option<i64>, OffsetError> {
        if queue_id < 0 || offset < 0 {
            return Err(OffsetError::Negative { queue_id, offset });
        }
        let before = self.change(topic, group, queue_id, |queue| {
            if queue.reset == NONE {
                Ok(std::mem::replace(&mut queue.consumed, offset))
            } else {
                Err(OffsetError::ResetPending)
            }
        })??;
        if before != offset {
            self.commits.fetch_add(1, Relaxed);
            self.changed(topic, group);
        }
        Ok((before != NONE).then_some(before))
    }

    /// Notes that a group has started to consume a queue, so that its commits are accepted from now on.
    ///
    /// # Errors
    /// [`OffsetError::Full`] or [`OffsetError::FullBytes`].
    pub fn mark_started(&self, topic: &str, group: &str, queue_id: i32) -> Result<(), OffsetError> {
        self.change(topic, group, queue_id, |queue| queue.started = true)
    }

    /// Whether a group has started to consume this queue or has committed an offset in it.
    #[must_use]
    pub fn has_started(&self, topic: &str, group: &str, queue_id: i32) -> bool {
        let has_started = |queue: &QueueOffsets| queue.started || queue.consumed != NONE;
        let started = self.with(topic, group, |offsets| offsets.read(queue_id, has_started));
        started.flatten().unwrap_or(false)
    }

    /// Stores the offset up to which a group pulled messages.
    ///
    /// # Errors
    /// [`OffsetError::Full`] or [`OffsetError::FullBytes`].
    pub fn pulled_to(&self, topic: &str, group: &str, queue_id: i32, offset: i64) -> Result<(), OffsetError> {
        self.change(topic, group, queue_id, |queue| queue.pulled = offset)
    }

    /// Counts a damaged message that a group skipped. Returns whether it was skipped for the first time.
    ///
    /// # Errors
    /// [`OffsetError::Full`] or [`OffsetError::FullBytes`].
    pub fn passed_damaged(&self, topic: &str, group: &str, queue_id: i32, offset: i64) -> Result<bool, OffsetError> {
        self.change(topic, group, queue_id, |queue| {
            let is_new = offset > queue.last_damaged;
            queue.damaged = queue.damaged.saturating_add(u32::from(is_new));
            queue.last_damaged = queue.last_damaged.max(offset);
            is_new
        })
    }

    /// Number of damaged messages that a group skipped in a queue since the start.
    #[must_use]
    pub fn damaged(&self, topic: &str, group: &str, queue_id: i32) -> u32 {
        let damaged = self.with(topic, group, |offsets| offsets.read(queue_id, |queue| queue.damaged));
        damaged.flatten().unwrap_or(0)
    }

    /// The next offset that the group consumes: the pending reset if there is one, else the committed offset.
    #[must_use]
    pub fn committed(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        let current = |queue: &QueueOffsets| if queue.reset != NONE { queue.reset } else { queue.consumed };
        let offset = self.with(topic, group, |offsets| offsets.read(queue_id, current))??;
        (offset != NONE).then_some(offset)
    }

    /// The offset up to which the group pulled messages, else its committed offset.
    #[must_use]
    pub fn pulled(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        let pulled = self.with(topic, group, |offsets| offsets.read(queue_id, |queue| queue.pulled));
        match pulled.flatten() {
            Some(offset) if offset != NONE => Some(offset),
            _ => self.committed(topic, group, queue_id),
        }
    }

    /// Resets the group's offset for an operator, also while its clients are offline.
    ///
    /// # Errors
    /// [`OffsetError::Negative`], [`OffsetError::Full`] or [`OffsetError::FullBytes`].
    pub fn reset(&self, topic: &str, group: &str, queue_id: i32, offset: i64) -> Result<(), OffsetError> {
        if queue_id < 0 || offset < 0 {
            return Err(OffsetError::Negative { queue_id, offset });
        }
        let is_new = self.change(topic, group, queue_id, |queue| {
            queue.consumed = offset;
            std::mem::replace(&mut queue.reset, offset) == NONE
        })?;
        if is_new {
            self.resets.fetch_add(1, Relaxed);
        }
        self.commits.fetch_add(1, Relaxed);
        self.changed(topic, group);
        self.mark_moved();
        Ok(())
    }

    /// Whether a reset waits for the next pull of the queue.
    #[must_use]
    pub fn reset_pending(&self, topic: &str, group: &str, queue_id: i32) -> bool {
        self.resets.load(Relaxed) > 0
            && self
                .with(topic, group, |offsets| offsets.read(queue_id, |queue| queue.reset != NONE))
                .flatten()
                .unwrap_or(false)
    }

    /// Removes and returns the pending reset of a queue. Called for every pull: one atomic load while no reset is pending.
    pub fn take_reset(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        if self.resets.load(Relaxed) == 0 || !self.reset_pending(topic, group, queue_id) {
            return None;
        }
        let taken = self
            .change(topic, group, queue_id, |queue| std::mem::replace(&mut queue.reset, NONE))
            .ok()?;
        if taken == NONE {
            return None;
        }
        self.resets.fetch_sub(1, Relaxed);
        self.changed(topic, group);
        Some(taken)
    }

    /// Pairs of topic and group.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Offsets that a group committed on a topic.
    #[must_use]
    pub fn of_group_on_topic(&self, topic: &str, group: &str) -> ByQueue {
        self.with(topic, group, consumed).unwrap_or_default()
    }

    /// Topics on which a group committed offsets. Pulling alone does not count.
    #[must_use]
    pub fn topics_of(&self, group: &str) -> BTreeSet<String> {
        let index = self.index.read();
        let topics = index.groups.get(group).into_iter().flatten();
        let has_consumed = |topic: &&Arc<str>| index.find(topic, group).is_some_and(|offsets| offsets.has_consumed());
        topics.filter(has_consumed).map(ToString::to_string).collect()
    }

    /// Groups that committed offsets on a topic.
    #[must_use]
    pub fn groups_of(&self, topic: &str) -> BTreeSet<String> {
        let index = self.index.read();
        index
            .topics
            .get(topic)
            .map(|groups| {
                let consumed = groups.iter().filter(|(_, offsets)| offsets.has_consumed());
                consumed.map(|(group, _)| group.to_string()).collect()
            })
            .unwrap_or_default()
    }

    /// Copies a group's offsets on a topic to another group.
    ///
    /// # Errors
    /// [`OffsetError::Full`] or [`OffsetError::FullBytes`].
    pub fn clone_group(&self, topic: &str, from: &str, to: &str) -> Result<(), OffsetError> {
        for (queue_id, offset) in self.of_group_on_topic(topic, from) {
            match self.commit(topic, to, queue_id, offset) {
                // The target group has a pending reset, which is kept.
                Ok(_) | Err(OffsetError::ResetPending) => {}
                Err(error) => return Err(error),
            }
        }
        self.mark_moved();
        Ok(())
    }

    /// Moves every offset that is after the end of its queue back to it, and calls `moved` with topic, group, queue id, old offset
    /// and end. Used at a start after a crash that lost messages: new messages will get those offsets.
    pub fn limit(&self, end: impl Fn(&str, i32) -> i64, mut moved: impl FnMut(&str, &str, i32, i64, i64)) {
        let index = self.index.read();
        for (topic, groups) in &index.topics {
            for (group, offsets) in groups {
                for queue in offsets.0.lock().iter_mut() {
                    let end = end(topic, queue.queue_id);
                    if queue.consumed > end {
                        moved(topic, group, queue.queue_id, queue.consumed, end);
                        queue.consumed = end;
                        self.commits.fetch_add(1, Relaxed);
                        self.changed(topic, group);
                    }
                    queue.pulled = queue.pulled.min(end);
                    queue.reset = queue.reset.min(end);
                }
            }
        }
    }

    /// Removes the offsets on a deleted topic.
    pub fn forget_topic(&self, topic: &str) {
        let removed = self.index.write().remove_topic(topic);
        self.release(&removed);
    }

    /// Removes the offsets of a deleted group.
    pub fn forget_group(&self, group: &str) {
        let removed = self.index.write().remove_group(group);
        self.release(&removed);
    }

    fn release(&self, index: &[(usize, Arc<GroupOffsets>)]) {
        for (bytes, offsets) in index {
            let queues = offsets.0.lock();
            let pending = queues.iter().filter(|queue| queue.reset != NONE).count();
            self.resets.fetch_sub(pending, Relaxed);
            self.count.fetch_sub(1, Relaxed);
            self.bytes.fetch_sub(bytes + queues.len() * QUEUE_BYTES, Relaxed);
            self.mark_dirty();
            self.mark_moved();
        }
    }

    /// The table's data version. As in Apache it is incremented once per [`COMMITS_PER_VERSION`] commits.
    pub fn version(&self, now_ms: i64) -> DataVersion {
        let mut current = self.version.lock();
        let steps = (self.commits.load(Relaxed) - current.commits) / COMMITS_PER_VERSION;
        if steps > 0 {
            current.commits += steps * COMMITS_PER_VERSION;
            let counter = current.version.counter.wrapping_add(i64::try_from(steps).unwrap_or(i64::MAX));
            current.version = DataVersion {
                counter,
                timestamp: now_ms,
                ..current.version
            };
        }
        current.version
    }

    /// Continues from the data version in the file.
    pub(super) fn set_version(&self, version: DataVersion) {
        let commits = self.commits.load(Relaxed);
        *self.version.lock() = Version { version, commits };
    }

    /// An offset changed.
    fn changed(&self, topic: &str, group: &str) {
        let flag = if is_light(topic, group) { &self.light_dirty } else { &self.dirty };
        flag.store(true, Relaxed);
    }

    /// Whether offsets changed since the last call, of light queues or others; resets the flag.
    pub fn take_dirty(&self) -> bool {
        self.take_others_dirty() | self.take_light_dirty()
    }

    /// As [`Self::take_dirty`], without light queues.
    pub(super) fn take_others_dirty(&self) -> bool {
        self.dirty.swap(false, Relaxed)
    }

    /// As [`Self::take_dirty`], of light queues.
    pub(super) fn take_light_dirty(&self) -> bool {
        self.light_dirty.swap(false, Relaxed)
    }

    /// Whether an operator moved or removed offsets since the last call; resets the flag.
    pub fn take_moved(&self) -> bool {
        self.moved.swap(false, Relaxed)
    }

    /// Has the offsets saved with the next change of other tables.
    pub fn mark_moved(&self) {
        self.moved.store(true, Relaxed);
    }

    /// Sets the flag again after a failed write.
    pub fn mark_dirty(&self) {
        self.dirty.store(true, Relaxed);
        self.light_dirty.store(true, Relaxed);
    }

    /// All offsets, for the file. A group's offsets on a topic are locked only while they are copied.
    #[must_use]
    pub fn all(&self) -> AllOffsets {
        self.all_of(|_, _| true)
    }

    /// Those whose topic and group are wanted.
    pub(super) fn all_of(&self, is_wanted: impl Fn(&str, &str) -> bool) -> AllOffsets {
        let index: Vec<(TopicGroup, Arc<GroupOffsets>)> = {
            let index = self.index.read();
            let pairs = index
                .topics
                .iter()
                .flat_map(|(topic, groups)| groups.iter().map(move |(group, offsets)| (topic, group, offsets)));
            pairs
                .filter(|(topic, group, _)| is_wanted(topic, group))
                .map(|(topic, group, offsets)| (((**topic).into(), group.clone()), Arc::clone(offsets)))
                .collect()
        };
        let mut all = AllOffsets::default();
        for (pair, offsets) in index {
            add(&mut all.committed, &pair, consumed(&offsets));
            add(&mut all.pulled, &pair, by_queue(&offsets, |queue| queue.pulled));
            add(&mut all.resets, &pair, by_queue(&offsets, |queue| queue.reset));
        }
        all
    }
}

/// Whether an offset is one of a light queue.
pub(super) fn is_light(topic: &str, group: &str) -> bool {
    names::is_light_queue(topic) || names::is_light_queue(group)
}

/// Offsets of all groups on all topics, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllOffsets {
    /// Committed offsets.
    pub committed: BTreeMap<TopicGroup, ByQueue>,
    /// Pulled offsets.
    pub pulled: BTreeMap<TopicGroup, ByQueue>,
    /// Resets that no pull has applied yet.
    pub resets: BTreeMap<TopicGroup, ByQueue>,
}

fn add(table: &mut BTreeMap<TopicGroup, ByQueue>, pair: &TopicGroup, offsets: ByQueue) {
    if !offsets.is_empty() {
        table.insert(pair.clone(), offsets);
    }
}

fn consumed(offsets: &GroupOffsets) -> ByQueue {
    by_queue(offsets, |queue| queue.consumed)
}

fn by_queue(offsets: &GroupOffsets, of: impl Fn(&QueueOffsets) -> i64) -> ByQueue {
    let queues = offsets.0.lock();
    queues
        .iter()
        .filter(|queue| of(queue) != NONE)
        .map(|queue| (queue.queue_id, of(queue)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OffsetLimits = OffsetLimits { pairs: 10, bytes: 1 << 20 };

    #[test]
    fn a_committed_offset_is_returned() {
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
    fn topics_of_a_group_and_groups_of_a_topic_are_found_until_one_is_deleted() {
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
        let index = offsets.index.read();
        assert!(index.topics.is_empty() && index.groups.is_empty());
        assert_eq!((offsets.count.load(Relaxed), offsets.bytes.load(Relaxed)), (0, 0));
    }

    #[test]
    fn only_a_change_marks_the_table_dirty() {
        let offsets = Offsets::new(LIMITS);
        offsets.commit("t", "g", 0, 7).unwrap();
        assert!(offsets.take_dirty());
        offsets.commit("t", "g", 0, 7).unwrap();
        offsets.pulled_to("t", "g", 0, 9).unwrap();
        assert!(!offsets.take_dirty());
    }

    #[test]
    fn a_reset_is_returned_until_a_pull_applies_it() {
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
        assert!(!offsets.has_started("t", "g", 0));
        assert_eq!(
            [7, 7, 9, 8].map(|at| offsets.passed_damaged("t", "g", 0, at).unwrap()),
            [true, false, true, false]
        );
        assert_eq!((offsets.damaged("t", "g", 0), offsets.damaged("t", "g", 1)), (2, 0));
        offsets.mark_started("t", "g", 0).unwrap();
        assert!(offsets.has_started("t", "g", 0) && !offsets.has_started("t", "g", 1));
        assert!(offsets.topics_of("g").is_empty());
    }

    #[test]
    fn deleted_topics_and_groups_leave_no_entries() {
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
    fn offsets_are_bounded_in_bytes_except_those_from_the_file() {
        let two = OffsetIndex::entry_bytes("t", "g") + 2 * QUEUE_BYTES;
        let offsets = Offsets::new(OffsetLimits { bytes: two, ..LIMITS });
        offsets.commit("t", "g", 0, 1).unwrap();
        offsets.commit("t", "g", 1, 1).unwrap();
        assert_eq!(offsets.commit("t", "g", 2, 1), Err(OffsetError::FullBytes(two)));
        assert_eq!(offsets.commit("u", "g", 0, 1), Err(OffsetError::FullBytes(two)));
        assert_eq!(offsets.commit("t", "g", 1, 5), Ok(Some(1)), "existing offsets may change");
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
    fn the_version_is_incremented_every_five_hundred_commits() {
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
    fn cloned_offsets_equal_those_of_the_source() {
        let offsets = Offsets::new(LIMITS);
        offsets.commit("t", "g", 0, 1).unwrap();
        offsets.commit("t", "g", 3, 9).unwrap();
        offsets.clone_group("t", "g", "h").unwrap();
        assert_eq!(offsets.of_group_on_topic("t", "h"), ByQueue::from([(0, 1), (3, 9)]));
    }
}
