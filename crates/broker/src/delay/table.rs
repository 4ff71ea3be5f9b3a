//! `delayOffset.json`, and the answer to 45, which is the same text without line breaks.
//!
//! ```text
//! {"dataVersion":{"counter":0,"stateVersion":0,"timestamp":1700000000000},"offsetTable":{1:9,3:0,18:0}}
//! ```

use super::DelayOffsets;
use crate::offset::table::{Layout, Lines};
use crate::state_file::{SavedTable, StateFile, Table};
use parking_lot::Mutex;
use protocol::{DataVersion, json};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use store::Store;

/// What the table's file is and holds.
pub const TABLE: Table = Table {
    name: "delayOffset.json",
    holds: "how far each delay level was delivered",
    without: "the key index says what was delivered; delayed messages that it does not find are delivered again",
    is_made_again: true,
    check: |content| read(content).map(drop),
};

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Saved {
    data_version: Option<DataVersion>,
    offset_table: BTreeMap<i32, i64>,
}

fn read(content: &[u8]) -> Result<Saved, json::JsonError> {
    json::read_large(content)
}

/// Fills an empty table with what was saved.
///
/// # Errors
/// The file is there and cannot be read.
pub fn load(offsets: &DelayOffsets, file: &StateFile) -> io::Result<()> {
    if let Some(saved) = file.load(read)? {
        offsets.restore(saved.offset_table, saved.data_version);
    }
    Ok(())
}

/// Takes over the progress of a master, from its answer to 45.
///
/// # Errors
/// [`json::JsonError`] if it cannot be parsed; nothing is changed then.
pub fn copy(offsets: &DelayOffsets, body: &[u8]) -> Result<(), json::JsonError> {
    let of_master = read(body)?;
    offsets.restore(of_master.offset_table, of_master.data_version);
    offsets.mark_changed();
    Ok(())
}

/// Takes over what a slave has delivered while it acted for this master, from its answer to 45.
///
/// # Errors
/// [`json::JsonError`] if it cannot be parsed; nothing is changed then.
pub fn advance(offsets: &DelayOffsets, body: &[u8]) -> Result<(), json::JsonError> {
    offsets.advance_all(&read(body)?.offset_table);
    Ok(())
}

/// Writes all offsets.
#[must_use]
pub fn text((version, offsets): (DataVersion, BTreeMap<i32, i64>), layout: Layout) -> String {
    let mut out = Lines::new(256, layout);
    out.open();
    out.version(version);
    out.key("\"offsetTable\"");
    out.open();
    let last = offsets.len();
    for (at, (level, offset)) in offsets.into_iter().enumerate() {
        out.number(&level.to_string(), offset, at + 1 == last);
    }
    out.close(true);
    out.close(true);
    out.into_text()
}

/// The offsets and their file, which is never ahead of what is on the device.
pub struct DelayOffsetsFile {
    offsets: Arc<DelayOffsets>,
    store: Arc<Store>,
    file: StateFile,
    period: Duration,
    /// Held while the file is written, so that it is not replaced by an older one.
    alone: Mutex<()>,
}

impl DelayOffsetsFile {
    /// Offsets of deliveries into `store`, saved in `file` every `period`.
    #[must_use]
    pub fn new(offsets: Arc<DelayOffsets>, store: Arc<Store>, file: StateFile, period: Duration) -> Self {
        Self {
            offsets,
            store,
            file,
            period,
            alone: Mutex::default(),
        }
    }
}

impl SavedTable for DelayOffsetsFile {
    fn load(&self) -> io::Result<()> {
        load(&self.offsets, &self.file)
    }

    fn save(&self) -> io::Result<()> {
        let _alone = self.alone.lock();
        let Some(all) = self.offsets.take_changed() else { return Ok(()) };
        // What was delivered must not be lost with the power when this file says that it was delivered.
        let synced = self.store.sync().map_err(io::Error::other);
        let saved = synced.and_then(|()| self.file.save(text(all, Layout::File).as_bytes()));
        saved.inspect_err(|_| self.offsets.mark_changed())
    }

    fn period(&self) -> Option<Duration> {
        Some(self.period)
    }

    fn name(&self) -> &'static str {
        self.file.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APACHES: &str = "{\n\t\"dataVersion\":{\n\t\t\"counter\":0,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1795409622391\n\t},\n\
                           \t\"offsetTable\":{\n\t\t1:9,\n\t\t3:0,\n\t\t18:0\n\t}\n}";

    fn read(text: &str) -> Saved {
        json::read_large(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_file_of_the_java_broker_is_read_and_written_the_same() {
        let saved = read(APACHES);
        let offsets = DelayOffsets::default();
        offsets.restore(saved.offset_table, saved.data_version);
        assert_eq!((offsets.of(1), offsets.of(3), offsets.of(2)), (Some(9), Some(0), None));
        assert_eq!(text(offsets.all(), Layout::File), APACHES);
    }

    #[test]
    fn the_body_is_what_java_writes() {
        let offsets = DelayOffsets::new(7);
        offsets.set(18, 0);
        offsets.set(2, 5);
        let expected = r#"{"dataVersion":{"counter":0,"stateVersion":0,"timestamp":7},"offsetTable":{2:5,18:0}}"#;
        assert_eq!(text(offsets.all(), Layout::Body), expected);
        assert_eq!(read(expected).offset_table, BTreeMap::from([(2, 5), (18, 0)]));
        let empty = r#"{"dataVersion":{"counter":0,"stateVersion":0,"timestamp":0},"offsetTable":{}}"#;
        assert_eq!(text(DelayOffsets::default().all(), Layout::Body), empty);
    }

    #[test]
    fn files_of_older_brokers_have_no_version() {
        let saved = read(r#"{"offsetTable":{3:7}}"#);
        assert_eq!((saved.data_version, saved.offset_table), (None, BTreeMap::from([(3, 7)])));
        assert!(json::read_large::<Saved>(b"{").is_err());
    }
}
