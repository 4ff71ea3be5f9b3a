//! `messageRequestMode.json` as Apache writes it.

use super::Modes;
use crate::state_file::{SavedTable, StateFile, Table};
use parking_lot::Mutex;
use protocol::assignment::{RequestMode, RequestModes};
use protocol::json;
use std::io;
use std::sync::Arc;

/// What the table's file is and holds.
pub const TABLE: Table = Table {
    name: "messageRequestMode.json",
    holds: "the request modes that were set for groups",
    without: "all groups pull; other modes have to be set again (admin setConsumeMode)",
    is_made_again: false,
};
/// Name of the file.
pub const FILE: &str = TABLE.name;

/// Takes the modes that were saved.
///
/// # Errors
/// The file is there and cannot be read.
pub fn load(modes: &Modes, file: &StateFile) -> io::Result<()> {
    let Some(saved) = file.load(json::read::<RequestModes>)? else {
        return Ok(());
    };
    let set = saved.message_request_mode_map.values().flat_map(|groups| groups.values());
    for mode in set.filter(|mode| mode.mode == RequestMode::Pop) {
        tracing::warn!(
            topic = mode.topic,
            group = mode.consumer_group,
            "set to POP, which this broker does not have yet: the group pulls"
        );
    }
    modes.restore(saved);
    Ok(())
}

/// Writes all modes; returns how many changes are on the disk now.
///
/// # Errors
/// The disk's.
pub fn save(modes: &Modes, file: &StateFile) -> io::Result<u64> {
    let (all, changes) = modes.all();
    file.save(&crate::state_file::pretty(&all))?;
    Ok(changes)
}

/// The request modes and their file, which is not there before a mode was set. Every change has an answer that waits for it.
pub struct ModesFile {
    modes: Arc<Modes>,
    file: StateFile,
    /// The number of changes that are on the disk. Held while the file is written, so that it is not replaced by an older one.
    on_disk: Mutex<u64>,
}

impl ModesFile {
    /// Modes that are saved in `file`.
    #[must_use]
    pub fn new(modes: Arc<Modes>, file: StateFile) -> Self {
        Self {
            modes,
            file,
            on_disk: Mutex::default(),
        }
    }
}

impl SavedTable for ModesFile {
    fn load(&self) -> io::Result<()> {
        load(&self.modes, &self.file)
    }

    fn save_changes(&self) -> io::Result<()> {
        let mut on_disk = self.on_disk.lock();
        if *on_disk != self.modes.changes() {
            *on_disk = save(&self.modes, &self.file)?;
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.file.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::assignment::GroupRequestMode;
    use store::disk::real::RealDisk;

    #[test]
    fn modes_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(Arc::new(RealDisk), dir.path(), TABLE, &[]);
        let before = Modes::new(Arc::default());
        load(&before, &file).unwrap();
        let mode = GroupRequestMode {
            consumer_group: "g".to_owned(),
            topic: "t".to_owned(),
            ..GroupRequestMode::default()
        };
        before.set(mode).unwrap();
        assert_eq!(save(&before, &file).unwrap(), 1);
        let after = Modes::new(Arc::default());
        load(&after, &file).unwrap();
        assert_eq!(after.all().0, before.all().0);
        let text = std::fs::read_to_string(dir.path().join("config").join(FILE)).unwrap();
        assert!(
            text.starts_with("{\n\t\"messageRequestModeMap\":{\n\t\t\"t\":{\n\t\t\t\"g\":{"),
            "{text}"
        );
        assert!(text.contains("\"mode\":\"PULL\""), "{text}");
    }
}
