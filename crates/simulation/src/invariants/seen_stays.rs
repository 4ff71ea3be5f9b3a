//! What a consumer has seen at a position stays there: it is never taken back, and no other broker shows another record there.

use super::{Check, broken};
use crate::log::Record;

/// What consumers have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    records: Vec<Record>,
}

impl Seen {
    /// A broker shows this to a consumer.
    pub(crate) fn shows(&mut self, who: &str, log: &[Record]) -> Check {
        let both = log.len().min(self.records.len());
        if let Some(at) = (0..both).find(|at| log[*at] != self.records[*at]) {
            return broken(
                "seen_stays",
                format!(
                    "{who} shows {:?} at {at}, where a consumer has seen {:?}",
                    log[at], self.records[at]
                ),
            );
        }
        self.records.extend_from_slice(&log[both..]);
        Ok(())
    }

    /// The log of a broker at the end.
    pub(crate) fn is_in(&self, who: &str, log: &[Record]) -> Check {
        match log.len() < self.records.len() {
            true => broken(
                "seen_stays",
                format!("{who} has {} records, a consumer has seen {}", log.len(), self.records.len()),
            ),
            false => Ok(()),
        }
    }

    pub(crate) fn discard_lost(&mut self, log: &[Record]) {
        let common = log.iter().zip(&self.records).take_while(|(one, other)| one == other).count();
        self.records.truncate(common);
    }
}
