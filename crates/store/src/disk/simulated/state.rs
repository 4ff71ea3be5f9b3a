//! The state of a simulated disk: files and names, in the cache and on the medium, and the plan of faults. Each change is counted
//! here, and made or refused.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{Fault, Lasts};
use crate::disk::{Allocate, Space, parent};

#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) at: u64,
    pub(super) fault: Fault,
    pub(super) lasts: Lasts,
}

pub(super) struct DiskState {
    pub(super) random: Random,
    /// Changes with every power cut.
    pub(super) boot: u64,
    pub(super) now_ms: i64,
    /// Space in bytes; `None` if it is unlimited.
    pub(super) capacity: Option<u64>,
    /// The directory in which no file can be created.
    pub(super) closed: Option<PathBuf>,
    pub(super) files: Vec<FileState>,
    /// The names as readers see them.
    pub(super) names: Names,
    /// What is on the medium.
    pub(super) durable_names: Names,
    pub(super) unsynced_names: Vec<NameChange>,
    pub(super) locked: HashSet<PathBuf>,
    pub(super) calls: u64,
    pub(super) cut_at: Option<u64>,
    pub(super) plan: Option<Plan>,
    pub(super) off: bool,
    pub(super) first_failure: Option<String>,
}

pub(super) type Names = BTreeMap<PathBuf, Node>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    /// Index into `DiskState::files`.
    File(usize),
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Make(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            Self::Make(path, node) => {
                names.insert(path.clone(), *node);
            }
            // What was in a directory goes with it.
            Self::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Make(path, _) | Self::Remove(path) | Self::Rename(_, path) => path,
        }
    }

    pub(super) fn is_in(&self, dir: &Path) -> bool {
        parent(self.path()) == dir
    }

    pub(super) fn is_below(&self, dir: &Path) -> bool {
        self.path() != dir && self.path().starts_with(dir)
    }
}

#[derive(Clone, Default)]
pub(super) struct FileState {
    /// The content as readers see it.
    pub(super) content: Vec<u8>,
    /// What is on the medium.
    pub(super) durable: Vec<u8>,
    pub(super) unsynced: Vec<Change>,
    pub(super) reserved: bool,
    pub(super) cold: bool,
    pub(super) modified_ms: i64,
}

#[derive(Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }
}

impl FileState {
    pub(super) fn change(&mut self, change: Change, now_ms: i64) {
        change.apply(&mut self.content);
        self.unsynced.push(change);
        self.modified_ms = now_ms;
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }
}

/// Bytes that are taken together.
const SECTOR: usize = 512;

impl DiskState {
    /// Bytes of all files that have a name: the length of reserved ones, the sectors written of others.
    pub(super) fn used(&self) -> u64 {
        let files = self.names.values().filter_map(|node| match node {
            Node::File(id) => Some(&self.files[*id]),
            Node::Dir => None,
        });
        let bytes: usize = files
            .map(|file| match file.reserved {
                true => file.content.len(),
                false => {
                    file.content
                        .chunks(SECTOR)
                        .filter(|sector| **sector != [0; SECTOR][..sector.len()])
                        .count()
                        * SECTOR
                }
            })
            .sum();
        bytes as u64
    }

    pub(super) fn space(&self) -> Space {
        let Some(total) = self.capacity else {
            return Space {
                total: 1 << 40,
                free: 1 << 39,
                available: 1 << 39,
            };
        };
        let free = total.saturating_sub(self.used());
        Space {
            total,
            free,
            available: free,
        }
    }

    /// Refuses a change that needs more space than is left.
    fn take_room(&mut self, bytes: usize, what: impl FnOnce() -> String) -> io::Result<()> {
        if self.capacity.is_none_or(|capacity| self.used() + bytes as u64 <= capacity) {
            return Ok(());
        }
        self.first_failure.get_or_insert_with(what);
        Err(io::Error::from_raw_os_error(libc::ENOSPC))
    }

    pub(super) fn check_on(&self) -> io::Result<()> {
        if self.off {
            Err(io::Error::other("the simulated machine is off"))
        } else {
            Ok(())
        }
    }

    /// Counts a call that changes something; returns the error that it has to fail with.
    pub(super) fn count(&mut self, what: impl FnOnce() -> String) -> io::Result<()> {
        self.check_on()?;
        self.calls += 1;
        if self.cut_at.is_some_and(|at| self.calls >= at) {
            self.off = true;
            self.first_failure.get_or_insert_with(what);
            return self.check_on();
        }
        let Some(plan) = self.plan else { return Ok(()) };
        let due = if plan.lasts == Lasts::Once {
            self.calls == plan.at
        } else {
            self.calls >= plan.at
        };
        if !due {
            return Ok(());
        }
        self.first_failure.get_or_insert_with(what);
        Err(io::Error::from_raw_os_error(match plan.fault {
            Fault::Broken => libc::EIO,
            Fault::NoSpace => libc::ENOSPC,
        }))
    }

    pub(super) fn node(&self, path: &Path) -> io::Result<Node> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, path.display().to_string()))
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<usize> {
        match self.node(path)? {
            Node::File(id) => Ok(id),
            Node::Dir => Err(io::Error::new(io::ErrorKind::IsADirectory, path.display().to_string())),
        }
    }

    pub(super) fn check_dir(&self, path: &Path) -> io::Result<()> {
        match self.node(path)? {
            Node::Dir => Ok(()),
            Node::File(_) => Err(io::Error::new(io::ErrorKind::NotADirectory, path.display().to_string())),
        }
    }

    pub(super) fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    pub(super) fn make_file(&mut self, path: &Path) -> io::Result<usize> {
        self.check_dir(parent(path))?;
        self.count(|| format!("make file {}", path.display()))?;
        if self.closed.as_ref().is_some_and(|dir| path.starts_with(dir)) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let id = self.files.len();
        self.files.push(FileState {
            modified_ms: self.now_ms,
            ..FileState::default()
        });
        self.change_name(NameChange::Make(path.to_owned(), Node::File(id)));
        Ok(id)
    }

    pub(super) fn make_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.count(|| format!("make directory {}", dir.display()))?;
        self.change_name(NameChange::Make(dir.to_owned(), Node::Dir));
        Ok(())
    }

    pub(super) fn make_synced_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.make_dir(dir)?;
        let synced = self.sync_dir(parent(dir));
        if synced.is_err() && self.count(|| format!("remove directory {}", dir.display())).is_ok() {
            self.change_name(NameChange::Remove(dir.to_owned()));
        }
        synced
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.count(|| format!("remove file {}", path.display()))?;
        self.change_name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.file(from)?;
        self.check_dir(parent(to))?;
        self.count(|| format!("rename {} to {}", from.display(), to.display()))?;
        self.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.check_dir(dir)?;
        self.count(|| format!("sync directory {}", dir.display()))?;
        let (mut synced, mut left) = (Vec::new(), Vec::new());
        for change in self.unsynced_names.drain(..) {
            if let NameChange::Remove(path) = &change
                && change.is_in(dir)
            {
                left.retain(|earlier: &NameChange| !earlier.is_below(path));
            }
            if change.is_in(dir) {
                synced.push(change)
            } else {
                left.push(change)
            }
        }
        self.unsynced_names = left;
        synced.iter().for_each(|change| change.apply(&mut self.durable_names));
        Ok(())
    }

    pub(super) fn write(&mut self, id: usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = index(offset)?;
        let what = || format!("write of {} bytes to file {id} at {offset}", bytes.len());
        // Overwriting takes no space; accurate enough for files that grow by appending.
        let grows = !self.files[id].reserved
            && self.files[id]
                .content
                .get(offset..)
                .is_none_or(|old| old.iter().take(bytes.len()).all(|byte| *byte == 0));
        let room = if grows { self.take_room(bytes.len(), what) } else { Ok(()) };
        let counted = room.and_then(|()| self.count(what));
        let written = if counted.is_ok() {
            bytes.len()
        } else {
            self.random.below(bytes.len() + 1)
        };
        if written > 0 {
            let now_ms = self.now_ms;
            self.files[id].change(
                Change::Write {
                    offset,
                    bytes: bytes[..written].to_vec(),
                },
                now_ms,
            );
        }
        counted
    }

    pub(super) fn set_len(&mut self, id: usize, len: u64) -> io::Result<()> {
        let len = index(len)?;
        self.count(|| format!("set length of file {id} to {len}"))?;
        let now_ms = self.now_ms;
        self.files[id].change(Change::SetLen(len), now_ms);
        Ok(())
    }

    pub(super) fn sync_file(&mut self, id: usize) -> io::Result<()> {
        if let Err(error) = self.count(|| format!("sync of file {id}")) {
            if !self.off {
                self.files[id].unsynced.clear();
            }
            return Err(error);
        }
        self.files[id].sync();
        Ok(())
    }

    pub(super) fn sync_everything(&mut self) -> io::Result<()> {
        let counted = self.count(|| "sync of the file system".to_owned());
        if counted.is_err() && self.off {
            return counted;
        }
        for file in &mut self.files {
            match &counted {
                Ok(()) => file.sync(),
                Err(_) => file.unsynced.clear(),
            }
        }
        counted?;
        for change in self.unsynced_names.drain(..) {
            change.apply(&mut self.durable_names);
        }
        Ok(())
    }

    pub(super) fn create(&mut self, path: &Path, fresh: &Path, len: u64, allocate: Allocate) -> io::Result<usize> {
        // A `.tmp` file that an attempt left before a crash is truncated and used again: it is the same file.
        let id = match self.names.get(fresh) {
            Some(Node::File(id)) => *id,
            _ => self.make_file(fresh)?,
        };
        if !self.files[id].content.is_empty() {
            self.set_len(id, 0)?;
        }
        if allocate == Allocate::Reserved {
            self.take_room(index(len)?, || format!("reserve {len} bytes for {}", path.display()))?;
        }
        self.set_len(id, len)?;
        self.files[id].reserved = allocate == Allocate::Reserved;
        self.sync_file(id)?;
        self.rename(fresh, path)?;
        self.sync_dir(parent(path))?;
        Ok(id)
    }
}

pub(super) fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset)
        .ok()
        .filter(|at| *at < 1 << 40)
        .ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}

/// SplitMix64: small, and the same on every machine.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }
}
