//! Bytes and names of a compaction store's files, as Apache's `CompactionLog` and `SparseConsumeQueue` have them.
//!
//! | Path below `compaction/` | Content |
//! |---|---|
//! | `compactionLog/TOPIC/QUEUE/N` | records as in the commit log, one after the other; N is the file's first position, 20 digits. A full file ends with a filler |
//! | `compactionCq/TOPIC/QUEUE/N` | entries of 46 bytes of the log file of the same name. A full file ends with an entry of position -1 |
//! | `…/compacting/` | files of a pass that is not complete, and the list `replace` that completes it (ours) |
//! | `position-checkpoint` | `{"queueOffsetMap":{"TOPIC_QUEUE":OFFSET}}`: the last queue offset that a pass has compacted |
//!
//! An entry, big-endian:
//!
//! | Field | Bytes |
//! |---|---|
//! | position of the record: name of its log file + place in it | 8 |
//! | size of the record | 4 |
//! | hash of its tag | 8 |
//! | store timestamp, epoch ms | 8 |
//! | queue offset | 8 |
//! | number of messages, 1 | 2 |
//! | -1 | 4 |
//! | 0 | 4 |
//!
//! One difference: Apache overwrites the log offset in a record by its position here, so that the id of a message changes. Ours keep
//! the offset they had in the commit log. Both read both.

use message::record;

/// Bytes of an entry.
pub(crate) const ENTRY_LEN: usize = 46;
/// Highest position of a record, far above any that is reached.
const POSITION_MAX: i64 = i64::MAX / 4;
/// Highest queue offset, as in the commit log.
const QUEUE_OFFSET_MAX: i64 = i64::MAX / 32;
/// Directory of the log files.
pub(crate) const LOG_DIR: &str = "compactionLog";
/// Directory of the entries.
pub(crate) const INDEX_DIR: &str = "compactionCq";
/// Directory of a pass that is not complete, in both.
pub(crate) const COMPACTING: &str = "compacting";

/// An entry: where the record of a queue offset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompactedEntry {
    /// Position of the record.
    pub(crate) position: i64,
    /// Bytes of the record.
    pub(crate) size: i32,
    /// Hash of its tag.
    pub(crate) tags_code: i64,
    /// Store timestamp, epoch ms.
    pub(crate) stored_ms: i64,
    /// Queue offset.
    pub(crate) queue_offset: i64,
}

impl CompactedEntry {
    /// The bytes.
    pub(crate) fn encode(&self) -> [u8; ENTRY_LEN] {
        encoded(self, 1)
    }

    /// Parses an entry; `None` if the bytes are none, as those of the end of a file or never written.
    pub(crate) fn decode(bytes: &[u8; ENTRY_LEN]) -> Option<Self> {
        let number = |at: usize| i64::from_be_bytes(std::array::from_fn(|n| bytes[at + n]));
        let short = |at: usize| i32::from_be_bytes(std::array::from_fn(|n| bytes[at + n]));
        let entry = Self {
            position: number(0),
            size: short(8),
            tags_code: number(12),
            stored_ms: number(20),
            queue_offset: number(28),
        };
        let count = i16::from_be_bytes([bytes[36], bytes[37]]);
        let is_entry = (0..=POSITION_MAX).contains(&entry.position)
            && entry.size >= record::MIN_LEN as i32
            && (0..=QUEUE_OFFSET_MAX).contains(&entry.queue_offset)
            && count > 0
            && short(38) == -1;
        is_entry.then_some(entry)
    }

    /// End of the record.
    pub(crate) fn end(&self) -> i64 {
        self.position.saturating_add(i64::from(self.size))
    }
}

fn encoded(entry: &CompactedEntry, count: i16) -> [u8; ENTRY_LEN] {
    let mut bytes = [0; ENTRY_LEN];
    bytes[0..8].copy_from_slice(&entry.position.to_be_bytes());
    bytes[8..12].copy_from_slice(&entry.size.to_be_bytes());
    bytes[12..20].copy_from_slice(&entry.tags_code.to_be_bytes());
    bytes[20..28].copy_from_slice(&entry.stored_ms.to_be_bytes());
    bytes[28..36].copy_from_slice(&entry.queue_offset.to_be_bytes());
    bytes[36..38].copy_from_slice(&count.to_be_bytes());
    bytes[38..42].copy_from_slice(&(-1i32).to_be_bytes());
    bytes
}

/// The entry at the end of a full file.
pub(crate) fn end_entry() -> [u8; ENTRY_LEN] {
    let nothing = CompactedEntry {
        position: -1,
        size: 0,
        tags_code: 0,
        stored_ms: 0,
        queue_offset: 0,
    };
    encoded(&nothing, 0)
}

/// Name of the file that begins at a position.
pub(crate) fn file_name(base: i64) -> String {
    format!("{base:020}")
}

/// Position at which a file of this name begins; `None` for other names.
pub(crate) fn base_of(name: &str) -> Option<i64> {
    (name.len() == 20 && name.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| name.parse().ok())
        .flatten()
        .filter(|base| *base <= POSITION_MAX)
}

/// Lengths of the files of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSizes {
    /// Bytes of a log file.
    pub(crate) log: i64,
    /// Bytes of a file of entries, a multiple of [`ENTRY_LEN`].
    pub(crate) index: i64,
}

impl FileSizes {
    /// The lengths that Apache makes of `compactionMappedFileSize` and `compactionCqMappedFileSize`: it refuses files of others.
    pub(crate) fn of(log: u64, index: u64) -> Self {
        let entry = ENTRY_LEN as i64;
        let index = (i64::try_from(index).unwrap_or(i64::MAX) / entry).max(2) * entry;
        let log = i64::try_from(log).unwrap_or(i64::MAX);
        let (whole, rest) = (log / index, log % index);
        let log = match whole {
            ..5 => index * 5,
            _ if rest > 0 && rest < index / 2 => whole * index,
            _ => (whole + 1) * index,
        };
        Self { log, index }
    }

    /// Length of a log file whose first record has `size` bytes: a multiple of the usual length.
    pub(crate) fn log_for(self, size: i64) -> i64 {
        let needed = size + record::FILLER_LEN as i64;
        (needed.max(1) + self.log - 1) / self.log * self.log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_apaches_bytes() {
        let entry = CompactedEntry {
            position: 0x0102,
            size: 0x0304,
            tags_code: -2,
            stored_ms: 0x0506,
            queue_offset: 7,
        };
        let bytes = entry.encode();
        let expected: [u8; ENTRY_LEN] = [
            0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 255, 255, 255, 255, 255, 255, 255, 254, 0, 0, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0,
            1, 255, 255, 255, 255, 0, 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(CompactedEntry::decode(&bytes), Some(entry));
        assert_eq!(CompactedEntry::decode(&end_entry()), None);
        assert_eq!(CompactedEntry::decode(&[0; ENTRY_LEN]), None);
    }

    #[test]
    fn torn_entry_is_none() {
        let entry = CompactedEntry {
            position: 500,
            size: 200,
            tags_code: 1,
            stored_ms: 1_700_000_000_000,
            queue_offset: 7,
        };
        for cut in 0..42 {
            let mut bytes = [0; ENTRY_LEN];
            bytes[..cut].copy_from_slice(&entry.encode()[..cut]);
            assert_eq!(CompactedEntry::decode(&bytes), None, "only the first {cut} bytes were written");
        }
    }

    #[test]
    fn lengths_are_apaches_for_the_default_settings_and_small_ones() {
        let apache = |log, index| {
            let sizes = FileSizes::of(log, index);
            (sizes.log, sizes.index)
        };
        assert_eq!(apache(100 << 20, 10 << 20), (104_857_460, 10_485_746));
        assert_eq!(apache(10 << 20, 1 << 20), (10_485_700, 1_048_570));
        assert_eq!(apache(4096, 4600), (23_000, 4600), "at least five times the entries");
    }

    #[test]
    fn larger_record_gets_a_longer_file() {
        let sizes = FileSizes { log: 1000, index: 92 };
        assert_eq!(
            [10, 992, 993, 1992, 1993].map(|size| sizes.log_for(size)),
            [1000, 1000, 2000, 2000, 3000]
        );
    }
}
