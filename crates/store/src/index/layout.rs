//! Bytes of an index file. Integers are big-endian.
//!
//! | part | at | bytes |
//! |---|---|---|
//! | header | 0 | 40 |
//! | slots | 40 | 4 each: number of the newest item in this slot, 0 for none |
//! | items | 40 + 4 × slots | 20 each; item 0 is never used |
//!
//! | header | bytes | item | bytes |
//! |---|---|---|---|
//! | store timestamp of the first item | 8 | hash of the key | 4 |
//! | of the last item | 8 | log offset of the record | 8 |
//! | log offset of the first item | 8 | whole seconds since the header's first timestamp | 4 |
//! | of the last item | 8 | number of the item before in the same slot, 0 for none | 4 |
//! | slots in use | 4 | | |
//! | number of the next item; 1 in an empty file | 4 | | |

/// Bytes of the header.
pub(crate) const HEADER_LEN: usize = 40;
/// Bytes of an item.
pub(crate) const ITEM_LEN: usize = 20;
/// Bytes of a slot.
pub(crate) const SLOT_LEN: usize = 4;

/// Slot and item counts of index files (`maxHashSlotNum`, `maxIndexNum`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexOptions {
    /// Slots of a file; at least 1.
    pub slots: u32,
    /// Items of a file, of which the first is never used; at least 2.
    pub items: u32,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            slots: 5_000_000,
            items: 20_000_000,
        }
    }
}

impl IndexOptions {
    /// Counts that a file can have: Java's are ints.
    pub(crate) fn checked(self) -> Self {
        Self {
            slots: self.slots.clamp(1, i32::MAX as u32),
            items: self.items.clamp(2, i32::MAX as u32),
        }
    }

    /// Bytes of a file.
    pub(crate) fn file_len(self) -> u64 {
        self.item_at(self.items)
    }

    pub(crate) fn slot_of(self, key_hash: i32) -> u32 {
        key_hash.unsigned_abs() % self.slots
    }

    pub(crate) fn slot_at(self, slot: u32) -> u64 {
        HEADER_LEN as u64 + u64::from(slot) * SLOT_LEN as u64
    }

    pub(crate) fn item_at(self, item: u32) -> u64 {
        self.slot_at(self.slots) + u64::from(item) * ITEM_LEN as u64
    }
}

/// The header of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) begin_timestamp: i64,
    pub(crate) end_timestamp: i64,
    pub(crate) begin_log: i64,
    pub(crate) end_log: i64,
    pub(crate) slots_used: u32,
    /// Number of the next item.
    pub(crate) next: u32,
}

impl Header {
    pub(crate) const EMPTY: Self = Self {
        begin_timestamp: 0,
        end_timestamp: 0,
        begin_log: 0,
        end_log: 0,
        slots_used: 0,
        next: 1,
    };

    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let longs = [self.begin_timestamp, self.end_timestamp, self.begin_log, self.end_log];
        for (place, long) in bytes.chunks_exact_mut(8).zip(longs) {
            place.copy_from_slice(&long.to_be_bytes());
        }
        bytes[32..36].copy_from_slice(&self.slots_used.to_be_bytes());
        bytes[36..].copy_from_slice(&self.next.to_be_bytes());
        bytes
    }

    /// Decodes a header; impossible numbers become the nearest possible ones.
    pub(crate) fn decode(bytes: &[u8; HEADER_LEN], options: IndexOptions) -> Self {
        let next = int(bytes, 36).clamp(1, options.items as i32);
        Self {
            begin_timestamp: long(bytes, 0),
            end_timestamp: long(bytes, 8),
            begin_log: long(bytes, 16),
            end_log: long(bytes, 24),
            slots_used: int(bytes, 32).max(0).unsigned_abs(),
            next: next.unsigned_abs(),
        }
    }

    /// Whether the file may have items stored from `begin` to `end`, ends included.
    pub(crate) fn meets(&self, begin: i64, end: i64) -> bool {
        begin <= self.end_timestamp && end >= self.begin_timestamp
    }

    /// Store timestamp of an item, epoch ms, rounded down to the second.
    pub(crate) fn stored(&self, item: &Item) -> i64 {
        self.begin_timestamp.saturating_add(i64::from(item.seconds) * 1000)
    }

    /// The time field of an item stored at this time.
    pub(crate) fn seconds(&self, store_timestamp: i64) -> i32 {
        if self.begin_timestamp <= 0 {
            return 0;
        }
        let seconds = store_timestamp.saturating_sub(self.begin_timestamp) / 1000;
        seconds.clamp(0, i64::from(i32::MAX)) as i32
    }
}

/// One key of one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) key_hash: i32,
    pub(crate) log_offset: i64,
    pub(crate) seconds: i32,
    pub(crate) before: i32,
}

impl Item {
    pub(crate) fn encode(&self) -> [u8; ITEM_LEN] {
        let mut bytes = [0; ITEM_LEN];
        bytes[..4].copy_from_slice(&self.key_hash.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.log_offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[16..].copy_from_slice(&self.before.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; ITEM_LEN]) -> Self {
        Self {
            key_hash: int(bytes, 0),
            log_offset: long(bytes, 4),
            seconds: int(bytes, 12),
            before: int(bytes, 16),
        }
    }
}

fn int(bytes: &[u8], at: usize) -> i32 {
    bytes
        .get(at..at + 4)
        .and_then(|four| four.try_into().ok())
        .map_or(0, i32::from_be_bytes)
}

fn long(bytes: &[u8], at: usize) -> i64 {
    bytes
        .get(at..at + 8)
        .and_then(|eight| eight.try_into().ok())
        .map_or(0, i64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_item_survive_their_bytes() {
        let options = IndexOptions { slots: 10, items: 100 };
        let header = Header {
            begin_timestamp: 1,
            end_timestamp: 2,
            begin_log: 3,
            end_log: 4,
            slots_used: 5,
            next: 6,
        };
        assert_eq!(Header::decode(&header.encode(), options), header);
        assert_eq!(header.encode()[31..], [4, 0, 0, 0, 5, 0, 0, 0, 6]);
        let item = Item {
            key_hash: 1,
            log_offset: 2,
            seconds: 3,
            before: 4,
        };
        assert_eq!(item.encode(), [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
        assert_eq!(Item::decode(&item.encode()), item);
        assert_eq!(options.file_len(), 40 + 40 + 2000);
        assert_eq!(Header::decode(&[0; 40], options).next, 1);
        assert_eq!(Header::decode(&[0x7f; 40], options).next, 100);
        assert_eq!(IndexOptions::default().file_len(), 40 + 5_000_000 * 4 + 20_000_000 * 20);
    }
}
