//! One entry of a consume queue file: a message's log offset, its length, and its tag hash.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | log offset of the record |
//! | 8 | 4 | length of the record; 0x7FFFFFFF in an entry that only fills a place |
//! | 12 | 8 | tag's code (delivery time in the queues of delayed messages) |
//!
//! Integers are big-endian. All zeros is "not written yet": a record has a length.

use crate::log::RecordPlace;
use message::LogOffset;

/// Bytes of an entry on disk.
pub(crate) const ENTRY_LEN: usize = 20;

/// A queue entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Log offset of the record.
    pub log_offset: i64,
    /// Length of the record in bytes; positive in an entry that was written.
    pub size: i32,
    /// Tag hash, for filters that do not read the record.
    pub tags_code: i64,
}

impl Entry {
    /// An entry without a message, as before the first message of a queue that does not start at the beginning of a file.
    pub const BLANK: Self = Self {
        log_offset: 0,
        size: i32::MAX,
        tags_code: 0,
    };

    /// Whether there is no message at this queue offset.
    #[must_use]
    pub const fn is_blank(&self) -> bool {
        self.size == i32::MAX
    }

    /// Whether these bytes were written as an entry.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        self.log_offset >= 0 && self.size > 0
    }

    /// The record's place in the log.
    pub(crate) const fn place(&self) -> RecordPlace {
        RecordPlace {
            log_offset: LogOffset(self.log_offset),
            size: self.size,
        }
    }

    /// End of the record in the log.
    #[must_use]
    pub const fn log_end(&self) -> i64 {
        if self.is_blank() {
            self.log_offset
        } else {
            self.log_offset.saturating_add(self.size as i64)
        }
    }

    /// Whether the last field is a value. False if it is an address in `consumequeue_ext` whose value could not be found: the
    /// record has to be read then.
    #[must_use]
    pub const fn has_value(&self) -> bool {
        !super::extended::is_ext_address(self.tags_code)
    }

    /// The bytes on disk.
    #[must_use]
    pub fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&self.log_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.size.to_be_bytes());
        bytes[12..].copy_from_slice(&self.tags_code.to_be_bytes());
        bytes
    }

    /// Decodes an entry; any bytes are one.
    #[must_use]
    pub fn decode(bytes: &[u8; ENTRY_LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = *bytes;
        Self {
            log_offset: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            size: i32::from_be_bytes([i, j, k, l]),
            tags_code: i64::from_be_bytes([m, n, o, p, q, r, s, t]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_twenty_big_endian_bytes() {
        let entry = Entry {
            log_offset: 0x0102_0304_0506_0708,
            size: 0x090a_0b0c,
            tags_code: -2,
        };
        let bytes = entry.encode();
        assert_eq!(
            bytes,
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 255, 255, 255, 255, 255, 255, 255, 254]
        );
        assert_eq!(Entry::decode(&bytes), entry);
    }
}
