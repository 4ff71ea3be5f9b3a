//! Check points that are held for a consumer.
//!
//! Those that are not held cost nothing here. Messages that a client wants more time for are not held any more: their check point is another one.

use super::InFlight;
use crate::clients::{Holder, Lease};
use crate::delay::clock::Moment;
use crate::pop::point::{NONE, Point, PointId};
use rustc_hash::{FxHashMap, FxHashSet};

/// For whom check points are held, and which ones for each holder.
#[derive(Debug, Default)]
pub(super) struct Held {
    of: FxHashMap<PointId, Lease>,
    points: FxHashMap<u64, FxHashSet<PointId>>,
}

#[cfg(test)]
impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.points.is_empty()
    }

    /// How many check points are held for a client.
    pub(super) fn of_holder(&self, holder: &Holder) -> Option<usize> {
        self.points.get(&holder.id()).map(FxHashSet::len)
    }
}

impl InFlight {
    /// A check point that was just added is held.
    pub(super) fn hold_for(&mut self, id: PointId, lease: Lease) {
        self.points[id as usize].is_held = true;
        self.held.points.entry(lease.holder.id()).or_default().insert(id);
        self.held.of.insert(id, lease);
    }

    /// For whom a check point is held.
    pub(super) fn lease_of(&self, point: &Point, id: PointId) -> Option<&Lease> {
        self.held.of.get(&id).filter(|_| point.is_held)
    }

    /// A check point is not held any more.
    pub(super) fn let_go_of(&mut self, id: PointId) {
        if !std::mem::take(&mut self.points[id as usize].is_held) {
            return;
        }
        let Some(lease) = self.held.of.remove(&id) else { return };
        let holder = lease.holder.id();
        if let Some(points) = self.held.points.get_mut(&holder) {
            points.remove(&id);
            if points.is_empty() {
                self.held.points.remove(&holder);
            }
        }
    }

    /// A check point whose time has passed: whether it stays invisible, for another time.
    pub(super) fn is_kept(&mut self, id: PointId, now: Moment) -> bool {
        let point = &self.points[id as usize];
        if !point.is_held || point.due > now.steady_ms || point.is_complete() {
            return false;
        }
        let next = self
            .held
            .of
            .get(&id)
            .and_then(|lease| lease.look_again(point.invisible_ms.into(), now.steady_ms));
        match next {
            Some(due) => self.points[id as usize].due = due,
            None => self.let_go_of(id),
        }
        next.is_some()
    }

    /// The holder said goodbye: what is held for it is visible after this time, and the next delivery does not count as a retry.
    pub(in crate::pop) fn give_back(&mut self, holder: &Holder, after_ms: i64, now: Moment) {
        let Some(points) = self.held.points.remove(&holder.id()) else {
            return;
        };
        let visible_at = now.steady_ms.saturating_add(after_ms);
        for id in points {
            self.held.of.remove(&id);
            let point = &mut self.points[id as usize];
            point.is_held = false;
            // What the thread stores again just now is visible in a moment.
            if !point.is_reviving {
                point.suspend = true;
                point.due = point.due.min(visible_at);
                if point.at != NONE && point.due < point.at {
                    self.plan(id, visible_at);
                }
            }
        }
    }
}
