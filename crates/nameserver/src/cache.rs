//! Cache of encoded answers: clients look up the route of each of their topics every 30 s, and lists of all topics are long.
//!
//! Invariant: an entry is returned only for the stamp, order configuration and settings with which it was encoded. A change makes entries
//! useless, not wrong. Memory is limited: the answers that came first leave first, as many as the new one needs. (Emptying a full cache stopped
//! the name server for 20 ms every few seconds.)

use std::collections::VecDeque;
use std::sync::Arc;

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
    by_name: FxHashMap<Arc<str>, Vec<(V, Bytes)>>,
    oldest_first: VecDeque<Arc<str>>,
    bytes: usize,
}

impl<V: Variant> Entries<V> {
    fn insert(&mut self, name: &str, variant: V, body: Bytes) {
        if !self.by_name.contains_key(name) {
            let name: Arc<str> = name.into();
            self.bytes += name.len();
            self.oldest_first.push_back(Arc::clone(&name));
            self.by_name.insert(name, Vec::new());
        }
        let Some(known) = self.by_name.get_mut(name) else { return };
        self.bytes -= bytes_of(known);
        known.retain(|(other, _)| !variant.replaces(other));
        if known.len() >= MAX_VARIANTS {
            known.remove(0);
        }
        known.push((variant, body));
        self.bytes += bytes_of(known);
    }

    fn remove_oldest(&mut self) {
        let Some(name) = self.oldest_first.pop_front() else { return };
        let removed = self.by_name.remove(&name).unwrap_or_default();
        self.bytes -= name.len() + bytes_of(&removed);
    }
}

fn bytes_of<V>(answers: &[(V, Bytes)]) -> usize {
    answers.iter().map(|(_, body)| body.len() + OVERHEAD_BYTES).sum()
}

pub(crate) struct AnswerCache<V> {
    entries: Mutex<Entries<V>>,
}

impl<V> Default for AnswerCache<V> {
    fn default() -> Self {
        let entries = Entries {
            by_name: FxHashMap::default(),
            oldest_first: VecDeque::new(),
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

    /// An answer that is larger than the cache is not kept.
    pub(crate) fn insert(&self, name: &str, variant: V, body: Bytes) {
        if name.len() + body.len() + OVERHEAD_BYTES > MAX_BYTES {
            return;
        }
        let mut entries = self.entries.lock();
        entries.insert(name, variant, body);
        while entries.bytes > MAX_BYTES {
            entries.remove_oldest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(PartialEq)]
    struct Version(u32);

    impl Variant for Version {
        fn replaces(&self, _: &Self) -> bool {
            true
        }
    }

    #[test]
    fn the_oldest_answers_leave_a_full_cache() {
        let (cache, body) = (AnswerCache::default(), Bytes::from(vec![0; MAX_BYTES / 10]));
        for n in 0..100 {
            // The first variant is replaced.
            cache.insert(&format!("{n}"), Version(0), body.clone());
            cache.insert(&format!("{n}"), Version(1), body.clone());
            assert!(cache.get(&format!("{n}"), &Version(0)).is_none());
        }
        let kept: Vec<u32> = (0..100).filter(|n| cache.get(&format!("{n}"), &Version(1)).is_some()).collect();
        assert_eq!(kept, Vec::from_iter(91..100));
        cache.insert("large", Version(1), vec![0; MAX_BYTES].into());
        assert!(cache.get("large", &Version(1)).is_none() && cache.get("99", &Version(1)).is_some());
        let entries = cache.entries.lock();
        assert_eq!((entries.oldest_first.len(), entries.by_name.len()), (9, 9));
        let names = 2 * 9;
        assert_eq!(entries.bytes, names + 9 * (MAX_BYTES / 10 + OVERHEAD_BYTES));
    }
}
