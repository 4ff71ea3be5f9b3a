//! The id that the controllers gave this broker, in files beside its log.
//!
//! An id is asked for, noted in a temporary file with a code that identifies this broker, taken, and then noted for good: whatever a crash
//! interrupts, the next start takes the same id.
//!
//! Compat: the files `brokerIdentity` and `brokerIdentity-temp`, and their content `CLUSTER#BROKER#ID`, in the latter with `#CODE`, are
//! Apache's.

use crate::settings::BrokerSettings;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use store::disk::{Disk, if_exists, with_suffix};

/// The files.
#[derive(Clone)]
pub(super) struct IdentityFiles {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    cluster: String,
    broker: String,
}

/// An id that this broker asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) id: i64,
    /// Identifies the broker when it asks again.
    pub(super) check_code: String,
}

impl IdentityFiles {
    pub(super) fn new(disk: Arc<dyn Disk>, settings: &BrokerSettings) -> Self {
        Self {
            disk,
            path: settings.store_path_root_dir.join("brokerIdentity"),
            cluster: settings.broker_cluster_name.clone(),
            broker: settings.broker_name.clone(),
        }
    }

    /// The id of this broker, if it has one.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be read, is damaged, or is about another broker.
    pub(super) fn id(&self) -> io::Result<Option<i64>> {
        Ok(self.read(&self.path, 3)?.map(|(id, _)| id))
    }

    /// What was asked for and is not noted for good.
    ///
    /// # Errors
    /// As [`Self::id`].
    pub(super) fn asked(&self) -> io::Result<Option<Asked>> {
        let read = self.read(&self.asked_path(), 4)?;
        Ok(read.map(|(id, check_code)| Asked { id, check_code }))
    }

    /// Notes what is about to be asked for.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be written.
    pub(super) fn ask(&self, asked: &Asked) -> io::Result<()> {
        self.make_directory()?;
        let text = format!("{}#{}#{}#{}", self.cluster, self.broker, asked.id, asked.check_code);
        self.disk.replace(&self.asked_path(), text.as_bytes())
    }

    /// Notes the id for good.
    ///
    /// # Errors
    /// [`io::Error`] if the files cannot be written.
    pub(super) fn take(&self, id: i64) -> io::Result<()> {
        self.make_directory()?;
        self.disk
            .replace(&self.path, format!("{}#{}#{id}", self.cluster, self.broker).as_bytes())?;
        self.forget_asked()
    }

    /// What was asked for is given to another broker.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be removed.
    pub(super) fn forget_asked(&self) -> io::Result<()> {
        for path in [self.asked_path(), with_suffix(&self.asked_path(), ".bak")] {
            if_exists(self.disk.remove_file(&path))?;
        }
        Ok(())
    }

    fn make_directory(&self) -> io::Result<()> {
        self.disk.create_dir_all(store::disk::parent(&self.path))
    }

    fn asked_path(&self) -> PathBuf {
        with_suffix(&self.path, "-temp")
    }

    /// Id and code of a file with so many fields.
    fn read(&self, path: &std::path::Path, fields: usize) -> io::Result<Option<(i64, String)>> {
        let Some(bytes) = if_exists(self.disk.read(path))? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes);
        let parts: Vec<&str> = text.trim().splitn(fields, '#').collect();
        let refused = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()));
        match parts.as_slice() {
            [cluster, broker, id, code @ ..] if parts.len() == fields => {
                if (*cluster, *broker) != (self.cluster.as_str(), self.broker.as_str()) {
                    return Err(refused(format!(
                        "it is of broker {broker} in cluster {cluster}, the settings say {} in {}; correct them, or remove the file to get a new id",
                        self.broker, self.cluster
                    )));
                }
                let id = id.parse().map_err(|_| refused(format!("'{id}' is no broker id")))?;
                Ok(Some((id, code.first().copied().unwrap_or_default().to_owned())))
            }
            _ => Err(refused("it is damaged; restore it, or remove it to get a new id".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use store::disk::simulated::SimulatedDisk;

    #[test]
    fn an_id_is_noted_in_apaches_files() {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        let settings = BrokerSettings {
            broker_cluster_name: "c".to_owned(),
            broker_name: "b".to_owned(),
            store_path_root_dir: "/store".into(),
            ..BrokerSettings::default()
        };
        let files = IdentityFiles::new(disk.clone(), &settings);
        assert_eq!((files.id().unwrap(), files.asked().unwrap()), (None, None));
        let asked = Asked {
            id: 2,
            check_code: "10.0.0.1:10911;17".to_owned(),
        };
        files.ask(&asked).unwrap();
        assert_eq!(
            disk.read(Path::new("/store/brokerIdentity-temp")).unwrap(),
            b"c#b#2#10.0.0.1:10911;17"
        );
        assert_eq!(files.asked().unwrap(), Some(asked));
        files.take(2).unwrap();
        assert_eq!(disk.read(Path::new("/store/brokerIdentity")).unwrap(), b"c#b#2");
        assert_eq!((files.id().unwrap(), files.asked().unwrap()), (Some(2), None));
        let other = BrokerSettings {
            broker_name: "other".to_owned(),
            ..settings
        };
        assert!(
            IdentityFiles::new(disk.clone(), &other).id().is_err(),
            "the directory is of another broker"
        );
        disk.replace(Path::new("/store/brokerIdentity"), b"c#b").unwrap();
        assert!(files.id().is_err());
    }
}
