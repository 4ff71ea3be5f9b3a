//! The slot whose messages are being delivered: its units in order of due time.

use super::stored::Stored;
use crate::records;
use rustc_hash::FxHashSet;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use store::queue::Entry;
use store::timer::{TimerIndex, Waiting};
use store::{Store, StoreError};

/// Units in memory at most, 56 bytes each. A slot with more is read several times.
pub(super) const MOST: usize = 500_000;
/// Messages that recall others are read so many at once.
const RECALLS_AT_ONCE: usize = 512;

#[derive(Debug)]
pub(super) struct LoadedSlot {
    /// When it begins, epoch ms.
    pub(super) begin_ms: i64,
    units: BinaryHeap<Reverse<Waiting>>,
    /// The last unit that was read, if there are more behind it.
    rest_behind: Option<(i64, i64)>,
    /// The last unit that was taken.
    pub(super) taken: Option<(i64, i64)>,
    /// Messages that are recalled.
    recalled: FxHashSet<u128>,
    /// Log offset of the first append with its messages.
    pub(super) first_append: Option<i64>,
}

impl LoadedSlot {
    /// Reads a slot.
    ///
    /// # Errors
    /// The index or the log cannot be read.
    pub(super) fn read(index: &TimerIndex, store: &Store, begin_ms: i64) -> Result<Self, StoreError> {
        let mut slot = Self {
            begin_ms,
            units: BinaryHeap::new(),
            rest_behind: None,
            taken: None,
            recalled: FxHashSet::default(),
            first_append: None,
        };
        slot.read_more(index, (i64::MIN, i64::MIN))?;
        let mut recalls = Vec::new();
        index.recalls_of(begin_ms, &mut recalls)?;
        recalls.sort_unstable_by_key(|one| one.log_offset);
        for some in recalls.chunks(RECALLS_AT_ONCE) {
            let entries: Vec<((), Entry)> = some.iter().map(|one| ((), entry(one.log_offset, one.size))).collect();
            for ((), bytes) in records::read(store, &entries, "timer")? {
                slot.recalled.extend(Stored::parse(&bytes).ok().map(|stored| stored.key()));
            }
        }
        Ok(slot)
    }

    fn read_more(&mut self, index: &TimerIndex, behind: (i64, i64)) -> Result<(), StoreError> {
        let mut units = Vec::new();
        let is_all = index.read_slot(self.begin_ms, behind, MOST, &mut units)?;
        self.rest_behind = units.last().filter(|_| !is_all).map(|last| (last.due_ms, last.at));
        self.units = units.into_iter().map(Reverse).collect();
        Ok(())
    }

    /// Takes a unit that was added to the slot.
    pub(super) fn add(&mut self, one: Waiting, stored: &Stored<'_>) {
        if one.recalls() {
            self.recalled.insert(stored.key());
        }
        // What stands behind the rest is read with it.
        if self.rest_behind.is_none_or(|last| (one.due_ms, one.at) <= last) {
            self.units.push(Reverse(one));
        }
    }

    pub(super) fn is_recalled(&self, stored: &Stored<'_>) -> bool {
        !self.recalled.is_empty() && self.recalled.contains(&stored.key())
    }

    /// When the next one is due, epoch ms; `None` if there is none.
    ///
    /// # Errors
    /// The rest of the slot cannot be read.
    pub(super) fn next_due_ms(&mut self, index: &TimerIndex) -> Result<Option<i64>, StoreError> {
        if self.units.is_empty()
            && let Some(last) = self.rest_behind
        {
            self.read_more(index, last)?;
        }
        Ok(self.units.peek().map(|one| one.0.due_ms))
    }

    /// Takes those that are due, at most so many and about so many bytes; the first of any size.
    pub(super) fn take_due(&mut self, now_ms: i64, most: usize, most_bytes: usize) -> Vec<Waiting> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(Reverse(one)) = self.units.peek() {
            let size = one.size.max(0) as usize;
            if one.due_ms > now_ms || taken.len() == most || (!taken.is_empty() && bytes + size > most_bytes) {
                break;
            }
            bytes += size;
            taken.push(*one);
            self.units.pop();
        }
        taken
    }

    /// Puts back what was taken and is not delivered.
    pub(super) fn put_back(&mut self, taken: Vec<Waiting>) {
        self.units.extend(taken.into_iter().map(Reverse));
    }
}

/// A message by its place.
pub(super) fn entry(log_offset: i64, size: i32) -> Entry {
    Entry {
        log_offset,
        size,
        tags_code: 0,
    }
}
