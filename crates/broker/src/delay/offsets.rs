//! How far each level has been delivered. Pure state: the time is given; the file is in `table.rs`.

use parking_lot::Mutex;
use protocol::DataVersion;
use std::collections::BTreeMap;

/// Compat: Apache's table gets a new version with every so many steps (`delayOffsetUpdateVersionStep`).
const STEPS_OF_A_VERSION: u64 = 200;

/// Offsets of the schedule topic's queues, by level: every earlier message was delivered, and the delivery confirmed.
#[derive(Debug, Default)]
pub struct DelayOffsets {
    state: Mutex<OffsetTable>,
}

#[derive(Debug, Default)]
struct OffsetTable {
    offsets: BTreeMap<i32, i64>,
    version: DataVersion,
    steps: u64,
    dirty: bool,
}

impl DelayOffsets {
    /// A table of this version.
    #[must_use]
    pub fn new(now_ms: i64) -> Self {
        let version = DataVersion {
            timestamp: now_ms,
            ..DataVersion::default()
        };
        Self {
            state: Mutex::new(OffsetTable {
                version,
                ..OffsetTable::default()
            }),
        }
    }

    /// Fills an empty table with saved offsets.
    pub(super) fn restore(&self, offsets: BTreeMap<i32, i64>, version: Option<DataVersion>) {
        let mut state = self.state.lock();
        state.offsets = offsets;
        state.version = version.unwrap_or(state.version);
    }

    /// Offset of a level; `None` if no message was ever sent with it.
    #[must_use]
    pub fn of(&self, level: i32) -> Option<i64> {
        self.state.lock().offsets.get(&level).copied()
    }

    /// Sets the offset of a level.
    pub fn set(&self, level: i32, offset: i64) {
        let mut state = self.state.lock();
        state.dirty |= state.offsets.insert(level, offset) != Some(offset);
    }

    /// Advances a level to `offset`, by `steps` messages. A lower offset changes nothing.
    pub fn advance(&self, level: i32, offset: i64, steps: u64, now_ms: i64) {
        let mut state = self.state.lock();
        let known = state.offsets.entry(level).or_default();
        *known = offset.max(*known);
        let before = state.steps / STEPS_OF_A_VERSION;
        state.steps += steps;
        if state.steps / STEPS_OF_A_VERSION > before {
            state.version = state.version.next(now_ms);
        }
        state.dirty = true;
    }

    /// Takes over what another broker has delivered of a copy of the same queues: levels only advance.
    pub(super) fn advance_all(&self, offsets: &BTreeMap<i32, i64>) {
        let mut state = self.state.lock();
        for (level, offset) in offsets {
            let known = state.offsets.entry(*level).or_default();
            if *offset > *known {
                *known = *offset;
                state.dirty = true;
            }
        }
    }

    /// The table's version, and the offsets of all levels in use.
    #[must_use]
    pub fn all(&self) -> (DataVersion, BTreeMap<i32, i64>) {
        let state = self.state.lock();
        (state.version, state.offsets.clone())
    }

    /// The same, if anything changed since the last call.
    pub(super) fn take_changed(&self) -> Option<(DataVersion, BTreeMap<i32, i64>)> {
        let mut state = self.state.lock();
        std::mem::take(&mut state.dirty).then(|| (state.version, state.offsets.clone()))
    }

    /// The offsets of the last call could not be saved.
    pub(super) fn mark_changed(&self) {
        self.state.lock().dirty = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_only_grow_and_the_version_with_them() {
        let offsets = DelayOffsets::new(5);
        assert_eq!(offsets.of(3), None);
        offsets.advance(3, 150, 150, 10);
        assert_eq!(offsets.all().0.counter, 0);
        offsets.advance(3, 120, 50, 20);
        assert_eq!(offsets.of(3), Some(150));
        let (version, _) = offsets.all();
        assert_eq!((version.counter, version.timestamp), (1, 20));
        assert!(offsets.take_changed().is_some() && offsets.take_changed().is_none());
        offsets.set(3, 150);
        assert!(offsets.take_changed().is_none(), "it was there already");
        offsets.set(3, 100);
        assert_eq!(offsets.take_changed().unwrap().1, BTreeMap::from([(3, 100)]));
    }
}
