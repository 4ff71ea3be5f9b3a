//! Blocks of the log's files that readers near each other share.
//!
//! The messages of many queues lie between each other in the log, so consumers that read a backlog want pieces of the same bytes shortly
//! after one another. When enough of a block was asked for, it is read whole, with one call, and its records are handed out as slices.
//!
//! Invariants
//! - A block is within one file and below the confirmed offset, so its bytes do not change. A truncation forgets all blocks.
//! - At most so many bytes are kept as the options say; the block that was not used for the longest time leaves first, and those that were
//!   not used for a while leave too. A slice that a slow client has not read is copied by its connection; see crate `net`.
//! - No lock is held over a read. Two threads may read a block at the same time; both use what they read.
//!
//! Not here: when a reader may wait for the disk. Blocks are filled from the page cache only.

use super::RecordPlace;
use super::segment::Segment;
use crate::sync::Mutex;
use bytes::{Bytes, BytesMut};
use message::LogOffset;
use std::collections::VecDeque;
use std::ops::Range;

/// Bytes of a block, but for the last one of a file.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// A block is read whole when so many of its bytes were asked for: about as much work as one call for each of them.
const WORTH_BYTES: usize = BLOCK_BYTES / 16;
/// Blocks of which it is remembered what was asked for.
const ASKED_FOR: usize = 64;

/// A part of a file.
#[derive(Clone, Debug)]
pub(super) struct Block {
    start: i64,
    bytes: Bytes,
}

/// The blocks that are kept.
#[derive(Debug)]
pub(super) struct Blocks {
    state: Mutex<State>,
    limit_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    /// The last one was used last.
    kept: VecDeque<(Block, bool)>,
    kept_bytes: usize,
    /// Bytes that were asked for of blocks that are not kept, by where the block begins. The last one was asked for last.
    asked: VecDeque<(i64, usize)>,
    /// The memory of a block that has left, which need not be cleared to be read into.
    spare: BytesMut,
    /// How often all blocks were forgotten.
    forgotten: u64,
}

/// What a reader finds.
#[derive(Debug)]
pub(super) enum Look {
    /// The block.
    Kept(Block),
    /// The block is worth reading: call [`Blocks::keep`] with this and what was read.
    Worth(Stamp),
    /// The records are to be read one by one.
    Alone,
}

/// When a block was looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp(u64);

impl Block {
    /// Bytes that were read from there on.
    pub(super) fn new(start: i64, bytes: Bytes) -> Self {
        Self { start, bytes }
    }

    /// The bytes of a record, if it is in this block.
    pub(super) fn slice(&self, place: RecordPlace) -> Option<Bytes> {
        let from = usize::try_from(place.log_offset.0 - self.start).ok()?;
        let to = from.checked_add(place.len())?;
        (to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }

    fn end(&self) -> i64 {
        self.start + self.bytes.len() as i64
    }
}

/// Log offsets of the block that holds an offset of this file, up to the confirmed offset.
pub(super) fn block_of(segment: &Segment, offset: i64, confirmed: LogOffset) -> Range<i64> {
    let number = (offset - segment.base) / BLOCK_BYTES as i64;
    let start = segment.base + number * BLOCK_BYTES as i64;
    start..(start + BLOCK_BYTES as i64).min(segment.end()).min(confirmed.0)
}

impl Blocks {
    /// Keeps blocks of so many bytes; none if that is less than one.
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            limit_bytes,
        }
    }

    /// The block, if it is kept.
    pub(super) fn kept(&self, block: &Range<i64>) -> Option<Block> {
        self.state.lock().kept(block)
    }

    /// Looks for a block, of which these bytes are wanted.
    pub(super) fn look(&self, block: &Range<i64>, wanted_bytes: usize) -> Look {
        if self.limit_bytes < BLOCK_BYTES {
            return Look::Alone;
        }
        let mut state = self.state.lock();
        if let Some(kept) = state.kept(block) {
            return Look::Kept(kept);
        }
        let before = state.asked.iter().position(|(start, _)| *start == block.start);
        let before = before.and_then(|at| state.asked.remove(at)).map_or(0, |(_, bytes)| bytes);
        let asked_bytes = before + wanted_bytes;
        if asked_bytes >= WORTH_BYTES {
            return Look::Worth(Stamp(state.forgotten));
        }
        if state.asked.len() >= ASKED_FOR {
            state.asked.pop_front();
        }
        state.asked.push_back((block.start, asked_bytes));
        Look::Alone
    }

    /// Memory to read a block of so many bytes into.
    pub(super) fn buffer(&self, bytes: usize) -> BytesMut {
        let mut buffer = std::mem::take(&mut self.state.lock().spare);
        buffer.resize(bytes, 0);
        buffer
    }

    /// Keeps a block that was read after `stamp`.
    pub(super) fn keep(&self, block: Block, stamp: Stamp) {
        let mut state = self.state.lock();
        let is_known = state.kept.iter().any(|(kept, _)| kept.start == block.start);
        if state.forgotten != stamp.0 || is_known {
            return;
        }
        state.kept_bytes += block.bytes.len();
        state.kept.push_back((block, true));
        while state.kept_bytes > self.limit_bytes {
            let Some((oldest, _)) = state.kept.pop_front() else { break };
            state.kept_bytes -= oldest.bytes.len();
            // Unless a connection still sends from it.
            if let Ok(spare) = oldest.bytes.try_into_mut() {
                state.spare = spare;
            }
        }
    }

    /// Forgets all blocks: the log is truncated.
    pub(super) fn forget_all(&self) {
        let mut state = self.state.lock();
        *state = State {
            forgotten: state.forgotten + 1,
            ..State::default()
        };
    }

    /// Forgets the blocks that were not used since the last call.
    pub(super) fn forget_unused(&self) {
        let mut state = self.state.lock();
        state.kept.retain_mut(|(_, used)| std::mem::take(used));
        state.kept_bytes = state.kept.iter().map(|(kept, _)| kept.bytes.len()).sum();
        if state.kept.is_empty() {
            (state.kept, state.asked, state.spare) = Default::default();
        }
    }
}

impl State {
    /// The block, if it is kept; it is the one that was used last, then.
    fn kept(&mut self, block: &Range<i64>) -> Option<Block> {
        let at = self.kept.iter().position(|(kept, _)| kept.start == block.start)?;
        let (kept, _) = self.kept.remove(at)?;
        // The log may have grown since it was read.
        if kept.end() < block.end {
            self.kept_bytes -= kept.bytes.len();
            return None;
        }
        self.kept.push_back((kept.clone(), true));
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: i64 = BLOCK_BYTES as i64;

    fn range(number: i64) -> Range<i64> {
        number * WHOLE..(number + 1) * WHOLE
    }

    fn keep(blocks: &Blocks, number: i64, stamp: Stamp) {
        blocks.keep(Block::new(number * WHOLE, vec![number as u8; BLOCK_BYTES].into()), stamp);
    }

    /// Asks until it is worth it, and keeps it.
    fn read(blocks: &Blocks, number: i64) {
        match blocks.look(&range(number), WORTH_BYTES) {
            Look::Worth(stamp) => keep(blocks, number, stamp),
            other => panic!("block {number}: {other:?}"),
        }
    }

    fn is_kept(blocks: &Blocks, number: i64) -> bool {
        matches!(blocks.look(&range(number), 0), Look::Kept(_))
    }

    #[test]
    fn a_block_is_worth_reading_when_readers_asked_for_enough_of_it() {
        let blocks = Blocks::new(BLOCK_BYTES);
        for number in [1, 2, 1, 2] {
            assert!(matches!(blocks.look(&range(number), WORTH_BYTES / 3), Look::Alone));
        }
        assert!(matches!(blocks.look(&range(1), WORTH_BYTES / 2), Look::Worth(_)));
        assert!(
            matches!(blocks.look(&range(1), WORTH_BYTES / 2), Look::Alone),
            "a read that failed is not repeated at once"
        );
        read(&blocks, 2);
        let Look::Kept(block) = blocks.look(&range(2), 1) else {
            panic!("it is kept")
        };
        let place = |log_offset, size| RecordPlace {
            log_offset: LogOffset(log_offset),
            size,
        };
        assert_eq!(block.slice(place(2 * WHOLE + 5, 9)).unwrap(), [2; 9][..]);
        for (log_offset, size) in [(2 * WHOLE - 1, 9), (3 * WHOLE - 8, 9), (0, 1), (2 * WHOLE, -1)] {
            assert_eq!(
                block.slice(place(log_offset, size)).filter(|bytes| !bytes.is_empty()),
                None,
                "{log_offset} {size}"
            );
        }
    }

    #[test]
    fn the_block_that_was_not_used_for_the_longest_time_leaves_first() {
        let blocks = Blocks::new(2 * BLOCK_BYTES);
        read(&blocks, 1);
        read(&blocks, 2);
        assert!(is_kept(&blocks, 1));
        read(&blocks, 3);
        assert_eq!([1, 2, 3].map(|number| is_kept(&blocks, number)), [true, false, true]);
        blocks.forget_unused();
        assert!(is_kept(&blocks, 3));
        blocks.forget_unused();
        assert_eq!([1, 2, 3].map(|number| is_kept(&blocks, number)), [false, false, true]);
        blocks.forget_unused();
        blocks.forget_unused();
        assert!(!is_kept(&blocks, 3));
        assert_eq!(blocks.state.lock().kept_bytes, 0);
    }

    #[test]
    fn a_block_that_was_read_before_a_truncation_or_too_short_is_not_used() {
        let blocks = Blocks::new(2 * BLOCK_BYTES);
        let Look::Worth(stamp) = blocks.look(&range(1), WORTH_BYTES) else {
            panic!("it is worth it")
        };
        blocks.forget_all();
        keep(&blocks, 1, stamp);
        assert!(!is_kept(&blocks, 1));
        let half = WHOLE..WHOLE + WHOLE / 2;
        let Look::Worth(stamp) = blocks.look(&half, WORTH_BYTES) else {
            panic!("it is worth it")
        };
        blocks.keep(Block::new(WHOLE, vec![0; BLOCK_BYTES / 2].into()), stamp);
        assert!(matches!(blocks.look(&half, 0), Look::Kept(_)));
        assert!(!is_kept(&blocks, 1), "the log has grown");
        read(&blocks, 1);
        assert_eq!(blocks.state.lock().kept_bytes, BLOCK_BYTES);
    }

    #[test]
    fn no_blocks_without_memory_for_one() {
        let blocks = Blocks::new(BLOCK_BYTES - 1);
        assert!(matches!(blocks.look(&range(1), BLOCK_BYTES), Look::Alone));
    }
}
