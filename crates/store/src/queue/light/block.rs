//! A block of the light log: a header, and what it announces.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | CRC-32 of all after it |
//! | 4 | 4 | kind |
//! | 8 | 4 | length of the block |
//! | 12 | 4 | number of the queue |
//! | 16 | 8 | position of the block in the light log |
//! | 24 | 8 | queue offset of the first entry |
//! | 32 | 8 | a log offset, see [`Kind`] |
//! | 40 | 8 | position of the queue's block before, -1 for none; in a file's first block the end of the file before |
//! | 48 | 8 | position of an older block of the queue, -1 for none |
//! | 56 | 4 | how many blocks of the queue are before, in the chain |
//! | 60 | 4 | number of entries |
//! | 64 | | 20 bytes for each entry, as in a consume queue, or the queue's name |
//!
//! Integers are big-endian.

use crate::queue::entry::{ENTRY_LEN, Entry};
use std::ops::Range;

/// Bytes of a header.
pub(super) const HEADER_LEN: usize = 64;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Begins a file. The log offset is above all entries in the files before.
    File = 1,
    /// Gives a queue its number.
    Name = 2,
    /// Entries of a queue. The log offset is that of the first one.
    Entries = 3,
    /// The queue was deleted.
    Delete = 4,
    /// Entries at the log offset or above it are dropped.
    Truncate = 5,
    /// The light log has the entries of all messages below the log offset.
    Covered = 6,
}

impl Kind {
    fn of(value: u32) -> Option<Self> {
        let all = [Self::File, Self::Name, Self::Entries, Self::Delete, Self::Truncate, Self::Covered];
        all.into_iter().find(|kind| *kind as u32 == value)
    }
}

/// A block's header, without its length and CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) number: u32,
    pub(super) position: i64,
    pub(super) first: i64,
    pub(super) log_offset: i64,
    pub(super) prev: i64,
    pub(super) jump: i64,
    pub(super) depth: u32,
    pub(super) count: u32,
}

impl Header {
    /// A header without a queue. Its position is set when it is written.
    pub(super) const fn plain(kind: Kind, log_offset: i64) -> Self {
        Self {
            kind,
            number: 0,
            position: 0,
            first: 0,
            log_offset,
            prev: -1,
            jump: -1,
            depth: 0,
            count: 0,
        }
    }

    /// Appends the block to `out`.
    pub(super) fn encode(&self, body: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.kind as u32).to_be_bytes());
        out.extend_from_slice(&((HEADER_LEN + body.len()) as u32).to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        for value in [self.position, self.first, self.log_offset, self.prev, self.jump] {
            out.extend_from_slice(&value.to_be_bytes());
        }
        out.extend_from_slice(&self.depth.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(body);
        let crc = crc32fast::hash(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_be_bytes());
    }

    /// The header at the beginning of `bytes` and the length of its block. `None` if it is not one of this position, or if its entries
    /// do not fit into the block. Its CRC is not checked.
    pub(super) fn decode(bytes: &[u8], position: i64) -> Option<(Self, usize)> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let u32_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let i64_at = |at: usize| bytes[at..].first_chunk().map(|bytes| i64::from_be_bytes(*bytes));
        let header = Self {
            kind: Kind::of(u32_at(4)?)?,
            number: u32_at(12)?,
            position: i64_at(16)?,
            first: i64_at(24)?,
            log_offset: i64_at(32)?,
            prev: i64_at(40)?,
            jump: i64_at(48)?,
            depth: u32_at(56)?,
            count: u32_at(60)?,
        };
        let len = u32_at(8)? as usize;
        let body = len.checked_sub(HEADER_LEN)?;
        let is_whole = header.kind != Kind::Entries
            || header.count > 0
                && header.first >= 0
                && (header.count as usize).checked_mul(ENTRY_LEN) == Some(body)
                && header.first < super::MAX_OFFSET;
        let goes_back = header.kind == Kind::File || header.prev < position && header.jump < position;
        (header.position == position && is_whole && goes_back).then_some((header, len))
    }

    /// The block at the beginning of `bytes`: its header, body and length. `None` if it is not whole.
    pub(super) fn whole(bytes: &[u8], position: i64) -> Option<(Self, &[u8], usize)> {
        let (header, len) = Self::decode(bytes, position)?;
        let block = bytes.get(..len)?;
        let crc = u32::from_be_bytes(*block.first_chunk()?);
        (crc == crc32fast::hash(&block[4..])).then_some((header, &block[HEADER_LEN..], len))
    }

    /// The queue offset after its last entry.
    pub(super) const fn end(&self) -> i64 {
        self.first + self.count as i64
    }

    /// The positions of the entries with these queue offsets.
    pub(super) fn bytes_of(&self, offsets: Range<i64>) -> Range<i64> {
        let begin = self.position + HEADER_LEN as i64;
        let at = |offset| begin + (offset - self.first) * ENTRY_LEN as i64;
        at(offsets.start)..at(offsets.end)
    }
}

/// The entries in a body.
pub(super) fn entries(body: &[u8]) -> impl DoubleEndedIterator<Item = Entry> + '_ {
    body.as_chunks::<ENTRY_LEN>().0.iter().map(Entry::decode)
}

/// The depth of the older block that a block of depth `depth` names beside the one before it. The distances make a skip list: from any
/// block, any older one is reached in a number of steps that grows with the logarithm of their distance (Myers, "An applicative
/// random-access stack", 1983).
pub(super) const fn jump_depth(depth: u32) -> u32 {
    // Skew-binary digits of the depth have the weights 1, 3, 7, 15 …; the jump is as long as the weight of the lowest digit.
    let (mut left, mut weight) = (depth as u64, (1u64 << 33) - 1);
    let mut lowest = 0;
    while left > 0 {
        while weight > left {
            weight >>= 1;
        }
        left -= weight;
        lowest = weight;
    }
    depth - lowest as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_are_those_of_a_skew_binary_list() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 8].map(jump_depth), [0, 1, 0, 3, 4, 3, 0, 7]);
        for depth in 2..5_000 {
            let before = depth - 1;
            let (jump, twice) = (jump_depth(before), jump_depth(jump_depth(before)));
            let expected = if before - jump == jump - twice { twice } else { before };
            // The writer finds the older block with one read: it is the one before, or the second jump of the one before.
            assert_eq!(jump_depth(depth), expected, "{depth}");
        }
    }

    #[test]
    fn a_block_is_read_as_it_was_written_and_any_damage_is_noticed() {
        let header = Header {
            number: 7,
            position: 640,
            first: 3,
            prev: 64,
            jump: -1,
            depth: 1,
            count: 2,
            ..Header::plain(Kind::Entries, 1 << 40)
        };
        let mut bytes = Vec::new();
        header.encode(&[9; 2 * ENTRY_LEN], &mut bytes);
        let (read, body, len) = Header::whole(&bytes, 640).unwrap();
        assert_eq!((read, body, len), (header, &[9; 40][..], bytes.len()));
        assert_eq!((read.end(), read.bytes_of(4..5)), (5, 724..744));
        assert!(Header::whole(&bytes, 64).is_none(), "a block of another place");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Header::whole(&damaged, 640).is_none(), "byte {at}");
            assert!(Header::whole(&bytes[..at], 640).is_none(), "cut at {at}");
        }
    }
}
