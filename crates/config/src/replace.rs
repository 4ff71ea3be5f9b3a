//! Replaces a file as a whole. Settings and the name server's KV configuration are written this way, because they have no store.
//!
//! 1. If the file does not exist, missing directories are created and their names synced.
//! 2. The new content is written to `.tmp` beside the file, and synced.
//! 3. It is renamed over the file, and the directory is synced.
//!
//! A crash leaves the complete old or new content. If the last sync fails, the rename has happened and the old content is restored, so
//! that a refused change is not there after a restart. After a power cut it may be there, and the error says so.
//!
//! Not here: the content of the files. Callers must not write the same file at the same time.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Replaces the content of a file and creates its directory if needed. On return both are on the disk.
///
/// # Errors
/// `io::Error` if a call fails. The file is unchanged then, unless the text says otherwise.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_on(&RealFiles, path, content)
}

/// The file operations, which a test simulates.
trait Files {
    /// `None` if the file does not exist.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Writes and syncs.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates the directory and its parents, if missing. Syncs no name.
    fn make_dirs(&self, dir: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

struct RealFiles;

impl Files for RealFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

fn replace_on(files: &impl Files, path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = directory_of(path);
    let old = files.read(path)?;
    if old.is_none() {
        make_dirs(files, dir)?;
    }
    let fresh = with_suffix(path, ".tmp");
    files.write(&fresh, content)?;
    files.rename(&fresh, path)?;
    files.sync_dir(dir).map_err(|error| {
        let put_back = match old {
            Some(old) => files.write(&fresh, &old).and_then(|()| files.rename(&fresh, path)),
            None => files.remove(path),
        };
        let known = match put_back {
            Ok(()) => "the change was taken back, but may be there after a power cut".to_owned(),
            Err(why) => format!("the change could not be taken back ({why}) and may be there after the next start"),
        };
        io::Error::new(error.kind(), format!("the directory cannot be synced: {error}; {known}"))
    })
}

/// Creates a directory with its parents and syncs their names, also of existing ones, which an earlier attempt may have created without
/// a sync.
fn make_dirs(files: &impl Files, dir: &Path) -> io::Result<()> {
    files.make_dirs(dir)?;
    let with_name = |dir: &&Path| dir.file_name().is_some();
    for dir in dir.ancestors().filter(with_name) {
        match files.sync_dir(directory_of(dir)) {
            // Without permission this process created nothing in the directory. Some file systems cannot sync directories.
            Err(error) if !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The directory of a path; `.` for a bare name.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// The path with a suffix added to its file name.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;
    use std::ops::Range;

    const PATH: &str = "/s/config/live.properties";

    /// Contents by path; `None` for a directory.
    type Names = BTreeMap<PathBuf, Option<Vec<u8>>>;

    /// Files in memory. A name is on the medium after its directory was synced.
    #[derive(Debug, Default)]
    struct Memory {
        names: RefCell<Names>,
        on_medium: RefCell<Names>,
        /// Number of mutating calls.
        calls: Cell<u32>,
        /// The calls that fail.
        failing: Range<u32>,
    }

    impl Memory {
        /// With the root, and the content "old" if `has_old`.
        fn new(has_old: bool, failing: Range<u32>) -> Self {
            let mut memory = Self::default();
            memory.names.get_mut().insert("/".into(), None);
            if has_old {
                replace_on(&memory, Path::new(PATH), b"old").unwrap();
            }
            memory.calls.set(0);
            Self { failing, ..memory }
        }

        fn call(&self) -> io::Result<()> {
            self.calls.set(self.calls.get() + 1);
            match self.failing.contains(&self.calls.get()) {
                true => Err(io::Error::other("broken")),
                false => Ok(()),
            }
        }

        fn after_restart(&self) -> Option<Vec<u8>> {
            self.read(Path::new(PATH)).unwrap()
        }

        /// The content after losing everything that was not synced.
        fn after_power_cut(&self) -> Option<Vec<u8>> {
            let left = self.on_medium.borrow();
            let is_there = |dir: &Path| dir == Path::new("/") || left.contains_key(dir);
            left.get(Path::new(PATH))
                .filter(|_| Path::new(PATH).ancestors().all(is_there))
                .and_then(Clone::clone)
        }
    }

    impl Files for Memory {
        fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
            Ok(self.names.borrow().get(path).and_then(Clone::clone))
        }

        fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
            self.names.borrow_mut().insert(path.to_owned(), Some(Vec::new()));
            self.call()?;
            self.names.borrow_mut().insert(path.to_owned(), Some(content.to_vec()));
            Ok(())
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.call()?;
            let mut names = self.names.borrow_mut();
            let content = names.remove(from).unwrap();
            names.insert(to.to_owned(), content);
            Ok(())
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.call()?;
            self.names.borrow_mut().remove(path).unwrap();
            Ok(())
        }

        fn make_dirs(&self, dir: &Path) -> io::Result<()> {
            let mut missing: Vec<_> = dir.ancestors().filter(|dir| !self.names.borrow().contains_key(*dir)).collect();
            while let Some(dir) = missing.pop() {
                self.call()?;
                self.names.borrow_mut().insert(dir.to_owned(), None);
            }
            Ok(())
        }

        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.call()?;
            let mut on_medium = self.on_medium.borrow_mut();
            let is_in = |path: &Path| path != dir && directory_of(path) == dir;
            on_medium.retain(|path, _| !is_in(path));
            let names = self.names.borrow();
            on_medium.extend(
                names
                    .iter()
                    .filter(|(path, _)| is_in(path))
                    .map(|(path, content)| (path.clone(), content.clone())),
            );
            Ok(())
        }
    }

    #[test]
    fn the_first_content_is_there_after_a_power_cut_with_its_directories() {
        let memory = Memory::new(false, 0..0);
        replace_on(&memory, Path::new(PATH), b"new").unwrap();
        assert_eq!(memory.after_power_cut().unwrap(), b"new");
        replace_on(&memory, Path::new(PATH), b"newer").unwrap();
        assert_eq!(memory.after_power_cut().unwrap(), b"newer");
    }

    #[test]
    fn a_refused_change_is_not_there_after_a_restart_unless_the_error_says_so() {
        for (has_old, lasts) in [(false, 1), (true, 1), (false, 99), (true, 99)] {
            let old = has_old.then(|| b"old".to_vec());
            let mut texts = Vec::new();
            for n in 1.. {
                let memory = Memory::new(has_old, n..n + lasts);
                let Err(error) = replace_on(&memory, Path::new(PATH), b"new") else {
                    break;
                };
                let (text, calls) = (error.to_string(), memory.calls.get());
                let may_be_there = text.contains("may be there after the next start");
                assert!(may_be_there || memory.after_restart() == old, "{text}");
                let may_be_there = text.contains("may be there after");
                assert!(may_be_there || memory.after_power_cut() == old, "{text}");
                texts.push(text);
                // A repeated attempt succeeds.
                let again = Memory {
                    failing: 0..0,
                    calls: Cell::new(calls),
                    ..memory
                };
                replace_on(&again, Path::new(PATH), b"new").unwrap();
                assert_eq!(
                    (again.after_restart(), again.after_power_cut()),
                    (Some(b"new".to_vec()), Some(b"new".to_vec()))
                );
            }
            assert!(texts.len() >= 3, "{texts:?}");
            let last = texts.last().unwrap();
            assert_eq!(last.contains("was taken back"), lasts == 1, "{last}");
        }
    }

    #[test]
    fn real_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        for content in ["1", "", "22"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file is left"
        );
        assert!(replace(&path.join("below a file"), b"").is_err());
    }
}
