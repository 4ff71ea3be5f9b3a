//! Records of the revive topic that are not done.

use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Done records between others are kept until they are as many as those, and more than this.
const FEW: usize = 1024;

/// Offsets of records, by queue of the revive topic.
#[derive(Debug, Default)]
pub(super) struct Records(FxHashMap<u16, Ascending>);

/// Ascending offsets, of which the first is not done.
#[derive(Debug, Default)]
struct Ascending {
    /// Those of done records are inverted.
    offsets: VecDeque<i64>,
    done: usize,
}

fn offset_of(entry: i64) -> i64 {
    if entry < 0 { !entry } else { entry }
}

impl Records {
    /// Adds a record that is not done. Cheap in ascending order.
    pub(super) fn insert(&mut self, revive_queue: u16, record: i64) {
        let Ascending { offsets, done } = self.0.entry(revive_queue).or_default();
        if offsets.back().is_none_or(|last| offset_of(*last) < record) {
            offsets.push_back(record);
            return;
        }
        match offsets.binary_search_by_key(&record, |entry| offset_of(*entry)) {
            Ok(at) if offsets[at] < 0 => {
                offsets[at] = record;
                *done -= 1;
            }
            Ok(_) => {}
            Err(at) => offsets.insert(at, record),
        }
    }

    /// A record is done.
    pub(super) fn remove(&mut self, revive_queue: u16, record: i64) {
        let Some(Ascending { offsets, done }) = self.0.get_mut(&revive_queue) else {
            return;
        };
        let Ok(at) = offsets.binary_search_by_key(&record, |entry| offset_of(*entry)) else {
            return;
        };
        if offsets[at] >= 0 {
            offsets[at] = !record;
            *done += 1;
        }
        while offsets.front().is_some_and(|entry| *entry < 0) {
            offsets.pop_front();
            *done -= 1;
        }
        if *done > FEW && *done > offsets.len() / 2 {
            offsets.retain(|entry| *entry >= 0);
            *done = 0;
        }
        if offsets.capacity() > 4 * offsets.len().max(FEW) {
            offsets.shrink_to(2 * offsets.len().max(FEW));
        }
    }

    /// The first record of a queue that is not done.
    pub(super) fn first(&self, revive_queue: u16) -> Option<i64> {
        self.0.get(&revive_queue)?.offsets.front().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn the_first_one_is_that_of_a_set(steps in proptest::collection::vec((any::<bool>(), 0..2_u16, 0..40_i64), 1..300)) {
            let (mut records, mut model) = (Records::default(), BTreeSet::new());
            for (adds, queue, record) in steps {
                if adds {
                    records.insert(queue, record);
                    model.insert((queue, record));
                } else {
                    records.remove(queue, record);
                    model.remove(&(queue, record));
                }
                for queue in 0..2 {
                    let expected = model.range((queue, 0)..=(queue, i64::MAX)).next().map(|(_, record)| *record);
                    prop_assert_eq!(records.first(queue), expected);
                    let ascending = records.0.get(&queue);
                    let done = ascending.map_or(0, |ascending| ascending.offsets.iter().filter(|entry| **entry < 0).count());
                    prop_assert_eq!(done, ascending.map_or(0, |ascending| ascending.done));
                }
            }
        }
    }

    #[test]
    fn done_records_do_not_pile_up_behind_one_that_is_not() {
        let mut records = Records::default();
        for record in 0..100_000 {
            records.insert(7, record);
            if record > 0 {
                records.remove(7, record);
            }
            assert!(records.0[&7].offsets.len() <= FEW + 3);
        }
        assert_eq!(records.first(7), Some(0));
        records.remove(7, 0);
        assert_eq!(records.first(7), None);
    }
}
