//! The `checkpoint` file: what was durable when it was written.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | store timestamp of the last record synced in the log |
//! | 8 | 8 | of the last one whose queue entry was synced |
//! | 16 | 8 | of the last one in a synced index file |
//! | 24 | 8 | log offset up to which the master has flushed |
//! | 32 | 8 | log offset up to which replicas have confirmed |
//! | 2048 | 8 | our mark, in ASCII |
//! | 2056 | 4 | version of what follows, 2 |
//! | 2060 | 8 | log offset below which log and queues are synced |
//! | 2068 | 8 | log offset below which keys are in synced index files; not above the one before it |
//! | 2076 | 4 | CRC-32 of the 28 bytes from 2048 on |
//! | 4096 | | end of the file |
//!
//! The first part is Apache's; a Java broker reads it and leaves the second part unchanged. Each part is within one sector of 512
//! bytes, so a power cut leaves each as it was before or after a write; neither needs the other. Version 1 had no log offset for
//! the index, which was synced as far as the queues. It is read, and replaced by the next write.
//!
//! Not here: when to write it. The caller has synced what it says.

use std::io;
use std::path::Path;
use std::sync::Arc;

use message::LogOffset;

use crate::disk::{Allocate, Disk, DiskFile, OpenMode, if_exists};

const LEN: usize = 4096;
const OURS: usize = 2048;
const MARK: &[u8; 8] = b"ApogeeMQ";
const VERSION: u32 = 2;
/// Bytes of our part: in the current version and in version 1.
const OURS_LEN: usize = 32;
const VERSION_1_LEN: usize = 24;

/// Later timestamps (from the 23rd century on) are damage.
const LATEST_MS: i64 = 1 << 43;

/// Content of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Store timestamp (ms) of the last record synced in the log.
    pub log_timestamp: i64,
    /// Store timestamp (ms) of the last record whose queue entry was synced.
    pub queue_timestamp: i64,
    /// Store timestamp (ms) of the last record in a synced index file.
    pub index_timestamp: i64,
    /// Log offset up to which the master has flushed, on a replica.
    pub master_flushed: LogOffset,
    /// Log offset up to which replicas have confirmed.
    pub confirmed: LogOffset,
    /// How far log, queues and index are synced. `None` if this store was never ours, or the part is damaged.
    pub progress: Option<SyncedOffsets>,
}

/// How far the log and what is derived from it are synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SyncedOffsets {
    /// Below this offset the log and its queue entries are synced.
    pub dispatched: LogOffset,
    /// Below this offset the keys are in synced index files. At most `dispatched`; lower while the index catches up from the log,
    /// or has no space for its next file.
    pub indexed: LogOffset,
}

impl Checkpoint {
    /// Reads a file without creating it; `None` if it does not exist.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be read.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Self>> {
        let file = if_exists(disk.open(path, OpenMode::Read))?;
        file.map(|file| Ok(Content::read(&*file)?.checkpoint())).transpose()
    }

    /// Whether Apache's timestamps are possible; they are before the first checkpoint, too.
    fn has_times(&self) -> bool {
        [self.log_timestamp, self.queue_timestamp, self.index_timestamp]
            .iter()
            .all(|time| (0..LATEST_MS).contains(time))
    }

    /// Store timestamp (ms) up to which log and queues are synced according to Apache's part; 0 if it has none. Apache subtracts
    /// three seconds.
    #[must_use]
    pub(crate) fn safe_timestamp(&self) -> i64 {
        self.log_timestamp.min(self.queue_timestamp).max(0)
    }

    /// Log offset below which log and queues are synced, if known.
    #[must_use]
    pub(crate) fn dispatched(&self) -> Option<LogOffset> {
        self.progress.map(|progress| progress.dispatched)
    }

    /// Truncates to `to`: nothing behind it counts as synced. Timestamps stay: Apache begins to read at the file that contains
    /// them.
    pub(crate) fn truncate(&mut self, to: LogOffset) {
        self.progress = self.progress.map(|progress| SyncedOffsets {
            dispatched: progress.dispatched.min(to),
            indexed: progress.indexed.min(to),
        });
    }

    /// Sets how far log, queues and index are synced; the last record before `progress.dispatched` was stored at `timestamp_ms`.
    pub(crate) fn advance(&mut self, progress: SyncedOffsets, timestamp_ms: i64) {
        assert!(
            progress.indexed <= progress.dispatched,
            "the index is ahead of the queues: {progress:?}"
        );
        self.progress = Some(progress);
        self.log_timestamp = self.log_timestamp.max(timestamp_ms);
        self.queue_timestamp = self.queue_timestamp.max(timestamp_ms);
        if progress.indexed == progress.dispatched {
            self.index_timestamp = self.index_timestamp.max(timestamp_ms);
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; LEN];
        let longs = [
            self.log_timestamp,
            self.queue_timestamp,
            self.index_timestamp,
            self.master_flushed.0,
            self.confirmed.0,
        ];
        for (place, long) in bytes.chunks_exact_mut(8).zip(longs) {
            place.copy_from_slice(&long.to_be_bytes());
        }
        if let Some(progress) = self.progress {
            let ours = &mut bytes[OURS..OURS + OURS_LEN];
            ours[..8].copy_from_slice(MARK);
            ours[8..12].copy_from_slice(&VERSION.to_be_bytes());
            ours[12..20].copy_from_slice(&progress.dispatched.0.to_be_bytes());
            ours[20..28].copy_from_slice(&progress.indexed.0.to_be_bytes());
            let crc = crc32fast::hash(&ours[..28]);
            ours[28..].copy_from_slice(&crc.to_be_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let long = |at: usize| {
            bytes
                .get(at..at + 8)
                .and_then(|eight| eight.try_into().ok())
                .map_or(0, i64::from_be_bytes)
        };
        Self {
            log_timestamp: long(0),
            queue_timestamp: long(8),
            index_timestamp: long(16),
            master_flushed: LogOffset(long(24)),
            confirmed: LogOffset(long(32)),
            progress: SyncedOffsets::decode(bytes.get(OURS..).unwrap_or_default()),
        }
    }
}

impl SyncedOffsets {
    fn decode(ours: &[u8]) -> Option<Self> {
        let offset = |at: usize| {
            let eight = ours.get(at..at + 8)?.try_into().ok()?;
            Some(LogOffset(i64::from_be_bytes(eight))).filter(|offset| offset.0 >= 0)
        };
        let dispatched = offset(12)?;
        let indexed = if is_whole(ours, VERSION, OURS_LEN) {
            offset(20)?
        } else if is_whole(ours, 1, VERSION_1_LEN) {
            dispatched
        } else {
            return None;
        };
        (indexed <= dispatched).then_some(Self { dispatched, indexed })
    }
}

/// Whether our part has this version and is whole.
fn is_whole(ours: &[u8], version: u32, len: usize) -> bool {
    let Some((content, crc)) = ours.get(..len).and_then(<[u8]>::split_last_chunk::<4>) else {
        return false;
    };
    content.starts_with(MARK) && content[8..12] == version.to_be_bytes() && *crc == crc32fast::hash(content).to_be_bytes()
}

/// The bytes of a checkpoint file.
struct Content {
    /// Always [`LEN`] bytes; zeros after the end of a file that is too short.
    bytes: Vec<u8>,
    is_too_short: bool,
}

impl Content {
    fn read(file: &dyn DiskFile) -> io::Result<Self> {
        let mut bytes = vec![0; LEN];
        let read = file.read_at(&mut bytes, 0)?;
        Ok(Self {
            bytes,
            is_too_short: read < LEN,
        })
    }

    /// The checkpoint, without impossible timestamps.
    fn checkpoint(&self) -> Checkpoint {
        let decoded = Checkpoint::decode(&self.bytes);
        if decoded.has_times() {
            return decoded;
        }
        Checkpoint {
            progress: decoded.progress,
            ..Checkpoint::default()
        }
    }

    /// What is damaged; `None` also for a file without a checkpoint yet.
    fn damage(&self) -> Option<&'static str> {
        let decoded = Checkpoint::decode(&self.bytes);
        let ours = &self.bytes[OURS..];
        let is_newer = ours[8..12] > VERSION.to_be_bytes()[..];
        if self.is_too_short {
            Some("it is too short")
        } else if !decoded.has_times() {
            Some("it has impossible timestamps")
        } else if ours.starts_with(MARK) && decoded.progress.is_none() && !is_newer {
            Some("the ApogeeMQ part is incomplete or has a wrong CRC")
        } else {
            None
        }
    }
}

/// The open file.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    file: Arc<dyn DiskFile>,
}

impl CheckpointFile {
    /// Opens the file, creates it if it does not exist, and reads it.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be opened, created or read.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> io::Result<(Self, Checkpoint)> {
        let file = match if_exists(disk.open(path, OpenMode::Write))? {
            Some(file) => file,
            None => disk.create(path, LEN as u64, Allocate::Reserved)?,
        };
        let content = Content::read(&*file)?;
        if let Some(why) = content.damage() {
            tracing::warn!(file = %path.display(), why, "the checkpoint is damaged; recovery reads more of the log instead");
        }
        Ok((Self { file }, content.checkpoint()))
    }

    /// Writes and syncs the checkpoint.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be written or synced. The previous checkpoint or this one is on the disk then; the call may
    /// be repeated.
    pub(crate) fn write(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        self.file.write_at(&checkpoint.encode(), 0)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::simulated::SimulatedDisk;

    const PATH: &str = "/checkpoint";

    fn sample(at: i64) -> Checkpoint {
        Checkpoint {
            log_timestamp: at,
            queue_timestamp: at + 1,
            index_timestamp: at + 2,
            master_flushed: LogOffset(at + 3),
            confirmed: LogOffset(at + 4),
            progress: Some(SyncedOffsets {
                dispatched: LogOffset(at + 6),
                indexed: LogOffset(at + 5),
            }),
        }
    }

    fn read(disk: &SimulatedDisk) -> Checkpoint {
        CheckpointFile::open(disk, Path::new(PATH)).unwrap().1
    }

    #[test]
    fn what_was_written_is_read_and_apaches_part_is_where_java_looks() {
        let disk = SimulatedDisk::new(1);
        assert_eq!(read(&disk), Checkpoint::default());
        let (file, _) = CheckpointFile::open(&disk, Path::new(PATH)).unwrap();
        file.write(&sample(0x0102_0304_0506)).unwrap();
        assert_eq!(read(&disk), sample(0x0102_0304_0506));
        let bytes = disk.read(Path::new(PATH)).unwrap();
        assert_eq!(bytes.len(), 4096);
        assert_eq!(bytes[..16], [0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 1, 2, 3, 4, 5, 7]);
        assert!(bytes[40..2048].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn times_never_go_back_and_the_safe_one_is_the_lower() {
        let mut checkpoint = Checkpoint {
            log_timestamp: 500,
            ..Checkpoint::default()
        };
        assert_eq!(checkpoint.safe_timestamp(), 0);
        let at = |dispatched, indexed| SyncedOffsets {
            dispatched: LogOffset(dispatched),
            indexed: LogOffset(indexed),
        };
        checkpoint.advance(at(70, 70), 400);
        assert_eq!((checkpoint.safe_timestamp(), checkpoint.log_timestamp), (400, 500));
        checkpoint.advance(at(90, 70), 600);
        assert_eq!((checkpoint.queue_timestamp, checkpoint.index_timestamp), (600, 400));
        assert_eq!(checkpoint.progress, Some(at(90, 70)));
    }

    #[test]
    fn damaged_private_part_is_not_believed() {
        let whole = sample(7).encode();
        for at in OURS..OURS + OURS_LEN {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            let rest = Checkpoint {
                progress: None,
                ..sample(7)
            };
            assert_eq!(Checkpoint::decode(&bytes), rest);
        }
        assert_eq!(Checkpoint::decode(&whole[..100]).progress, None);
    }

    #[test]
    fn the_version_before_says_one_place_for_queues_and_index() {
        let mut bytes = sample(7).encode();
        let ours = &mut bytes[OURS..];
        ours[8..12].copy_from_slice(&1u32.to_be_bytes());
        let crc = crc32fast::hash(&ours[..20]);
        ours[20..24].copy_from_slice(&crc.to_be_bytes());
        let both = LogOffset(13);
        let progress = SyncedOffsets {
            dispatched: both,
            indexed: both,
        };
        assert_eq!(Checkpoint::decode(&bytes).progress, Some(progress));
    }

    #[test]
    fn what_cannot_be_a_time_is_not_believed_and_each_damage_is_named() {
        let disk = SimulatedDisk::new(1);
        let (file, _) = CheckpointFile::open(&disk, Path::new(PATH)).unwrap();
        let damage = || Content::read(&*file.file).unwrap().damage();
        assert_eq!(damage(), None, "no checkpoint yet");
        file.write(&sample(7)).unwrap();
        assert_eq!(damage(), None);
        for (at, why) in [
            (0, "it has impossible timestamps"),
            (8, "it has impossible timestamps"),
            (16, "it has impossible timestamps"),
            (OURS + 30, "the ApogeeMQ part is incomplete or has a wrong CRC"),
        ] {
            let mut bytes = sample(7).encode();
            bytes[at] ^= 0x40;
            file.file.write_at(&bytes, 0).unwrap();
            assert_eq!(damage(), Some(why), "byte {at}");
            let known = read(&disk);
            let expected = if at < OURS { (0, sample(7).progress) } else { (7, None) };
            assert_eq!((known.log_timestamp, known.progress), expected, "byte {at}");
        }
        file.file.set_len(100).unwrap();
        assert_eq!(damage(), Some("it is too short"));
    }

    #[test]
    fn power_cut_while_writing_leaves_each_part_as_before_or_after() {
        let disk = SimulatedDisk::new(1);
        let (file, _) = CheckpointFile::open(&disk, Path::new(PATH)).unwrap();
        file.write(&sample(100)).unwrap();
        disk.cut_at(disk.calls() + 2);
        assert!(file.write(&sample(200)).is_err());
        for seed in 0..200 {
            let found = read(&disk.power_cut(seed));
            assert!([100, 200].contains(&found.log_timestamp));
            assert_eq!(found.confirmed.0, found.log_timestamp + 4);
            assert!([sample(100).progress, sample(200).progress].contains(&found.progress));
        }
    }
}
