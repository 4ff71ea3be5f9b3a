//! Values changed while running, saved in a properties file of their own so that they survive a restart.
//!
//! The user's own file is never written. The saved file ranks above it and below environment and flags, has only keys that were
//! changed by requests, and is replaced as a whole (`replace.rs`), so that a crash leaves the old or the new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::live::Changed;
use crate::properties;
use crate::replace::replace;
use crate::sources::{FileError, Sources};

const HEAD: &str = "# Settings changed while running (requests 25 and 318). Above the configuration file, below environment and flags.\n\
                    # Remove a line, or this file, to go back at the next start.\n";

/// The file with changed values.
#[derive(Debug, Clone)]
pub struct Kept {
    path: PathBuf,
}

impl Kept {
    /// A file at `path`, which need not exist.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the saved values to the sources. `false` if nothing was ever changed.
    ///
    /// # Errors
    /// [`FileError`] if the file exists and cannot be read or is damaged. [`Self::keep`] never writes an empty file or a NUL byte.
    pub fn add_to(&self, sources: &mut Sources) -> Result<bool, FileError> {
        let path = || self.path.clone();
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            read => read.map_err(|error| FileError::Io { path: path(), error })?,
        };
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(FileError::Damaged { path: path() });
        }
        sources.text(&self.path, &bytes)?;
        Ok(true)
    }

    /// Renames a damaged file to `.bad`, so that the next change does not overwrite it.
    ///
    /// # Errors
    /// The I/O error if the file cannot be renamed.
    pub fn set_aside(&self) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_extension("properties.bad"))
    }

    /// Saves these changes in addition to those saved before. Callers must not run at the same time.
    ///
    /// # Errors
    /// The I/O error if the file cannot be read or replaced. The old file is unchanged then, unless the text says that the change may be there.
    pub fn keep(&self, changes: &[Changed]) -> io::Result<()> {
        let mut values = self.values()?;
        for change in changes {
            match values.iter_mut().find(|(key, _)| key == change.key) {
                Some((_, value)) => value.clone_from(&change.to),
                None => values.push((change.key.to_owned(), change.to.clone())),
            }
        }
        let mut text = HEAD.to_owned();
        for (key, value) in &values {
            properties::write_line(&mut text, key, value);
        }
        replace(&self.path, text.as_bytes())
    }

    fn values(&self) -> io::Result<Vec<(String, String)>> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let entries = properties::parse_bytes(&bytes).map_err(io::Error::other)?;
        Ok(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::shape::whole;

    crate::declare! {
        /// Example.
        struct Example;
        section "All" {
            /// A count.
            queues: u32 { name: "defaultTopicQueueNums", default: 8, allowed: whole(1..=128), change: Live }
            /// A size.
            size: u32 { name: "maxMessageSize", default: 4, allowed: whole(1..=128), change: Live }
        }
    }
    impl Settings for Example {}

    fn change(key: &'static str, to: &str) -> Changed {
        Changed {
            key,
            from: String::new(),
            to: to.to_owned(),
        }
    }

    #[test]
    fn a_change_survives_a_restart_above_the_file_and_below_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(dir.path().join("config/live.properties"));
        kept.keep(&[change("defaultTopicQueueNums", "16"), change("maxMessageSize", "7")])
            .unwrap();
        kept.keep(&[change("defaultTopicQueueNums", "17")]).unwrap();
        let file = dir.path().join("broker.conf");
        fs::write(&file, "defaultTopicQueueNums=3\nmaxMessageSize=3\n").unwrap();
        let mut sources = Sources::new();
        sources.file(&file).unwrap();
        sources.environment([("APOGEEMQ_MAX_MESSAGE_SIZE".to_owned(), "9".to_owned())], &[]);
        assert!(kept.add_to(&mut sources).unwrap());
        let filled = sources.fill::<Example>().unwrap();
        assert_eq!((filled.queues, filled.size), (17, 9));
    }

    #[test]
    fn a_damaged_file_is_no_change_and_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(dir.path().join("live.properties"));
        for content in [&b""[..], &[0; 64], b"# Settings\nmaxMessageSize=\0\0", b"a=\\u12"] {
            fs::write(kept.path(), content).unwrap();
            let error = kept.add_to(&mut Sources::new()).unwrap_err();
            assert!(error.to_string().contains("live.properties"), "{error}");
            kept.set_aside().unwrap();
            assert_eq!(fs::read(dir.path().join("live.properties.bad")).unwrap(), content);
            assert!(!kept.add_to(&mut Sources::new()).unwrap());
        }
    }

    #[test]
    fn without_a_file_nothing_is_added() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Kept::at(dir.path().join("none")).add_to(&mut Sources::new()).unwrap());
    }
}
