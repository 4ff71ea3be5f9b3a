//! Epochs of the controllers only grow, and so does what masters have confirmed: a later one begins with all of it, at the same place.

use super::{Check, broken};
use crate::log::Record;

const NAME: &str = "only_grow";

/// What grows.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    epochs: (i32, i32),
    committed: Vec<Record>,
}

impl Growing {
    /// The controllers have this master epoch and epoch of the in-sync set.
    pub(crate) fn epochs(&mut self, master: i32, in_sync: i32, is_changed: bool) -> Check {
        let before = std::mem::replace(&mut self.epochs, (master, in_sync));
        if master < before.0 || in_sync < before.1 {
            return broken(NAME, format!("the epochs go from {before:?} to {:?}", self.epochs));
        }
        if is_changed && before == self.epochs {
            return broken(NAME, format!("the controllers changed something, and the epochs stay {before:?}"));
        }
        Ok(())
    }

    /// A master has confirmed this.
    pub(crate) fn confirmed(&mut self, who: i64, log: &[Record]) -> Check {
        let both = log.len().min(self.committed.len());
        if log[..both] != self.committed[..both] {
            return broken(NAME, format!("broker {who} confirms other records than were confirmed"));
        }
        self.committed.extend_from_slice(&log[both..]);
        Ok(())
    }

    /// A broker becomes the master with this log.
    pub(crate) fn begins(&self, who: i64, log: &[Record]) -> Check {
        if log.len() < self.committed.len() || log[..self.committed.len()] != self.committed[..] {
            return broken(
                NAME,
                format!(
                    "broker {who} becomes the master with {} records, which lack some of {} confirmed ones",
                    log.len(),
                    self.committed.len()
                ),
            );
        }
        Ok(())
    }

    pub(crate) fn discard_lost(&mut self, log: &[Record]) {
        let common = log.iter().zip(&self.committed).take_while(|(one, other)| one == other).count();
        self.committed.truncate(common);
    }
}
