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

#[derive(Debug, Default)]
pub(super) struct LoadedSlot {
    /// When it begins, epoch ms.
    pub(super) begin_ms: i64,
    units: BinaryHeap<Reverse<Waiting>>,
    /// The last unit that was read, if there are more behind it.
    rest_behind: Option<(i64, i64)>,
    /// The last unit that was taken.
    pub(super) taken: Option<(i64, i64)>,
    /// The last unit that was taken or passed over, and the messages that were taken with its due time.
    passed: Option<(i64, i64)>,
    taken_at_once: FxHashSet<i64>,
    /// Messages that are recalled.
    recalled: FxHashSet<[u64; 2]>,
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
            ..Self::default()
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

    /// Takes those that are due, at most so many and about so many bytes; the first of any size. A message that has two units is taken
    /// once: Apache's broker adds messages again that it added shortly before it was killed.
    pub(super) fn take_due(&mut self, now_ms: i64, most: usize, most_bytes: usize) -> Vec<Waiting> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(Reverse(one)) = self.units.peek() {
            let size = one.size.max(0) as usize;
            if one.due_ms > now_ms || taken.len() == most || (!taken.is_empty() && bytes + size > most_bytes) {
                break;
            }
            let one = *one;
            self.units.pop();
            if self.passed.is_none_or(|(due_ms, _)| due_ms != one.due_ms) {
                self.taken_at_once.clear();
            }
            self.passed = Some((one.due_ms, one.at));
            if self.taken_at_once.insert(one.log_offset) {
                bytes += size;
                taken.push(one);
            }
        }
        taken
    }

    /// The last unit that was taken or passed over.
    pub(super) fn passed(&self) -> Option<(i64, i64)> {
        self.passed
    }

    /// Puts back what was taken and is not delivered.
    pub(super) fn put_back(&mut self, taken: Vec<Waiting>) {
        taken.iter().for_each(|one| {
            self.taken_at_once.remove(&one.log_offset);
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(due_ms: i64, at: i64, log_offset: i64) -> Reverse<Waiting> {
        Reverse(Waiting {
            due_ms,
            at,
            log_offset,
            size: 100,
            flags: 0,
            written_ms: 0,
            topic_hash: 0,
        })
    }

    #[test]
    fn a_message_with_two_units_is_taken_once() {
        let units = [unit(5, 0, 1), unit(5, 52, 2), unit(5, 104, 1), unit(6, 156, 3), unit(6, 208, 3)];
        let mut slot = LoadedSlot {
            units: units.into_iter().collect(),
            ..LoadedSlot::default()
        };
        let of = |taken: &[Waiting]| taken.iter().map(|one| one.log_offset).collect::<Vec<_>>();
        let taken = slot.take_due(5, 1, 1_000);
        assert_eq!(of(&taken), [1]);
        slot.put_back(taken);
        let taken = slot.take_due(5, 9, 1_000);
        assert_eq!((of(&taken), slot.passed()), (vec![1, 2], Some((5, 104))));
        assert_eq!((of(&slot.take_due(6, 9, 1_000)), slot.passed()), (vec![3], Some((6, 208))));
    }
}
