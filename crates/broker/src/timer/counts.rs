//! `config/timermetrics`: how many messages of each topic wait, as Apache writes it and answers 61.
//!
//! ```text
//! {"dataVersion":{"counter":0,"stateVersion":0,"timestamp":1700000000000},
//!  "timingCount":{"topic":{"count":1,"timeStamp":1700000000000}}}
//! ```

use crate::state_file::{SavedTable, StateFile, Table, pretty};
use parking_lot::Mutex;
use protocol::{DataVersion, json};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What the table's file is and holds.
pub const TABLE: Table = Table {
    name: "timermetrics",
    holds: "how many timer messages of each topic wait",
    without: "they are counted from 0",
    is_made_again: true,
    check: |content| json::read::<Counts>(content).map(drop),
};

/// How many messages wait, by topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Counts {
    data_version: DataVersion,
    timing_count: BTreeMap<String, Count>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Count {
    count: i64,
    time_stamp: i64,
}

impl Counts {
    /// Adds `messages` of a topic, or takes them away. Topics with none are forgotten, so there are no more than wait.
    pub(super) fn add(&mut self, topic: &str, messages: i64, now_ms: i64) {
        self.data_version.counter += 1;
        self.data_version.timestamp = now_ms;
        match self.timing_count.get_mut(topic) {
            Some(known) => {
                known.count += messages;
                known.time_stamp = now_ms;
                if known.count <= 0 {
                    self.timing_count.remove(topic);
                }
            }
            None if messages > 0 => {
                let count = Count {
                    count: messages,
                    time_stamp: now_ms,
                };
                self.timing_count.insert(topic.to_owned(), count);
            }
            None => {}
        }
    }

    /// Nothing waits.
    pub(super) fn clear(&mut self) {
        self.timing_count.clear();
    }
}

/// The counts as they were when the index was saved last, and their file.
#[derive(Debug)]
pub struct CountsFile {
    file: StateFile,
    period: Duration,
    /// With whether the file says the same.
    counts: Mutex<(Counts, bool)>,
}

impl CountsFile {
    /// Saved in `file` every `period`.
    #[must_use]
    pub fn new(file: StateFile, period: Duration) -> Arc<Self> {
        Arc::new(Self {
            file,
            period,
            counts: Mutex::new((Counts::default(), true)),
        })
    }

    pub(super) fn get(&self) -> Counts {
        self.counts.lock().0.clone()
    }

    pub(super) fn set(&self, counts: &Counts) {
        let mut known = self.counts.lock();
        if known.0 != *counts {
            *known = (counts.clone(), false);
        }
    }

    /// A topic was deleted.
    pub(super) fn forget(&self, topic: &str) {
        let mut known = self.counts.lock();
        known.1 &= known.0.timing_count.remove(topic).is_none();
    }

    /// How many messages of a topic wait.
    #[cfg(test)]
    pub(crate) fn count_of(&self, topic: &str) -> i64 {
        self.counts.lock().0.timing_count.get(topic).map_or(0, |count| count.count)
    }

    /// Counts messages of a topic.
    #[cfg(test)]
    pub(crate) fn count(&self, topic: &str, messages: i64) {
        let mut counts = self.get();
        counts.add(topic, messages, 1);
        self.set(&counts);
    }

    /// The body of the answer to 61.
    pub(super) fn json(&self) -> Vec<u8> {
        json::write(&self.counts.lock().0)
    }
}

impl SavedTable for CountsFile {
    fn load(&self) -> io::Result<()> {
        if let Some(counts) = self.file.load(json::read::<Counts>)? {
            self.counts.lock().0 = counts;
        }
        Ok(())
    }

    fn save(&self) -> io::Result<()> {
        let counts = {
            let mut known = self.counts.lock();
            if std::mem::replace(&mut known.1, true) {
                return Ok(());
            }
            known.0.clone()
        };
        self.file.save(&pretty(&counts)).inspect_err(|_| self.counts.lock().1 = false)
    }

    fn period(&self) -> Option<Duration> {
        Some(self.period)
    }

    fn name(&self) -> &'static str {
        self.file.name()
    }
}
