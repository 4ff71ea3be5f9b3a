//! `messageRequestMode.json` in Apache's format.

use super::Modes;
use crate::state_file::{StateFile, Table, Versioned, pretty};
use protocol::assignment::RequestModes;
use protocol::json;
use std::io;

/// The file of this table.
pub const TABLE: Table = Table {
    name: "messageRequestMode.json",
    holds: "the request modes of groups",
    without: "all groups pull; set other modes again (admin setConsumeMode)",
    is_made_again: false,
    check: |content| json::read::<RequestModes>(content).map(drop),
};

/// Adds the modes in the file.
///
/// # Errors
/// `io::Error` if the file exists and cannot be read or parsed.
pub fn load(modes: &Modes, file: &StateFile) -> io::Result<()> {
    let Some(saved) = file.load(json::read::<RequestModes>)? else {
        return Ok(());
    };
    modes.restore(saved);
    Ok(())
}

/// Takes over the modes of a master, from its answer to 402.
///
/// # Errors
/// [`json::JsonError`] if it cannot be parsed; nothing is changed then.
pub fn copy(modes: &Modes, body: &[u8]) -> Result<(), json::JsonError> {
    modes.copy(json::read_large::<RequestModes>(body)?);
    Ok(())
}

impl Versioned for Modes {
    /// The number of changes: the file does not exist before a mode is set.
    type Version = u64;

    fn load(&self, file: &StateFile) -> io::Result<()> {
        load(self, file)
    }

    fn version(&self) -> u64 {
        self.changes()
    }

    fn content(&self) -> (u64, Vec<u8>) {
        let (all, changes) = self.all();
        (changes, pretty(&all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::assignment::GroupRequestMode;
    use std::sync::Arc;
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
        let (changes, content) = before.content();
        assert_eq!(changes, 1);
        file.save(&content).unwrap();
        let after = Modes::new(Arc::default());
        load(&after, &file).unwrap();
        assert_eq!(after.all().0, before.all().0);
        let text = std::fs::read_to_string(dir.path().join("config").join(TABLE.name)).unwrap();
        assert!(
            text.starts_with("{\n\t\"messageRequestModeMap\":{\n\t\t\"t\":{\n\t\t\t\"g\":{"),
            "{text}"
        );
        assert!(text.contains("\"mode\":\"PULL\""), "{text}");
    }
}
