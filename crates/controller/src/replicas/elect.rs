//! Who becomes master.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::command::Live;

/// Chooses among living brokers: the old master if it lives, otherwise the one with the highest epoch, then the longest log, then the lowest
/// priority, then the lowest id. With `designated` only that broker may be chosen.
///
/// Compat: `DefaultElectPolicy`, whose comparison of log ends overflows and whose ties are broken by chance.
pub(super) fn elect(among: &BTreeSet<i64>, alive: &[Live], old: Option<i64>, designated: Option<i64>) -> Option<i64> {
    let living = || alive.iter().filter(|live| among.contains(&live.id));
    let lives = |id: i64| living().any(|live| live.id == id);
    match (designated, old) {
        (None, Some(old)) if lives(old) => Some(old),
        (Some(id), _) => lives(id).then_some(id),
        (None, _) => living()
            .min_by_key(|live| (Reverse(live.epoch), Reverse(live.max_offset), live.priority, live.id))
            .map(|live| live.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(id: i64, epoch: i32, max_offset: i64, priority: i32) -> Live {
        Live {
            id,
            epoch,
            max_offset,
            priority,
        }
    }

    #[test]
    fn epoch_then_log_then_priority_then_id() {
        let all = BTreeSet::from([1, 2, 3]);
        let best = |alive: &[Live]| elect(&all, alive, None, None);
        assert_eq!(best(&[live(1, 1, 900, 0), live(2, 2, 100, 9)]), Some(2));
        assert_eq!(best(&[live(1, 2, 0, 0), live(2, 2, i64::MAX, 9)]), Some(2));
        assert_eq!(best(&[live(1, 2, 100, 5), live(2, 2, 100, 4)]), Some(2));
        assert_eq!(best(&[live(3, 2, 100, 5), live(2, 2, 100, 5)]), Some(2));
        assert_eq!(best(&[live(4, 9, 900, 0)]), None);
    }

    #[test]
    fn a_living_master_stays_unless_another_is_designated() {
        let all = BTreeSet::from([1, 2]);
        let alive = [live(1, 1, 1, 1), live(2, 2, 2, 0)];
        assert_eq!(elect(&all, &alive, Some(1), None), Some(1));
        assert_eq!(elect(&all, &alive, Some(1), Some(2)), Some(2));
        assert_eq!(elect(&all, &alive[..1], Some(1), Some(2)), None);
    }
}
