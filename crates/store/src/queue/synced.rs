//! The file `consumequeue.synced` beside the queues' directory: the synced end of each queue.
//!
//! Recovery truncates each queue to this: entries below are on the device for sure, and those above need not be examined, so a torn
//! entry that looks valid cannot be accepted. A start after a clean shutdown finds the end of each queue with one read. A Java
//! broker does not know the file and may have written more, so an end is trusted only if the entries around it agree.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | mark, in ASCII |
//! | 4 | version, 1 |
//! | 4 | number of queues |
//! | | for each: 2 length of the topic, the topic, 4 queue id, 8 maximum offset, 8 end in the log |
//! | 4 | CRC-32 of all before |
//!
//! It is written after the sync and before the checkpoint that relies on it, and replaced as a whole.

use std::io;
use std::path::Path;

use rustc_hash::FxHashMap;

use crate::disk::{Disk, OpenMode, if_exists, parent, with_suffix};

const MARK: &[u8; 8] = b"ApogeeCQ";
const VERSION: u32 = 1;

/// The synced end of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Synced {
    /// The queue offset after the last synced entry.
    pub(super) max: i64,
    /// End of that entry's message in the log.
    pub(super) log_end: i64,
}

/// The last run's synced end of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastRun {
    /// The file does not exist or is damaged.
    Unknown,
    /// The queue had no synced entries.
    Absent,
    /// The queue was synced up to here.
    Synced(Synced),
}

impl LastRun {
    /// The synced end of a queue by the file, if there is one.
    pub(super) fn of(known: Option<&SyncedQueues>, topic: &str, queue_id: i32) -> Self {
        let Some(known) = known else { return Self::Unknown };
        let synced = known.get(&(topic.to_owned(), queue_id)).copied();
        synced.map_or(Self::Absent, Self::Synced)
    }

    /// The queue offset above which a crash may have left damaged entries.
    pub(super) fn limit(self) -> i64 {
        match self {
            Self::Unknown => i64::MAX,
            Self::Absent => 0,
            Self::Synced(synced) => synced.max,
        }
    }
}

/// By topic and queue id.
pub(super) type SyncedQueues = FxHashMap<(String, i32), Synced>;

/// The file's content, queue by queue.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    count: u32,
}

impl Writer {
    pub(super) fn new() -> Self {
        let mut bytes = MARK.to_vec();
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&0u32.to_be_bytes());
        Self { bytes, count: 0 }
    }

    pub(super) fn add(&mut self, topic: &str, queue_id: i32, synced: Synced) {
        // A topic's name is shorter: file names have at most 255 bytes.
        let Ok(len) = u16::try_from(topic.len()) else { return };
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(topic.as_bytes());
        self.bytes.extend_from_slice(&queue_id.to_be_bytes());
        self.bytes.extend_from_slice(&synced.max.to_be_bytes());
        self.bytes.extend_from_slice(&synced.log_end.to_be_bytes());
        self.count += 1;
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> i64 {
        (self.bytes.len() + size_of::<u32>()) as i64
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes[12..16].copy_from_slice(&self.count.to_be_bytes());
        let crc = crc32fast::hash(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_be_bytes());
        self.bytes
    }

    /// Replaces the file and syncs it.
    pub(super) fn write(self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let fresh = with_suffix(path, ".tmp");
        let file = disk.open(&fresh, OpenMode::WriteOrCreate)?;
        file.set_len(0)?;
        file.write_at(&self.finish(), 0)?;
        file.sync_data()?;
        drop(file);
        disk.rename(&fresh, path)?;
        disk.sync_dir(parent(path))
    }
}

/// Reads the file. `None` if it does not exist or is damaged, which is equivalent.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<SyncedQueues>> {
    let Some(bytes) = if_exists(disk.read(path))? else {
        return Ok(None);
    };
    let queues = decode(&bytes);
    if queues.is_none() {
        tracing::warn!(file = %path.display(), "the file is damaged; the ends of the queues are searched in their files instead");
    }
    Ok(queues)
}

fn decode(bytes: &[u8]) -> Option<SyncedQueues> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if u32::from_be_bytes(*crc) != crc32fast::hash(content) {
        return None;
    }
    let mut rest = content.strip_prefix(MARK)?;
    let version = u32::from_be_bytes(take(&mut rest)?);
    let count = u32::from_be_bytes(take(&mut rest)?);
    if version != VERSION {
        return None;
    }
    let mut queues = SyncedQueues::default();
    for _ in 0..count {
        let len = usize::from(u16::from_be_bytes(take(&mut rest)?));
        let (topic, after) = rest.split_at_checked(len)?;
        rest = after;
        let queue_id = i32::from_be_bytes(take(&mut rest)?);
        let synced = Synced {
            max: i64::from_be_bytes(take(&mut rest)?),
            log_end: i64::from_be_bytes(take(&mut rest)?),
        };
        queues.insert((std::str::from_utf8(topic).ok()?.to_owned(), queue_id), synced);
    }
    rest.is_empty().then_some(queues)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::simulated::SimulatedDisk;

    #[test]
    fn what_was_written_is_read_and_damage_is_noticed() {
        let disk = SimulatedDisk::new(1);
        let path = Path::new("/consumequeue.synced");
        assert_eq!(read(&disk, path).unwrap(), None);
        let mut writer = Writer::new();
        writer.add("topic", 3, Synced { max: 7, log_end: 1 << 40 });
        writer.add("主题", 0, Synced { max: 0, log_end: 0 });
        writer.write(&disk, path).unwrap();
        let queues = read(&disk, path).unwrap().unwrap();
        assert_eq!(queues.len(), 2);
        assert_eq!(queues[&("topic".to_owned(), 3)], Synced { max: 7, log_end: 1 << 40 });
        let bytes = disk.read(path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "cut at {at}");
        }
    }
}
