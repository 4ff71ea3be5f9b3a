//! The log as bytes, for a master that sends it to replicas: what is written and where it ends, whatever the flush mode says.
//!
//! Not here: the connection to a replica.

use super::CommitLog;
use super::read::read_file;
use crate::error::StoreError;
use crate::read::ReadSource;
use bytes::{Bytes, BytesMut};
use message::LogOffset;

impl CommitLog {
    /// Registers what is called after a thread has written records. Call once.
    pub(crate) fn set_on_written(&self, act: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_written.set(Box::new(act));
    }

    /// End of the written log. A write that this does not see calls the function of [`CommitLog::set_on_written`] after it, with
    /// everything in sight that this thread has stored before: both take the lock of appends.
    pub(crate) fn written_in_order(&self) -> LogOffset {
        let _in_order = self.state.lock();
        self.written()
    }

    /// Appends the written bytes from `from` on to `out`, at most `max`, and not beyond the log file's end; shared with the tail where
    /// it has them, otherwise read into `buffer`. Returns their number. May block.
    ///
    /// # Errors
    /// `StoreError::Corrupt` if `from` is outside the written log. `StoreError::Io` if it cannot be read.
    pub(crate) fn read_bytes(&self, from: LogOffset, max: usize, buffer: &mut BytesMut, out: &mut Vec<Bytes>) -> Result<usize, StoreError> {
        let written = self.written();
        if from == written {
            return Ok(0);
        }
        let outside = || {
            StoreError::Corrupt(format!(
                "log offset {from} is outside the log, which is from {} to {written}",
                self.first_offset()
            ))
        };
        let segment = self.segments.holding(from.0).filter(|_| from < written).ok_or_else(outside)?;
        let there = usize::try_from(segment.end().min(written.0) - from.0).unwrap_or(0);
        let max = there.min(max);
        let shared = self.tail.read().run(from, max, out);
        if shared > 0 {
            return Ok(shared);
        }
        buffer.clear();
        buffer.resize(max, 0);
        read_file(&segment, from.0, buffer, ReadSource::Disk)?;
        out.push(buffer.split().freeze());
        Ok(max)
    }
}
