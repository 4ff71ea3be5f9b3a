//! The file `position-checkpoint`: how far each queue is compacted, as Apache writes it.
//!
//! It only saves work: a queue that it does not have is compacted from its beginning, with the same result.

use crate::disk::Disk;
use crate::error::StoreError;
use crate::json_file;
use crate::sync::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Name of the file.
pub(crate) const POSITIONS_FILE: &str = "position-checkpoint";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    queue_offset_map: BTreeMap<String, i64>,
}

/// The last queue offset of each queue that is compacted.
#[derive(Debug)]
pub(super) struct Positions {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    content: Mutex<Content>,
}

impl Positions {
    /// Reads the file. A damaged one counts as none.
    ///
    /// # Errors
    /// `StoreError::Io` if it cannot be read.
    pub(super) fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self, StoreError> {
        let parse = |bytes: &[u8]| serde_json::from_slice(bytes);
        let content = match json_file::read(&*disk, &path, parse) {
            Ok((content, _)) => content.unwrap_or_default(),
            Err(json_file::ReadError::Damaged(why)) => {
                tracing::warn!(
                    why,
                    "it is not known how far queues were compacted; they are compacted again from their beginning"
                );
                Content::default()
            }
            Err(json_file::ReadError::Io(error)) => return Err(StoreError::io("read", &path, error)),
        };
        Ok(Self {
            disk,
            path,
            content: Mutex::new(content),
        })
    }

    fn name(topic: &str, queue_id: i32) -> String {
        format!("{topic}_{queue_id}")
    }

    /// The last compacted offset; -1 if there is none.
    pub(super) fn of(&self, topic: &str, queue_id: i32) -> i64 {
        let content = self.content.lock();
        content.queue_offset_map.get(&Self::name(topic, queue_id)).copied().unwrap_or(-1)
    }

    /// Notes how far a queue is compacted, `None` to forget it, and writes the file.
    ///
    /// # Errors
    /// `StoreError::Io` if it cannot be written. The next start may compact again then, with the same result.
    pub(super) fn set(&self, topic: &str, queue_id: i32, offset: Option<i64>) -> Result<(), StoreError> {
        let name = Self::name(topic, queue_id);
        let mut changed = self.content.lock().clone();
        match offset {
            Some(offset) => changed.queue_offset_map.insert(name, offset),
            None => changed.queue_offset_map.remove(&name),
        };
        // Only the thread that does the work calls this, so the lock need not be held over the write.
        let bytes = serde_json::to_vec(&changed).map_err(|e| StoreError::Layout(format!("{}: {e}", self.path.display())))?;
        *self.content.lock() = changed;
        json_file::write(&*self.disk, &self.path, &bytes).map_err(|e| StoreError::io("write", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OpenMode;
    use crate::disk::simulated::SimulatedDisk;

    #[test]
    fn file_is_apaches_and_a_damaged_one_counts_as_none() {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        let path = PathBuf::from("/compaction").join(POSITIONS_FILE);
        let positions = Positions::open(disk.clone(), path.clone()).unwrap();
        assert_eq!(positions.of("t", 3), -1);
        positions.set("t", 3, Some(41)).unwrap();
        positions.set("t_x", 0, Some(7)).unwrap();
        assert_eq!(disk.read(&path).unwrap(), br#"{"queueOffsetMap":{"t_3":41,"t_x_0":7}}"#);
        assert_eq!(Positions::open(disk.clone(), path.clone()).unwrap().of("t_x", 0), 7);
        positions.set("t", 3, None).unwrap();
        assert_eq!(positions.of("t", 3), -1);
        for path in [path.clone(), crate::disk::with_suffix(&path, ".bak")] {
            let file = disk.open(&path, OpenMode::Write).unwrap();
            file.set_len(0).unwrap();
            file.write_at(b"[]", 0).unwrap();
        }
        assert_eq!(Positions::open(disk, path).unwrap().of("t_x", 0), -1);
    }
}
