//! When to look at which check point.

use crate::pop::point::PointId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Plans that do not hold any more stay until they are due, or are as many as those that hold; fewer than this are kept in any case.
const FEW: usize = 1024;

/// Plans, the first in front. The caller knows which one of a check point holds: the last.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    plans: BinaryHeap<Reverse<(i64, PointId)>>,
    /// Plans that do not hold, about.
    stale: usize,
}

impl Agenda {
    pub(super) fn add(&mut self, at: i64, id: PointId) {
        self.plans.push(Reverse((at, id)));
    }

    /// A plan that was added does not hold any more.
    pub(super) fn cancel(&mut self, holds: impl Fn(i64, PointId) -> bool) {
        self.stale += 1;
        if self.stale > FEW && self.stale > self.plans.len() / 2 {
            self.plans.retain(|Reverse((at, id))| holds(*at, *id));
            self.plans.shrink_to(2 * self.plans.len().max(FEW));
            self.stale = 0;
        }
    }

    /// The first plan that holds.
    pub(super) fn first(&mut self, holds: impl Fn(i64, PointId) -> bool) -> Option<(i64, PointId)> {
        while let Some(Reverse((at, id))) = self.plans.peek().copied() {
            if holds(at, id) {
                return Some((at, id));
            }
            self.plans.pop();
            self.stale = self.stale.saturating_sub(1);
        }
        None
    }

    pub(super) fn remove_first(&mut self) {
        self.plans.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_first_plan_that_holds_is_found_and_others_do_not_pile_up() {
        let (mut agenda, mut current) = (Agenda::default(), BTreeMap::new());
        for round in 0..20_i64 {
            for id in 0..1_000_u32 {
                let at = 1_000 * round + i64::from(id);
                let was_planned = current.insert(id, at).is_some();
                agenda.add(at, id);
                if was_planned {
                    agenda.cancel(|at, id| current[&id] == at);
                }
                assert!(agenda.plans.len() <= 2 * (current.len() + FEW));
            }
        }
        for id in 0..1_000 {
            assert_eq!(
                agenda.first(|at, id| current.get(&id) == Some(&at)),
                Some((19_000 + i64::from(id), id))
            );
            current.remove(&id);
            agenda.remove_first();
        }
        assert_eq!(agenda.first(|_, _| false), None);
        assert_eq!(agenda.plans.len(), 0);
    }
}
