//! A message that a master has acknowledged is in the log of every later master, and at the end in every log, where it was.
//!
//! Under ASYNC_FLUSH a broker whose machine lost power, and which waited in vain for another master, may become the master with what it still
//! has; what it lacks is lost, as documented.

use super::{Check, broken};
use crate::log::Record;

const NAME: &str = "acknowledged_survive";

/// Messages that were acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    /// With the index in the log.
    all: Vec<(usize, Record)>,
    pub(crate) count: usize,
}

impl Acknowledged {
    /// A master acknowledges this record of its log.
    pub(crate) fn acknowledge(&mut self, index: usize, record: Record) {
        self.all.push((index, record));
        self.count += 1;
    }

    /// A broker becomes the master with this log, or it is one of the logs at the end.
    pub(crate) fn is_in(&self, who: &str, log: &[Record]) -> Check {
        match self.all.iter().find(|(index, record)| log.get(*index) != Some(record)) {
            Some((index, record)) => broken(
                NAME,
                format!(
                    "{who} has {:?} of {} records at {index}, {record:?} was acknowledged there",
                    log.get(*index),
                    log.len()
                ),
            ),
            None => Ok(()),
        }
    }

    /// What is not in this log was lost, as documented.
    pub(crate) fn discard_lost(&mut self, log: &[Record]) {
        self.all.retain(|(index, record)| log.get(*index) == Some(record));
    }
}
