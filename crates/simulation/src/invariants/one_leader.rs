//! An epoch has one master at most.

use std::collections::BTreeMap;

use super::{Check, broken};

/// Masters by epoch.
#[derive(Debug, Default)]
pub(crate) struct Leaders(BTreeMap<i32, i64>);

impl Leaders {
    /// A broker becomes the master of an epoch.
    pub(crate) fn begins(&mut self, epoch: i32, id: i64) -> Check {
        match self.0.insert(epoch, id) {
            Some(other) if other != id => broken("one_leader", format!("brokers {other} and {id} are masters of epoch {epoch}")),
            _ => Ok(()),
        }
    }
}
