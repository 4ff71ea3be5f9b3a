//! A disk in memory that a test owns: one seed decides what a power cut leaves, and a plan decides which call fails.
//!
//! What it models, harsher than any one file system:
//! - Content is durable after `sync_data` of the file, names after `sync_dir` of their directory, each without the other.
//! - [`SimulatedDisk::power_cut`] makes the disk that is found after the machine went off at this moment. Of each sector
//!   (512 B or 4 KiB) that was written and not synced any of the versions it had may be there, independently of all other
//!   sectors, so writes are torn and reordered; the length is any that the file had since it was last synced; each change
//!   of a name that was not synced may be there or not, whatever happened to those before it.
//! - A write that fails may have written a part. A sync that fails leaves the data in the cache, readable, and never
//!   writes it: a second sync succeeds without it (as Linux does).
//! - Stores to a map are unsynced writes until the map or the file is synced.
//!
//! Every call that changes something counts ([`SimulatedDisk::calls`]), so that a test can first run a script to learn how
//! many calls it makes, then once for each n with [`SimulatedDisk::cut_at`] or [`SimulatedDisk::fail_at`]. `create` and
//! `create_dir_all` count each of the steps they take. Stores to a map do not count; the sync of a map does.
//!
//! Not here: time (a call takes none), and the sharing of blocks ([`SimulatedDisk::set_space`] says what `space` answers;
//! a full disk is a [`Fault::NoSpace`]).

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::{Allocate, Disk, DiskFile, Entry, Lock, OpenMode, Space, parent, with_suffix};
use handles::{SimulatedFile, SimulatedLock};

mod handles;
mod survivors;

/// What a call that is planned to fail says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The medium is broken (EIO).
    Broken,
    /// The disk is full (ENOSPC).
    NoSpace,
}

/// How long a planned fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// That one call fails.
    Once,
    /// That call and all after it that change something.
    ForEver,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Clone, Copy)]
struct Plan {
    at: u64,
    fault: Fault,
    lasts: Lasts,
}

struct State {
    random: Random,
    /// Changes with every power cut.
    boot: u64,
    now_ms: i64,
    space: Space,
    files: Vec<FileState>,
    /// What a look at the tree shows.
    names: Names,
    /// What is on the medium.
    durable_names: Names,
    unsynced_names: Vec<NameChange>,
    locked: HashSet<PathBuf>,
    calls: u64,
    cut_at: Option<u64>,
    plan: Option<Plan>,
    off: bool,
    first_failure: Option<String>,
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    /// Index into `State::files`.
    File(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Make(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
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

    fn path(&self) -> &Path {
        match self {
            Self::Make(path, _) | Self::Remove(path) | Self::Rename(_, path) => path,
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        parent(self.path()) == dir
    }

    fn is_below(&self, dir: &Path) -> bool {
        self.path() != dir && self.path().starts_with(dir)
    }
}

#[derive(Clone, Default)]
struct FileState {
    /// What a read sees.
    content: Vec<u8>,
    /// What is on the medium.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    reserved: bool,
    cold: bool,
    modified_ms: i64,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
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
    fn change(&mut self, change: Change, now_ms: i64) {
        change.apply(&mut self.content);
        self.unsynced.push(change);
        self.modified_ms = now_ms;
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }
}

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
    /// An empty disk with the root directory; `seed` decides how much of a failing write is written.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let roots: Names = ["/", "."].iter().map(|root| (PathBuf::from(root), Node::Dir)).collect();
        Self::from_parts(seed, roots, Vec::new())
    }

    fn from_parts(seed: u64, names: Names, files: Vec<FileState>) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random(seed),
            boot: seed,
            now_ms: 0,
            space: Space {
                total: 1 << 40,
                free: 1 << 39,
                available: 1 << 39,
            },
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
        })))
    }

    /// The disk as it may be found after a power cut now. This disk is left as it is, so many seeds can be tried.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        let state = self.0.lock();
        let mut random = Random(seed);
        let (names, files) = survivors::choose(&state, &mut random);
        let found = Self::from_parts(random.next(), names, files);
        let mut after = found.0.lock();
        (after.now_ms, after.boot) = (state.now_ms, state.boot.wrapping_add(1));
        drop(after);
        found
    }

    /// The disk as it may be found after it was taken from the machine, which went on, and mounted again: the page cache is
    /// lost.
    #[must_use]
    pub fn mounted_again(&self, seed: u64) -> Self {
        let found = self.power_cut(seed);
        found.0.lock().boot = self.0.lock().boot;
        found
    }

    /// The disk as it is found after the process (not the machine) ended now: all that was written is there.
    #[must_use]
    pub fn process_killed(&self) -> Self {
        let state = self.0.lock();
        let found = Self::from_parts(state.random.0, state.names.clone(), state.files.clone());
        let mut after = found.0.lock();
        after.durable_names.clone_from(&state.durable_names);
        after.unsynced_names.clone_from(&state.unsynced_names);
        (after.now_ms, after.boot) = (state.now_ms, state.boot);
        drop(after);
        found
    }

    /// Calls that change something, since this disk was made, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// The `n`-th such call (from 1) fails, and may have been done in part. Replaces an earlier plan.
    pub fn fail_at(&self, n: u64, fault: Fault, lasts: Lasts) {
        self.0.lock().plan = Some(Plan { at: n, fault, lasts });
    }

    /// From the `n`-th such call (from 1) on every call fails, reads too: the machine is off. That call may have been done
    /// in part.
    pub fn cut_at(&self, n: u64) {
        self.0.lock().cut_at = Some(n);
    }

    /// Takes back what [`SimulatedDisk::fail_at`] planned: the disk works again.
    pub fn heal(&self) {
        self.0.lock().plan = None;
    }

    /// What the first call that failed was, for a test's message.
    #[must_use]
    pub fn first_failure(&self) -> Option<String> {
        self.0.lock().first_failure.clone()
    }

    /// Sets the time that changed files are stamped with.
    pub fn set_now_ms(&self, now_ms: i64) {
        self.0.lock().now_ms = now_ms;
    }

    /// Sets what [`Disk::space`] answers.
    pub fn set_space(&self, space: Space) {
        self.0.lock().space = space;
    }

    /// Drops all files from the page cache: `read_cached_at` refuses until a file was read.
    pub fn evict(&self) {
        self.0.lock().files.iter_mut().for_each(|file| file.cold = true);
    }
}

impl State {
    fn check_on(&self) -> io::Result<()> {
        if self.off {
            Err(io::Error::other("the simulated machine is off"))
        } else {
            Ok(())
        }
    }

    /// Counts a call that changes something; the error it is to fail with.
    fn count(&mut self, what: impl FnOnce() -> String) -> io::Result<()> {
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

    fn node(&self, path: &Path) -> io::Result<Node> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, path.display().to_string()))
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.node(path)? {
            Node::File(id) => Ok(id),
            Node::Dir => Err(io::Error::new(io::ErrorKind::IsADirectory, path.display().to_string())),
        }
    }

    fn check_dir(&self, path: &Path) -> io::Result<()> {
        match self.node(path)? {
            Node::Dir => Ok(()),
            Node::File(_) => Err(io::Error::new(io::ErrorKind::NotADirectory, path.display().to_string())),
        }
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn make_file(&mut self, path: &Path) -> io::Result<usize> {
        self.check_dir(parent(path))?;
        self.count(|| format!("make file {}", path.display()))?;
        let id = self.files.len();
        self.files.push(FileState {
            modified_ms: self.now_ms,
            ..FileState::default()
        });
        self.change_name(NameChange::Make(path.to_owned(), Node::File(id)));
        Ok(id)
    }

    fn make_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.count(|| format!("make directory {}", dir.display()))?;
        self.change_name(NameChange::Make(dir.to_owned(), Node::Dir));
        let synced = self.sync_dir(parent(dir));
        if synced.is_err() && self.count(|| format!("remove directory {}", dir.display())).is_ok() {
            self.change_name(NameChange::Remove(dir.to_owned()));
        }
        synced
    }

    fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.count(|| format!("remove file {}", path.display()))?;
        self.change_name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.file(from)?;
        self.check_dir(parent(to))?;
        self.count(|| format!("rename {} to {}", from.display(), to.display()))?;
        self.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
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

    fn write(&mut self, id: usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = index(offset)?;
        let counted = self.count(|| format!("write of {} bytes to file {id} at {offset}", bytes.len()));
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

    fn set_len(&mut self, id: usize, len: u64) -> io::Result<()> {
        let len = index(len)?;
        self.count(|| format!("set length of file {id} to {len}"))?;
        let now_ms = self.now_ms;
        self.files[id].change(Change::SetLen(len), now_ms);
        Ok(())
    }

    fn sync_file(&mut self, id: usize) -> io::Result<()> {
        if let Err(error) = self.count(|| format!("sync of file {id}")) {
            if !self.off {
                self.files[id].unsynced.clear();
            }
            return Err(error);
        }
        self.files[id].sync();
        Ok(())
    }

    fn create(&mut self, path: &Path, fresh: &Path, len: u64, allocate: Allocate) -> io::Result<usize> {
        let id = self.make_file(fresh)?;
        self.set_len(id, len)?;
        self.files[id].reserved = allocate == Allocate::Reserved;
        self.sync_file(id)?;
        self.rename(fresh, path)?;
        self.sync_dir(parent(path))?;
        Ok(id)
    }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset)
        .ok()
        .filter(|at| *at < 1 << 40)
        .ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}

impl SimulatedDisk {
    fn on(&self) -> io::Result<MutexGuard<'_, State>> {
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

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.on()?;
        state.check_dir(dir)?;
        let inside = state.names.iter().filter(|(path, _)| path.as_path() != dir && parent(path) == dir);
        Ok(inside.filter_map(|(path, node)| entry(&state, path, *node)).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.on()?;
        let mut missing: Vec<&Path> = dir.ancestors().filter(|above| !above.as_os_str().is_empty()).collect();
        missing.reverse();
        for above in missing {
            match state.node(above) {
                Ok(Node::Dir) => {}
                Ok(Node::File(_)) => return Err(io::Error::new(io::ErrorKind::NotADirectory, above.display().to_string())),
                Err(_) => state.make_dir(above)?,
            }
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.on()?.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.on()?;
        let mut inside: Vec<PathBuf> = state.names.keys().filter(|path| path.starts_with(dir)).cloned().collect();
        // Those deepest in the tree go first.
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

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.on()?.names.contains_key(path))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let state = self.on()?;
        state.node(path)?;
        Ok(state.space)
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
}

fn entry(state: &State, path: &Path, node: Node) -> Option<Entry> {
    let name = path.file_name()?.to_str()?.to_owned();
    Some(match node {
        Node::Dir => Entry {
            name,
            len: 0,
            is_dir: true,
            modified_ms: 0,
        },
        Node::File(id) => {
            let file = &state.files[id];
            Entry {
                name,
                len: file.content.len() as u64,
                is_dir: false,
                modified_ms: file.modified_ms,
            }
        }
    })
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }
}

#[cfg(test)]
mod tests;
