//! Puts the pieces that a master sends together to whole records: a master cuts the log anywhere.
//!
//! What fills the end of a log file behind the filler's beginning is counted and dropped; the store writes fillers itself.

use bytes::{Bytes, BytesMut};
use message::LogOffset;
use message::record::{FILLER_LEN, Peek, peek};

/// Maximum bytes of a record that is put together.
const MAX_RECORD_BYTES: usize = 128 << 20;

/// The next bytes cannot be the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the master's log has no record at {at}: the logs differ, or what was sent is damaged")]
    NoRecord { at: LogOffset },
    #[error("the record at {at} has {size} bytes; at most {MAX_RECORD_BYTES} are taken")]
    TooLarge { at: LogOffset, size: usize },
}

/// Bytes of the log that were not appended yet.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// Log offset of the first byte of `bytes`.
    at: LogOffset,
    bytes: BytesMut,
    /// Bytes at the end of a file that still have to be dropped, before `bytes`.
    dropping: i64,
    file_bytes: i64,
}

impl Assembly {
    /// For a log that ends at `at`, with files of so many bytes.
    pub(crate) fn new(at: LogOffset, file_bytes: i64) -> Self {
        Self {
            at,
            bytes: BytesMut::new(),
            dropping: 0,
            file_bytes,
        }
    }

    /// Log offset of the next byte from the master.
    pub(crate) fn received(&self) -> LogOffset {
        LogOffset(self.at.0 + self.bytes.len() as i64)
    }

    /// Bytes that wait for the rest of their record.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let dropped = usize::try_from(self.dropping).unwrap_or(0).min(bytes.len());
        self.dropping -= dropped as i64;
        self.at = self.at.plus(dropped);
        self.bytes.extend_from_slice(&bytes[dropped..]);
    }

    /// Takes whole records that are there, with their log offset: at most to the end of their file. None if there are none.
    ///
    /// # Errors
    /// [`Broken`] if no record begins where one has to.
    pub(crate) fn take(&mut self) -> Result<Option<(LogOffset, Bytes)>, Broken> {
        let mut whole = 0;
        let mut ends_file = false;
        while self.bytes.len() - whole >= FILLER_LEN {
            let at = self.at.plus(whole);
            match peek(&self.bytes[whole..]) {
                Peek::Record { size } if size > MAX_RECORD_BYTES => return Err(Broken::TooLarge { at, size }),
                Peek::Record { size } if size > self.bytes.len() - whole => break,
                Peek::Record { size } => whole += size,
                Peek::Filler => {
                    whole += FILLER_LEN;
                    ends_file = true;
                    break;
                }
                Peek::End | Peek::Corrupt => return Err(Broken::NoRecord { at }),
            }
        }
        if whole == 0 {
            return Ok(None);
        }
        let (at, records) = (self.at, self.bytes.split_to(whole).freeze());
        self.at = at.plus(whole);
        if ends_file {
            self.dropping = (self.file_bytes - self.at.0.rem_euclid(self.file_bytes)) % self.file_bytes;
            let rest = self.bytes.split();
            self.push(&rest);
        }
        Ok(Some((at, records)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::QueueOffset;
    use message::record::{Draft, Placement, encode_filler};

    fn record(at: i64, body: &[u8]) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        let placement = Placement {
            queue_offset: QueueOffset(0),
            log_offset: LogOffset(at),
            store_timestamp: 1,
        };
        Draft::new("t", 0, body).encode(placement, &mut bytes);
        bytes.to_vec()
    }

    #[test]
    fn records_come_out_whole_however_they_were_cut() {
        let file = 1024;
        let mut log = record(2048, b"one");
        log.extend(record(2048 + log.len() as i64, b"two"));
        let records = log.len();
        let mut filler = BytesMut::new();
        encode_filler(1024 - records, &mut filler);
        log.extend(&filler);
        log.resize(1024, 0xee);
        log.extend(record(3072, b"three"));
        for cut in [1, 5, 7, 64, 333, 5000] {
            let mut assembly = Assembly::new(LogOffset(2048), file);
            let (mut taken, mut at) = (Vec::new(), 2048);
            for piece in log.chunks(cut) {
                assembly.push(piece);
                while let Some((from, bytes)) = assembly.take().unwrap() {
                    assert_eq!(from.0, at, "cut by {cut}");
                    taken.extend_from_slice(&bytes);
                    at = from.0 + bytes.len() as i64;
                    if at == 2048 + records as i64 + 8 {
                        at = 3072;
                    }
                }
            }
            let expected = [&log[..records + 8], &log[1024..]].concat();
            assert_eq!(taken, expected, "cut by {cut}");
            assert_eq!((assembly.received().0, assembly.waiting()), (2048 + log.len() as i64, 0));
        }
    }

    #[test]
    fn what_is_no_record_is_refused_where_it_begins() {
        let mut assembly = Assembly::new(LogOffset(100), 1024);
        assembly.push(b"no record here");
        assert!(matches!(assembly.take(), Err(Broken::NoRecord { at: LogOffset(100) })));
        let mut large = record(100, b"x");
        large[..4].copy_from_slice(&(200u32 << 20).to_be_bytes());
        let mut assembly = Assembly::new(LogOffset(100), 1 << 30);
        assembly.push(&large);
        assert!(matches!(assembly.take(), Err(Broken::TooLarge { .. })));
    }
}
