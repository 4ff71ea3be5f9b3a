//! Routes as they were sent, so that a client's question every 30 s costs no encoding.
//!
//! Invariant: an entry is used only under the stamp, order configuration and settings it was made with; what changes makes it useless, not
//! wrong. The memory is bounded: when it is full all is dropped.

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::routes::Stamp;

/// Most bytes kept, bodies and names.
const MAX_BYTES: usize = 64 << 20;
/// Most variants kept of one topic.
const MAX_VARIANTS: usize = 8;
/// What an entry costs beside its bytes.
const OVERHEAD_BYTES: usize = 160;

/// All that a route's bytes depend on, beside the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) stamp: Stamp,
    /// Keys are quoted.
    pub(crate) standard: bool,
    pub(crate) acting_master: bool,
    pub(crate) order: Option<String>,
    /// Address of the embedded broker as the client sees it.
    pub(crate) seen: Option<String>,
}

impl Variant {
    /// Differs only by what grows old.
    fn replaces(&self, other: &Self) -> bool {
        self.standard == other.standard && self.seen == other.seen
    }
}

#[derive(Default)]
struct Entries {
    topics: FxHashMap<Box<str>, Vec<(Variant, Bytes)>>,
    bytes: usize,
}

#[derive(Default)]
pub(crate) struct EncodedRoutes {
    entries: Mutex<Entries>,
}

impl EncodedRoutes {
    pub(crate) fn find(&self, topic: &str, variant: &Variant) -> Option<Bytes> {
        let entries = self.entries.lock();
        let known = entries.topics.get(topic)?;
        known.iter().find(|(made_for, _)| made_for == variant).map(|(_, body)| body.clone())
    }

    pub(crate) fn keep(&self, topic: &str, variant: Variant, body: Bytes) {
        let mut entries = self.entries.lock();
        if entries.bytes + body.len() + topic.len() + OVERHEAD_BYTES > MAX_BYTES {
            *entries = Entries::default();
        }
        let known = entries.topics.entry(topic.into()).or_default();
        let before: usize = known.iter().map(|(_, body)| body.len() + OVERHEAD_BYTES).sum();
        known.retain(|(other, _)| !variant.replaces(other));
        if known.len() >= MAX_VARIANTS {
            known.remove(0);
        }
        known.push((variant, body));
        let after: usize = known.iter().map(|(_, body)| body.len() + OVERHEAD_BYTES).sum();
        let name = if before == 0 { topic.len() } else { 0 };
        entries.bytes = entries.bytes + name + after - before;
    }
}
