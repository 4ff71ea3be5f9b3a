//! Bounds the bytes of the groups' subscriptions. Pure state.

use rustc_hash::FxHashMap;

/// The limits, each a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesLimits {
    /// All groups together, in bytes: `apogeeMaxSubscriptionBytes`.
    pub all: usize,
    /// The groups whose subscriptions came from one connection, in bytes: `apogeeMaxSubscriptionBytesPerConnection`.
    pub of_connection: usize,
    /// One group, in bytes: `apogeeMaxSubscriptionBytesPerGroup`.
    pub of_group: usize,
}

/// The limit that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BytesFull {
    /// One group.
    #[error("the limit is {0} bytes, see apogeeMaxSubscriptionBytesPerGroup")]
    Group(usize),
    /// One connection; bytes it already has.
    #[error("the subscriptions of its connection already take {0} bytes, see apogeeMaxSubscriptionBytesPerConnection")]
    Connection(usize),
    /// All groups; bytes they already have.
    #[error("the subscriptions of all groups already take {0} bytes, see apogeeMaxSubscriptionBytes")]
    All(usize),
}

/// Bytes of a group's subscriptions, and the connection they are charged to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) connection: u64,
    pub(super) bytes: usize,
}

/// Bytes charged in all and by connection.
#[derive(Debug, Default)]
pub(super) struct Budget {
    all: usize,
    of: FxHashMap<u64, usize>,
}

impl Budget {
    /// Checks whether a group may change its charge from `old` to `new`. A charge that does not grow is always allowed.
    ///
    /// # Errors
    /// [`BytesFull`] with the limit that would be exceeded.
    pub(super) fn check(&self, old: Charge, new: Charge, limits: &BytesLimits) -> Result<(), BytesFull> {
        if new.bytes > limits.of_group {
            return Err(BytesFull::Group(limits.of_group));
        }
        let before = if old.connection == new.connection { old.bytes } else { 0 };
        let of_this_connection = self.of.get(&new.connection).copied().unwrap_or(0) - before;
        if new.bytes > before && of_this_connection + new.bytes > limits.of_connection {
            return Err(BytesFull::Connection(of_this_connection));
        }
        let others = self.all - old.bytes;
        if new.bytes > old.bytes && others + new.bytes > limits.all {
            return Err(BytesFull::All(others));
        }
        Ok(())
    }

    pub(super) fn replace(&mut self, old: Charge, new: Charge) {
        self.all = self.all - old.bytes + new.bytes;
        if let Some(of_this_connection) = self.of.get_mut(&old.connection) {
            *of_this_connection -= old.bytes;
            if *of_this_connection == 0 {
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
    fn each_limit_refuses_what_exceeds_it() {
        let mut budget = Budget::default();
        let none = Charge::default();
        assert_eq!(budget.check(none, charge(1, 41), &LIMITS), Err(BytesFull::Group(40)));
        budget.replace(none, charge(1, 40));
        assert_eq!(budget.check(none, charge(1, 21), &LIMITS), Err(BytesFull::Connection(40)));
        assert_eq!(budget.check(charge(1, 40), charge(1, 39), &LIMITS), Ok(()));
        budget.replace(none, charge(2, 40));
        assert_eq!(budget.check(none, charge(3, 21), &LIMITS), Err(BytesFull::All(80)));
        assert_eq!(budget.check(none, charge(3, 20), &LIMITS), Ok(()));
    }

    #[test]
    fn released_bytes_are_not_counted() {
        let mut budget = Budget::default();
        budget.replace(Charge::default(), charge(1, 40));
        // The subscriptions came from another connection last.
        budget.replace(charge(1, 40), charge(2, 30));
        assert_eq!((budget.all, budget.of.get(&1), budget.of.get(&2)), (30, None, Some(&30)));
        budget.replace(charge(2, 30), Charge::default());
        assert!(budget.is_clean());
    }
}
