//! Typed offsets: a byte position in the commit log and a position in one queue, which must not be mixed.
//!
//! Both wrap a Java `long`: on the wire and on disk they are signed, and clients do ask for negative ones.

use std::fmt;

/// Byte position in the commit log; never negative in stored data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogOffset(pub i64);

/// Position of a message in its queue, counted from 0; negative only where a client asked so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueOffset(pub i64);

impl LogOffset {
    /// This offset moved forward by `bytes`.
    #[must_use]
    pub const fn plus(self, bytes: usize) -> Self {
        Self(self.0 + bytes as i64)
    }
}

impl QueueOffset {
    /// This offset moved forward by `count` messages.
    #[must_use]
    pub const fn plus(self, count: usize) -> Self {
        Self(self.0 + count as i64)
    }
}

impl fmt::Display for LogOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for QueueOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
