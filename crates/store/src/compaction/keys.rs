//! The latest queue offset of each key of one pass, within a limit of memory.

use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::{BuildHasher, RandomState};

/// Bytes of an entry of the table, with the byte that the table needs beside it.
const ENTRY_BYTES: usize = 25;
/// Fewer places than this are not worth a pass.
const PLACES_MIN: usize = 128;

/// The latest queue offset by key.
///
/// Keys are compared by two hashes of 64 bits each, whose seeds are random: nobody can choose two keys that are taken for one.
pub(super) struct LatestOffsets {
    seeds: [RandomState; 2],
    offsets: FxHashMap<[u64; 2], i64>,
    max: usize,
    last: i64,
}

impl LatestOffsets {
    /// An empty table that takes at most this many bytes, and is for at most this many keys.
    pub(super) fn new(max_bytes: usize, keys: usize) -> Self {
        // The table has a power of two of places, and fills seven of eight.
        let places = (max_bytes / ENTRY_BYTES).max(PLACES_MIN);
        let max = (1 << places.ilog2()) / 8 * 7;
        Self {
            seeds: [RandomState::new(), RandomState::new()],
            offsets: FxHashMap::with_capacity_and_hasher(keys.min(max), FxBuildHasher),
            max,
            last: -1,
        }
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.seeds[0].hash_one(key), self.seeds[1].hash_one(key)]
    }

    /// Notes that the key has a message at this offset, which is above all before. False if there is no room for another key: the
    /// table is for the offsets before it then.
    pub(super) fn put(&mut self, key: &[u8], offset: i64) -> bool {
        debug_assert!(offset > self.last, "offsets of a queue only grow");
        let hash = self.hash(key);
        if self.offsets.len() >= self.max && !self.offsets.contains_key(&hash) {
            return false;
        }
        self.offsets.insert(hash, offset);
        self.last = offset;
        true
    }

    /// Notes an offset without a message that counts.
    pub(super) fn pass(&mut self, offset: i64) {
        self.last = self.last.max(offset);
    }

    /// The last offset that the table covers; -1 if there is none.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    /// Whether a message is kept: the table does not cover it, or it is the latest of its key and has a body. One without a body
    /// deletes its key.
    pub(super) fn keeps(&self, key: &[u8], offset: i64, has_body: bool) -> bool {
        offset > self.last || (has_body && self.offsets.get(&self.hash(key)).is_none_or(|latest| offset >= *latest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_offset_of_a_key_is_kept_and_an_empty_body_deletes_it() {
        let mut table = LatestOffsets::new(1 << 20, 10);
        for (offset, key) in ["a", "b", "a", "c"].iter().enumerate() {
            assert!(table.put(key.as_bytes(), offset as i64));
        }
        let kept: Vec<bool> = [("a", 0), ("b", 1), ("a", 2), ("c", 3)]
            .iter()
            .map(|(key, offset)| table.keeps(key.as_bytes(), *offset, true))
            .collect();
        assert_eq!(kept, [false, true, true, true]);
        assert!(!table.keeps(b"c", 3, false), "a message without a body goes, too");
        assert!(table.keeps(b"x", 2, true), "a key that the table does not have");
        assert!(table.keeps(b"a", 4, false), "behind what the table covers nothing is decided");
    }

    #[test]
    fn full_table_covers_what_was_before() {
        let mut table = LatestOffsets::new(0, usize::MAX);
        let full = (0..1_000i64).find(|offset| !table.put(&offset.to_be_bytes(), *offset)).unwrap();
        assert_eq!(table.last(), full - 1);
        assert!(table.put(&0i64.to_be_bytes(), full), "a key that it has needs no room");
    }
}
