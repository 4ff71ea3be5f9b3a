//! Replaces a file as a whole: the one way in which settings and the name server's KV configuration are written, which know no store.
//!
//! 1. As long as there is no file, its directory and those above it are made if need be, and their names synced.
//! 2. The new content is written beside the file, to `.tmp`, and synced.
//! 3. It is renamed over the file, and the directory is synced.
//!
//! A crash leaves the old or the new content, whole. If the last sync fails, the rename has happened and the old content is put back:
//! what was refused is not there after a restart. What a power cut leaves then nobody knows, and the error says so.
//!
//! Not here: what is in the files, and one writer at a time, which is the caller's to see to.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Puts `content` under the name; the directory is made if it is not there. When this returns, both are on the disk.
///
/// # Errors
/// I/O errors. The file is as before, unless the text says otherwise.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_on(&Machine, path, content)
}

/// The calls of it, so that a test can own what they do.
trait Files {
    /// `None` if it is not there.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Written and synced.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Those above it, too; no name is synced. No error if it is there.
    fn make_dirs(&self, dir: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

struct Machine;

impl Files for Machine {
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
    let dir = above(path);
    let old = files.read(path)?;
    if old.is_none() {
        make_dirs(files, dir)?;
    }
    let fresh = beside(path, ".tmp");
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

/// Makes a directory with those above it, and syncs their names: also those it finds, which an earlier try may have made and not
/// synced.
fn make_dirs(files: &impl Files, dir: &Path) -> io::Result<()> {
    files.make_dirs(dir)?;
    let with_name = |dir: &&Path| dir.file_name().is_some();
    for dir in dir.ancestors().filter(with_name) {
        match files.sync_dir(above(dir)) {
            // Whoever may not look into a directory did not make anything in it. Some file systems sync no directories.
            Err(error) if !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The directory a path is in; `.` for a bare name.
fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// The path with something added to its last name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
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

    /// Files in memory. A name is on the medium when its directory was synced.
    #[derive(Debug, Default)]
    struct Memory {
        names: RefCell<Names>,
        on_medium: RefCell<Names>,
        /// Calls so far that change something.
        calls: Cell<u32>,
        /// Which of them fail.
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

        /// With nothing left that was not synced.
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
            let is_in = |path: &Path| path != dir && above(path) == dir;
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
    fn what_is_refused_is_not_there_after_a_restart_unless_the_error_says_so() {
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
                // What failed once is repeated with success.
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
    fn the_machines_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        for content in ["1", "", "22"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        assert!(replace(&path.join("below a file"), b"").is_err());
    }
}
