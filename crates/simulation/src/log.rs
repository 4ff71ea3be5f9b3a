//! The log of a broker: records of one size, and up to where they are on the device.

/// Bytes of a record: large, so that a replica is near the end of the log with some records only (`NEARLY_BYTES` of the in-sync set).
pub(crate) const RECORD_BYTES: i64 = 300_000;

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Of the message; each send has another one.
    pub(crate) id: u32,
    /// Epoch of the master that wrote it.
    pub(crate) epoch: i32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<Record>,
    synced: usize,
    /// Counts truncations: a sync that began before one says nothing of what is written after it.
    pub(crate) cuts: u64,
}

pub(crate) fn count(offset: i64) -> usize {
    assert!(offset >= 0 && offset % RECORD_BYTES == 0, "{offset} is within a record");
    (offset / RECORD_BYTES) as usize
}

impl Log {
    pub(crate) fn end(&self) -> i64 {
        self.records.len() as i64 * RECORD_BYTES
    }

    pub(crate) fn synced(&self) -> i64 {
        self.synced as i64 * RECORD_BYTES
    }

    pub(crate) fn sync(&mut self, to: i64) {
        self.synced = self.synced.max(count(to).min(self.records.len()));
    }

    pub(crate) fn truncate(&mut self, end: i64) {
        self.cuts += u64::from(count(end) < self.records.len());
        self.records.truncate(count(end));
        self.synced = self.synced.min(self.records.len());
    }

    /// Records from this offset on, before `end`, at most so many.
    pub(crate) fn read(&self, from: i64, end: i64, max: usize) -> &[Record] {
        let all = &self.records[count(from)..count(end.min(self.end()))];
        &all[..all.len().min(max)]
    }

    /// What is before this offset.
    pub(crate) fn before(&self, end: i64) -> &[Record] {
        &self.records[..count(end)]
    }
}
