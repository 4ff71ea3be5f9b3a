//! Bytes that groups' subscriptions take. Pure state.

use rustc_hash::FxHashMap;

/// The bounds, each a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesLimits {
    /// Of all groups: `apogeeMaxSubscriptionBytes`.
    pub all: usize,
    /// Of the groups whose subscriptions one connection told: `apogeeMaxSubscriptionBytesPerConnection`.
    pub of_connection: usize,
    /// Of one group: `apogeeMaxSubscriptionBytesPerGroup`.
    pub of_group: usize,
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BytesFull {
    /// Of one group.
    #[error("allowed are {0}, see apogeeMaxSubscriptionBytesPerGroup")]
    Group(usize),
    /// Of one connection.
    #[error("its connection has {0} bytes already, see apogeeMaxSubscriptionBytesPerConnection")]
    Connection(usize),
    /// Of all.
    #[error("all groups together have {0} bytes already, see apogeeMaxSubscriptionBytes")]
    All(usize),
}

/// What a group takes, and which connection it is counted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) connection: u64,
    pub(super) bytes: usize,
}

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Budget {
    all: usize,
    of: FxHashMap<u64, usize>,
}

impl Budget {
    /// Whether a group may take `new` instead of `old`. What takes no more than before always may.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn room(&self, old: Charge, new: Charge, limits: &BytesLimits) -> Result<(), BytesFull> {
        if new.bytes > limits.of_group {
            return Err(BytesFull::Group(limits.of_group));
        }
        let before = if old.connection == new.connection { old.bytes } else { 0 };
        let of_one = self.of.get(&new.connection).copied().unwrap_or(0) - before;
        if new.bytes > before && of_one + new.bytes > limits.of_connection {
            return Err(BytesFull::Connection(of_one));
        }
        let others = self.all - old.bytes;
        if new.bytes > old.bytes && others + new.bytes > limits.all {
            return Err(BytesFull::All(others));
        }
        Ok(())
    }

    pub(super) fn replace(&mut self, old: Charge, new: Charge) {
        self.all = self.all - old.bytes + new.bytes;
        if let Some(of_one) = self.of.get_mut(&old.connection) {
            *of_one -= old.bytes;
            if *of_one == 0 {
                self.of.remove(&old.connection);
            }
        }
        if new.bytes > 0 {
            *self.of.entry(new.connection).or_default() += new.bytes;
        }
    }

    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.all == 0 && self.of.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BytesLimits = BytesLimits {
        all: 100,
        of_connection: 60,
        of_group: 40,
    };

    fn charge(connection: u64, bytes: usize) -> Charge {
        Charge { connection, bytes }
    }

    #[test]
    fn each_bound_refuses_what_is_over_it() {
        let mut budget = Budget::default();
        let none = Charge::default();
        assert_eq!(budget.room(none, charge(1, 41), &LIMITS), Err(BytesFull::Group(40)));
        budget.replace(none, charge(1, 40));
        assert_eq!(budget.room(none, charge(1, 21), &LIMITS), Err(BytesFull::Connection(40)));
        assert_eq!(budget.room(charge(1, 40), charge(1, 39), &LIMITS), Ok(()));
        budget.replace(none, charge(2, 40));
        assert_eq!(budget.room(none, charge(3, 21), &LIMITS), Err(BytesFull::All(80)));
        assert_eq!(budget.room(none, charge(3, 20), &LIMITS), Ok(()));
    }

    #[test]
    fn what_is_given_back_is_not_counted() {
        let mut budget = Budget::default();
        budget.replace(Charge::default(), charge(1, 40));
        // Another connection told the group's subscriptions last.
        budget.replace(charge(1, 40), charge(2, 30));
        assert_eq!((budget.all, budget.of.get(&1), budget.of.get(&2)), (30, None, Some(&30)));
        budget.replace(charge(2, 30), Charge::default());
        assert!(budget.is_clean());
    }
}
