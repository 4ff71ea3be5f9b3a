//! A disk whose syncs do not return until they may.

use super::{BEGIN_MS, options};
use message::record::Draft;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use store::disk::simulated::SimulatedDisk;
use store::disk::{Allocate, Disk, DiskFile, Entry, Lock, OpenMode, Space};
use store::{FlushMode, Store};

/// Whether syncs hang.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut closed = self.closed.lock().unwrap();
        while *closed {
            closed = self.opened.wait(closed).unwrap();
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

#[derive(Clone, Debug)]
struct Hanging {
    disk: SimulatedDisk,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct HangingFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl Hanging {
    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(HangingFile {
            file,
            gate: Arc::clone(&self.gate),
        })
    }
}

impl DiskFile for HangingFile {
    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(out, offset)
    }
    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_cached_at(out, offset)
    }
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.file.next_data(offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_vectored_at(slices, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

impl Disk for Hanging {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.disk.open(path, mode)?))
    }
    fn create(&self, path: &Path, len: u64, allocate: Allocate) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.disk.create(path, len, allocate)?))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        self.disk.space(path)
    }
    fn boot(&self) -> Option<String> {
        self.disk.boot()
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.disk.lock(path)
    }
    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_locked(path)
    }
}

/// While no sync returns, sends that do not wait for one are answered, beside a checkpoint and the flushers. A sender that
/// waited would never go on: the scheduler finds that nobody can.
pub(crate) fn hanging_syncs(mode: FlushMode) {
    let disk = Hanging {
        disk: SimulatedDisk::new(thread_rng().r#gen()),
        gate: Arc::default(),
    };
    let mut options = options(mode);
    // The log does not need another file, whose making is a sync.
    options.log.segment_bytes = 64 << 10;
    let (store, _) = Store::open(Arc::new(disk.clone()), options).expect("the store opens");
    let send = |store: &Store, body: &str| {
        let ticket = store.append(
            &[Draft::new("a", 0, body.as_bytes())],
            &[store.queue("a", 0)],
            BEGIN_MS,
            &mut Vec::new(),
        );
        let (done, outcome) = shuttle::sync::mpsc::channel();
        store.complete_then(ticket.expect("taken"), false, move |outcome| done.send(outcome.is_ok()).unwrap());
        assert!(outcome.recv().unwrap());
    };
    send(&store, "the log has its first file");
    disk.gate.set(true);
    let (one, two, checkpoint) = (store.clone(), store.clone(), store.clone());
    let senders = [
        thread::spawn(move || (0..3).for_each(|_| send(&one, "one"))),
        thread::spawn(move || (0..2).for_each(|_| send(&two, "two"))),
    ];
    let checkpoint = thread::spawn(move || checkpoint.delete_topic("none"));
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    disk.gate.set(false);
    checkpoint.join().unwrap().expect("a checkpoint");
    store.close().expect("it stops");
}
