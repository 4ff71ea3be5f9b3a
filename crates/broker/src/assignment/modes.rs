//! The table of request modes. Pure state; the file is in `table.rs`.

use crate::signal::Signal;
use parking_lot::Mutex;
use protocol::assignment::{GroupRequestMode, RequestModes};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Limit of the number of modes: operators set them by hand.
const MAX_MODES: usize = 100_000;

/// Why a mode is not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// The table is full.
    #[error("the broker already has {MAX_MODES} request modes, which is the limit")]
    Full,
}

#[derive(Debug, Default)]
struct ModeTable {
    modes: BTreeMap<String, BTreeMap<String, GroupRequestMode>>,
    count: usize,
    changes: u64,
}

/// The request modes that were set; a group without one pulls.
#[derive(Debug)]
pub struct Modes {
    state: Mutex<ModeTable>,
    changed: Arc<Signal>,
}

impl Modes {
    /// Creates an empty table. Each change raises `changed`.
    #[must_use]
    pub fn new(changed: Arc<Signal>) -> Self {
        Self {
            state: Mutex::default(),
            changed,
        }
    }

    /// Adds the modes from the file.
    pub(super) fn restore(&self, saved: RequestModes) {
        let mut state = self.state.lock();
        state.count = saved.message_request_mode_map.values().map(BTreeMap::len).sum();
        state.modes = saved.message_request_mode_map;
    }

    /// Makes the table equal to that of the master, on a slave.
    pub(super) fn copy(&self, of_master: RequestModes) {
        let mut state = self.state.lock();
        if state.modes == of_master.message_request_mode_map {
            return;
        }
        state.count = of_master.message_request_mode_map.values().map(BTreeMap::len).sum();
        state.modes = of_master.message_request_mode_map;
        state.changes += 1;
        drop(state);
        self.changed.raise();
    }

    /// Sets a mode; replaces an earlier one.
    ///
    /// # Errors
    /// [`ModeError::Full`] if there are [`MAX_MODES`].
    pub fn set(&self, mode: GroupRequestMode) -> Result<(), ModeError> {
        let mut state = self.state.lock();
        let groups = state.modes.get(&mode.topic);
        let is_new = groups.is_none_or(|groups| !groups.contains_key(&mode.consumer_group));
        if is_new && state.count >= MAX_MODES {
            return Err(ModeError::Full);
        }
        state.count += usize::from(is_new);
        let groups = state.modes.entry(mode.topic.clone()).or_default();
        groups.insert(mode.consumer_group.clone(), mode);
        state.changes += 1;
        drop(state);
        self.changed.raise();
        Ok(())
    }

    /// Removes the modes for which `is_deleted` returns true for topic and group.
    pub fn forget(&self, is_deleted: impl Fn(&str, &str) -> bool) {
        let mut state = self.state.lock();
        let mut forgotten = 0;
        state.modes.retain(|topic, groups| {
            groups.retain(|group, _| {
                let is_deleted = is_deleted(topic, group);
                forgotten += usize::from(is_deleted);
                !is_deleted
            });
            !groups.is_empty()
        });
        if forgotten > 0 {
            state.count -= forgotten;
            state.changes += 1;
            drop(state);
            self.changed.raise();
        }
    }

    /// The mode that was set for a group on a topic.
    #[must_use]
    pub fn of(&self, topic: &str, group: &str) -> Option<GroupRequestMode> {
        self.state.lock().modes.get(topic)?.get(group).cloned()
    }

    /// All modes, and the number of changes since the start.
    #[must_use]
    pub fn all(&self) -> (RequestModes, u64) {
        let state = self.state.lock();
        let message_request_mode_map = state.modes.clone();
        (RequestModes { message_request_mode_map }, state.changes)
    }

    /// Number of changes since the start.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }
}
