//! When a master that is to stop, or cannot store messages, gives its role to another in-sync replica. Pure state; time is that of the caller's monotonic clock, ms.
//!
//! It cannot store if its disk is nearly full, or a write or sync of its log has failed. Nothing acknowledged is lost by it: the other one has all of that, and
//! this one acknowledges nothing meanwhile. With nobody else in the in-sync set it stays the master, for readers.
//!
//! Disks of replicas fill alike. A master that could not store anything since its election waits longer, so that the role does not go round.

use std::collections::BTreeSet;

/// A master that could store messages hands over after so long without.
const AFTER_MS: i64 = 5_000;
/// One that is to stop does at once, and again after so long if it did not succeed.
const AGAIN_MS: i64 = 1_000;
/// One that never could does after so long.
const NEVER_WRITABLE_MS: i64 = 60_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct HandOver {
    epoch: i32,
    could_write: bool,
    since_ms: Option<i64>,
    asked_ms: Option<i64>,
}

impl HandOver {
    /// Whether it is time to. If that does not succeed, it is time again after as long.
    pub(super) fn is_due(&mut self, epoch: i32, can_write: bool, is_leaving: bool, now_ms: i64) -> bool {
        if self.epoch != epoch {
            *self = Self { epoch, ..Self::default() };
        }
        if is_leaving {
            let is_due = self.asked_ms.is_none_or(|at| now_ms - at >= AGAIN_MS);
            if is_due {
                self.asked_ms = Some(now_ms);
            }
            return is_due;
        }
        if can_write {
            (self.could_write, self.since_ms) = (true, None);
            return false;
        }
        let since = *self.since_ms.get_or_insert(now_ms);
        let patience = if self.could_write { AFTER_MS } else { NEVER_WRITABLE_MS };
        let is_due = now_ms - since >= patience;
        if is_due {
            self.since_ms = Some(now_ms);
        }
        is_due
    }
}

/// Who is to follow `own`: the next one in the set, so that each has its turn.
pub(super) fn successor(in_sync: &BTreeSet<i64>, own: i64) -> Option<i64> {
    let others = || in_sync.iter().copied().filter(|id| *id != own);
    others().find(|id| *id > own).or_else(|| others().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_hands_over_when_it_cannot_write_for_a_time_and_the_role_does_not_go_round() {
        let mut hand_over = HandOver::default();
        assert!(!hand_over.is_due(1, true, false, 0));
        assert!(!hand_over.is_due(1, false, false, 100) && !hand_over.is_due(1, false, false, 100 + AFTER_MS - 1));
        assert!(!hand_over.is_due(1, true, false, 5_000), "there is room again");
        assert!(!hand_over.is_due(1, false, false, 6_000) && hand_over.is_due(1, false, false, 6_000 + AFTER_MS));
        assert!(!hand_over.is_due(1, false, false, 6_001 + AFTER_MS), "that is being tried");
        assert!(hand_over.is_due(1, false, false, 6_000 + 2 * AFTER_MS));
        assert!(!hand_over.is_due(3, false, false, 100_000) && !hand_over.is_due(3, false, false, 100_000 + AFTER_MS));
        assert!(hand_over.is_due(3, false, false, 100_000 + NEVER_WRITABLE_MS));
    }

    #[test]
    fn a_master_that_is_to_stop_hands_over_at_once() {
        let mut hand_over = HandOver::default();
        assert!(!hand_over.is_due(1, true, false, 0));
        assert!(hand_over.is_due(1, true, true, 1) && !hand_over.is_due(1, true, true, AGAIN_MS));
        assert!(hand_over.is_due(1, true, true, 1 + AGAIN_MS));
    }

    #[test]
    fn each_replica_has_its_turn() {
        let all = BTreeSet::from([1, 3, 4]);
        assert_eq!([1, 3, 4].map(|own| successor(&all, own)), [Some(3), Some(4), Some(1)]);
        assert_eq!(successor(&BTreeSet::from([2]), 2), None);
    }
}
