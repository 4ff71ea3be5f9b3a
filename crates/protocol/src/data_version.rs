//! The version of a table that is copied between servers.

use serde::{Deserialize, Serialize};

/// Grows with each change of a table. Two copies are equal if all three parts are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVersion {
    /// Counts changes.
    pub counter: i64,
    /// The broker's epoch when it last changed.
    pub state_version: i64,
    /// When it last changed, ms.
    pub timestamp: i64,
}

impl DataVersion {
    /// The version after a change at `now_ms`.
    #[must_use]
    pub fn next(self, now_ms: i64) -> Self {
        Self {
            counter: self.counter.wrapping_add(1),
            timestamp: now_ms,
            ..self
        }
    }
}
