//! The file `config/timercheck`: how far timers are done.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | slots before this time are done, epoch ms |
//! | 8 | 8 | the timer log is synced up to this position |
//! | 16 | 8 | the timer topic's queue is in the index up to this offset |
//! | 24 | 8 | the same, of the master |
//! | 32 | 24 | version: 0, time of the change, number of changes |
//! | 512 | 8 | our mark, in ASCII |
//! | 520 | 4 | version of what follows, 1 |
//! | 524 | 8 | units below this position are done |
//! | 532 | 8 | deliveries that the file does not show are in the log from this offset on |
//! | 540 | 8 | the number of changes again: another one means that Apache's broker has written since |
//! | 548 | 4 | CRC-32 of the first 56 bytes |
//! | 552 | 4 | CRC-32 of the 40 bytes from 512 on |
//! | 4096 | | end of the file |
//!
//! The first 56 bytes are Apache's, also as the answer to `GET_TIMER_CHECK_POINT`. Each part is within one sector.

use crate::disk::{Disk, OpenMode, if_exists};
use message::LogOffset;
use std::io;
use std::path::Path;

pub(super) const FILE_LEN: usize = 4096;
/// Bytes of Apache's part.
const APACHES_LEN: usize = 56;
const OURS: usize = 512;
const OURS_LEN: usize = 44;
const MARK: &[u8; 8] = b"ApogeeTM";
const VERSION: u32 = 1;
/// Changes by Apache's brokers between two of ours, at most.
const LATER_MAX: i64 = 1 << 40;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerCheck {
    /// Slots before this are done, epoch ms.
    pub read_time_ms: i64,
    /// The timer log is synced up to this position.
    pub log_flushed: i64,
    /// The timer topic's queue is in the index up to this offset.
    pub queue_offset: i64,
    /// When it changed, epoch ms.
    pub changed_ms: i64,
    /// Number of changes.
    pub changes: i64,
    /// Units below this position are done.
    pub begin: i64,
    /// Deliveries that it does not show are in the log from here on; `None` if Apache's broker wrote it, or it is a master's.
    pub scan_from: Option<LogOffset>,
}

impl TimerCheck {
    pub(super) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let Some(file) = if_exists(disk.open(path, OpenMode::Read))? else {
            return Ok(Self::of_nothing());
        };
        let mut bytes = [0; OURS + OURS_LEN];
        file.read_at(&mut bytes, 0)?;
        Ok(Self::decode(&bytes))
    }

    /// Nothing is known of what is done.
    fn of_nothing() -> Self {
        Self {
            scan_from: Some(LogOffset(0)),
            ..Self::default()
        }
    }

    /// The check of a master, as it answers `GET_TIMER_CHECK_POINT`; `None` if that is something else.
    #[must_use]
    pub fn of_master(answer: &[u8]) -> Option<Self> {
        let part: &[u8; APACHES_LEN] = answer.try_into().ok()?;
        let mut bytes = [0; OURS + OURS_LEN];
        bytes[..APACHES_LEN].copy_from_slice(part);
        Some(Self::decode(&bytes))
    }

    fn decode(bytes: &[u8; OURS + OURS_LEN]) -> Self {
        let long = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| i64::from_be_bytes(*eight));
        let at_least_0 = |at: usize| long(at).max(0);
        let mut check = Self {
            read_time_ms: at_least_0(0),
            log_flushed: at_least_0(8),
            queue_offset: at_least_0(16),
            changed_ms: long(40),
            changes: long(48),
            begin: 0,
            scan_from: None,
        };
        let ours = &bytes[OURS..];
        let crc = crc32fast::hash(&ours[..OURS_LEN - 4]).to_be_bytes();
        if ours.starts_with(MARK) && ours[8..12] == VERSION.to_be_bytes() && ours[OURS_LEN - 4..] == crc {
            check.begin = at_least_0(OURS + 12);
            check.scan_from = (long(OURS + 28) == check.changes).then(|| LogOffset(at_least_0(OURS + 20)));
            let is_damaged = ours[36..40] != crc32fast::hash(&bytes[..APACHES_LEN]).to_be_bytes();
            // Apache's brokers count on from ours.
            let later = check.changes.saturating_sub(long(OURS + 28));
            if (check.scan_from.is_some() && is_damaged) || !(0..=LATER_MAX).contains(&later) {
                return Self::of_nothing();
            }
        } else if ours.iter().any(|byte| *byte != 0) {
            return Self::of_nothing();
        }
        check
    }

    /// Apache's part.
    #[must_use]
    pub fn apaches_part(&self) -> [u8; APACHES_LEN] {
        let longs = [
            self.read_time_ms,
            self.log_flushed,
            self.queue_offset,
            self.queue_offset,
            0,
            self.changed_ms,
            self.changes,
        ];
        let mut bytes = [0; APACHES_LEN];
        for (place, long) in bytes.chunks_exact_mut(8).zip(longs) {
            place.copy_from_slice(&long.to_be_bytes());
        }
        bytes
    }

    /// Both parts, to be written at the beginning of the file; of a master's check only Apache's.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; OURS + OURS_LEN];
        bytes[..APACHES_LEN].copy_from_slice(&self.apaches_part());
        let Some(scan_from) = self.scan_from else { return bytes };
        let crc = crc32fast::hash(&bytes[..APACHES_LEN]).to_be_bytes();
        let ours = &mut bytes[OURS..];
        ours[..8].copy_from_slice(MARK);
        ours[8..12].copy_from_slice(&VERSION.to_be_bytes());
        ours[12..20].copy_from_slice(&self.begin.to_be_bytes());
        ours[20..28].copy_from_slice(&scan_from.0.to_be_bytes());
        ours[28..36].copy_from_slice(&self.changes.to_be_bytes());
        ours[36..40].copy_from_slice(&crc);
        let crc = crc32fast::hash(&ours[..OURS_LEN - 4]);
        ours[OURS_LEN - 4..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }
}
