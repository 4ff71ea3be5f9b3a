//! The newest bytes of the log, kept in memory for readers.
//!
//! Keeps the encoded chunks of appends, shared, up to `limit` bytes. A pull of new messages takes slices of them, without a copy.

use bytes::Bytes;
use message::LogOffset;
use std::collections::VecDeque;

/// Maximum chunks of one [`Tail::run`].
const MAX_RUN: usize = 256;

/// Chunks of the log in order of offset, possibly with gaps (a filler leaves one).
#[derive(Debug)]
pub(crate) struct Tail {
    chunks: VecDeque<(LogOffset, Bytes)>,
    bytes: usize,
    limit: usize,
}

impl Tail {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    /// Adds a chunk, which must be after all others, and drops the oldest ones over the limit.
    pub(crate) fn push(&mut self, start: LogOffset, chunk: Bytes) {
        debug_assert!(
            self.chunks.back().is_none_or(|(last, bytes)| last.plus(bytes.len()) <= start),
            "a chunk at {start} is not after the others"
        );
        self.bytes += chunk.len();
        self.chunks.push_back((start, chunk));
        while self.bytes > self.limit {
            let Some((_, oldest)) = self.chunks.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// Drops the bytes from `to` on.
    pub(crate) fn truncate(&mut self, to: LogOffset) {
        while let Some((start, last)) = self.chunks.pop_back() {
            let kept = usize::try_from(to.0 - start.0).unwrap_or(0).min(last.len());
            self.bytes -= last.len() - kept;
            if kept > 0 {
                self.chunks.push_back((start, last.slice(..kept)));
                return;
            }
        }
    }

    /// The bytes of one record, if they are in memory.
    pub(crate) fn slice(&self, offset: LogOffset, len: usize) -> Option<Bytes> {
        let at = self.chunks.partition_point(|(start, _)| *start <= offset).checked_sub(1)?;
        let (start, chunk) = self.chunks.get(at)?;
        let from = usize::try_from(offset.0 - start.0).ok()?;
        let to = from.checked_add(len)?;
        (to <= chunk.len()).then(|| chunk.slice(from..to))
    }

    /// Appends the contiguous bytes from `from` on to `out`, at most `max`; returns their number, 0 if the first is not in memory.
    pub(crate) fn run(&self, from: LogOffset, max: usize, out: &mut Vec<Bytes>) -> usize {
        let Some(first) = self.chunks.partition_point(|(start, _)| *start <= from).checked_sub(1) else {
            return 0;
        };
        let mut done = 0;
        for (start, chunk) in self.chunks.range(first..).take(MAX_RUN) {
            let Ok(skip) = usize::try_from(from.0 + done as i64 - start.0) else {
                break;
            };
            // A chunk that begins behind what was taken follows a gap.
            if skip >= chunk.len() || done == max {
                break;
            }
            let taken = (chunk.len() - skip).min(max - done);
            out.push(chunk.slice(skip..skip + taken));
            done += taken;
        }
        done
    }

    #[cfg(test)]
    fn first_offset(&self) -> Option<LogOffset> {
        self.chunks.front().map(|(start, _)| *start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_come_from_the_chunk_that_holds_them() {
        let mut tail = Tail::new(100);
        tail.push(LogOffset(1000), Bytes::from_static(b"abcdef"));
        tail.push(LogOffset(2000), Bytes::from_static(b"ghi"));
        assert_eq!(tail.slice(LogOffset(1002), 3).unwrap(), "cde");
        assert_eq!(tail.slice(LogOffset(2000), 3).unwrap(), "ghi");
        for (offset, len) in [(999, 1), (1004, 3), (1500, 1), (2003, 1), (-1, 1)] {
            assert!(tail.slice(LogOffset(offset), len).is_none(), "{offset}+{len}");
        }
    }

    #[test]
    fn a_run_ends_at_a_gap_and_at_its_limit() {
        let mut tail = Tail::new(100);
        for (at, chunk) in [(1000, "abcdef"), (1006, "gh"), (1008, "ijk"), (2000, "lmn")] {
            tail.push(LogOffset(at), Bytes::from_static(chunk.as_bytes()));
        }
        let run = |from, max| {
            let mut out = Vec::new();
            let count = tail.run(LogOffset(from), max, &mut out);
            assert_eq!(count, out.iter().map(Bytes::len).sum::<usize>());
            String::from_utf8(out.concat()).unwrap()
        };
        assert_eq!(run(1002, 100), "cdefghijk");
        assert_eq!(
            (run(1002, 5), run(1002, 4), run(1007, 1)),
            ("cdefg".to_owned(), "cdef".to_owned(), "h".to_owned())
        );
        assert_eq!(
            (run(1011, 9), run(1500, 9), run(999, 9), run(2002, 9)),
            (String::new(), String::new(), String::new(), "n".to_owned())
        );
    }

    #[test]
    fn the_oldest_is_forgotten_over_the_limit() {
        let mut tail = Tail::new(10);
        (0..10).for_each(|i| tail.push(LogOffset(i * 4), Bytes::from_static(b"1234")));
        assert_eq!(tail.first_offset(), Some(LogOffset(32)));
        assert!(tail.slice(LogOffset(28), 4).is_none());
    }
}
