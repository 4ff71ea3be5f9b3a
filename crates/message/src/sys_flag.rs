//! Bits of a record's system flag, as Apache defines them.

/// The body is compressed by the producer; the broker stores it untouched.
pub const COMPRESSED: i32 = 0x1;
/// The message carries more than one tag.
pub const MULTI_TAGS: i32 = 0x2;
/// Both transaction bits.
pub const TRANSACTION_MASK: i32 = 0xC;
/// A half message, not to be delivered.
pub const TRANSACTION_PREPARED: i32 = 0x4;
/// The message of a committed transaction.
pub const TRANSACTION_COMMIT: i32 = 0x8;
/// A rolled back transaction.
pub const TRANSACTION_ROLLBACK: i32 = 0xC;
/// The born host is an IPv6 address.
pub const BORN_HOST_V6: i32 = 0x10;
/// The store host is an IPv6 address.
pub const STORE_HOST_V6: i32 = 0x20;
/// The record is a batch to be unwrapped on read.
pub const NEED_UNWRAP: i32 = 0x40;
/// The record is an inner batch.
pub const INNER_BATCH: i32 = 0x80;
/// Bits 8 to 10: compression type (0 or 3 zlib, 1 LZ4, 2 ZSTD).
pub const COMPRESSION_TYPE_MASK: i32 = 0x700;

/// Whether a message with this flag has an entry in its queue. Half messages and rolled back ones are in the log only.
#[must_use]
pub const fn is_in_queue(flag: i32) -> bool {
    !matches!(flag & TRANSACTION_MASK, TRANSACTION_PREPARED | TRANSACTION_ROLLBACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_messages_and_rolled_back_ones_belong_in_no_queue() {
        for others in [0, COMPRESSED | BORN_HOST_V6 | INNER_BATCH] {
            assert!(is_in_queue(others) && is_in_queue(others | TRANSACTION_COMMIT));
            assert!(!is_in_queue(others | TRANSACTION_PREPARED) && !is_in_queue(others | TRANSACTION_ROLLBACK));
        }
    }
}
