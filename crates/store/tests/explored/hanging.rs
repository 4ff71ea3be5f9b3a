//! A disk whose syncs block until a test releases them. The creation of a file blocks, too, since a new file is synced.

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

/// While the next log file is being created, sends that fit into the last one are answered; one that does not fit waits.
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

/// While syncs block, sends that do not wait for one are answered, beside a checkpoint and the flushers. A sender that waited would
/// be a deadlock, which the scheduler finds.
pub(crate) fn hanging_syncs(mode: FlushMode) {
    let disk = SimulatedDisk::new(thread_rng().r#gen());
    let mut options = options(mode);
    // The log needs no other file, whose creation would block.
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
