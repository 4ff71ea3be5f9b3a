//! A disk in memory that a test controls: a seed decides what a power cut leaves, and a plan decides which call fails.
//!
//! It is harsher than any real file system:
//! - Content is durable after `sync_data` of the file, and names after `sync_dir` of their directory, independently.
//! - [`SimulatedDisk::power_cut`] makes the disk after a power cut at this moment. Each sector (512 B or 4 KiB) that was written
//!   and not synced has any of its versions, independently of all other sectors, so writes are torn and reordered. The length is
//!   any that the file had since its last sync. Each change of a name that was not synced may be lost, independently of earlier
//!   ones.
//! - A write that fails may have written a part. A sync that fails leaves the data readable in the cache and never writes it: a
//!   second sync succeeds without it (as Linux does).
//!
//! Calls that change something are counted ([`SimulatedDisk::calls`]), so that a test can run a script once for each n with
//! [`SimulatedDisk::cut_at`] or [`SimulatedDisk::fail_at`]. `create` and `create_dir_all` count each of their steps.
//!
//! Space is unlimited unless [`SimulatedDisk::set_capacity`] limits it: then reserved files take their length and others the
//! sectors that are written, and `space` says what is left.
//!
//! Calls take no time, but a test may hold all syncs ([`SimulatedDisk::hold_syncs`]) and sets the clock ([`SimulatedDisk::advance_clock`]).

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Mutex, MutexGuard};

use super::{Allocate, DirEntry, Disk, DiskFile, Lock, OpenMode, Space, parent, with_suffix};
use gate::Gate;
use handles::{SimulatedFile, SimulatedLock};
use state::{Change, DiskState, FileState, NameChange, Names, Node, Plan, Random, index};

mod gate;
mod handles;
mod state;
mod survivors;

/// The error of a planned fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An I/O error (EIO).
    Broken,
    /// The disk is full (ENOSPC).
    NoSpace,
}

/// How long a planned fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// That call fails.
    Once,
    /// That call and all later ones that change something.
    ForEver,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<DiskState>>, Arc<Gate>);

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        write!(
            f,
            "SimulatedDisk({} names, {} calls, first failure {:?})",
            state.names.len(),
            state.calls,
            state.first_failure
        )
    }
}

impl SimulatedDisk {
    /// An empty disk with a root directory; `seed` decides how much of a failing write is written.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let roots: Names = ["/", "."].iter().map(|root| (PathBuf::from(root), Node::Dir)).collect();
        Self::from_parts(seed, roots, Vec::new())
    }

    fn from_parts(seed: u64, names: Names, files: Vec<FileState>) -> Self {
        let state = DiskState {
            random: Random(seed),
            boot: seed,
            now_ms: 0,
            capacity: None,
            closed: None,
            files,
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
            locked: HashSet::new(),
            calls: 0,
            cut_at: None,
            plan: None,
            off: false,
            first_failure: None,
        };
        Self(Arc::new(Mutex::new(state)), Arc::default())
    }

    /// The disk after a power cut now. This disk is unchanged, so many seeds can be tried.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        let state = self.0.lock();
        let mut random = Random(seed);
        let (names, files) = survivors::choose(&state, &mut random);
        let found = Self::from_parts(random.next(), names, files);
        let mut after = found.0.lock();
        (after.now_ms, after.boot, after.capacity) = (state.now_ms, state.boot.wrapping_add(1), state.capacity);
        after.closed.clone_from(&state.closed);
        drop(after);
        found
    }

    /// The disk after it was unmounted and mounted again without a reboot: the page cache is lost.
    #[must_use]
    pub fn mounted_again(&self, seed: u64) -> Self {
        let found = self.power_cut(seed);
        found.0.lock().boot = self.0.lock().boot;
        found
    }

    /// The disk after the process (not the machine) was killed now: all that was written is there.
    #[must_use]
    pub fn process_killed(&self) -> Self {
        let state = self.0.lock();
        let found = Self::from_parts(state.random.0, state.names.clone(), state.files.clone());
        let mut after = found.0.lock();
        after.durable_names.clone_from(&state.durable_names);
        after.unsynced_names.clone_from(&state.unsynced_names);
        (after.now_ms, after.boot, after.capacity) = (state.now_ms, state.boot, state.capacity);
        after.closed.clone_from(&state.closed);
        drop(after);
        found
    }

    /// Makes syncs of files and [`Disk::create`] block until [`Self::let_syncs_go`].
    pub fn hold_syncs(&self) {
        self.1.set(true);
    }

    /// Lets blocked syncs continue.
    pub fn let_syncs_go(&self) {
        self.1.set(false);
    }

    /// Number of calls that change something since the disk was made, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// Makes the `n`-th such call (from 1) fail, possibly done in part. Replaces an earlier plan.
    pub fn fail_at(&self, n: u64, fault: Fault, lasts: Lasts) {
        self.0.lock().plan = Some(Plan { at: n, fault, lasts });
    }

    /// Makes every call fail from the `n`-th such call (from 1) on, reads too: the machine is off. That call may be done in part.
    pub fn cut_at(&self, n: u64) {
        self.0.lock().cut_at = Some(n);
    }

    /// Removes the plan of [`SimulatedDisk::fail_at`]: the disk works again.
    pub fn heal(&self) {
        self.0.lock().plan = None;
    }

    /// Description of the first call that failed.
    #[must_use]
    pub fn first_failure(&self) -> Option<String> {
        self.0.lock().first_failure.clone()
    }

    /// Lets time pass on the clock, which begins at 0 and stands still otherwise.
    pub fn advance_clock(&self, time: Duration) {
        self.0.lock().now_ms += time.as_millis() as i64;
    }

    /// Limits the disk's space, in bytes, used ones included.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity = Some(bytes);
    }

    /// Makes the creation of files in this directory fail for lack of space; `None` ends that. Survives a kill and a power cut.
    pub fn set_no_room_in(&self, dir: Option<PathBuf>) {
        self.0.lock().closed = dir;
    }

    /// Used bytes.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// Drops all files from the page cache: `read_cached_at` fails until a file was read.
    pub fn evict(&self) {
        self.0.lock().files.iter_mut().for_each(|file| file.cold = true);
    }
}

impl SimulatedDisk {
    fn on(&self) -> io::Result<MutexGuard<'_, DiskState>> {
        let state = self.0.lock();
        state.check_on()?;
        Ok(state)
    }

    fn handle(&self, id: usize) -> Arc<dyn DiskFile> {
        Arc::new(SimulatedFile { disk: self.clone(), id })
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.on()?;
        let id = match state.file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && mode == OpenMode::WriteOrCreate => state.make_file(path)?,
            found => found?,
        };
        drop(state);
        Ok(self.handle(id))
    }

    fn create(&self, path: &Path, len: u64, allocate: Allocate) -> io::Result<Arc<dyn DiskFile>> {
        // A new file is synced before its name exists.
        self.1.pass();
        let mut state = self.on()?;
        if state.names.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
        }
        let fresh = with_suffix(path, ".tmp");
        match state.create(path, &fresh, len, allocate) {
            Ok(id) => {
                drop(state);
                Ok(self.handle(id))
            }
            Err(error) => {
                let _ = state.remove_file(&fresh);
                let _ = state.remove_file(path);
                Err(error)
            }
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.on()?;
        state.check_dir(dir)?;
        let inside = state.names.iter().filter(|(path, _)| path.as_path() != dir && parent(path) == dir);
        Ok(inside.filter_map(|(path, node)| entry(&state, path, *node)).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        make_missing(&mut *self.on()?, dir, DiskState::make_synced_dir)
    }

    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        make_missing(&mut *self.on()?, dir, DiskState::make_dir)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.on()?.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.on()?;
        let mut inside: Vec<PathBuf> = state.names.keys().filter(|path| path.starts_with(dir)).cloned().collect();
        // The deepest ones first.
        inside.reverse();
        for path in inside {
            state.count(|| format!("remove {}", path.display()))?;
            state.change_name(NameChange::Remove(path));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.on()?.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.on()?.sync_dir(dir)
    }

    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        self.1.pass();
        let mut state = self.on()?;
        state.node(path)?;
        state.sync_everything()
    }

    fn now_ms(&self) -> i64 {
        self.0.lock().now_ms
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.on()?.names.contains_key(path))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let state = self.on()?;
        state.node(path)?;
        Ok(state.space())
    }

    fn boot(&self) -> Option<String> {
        Some(self.0.lock().boot.to_string())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.open(path, OpenMode::WriteOrCreate)?;
        if !self.on()?.locked.insert(path.to_owned()) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, format!("{} is locked", path.display())));
        }
        Ok(Box::new(SimulatedLock {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        Ok(self.on()?.locked.contains(path))
    }
}

/// Makes a directory and its parents, as far as they are missing.
fn make_missing(state: &mut DiskState, dir: &Path, make: fn(&mut DiskState, &Path) -> io::Result<()>) -> io::Result<()> {
    let mut all: Vec<&Path> = dir.ancestors().filter(|above| !above.as_os_str().is_empty()).collect();
    all.reverse();
    for above in all {
        match state.node(above) {
            Ok(Node::Dir) => {}
            Ok(Node::File(_)) => return Err(io::Error::new(io::ErrorKind::NotADirectory, above.display().to_string())),
            Err(_) => make(state, above)?,
        }
    }
    Ok(())
}

fn entry(state: &DiskState, path: &Path, node: Node) -> Option<DirEntry> {
    let name = path.file_name()?.to_str()?.to_owned();
    Some(match node {
        Node::Dir => DirEntry {
            name,
            len: 0,
            is_dir: true,
            modified_ms: 0,
        },
        Node::File(id) => {
            let file = &state.files[id];
            DirEntry {
                name,
                len: file.content.len() as u64,
                is_dir: false,
                modified_ms: file.modified_ms,
            }
        }
    })
}

#[cfg(test)]
mod tests;
