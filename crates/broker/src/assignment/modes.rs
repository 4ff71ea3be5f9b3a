//! The table of request modes. Pure state; the file is in `table.rs`.

use crate::signal::Signal;
use parking_lot::Mutex;
use protocol::assignment::{GroupRequestMode, RequestModes};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most modes that are kept: an operator sets each by hand.
const MAX_MODES: usize = 100_000;

/// Why a mode is not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// There are too many.
    #[error("the broker has {MAX_MODES} request modes already and takes no more")]
    Full,
}

#[derive(Debug, Default)]
struct State {
    modes: BTreeMap<String, BTreeMap<String, GroupRequestMode>>,
    count: usize,
    changes: u64,
}

/// The request modes that were set; a group without one pulls.
#[derive(Debug)]
pub struct Modes {
    state: Mutex<State>,
    changed: Arc<Signal>,
}

impl Modes {
    /// No modes. `changed` is raised at each change.
    #[must_use]
    pub fn new(changed: Arc<Signal>) -> Self {
        Self {
            state: Mutex::default(),
            changed,
        }
    }

    /// Takes what was saved.
    pub(super) fn restore(&self, saved: RequestModes) {
        let mut state = self.state.lock();
        state.count = saved.message_request_mode_map.values().map(BTreeMap::len).sum();
        state.modes = saved.message_request_mode_map;
    }

    /// Sets a mode, over one that was set before.
    ///
    /// # Errors
    /// There are too many.
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

    /// Forgets the modes of deleted topics and groups.
    pub fn forget(&self, is_gone: impl Fn(&str, &str) -> bool) {
        let mut state = self.state.lock();
        let mut forgotten = 0;
        state.modes.retain(|topic, groups| {
            groups.retain(|group, _| {
                let is_gone = is_gone(topic, group);
                forgotten += usize::from(is_gone);
                !is_gone
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

    /// All modes, and how many changes they have seen since the start.
    #[must_use]
    pub fn all(&self) -> (RequestModes, u64) {
        let state = self.state.lock();
        let message_request_mode_map = state.modes.clone();
        (RequestModes { message_request_mode_map }, state.changes)
    }

    /// Changes since the start.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }
}
