//! The thread that saves the index, so that delivery does not wait for the disk.

use super::Shared;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;
use store::timer::Snapshot;
use store::{Store, StoreError};

/// A snapshot and what became of it.
pub(super) type Saved = (Snapshot, Result<(), StoreError>);

#[derive(Debug)]
pub(super) struct Saver {
    jobs: Option<SyncSender<Snapshot>>,
    saved: Receiver<Saved>,
    thread: Option<JoinHandle<()>>,
    is_busy: bool,
    store: Arc<Store>,
}

impl Saver {
    pub(super) fn start(store: &Arc<Store>, shared: &Arc<Shared>) -> io::Result<Self> {
        let (jobs, work) = mpsc::sync_channel::<Snapshot>(1);
        let (done, saved) = mpsc::sync_channel(1);
        let (at, alarm) = (store.clone(), shared.clone());
        let run = move || {
            while let Ok(snapshot) = work.recv() {
                let outcome = write(&at, &snapshot);
                if done.send((snapshot, outcome)).is_err() {
                    return;
                }
                alarm.alarm.call();
            }
        };
        let thread = std::thread::Builder::new().name("timer-save".to_owned()).spawn(run)?;
        Ok(Self {
            jobs: Some(jobs),
            saved,
            thread: Some(thread),
            is_busy: false,
            store: store.clone(),
        })
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Saves a snapshot; none may be being saved.
    pub(super) fn save(&mut self, snapshot: Snapshot) {
        self.is_busy = self.jobs.as_ref().is_some_and(|jobs| jobs.send(snapshot).is_ok());
    }

    /// What became of the last snapshot, once.
    pub(super) fn saved(&mut self) -> Option<Saved> {
        let saved = self.saved.try_recv().ok()?;
        self.is_busy = false;
        Some(saved)
    }

    /// Waits for the snapshot that is being saved, and ends the thread.
    pub(super) fn finish(&mut self) -> Option<Saved> {
        self.jobs = None;
        let saved = self.is_busy.then(|| self.saved.recv().ok()).flatten();
        self.is_busy = false;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        saved
    }

    /// Saves a snapshot on this thread.
    pub(super) fn save_now(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        write(&self.store, snapshot)
    }
}

/// Deliveries that the snapshot counts as done must be on the device before it is.
fn write(store: &Store, snapshot: &Snapshot) -> Result<(), StoreError> {
    store.sync()?;
    snapshot.write()
}
