//! A table on disk: one JSON file in `config/` of the store, see [`store::json_file`] for what happens at a crash.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::disk::Disk;
use store::json_file;

/// One table's file.
#[derive(Clone, Debug)]
pub struct StateFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl StateFile {
    /// The file `name` in the directory `config` of a store.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, store_root: &Path, name: &str) -> Self {
        let path = store_root.join("config").join(name);
        Self { disk, path }
    }

    /// Reads the table; `None` when there is none yet.
    ///
    /// # Errors
    /// Neither the file nor its backup can be read though one is there: the broker must not start with an empty table and
    /// save it over what can still be repaired.
    pub fn load<T, E: Display>(&self, parse: impl Fn(&[u8]) -> Result<T, E>) -> io::Result<Option<T>> {
        Ok(json_file::read(&*self.disk, &self.path, parse)?.0)
    }

    /// Replaces the table; when this returns it is on the disk.
    ///
    /// # Errors
    /// The disk's; the table before is still there.
    pub fn save(&self, content: &[u8]) -> io::Result<()> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
        json_file::write(&*self.disk, &self.path, content).map_err(named)
    }
}
