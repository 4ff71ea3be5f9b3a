//! Answers as they were sent, so that a client's question every 30 s for each of its topics costs no encoding, and neither do two hundred
//! questions for the list of all topics.
//!
//! Invariant: an entry is used only under the stamp, order configuration and settings it was made with; what changes makes it useless, not
//! wrong. The memory is bounded: when it is full all is dropped.

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::routes::{ListStamp, Stamp};

/// Most bytes kept, bodies and names.
const MAX_BYTES: usize = 64 << 20;
/// Most variants kept of one answer.
const MAX_VARIANTS: usize = 8;
/// What an entry costs beside its bytes.
const OVERHEAD_BYTES: usize = 160;

/// All that an answer's bytes depend on, beside what is asked for.
pub(crate) trait Variant: PartialEq {
    /// Differs only by what grows old.
    fn replaces(&self, other: &Self) -> bool;
}

/// Of a route (105).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteVariant {
    pub(crate) stamp: Stamp,
    /// Keys are quoted.
    pub(crate) standard: bool,
    pub(crate) acting_master: bool,
    pub(crate) order: Option<String>,
    /// Address of the embedded broker as the client sees it.
    pub(crate) seen: Option<String>,
}

impl Variant for RouteVariant {
    fn replaces(&self, other: &Self) -> bool {
        self.standard == other.standard && self.seen == other.seen
    }
}

/// Of a list of topics or brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListVariant {
    pub(crate) stamp: ListStamp,
    /// Address of the embedded broker as the client sees it.
    pub(crate) seen: Option<String>,
}

impl Variant for ListVariant {
    fn replaces(&self, other: &Self) -> bool {
        self.seen == other.seen
    }
}

struct Entries<V> {
    by_name: FxHashMap<Box<str>, Vec<(V, Bytes)>>,
    bytes: usize,
}

pub(crate) struct Encoded<V> {
    entries: Mutex<Entries<V>>,
}

impl<V> Default for Encoded<V> {
    fn default() -> Self {
        let entries = Entries {
            by_name: FxHashMap::default(),
            bytes: 0,
        };
        Self {
            entries: Mutex::new(entries),
        }
    }
}

impl<V: Variant> Encoded<V> {
    /// `name` is the topic, or says which list it is.
    pub(crate) fn find(&self, name: &str, variant: &V) -> Option<Bytes> {
        let entries = self.entries.lock();
        let known = entries.by_name.get(name)?;
        known.iter().find(|(made_for, _)| made_for == variant).map(|(_, body)| body.clone())
    }

    pub(crate) fn keep(&self, name: &str, variant: V, body: Bytes) {
        let mut entries = self.entries.lock();
        if entries.bytes + body.len() + name.len() + OVERHEAD_BYTES > MAX_BYTES {
            entries.by_name.clear();
            entries.bytes = 0;
        }
        let known = entries.by_name.entry(name.into()).or_default();
        let before: usize = known.iter().map(|(_, body)| body.len() + OVERHEAD_BYTES).sum();
        known.retain(|(other, _)| !variant.replaces(other));
        if known.len() >= MAX_VARIANTS {
            known.remove(0);
        }
        known.push((variant, body));
        let after: usize = known.iter().map(|(_, body)| body.len() + OVERHEAD_BYTES).sum();
        let name = if before == 0 { name.len() } else { 0 };
        entries.bytes = entries.bytes + name + after - before;
    }
}
