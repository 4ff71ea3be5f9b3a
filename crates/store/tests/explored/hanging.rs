//! A disk whose syncs do not return until they may. A new file is synced, so its creation does not return either.

use super::{BEGIN_MS, options};
use message::record::Draft;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use std::sync::Arc;
use store::disk::simulated::SimulatedDisk;
use store::{FlushMode, Store};

/// Sends a message without waiting for a sync.
fn send(store: &Store, body: &str) {
    let ticket = store.append(
        &[Draft::new("a", 0, body.as_bytes())],
        &[store.queue("a", 0)],
        BEGIN_MS,
        &mut Vec::new(),
    );
    let (done, outcome) = shuttle::sync::mpsc::channel();
    store.complete_then(ticket.expect("taken"), false, move |outcome| done.send(outcome.is_ok()).unwrap());
    assert!(outcome.recv().unwrap());
}

/// While the next log file is being created, sends that fit into the last one are answered, beside one that does not fit and waits.
pub(crate) fn hanging_creation(mode: FlushMode) {
    let disk = SimulatedDisk::new(thread_rng().r#gen());
    let (store, _) = Store::open(Arc::new(disk.clone()), options(mode)).expect("the store opens");
    // More than half of the file: the keeper creates the next one.
    send(&store, &"x".repeat(2_200));
    disk.hold_syncs();
    let (large, one, two) = (store.clone(), store.clone(), store.clone());
    let large = thread::spawn(move || send(&large, &"x".repeat(3_000)));
    let small = [
        thread::spawn(move || (0..2).for_each(|_| send(&one, "one"))),
        thread::spawn(move || (0..2).for_each(|_| send(&two, "two"))),
    ];
    small.into_iter().for_each(|sender| sender.join().unwrap());
    disk.let_syncs_go();
    large.join().unwrap();
    store.close().expect("it stops");
}

/// While no sync returns, sends that do not wait for one are answered, beside a checkpoint and the flushers. A sender that
/// waited would never go on: the scheduler finds that nobody can.
pub(crate) fn hanging_syncs(mode: FlushMode) {
    let disk = SimulatedDisk::new(thread_rng().r#gen());
    let mut options = options(mode);
    // The log does not need another file, whose making is a sync.
    options.log.segment_bytes = 64 << 10;
    let (store, _) = Store::open(Arc::new(disk.clone()), options).expect("the store opens");
    send(&store, "the log has its first file");
    disk.hold_syncs();
    let (one, two, checkpoint) = (store.clone(), store.clone(), store.clone());
    let senders = [
        thread::spawn(move || (0..3).for_each(|_| send(&one, "one"))),
        thread::spawn(move || (0..2).for_each(|_| send(&two, "two"))),
    ];
    let checkpoint = thread::spawn(move || checkpoint.delete_topic("none"));
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    disk.let_syncs_go();
    checkpoint.join().unwrap().expect("a checkpoint");
    store.close().expect("it stops");
}
