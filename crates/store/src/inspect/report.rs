//! The report of a check: findings are counted and have a few examples each, so that the report stays small.

use rustc_hash::FxHashMap;
use serde::Serialize;
use std::path::PathBuf;

/// Examples kept of one kind of finding.
const EXAMPLES: usize = 8;

/// What a finding means to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Damage: something stored is gone, wrong or cannot be found, and no start repairs it.
    Damage,
    /// Left by an unclean stop; the next start repairs it.
    Recovery,
    /// A note.
    Note,
}

/// Where something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The directory as a whole.
    Directory,
    /// The commit log.
    Log,
    /// The consume queues.
    Queues,
    /// The key index.
    Index,
    /// The timer files.
    Timers,
    /// The file `checkpoint`.
    Checkpoint,
    /// The files in `config`.
    Config,
    /// The files of compacted topics.
    Compaction,
    /// The files that light queues share.
    LightQueues,
}

/// One kind of finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Severity.
    pub severity: Severity,
    /// Part of the directory.
    pub part: Part,
    /// Description, as a phrase about one or many.
    pub what: &'static str,
    /// How often it was found.
    pub count: u64,
    /// The first examples, with their places.
    pub examples: Vec<String>,
}

/// Findings while they are collected.
#[derive(Debug, Default)]
pub struct Findings(FxHashMap<(Severity, Part, &'static str), (u64, Vec<String>)>);

impl Findings {
    /// Adds one; `example` is called only while there are few of its kind.
    pub fn add(&mut self, severity: Severity, part: Part, what: &'static str, example: impl FnOnce() -> String) {
        self.add_many(1, severity, part, what, example);
    }

    /// Adds many with one example.
    pub fn add_many(&mut self, count: u64, severity: Severity, part: Part, what: &'static str, example: impl FnOnce() -> String) {
        let (total, examples) = self.0.entry((severity, part, what)).or_default();
        *total += count;
        if examples.len() < EXAMPLES {
            examples.push(example());
        }
    }

    /// Adds those of `others`.
    pub(super) fn append(&mut self, others: Self) {
        for ((severity, part, what), (count, examples)) in others.0 {
            let (total, known) = self.0.entry((severity, part, what)).or_default();
            *total += count;
            let left = EXAMPLES - known.len();
            known.extend(examples.into_iter().take(left));
        }
    }

    /// All findings, the worst first.
    #[must_use]
    pub fn finish(self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self
            .0
            .into_iter()
            .map(|((severity, part, what), (count, examples))| Finding {
                severity,
                part,
                what,
                count,
                examples,
            })
            .collect();
        findings.sort_unstable_by_key(|found| (found.severity, found.part, found.what));
        findings
    }
}

/// Summary of the commit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogSummary {
    /// Files.
    pub files: usize,
    /// Bytes of the files.
    pub bytes: u64,
    /// Offset of the first byte.
    pub first_offset: i64,
    /// End of the last whole record.
    pub end_offset: i64,
    /// Whole records.
    pub records: u64,
    /// Store time of the first record, epoch ms; 0 without one.
    pub first_stored_ms: i64,
    /// Store time of the last record, epoch ms; 0 without one.
    pub last_stored_ms: i64,
}

/// Summary of the consume queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueSummary {
    /// Topics that have queues.
    pub topics: usize,
    /// Queues.
    pub queues: usize,
    /// Entries that name a record of the log.
    pub entries: u64,
}

/// Summary of the key index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IndexSummary {
    /// Files.
    pub files: usize,
    /// Items of the files that could be read.
    pub items: u64,
}

/// Summary of the files of compacted topics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CompactionSummary {
    /// Queues.
    pub queues: usize,
    /// Messages.
    pub messages: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

/// Summary of the light log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LightSummary {
    /// Light queues.
    pub queues: usize,
    /// Their entries that name a message of the log.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Summary of the timer files: `timerlog`, `timerwheel` and `config/timercheck`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TimerSummary {
    /// Bytes of the timer log.
    pub bytes: u64,
    /// Its units, also of messages that were delivered; those below the last deletion are not read.
    pub units: u64,
    /// Slots in which messages wait.
    pub slots: usize,
    /// Messages that wait.
    pub waiting: u64,
    /// Recalls of messages that wait.
    pub recalls: u64,
    /// What was due before this was delivered, epoch ms; 0 if it is not known.
    pub delivered_before_ms: i64,
}

/// Summary of the file `checkpoint`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckpointSummary {
    /// Store time of the last record synced in the log, epoch ms.
    pub log_timestamp: i64,
    /// Store time of the last record whose queue entry was synced, epoch ms.
    pub queue_timestamp: i64,
    /// Store time of the last record in a synced index file, epoch ms.
    pub index_timestamp: i64,
    /// Log offset up to which the master has flushed, on a replica.
    pub master_flushed: i64,
    /// Log offset up to which replicas have confirmed.
    pub confirmed: i64,
    /// Log offset below which log and queues are synced; `None` in a directory of Apache's.
    pub dispatched: Option<i64>,
    /// Log offset below which keys are in synced index files; `None` in a directory of Apache's.
    pub indexed: Option<i64>,
}

/// Bounds of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueEnds {
    /// First queue offset that may have a message.
    pub min: i64,
    /// Queue offset after the last entry.
    pub max: i64,
}

/// Bounds of queues, by topic and queue id.
pub type EndsByQueue = FxHashMap<(String, i32), QueueEnds>;

/// Report of a check of a directory.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The directory.
    pub root: PathBuf,
    /// Whether a process has the directory open.
    pub in_use: bool,
    /// Whether the last process shut down cleanly.
    pub stopped_in_order: bool,
    /// Log offset below which queues and index must be complete; above it the next start derives them from the log.
    pub trusted_offset: i64,
    /// The commit log.
    pub log: LogSummary,
    /// The consume queues.
    pub queues: QueueSummary,
    /// The key index.
    pub index: IndexSummary,
    /// The files of compacted topics.
    pub compaction: CompactionSummary,
    /// The files that light queues share.
    pub light: LightSummary,
    /// The timer files.
    pub timers: TimerSummary,
    /// The file `checkpoint`; `None` if there is none.
    pub checkpoint: Option<CheckpointSummary>,
    /// The findings, the worst first.
    pub findings: Vec<Finding>,
    /// Bounds of all queues by topic and queue id, for checks of consumer offsets.
    #[serde(skip)]
    pub queue_ends: EndsByQueue,
}

impl Report {
    /// Whether something is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|found| found.severity == Severity::Damage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_counted_with_few_examples_and_the_worst_come_first() {
        let mut findings = Findings::default();
        findings.add(Severity::Note, Part::Directory, "note", || "n".to_owned());
        for at in 0..1000 {
            findings.add(Severity::Damage, Part::Log, "hole", || format!("at {at}"));
        }
        let found = findings.finish();
        assert_eq!((found[0].count, found[0].examples.len(), found[0].what), (1000, EXAMPLES, "hole"));
        assert_eq!(found[0].examples[0], "at 0");
        assert_eq!(found[1].severity, Severity::Note);
    }
}
