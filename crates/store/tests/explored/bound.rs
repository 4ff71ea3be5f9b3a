//! A log with a bound: senders, a reader, and replicas that acknowledge in their own time.

use super::{BEGIN_MS, options, read};
use message::record::Draft;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::atomic::{AtomicI64, Ordering::SeqCst};
use shuttle::sync::{Arc as SharedByShuttle, mpsc};
use shuttle::thread;
use std::sync::Arc;
use store::disk::Disk;
use store::disk::simulated::SimulatedDisk;
use store::{FlushMode, Store};

const SENDERS: usize = 2;
const MESSAGES: usize = 3;

/// Nobody reads what replicas do not have; when they have everything, all waits have ended and everything is read.
pub(crate) fn bound(mode: FlushMode) {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(thread_rng().r#gen()));
    let mut options = options(mode);
    options.log.is_bounded = true;
    let store = Store::open(disk, options).expect("the store opens").0;
    // The highest bound, noted before it is raised.
    let bound = SharedByShuttle::new(AtomicI64::new(0));
    let (done, outcomes) = mpsc::channel();
    let senders = (0..SENDERS).map(|sender| {
        let (store, done) = (store.clone(), done.clone());
        thread::spawn(move || {
            for n in 0..MESSAGES {
                let body = format!("{sender}-{n}");
                let draft = Draft::new("a", 0, body.as_bytes());
                let ticket = store
                    .append(&[draft], &[store.queue("a", 0)], BEGIN_MS, &mut Vec::new())
                    .expect("it is appended");
                let done = done.clone();
                store.complete_then(ticket, true, move |outcome| done.send(outcome.is_ok()).unwrap());
            }
        })
    });
    let senders: Vec<_> = senders.collect();
    let replicas = {
        let (store, bound) = (store.clone(), bound.clone());
        thread::spawn(move || {
            for _ in 0..4 {
                let to = store.written();
                bound.fetch_max(to.0, SeqCst);
                store.raise_bound(to);
                (0..thread_rng().gen_range(0..20)).for_each(|_| thread::yield_now());
            }
        })
    };
    let reader = {
        let (store, bound) = (store.clone(), bound.clone());
        thread::spawn(move || {
            for _ in 0..4 {
                let found = read(&store, "a", 0, 0);
                let bound = bound.load(SeqCst);
                assert!(found.iter().all(|one| one.log_offset < bound), "bound {bound}, read {found:?}");
                thread::yield_now();
            }
        })
    };
    for thread in senders.into_iter().chain([replicas, reader]) {
        thread.join().unwrap();
    }
    drop(done);
    let mut count = 0;
    while count < SENDERS * MESSAGES {
        // The relief thread may still write.
        store.raise_bound(store.written());
        match outcomes.try_recv() {
            Ok(is_stored) => {
                assert!(is_stored);
                count += 1;
            }
            Err(_) => thread::yield_now(),
        }
    }
    assert_eq!(read(&store, "a", 0, 0).len(), count);
    store.close().expect("it is closed");
}
