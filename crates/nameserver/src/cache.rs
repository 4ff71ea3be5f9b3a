//! Cache of encoded answers: clients look up the route of each of their topics every 30 s, and lists of all topics are long.
//!
//! Invariant: an entry is returned only for the stamp, order configuration and settings with which it was encoded. A change makes entries
//! useless, not wrong. Memory is limited: when the cache is full, it is emptied.

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::routes::{ListStamp, Stamp};

/// Maximum bytes of bodies and names.
const MAX_BYTES: usize = 64 << 20;
/// Maximum variants of one answer.
const MAX_VARIANTS: usize = 8;
/// Bytes of an entry beside its body and name.
const OVERHEAD_BYTES: usize = 160;

/// Everything that an answer depends on beside the name of the topic or list.
pub(crate) trait Variant: PartialEq {
    /// Whether this is a newer version of the same variant.
    fn replaces(&self, other: &Self) -> bool;
}

/// Variant of a route (105).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteVariant {
    pub(crate) stamp: Stamp,
    /// Whether keys are quoted.
    pub(crate) standard: bool,
    pub(crate) acting_master: bool,
    pub(crate) order: Option<String>,
    /// Address of the embedded broker as the client sees it.
    pub(crate) shown: Option<String>,
}

impl Variant for RouteVariant {
    fn replaces(&self, other: &Self) -> bool {
        self.standard == other.standard && self.shown == other.shown
    }
}

/// Variant of a list of topics or brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListVariant {
    pub(crate) stamp: ListStamp,
    /// Address of the embedded broker as the client sees it.
    pub(crate) shown: Option<String>,
}

impl Variant for ListVariant {
    fn replaces(&self, other: &Self) -> bool {
        self.shown == other.shown
    }
}

struct Entries<V> {
    by_name: FxHashMap<Box<str>, Vec<(V, Bytes)>>,
    bytes: usize,
}

pub(crate) struct AnswerCache<V> {
    entries: Mutex<Entries<V>>,
}

impl<V> Default for AnswerCache<V> {
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

impl<V: Variant> AnswerCache<V> {
    /// `name` is the topic or the name of the list.
    pub(crate) fn get(&self, name: &str, variant: &V) -> Option<Bytes> {
        let entries = self.entries.lock();
        let known = entries.by_name.get(name)?;
        known.iter().find(|(made_for, _)| made_for == variant).map(|(_, body)| body.clone())
    }

    pub(crate) fn insert(&self, name: &str, variant: V, body: Bytes) {
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
