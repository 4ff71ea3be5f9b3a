//! The log is truncated while messages are sent and read.

use super::{BEGIN_MS, World, key_of, open, options, read};
use message::QueueOffset;
use message::record::{Draft, Placement};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Arc, Mutex, mpsc};
use shuttle::thread;
use store::inspect::{InspectOptions, check};
use store::{AppendError, Boundary, FlushMode, Store, StoreError};

struct Sent {
    body: String,
    placed: Placement,
    /// Number of truncations that had ended before it was sent, if none had begun and not ended when it was acknowledged.
    after: Option<usize>,
}

#[derive(Default)]
struct Told {
    sent: Vec<Sent>,
    begun: usize,
    ended: usize,
}

fn send(store: &Store, told: &Mutex<Told>, body: &str) {
    let properties = format!("KEYS\u{1}{}\u{2}", key_of(body)).into_bytes();
    let draft = Draft {
        properties: &properties,
        ..Draft::new("a", 0, body.as_bytes())
    };
    let mut placed = Vec::new();
    let (ticket, ended) = loop {
        let ended = told.lock().unwrap().ended;
        match store.append(&[draft], &[store.queue("a", 0)], BEGIN_MS, &mut placed) {
            Ok(ticket) => break (ticket, ended),
            Err(AppendError::NotWritable(_)) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let (done, outcome) = mpsc::channel();
    store.complete_then(ticket, true, move |outcome| done.send(outcome.is_ok()).unwrap());
    let is_stored = outcome.recv().unwrap();
    let mut told = told.lock().unwrap();
    let after = (is_stored && told.begun == ended).then_some(ended);
    told.sent.push(Sent {
        body: body.to_owned(),
        placed: placed[0],
        after,
    });
}

fn truncate(store: &Store, told: &Mutex<Told>) {
    let to = {
        let mut told = told.lock().unwrap();
        if told.sent.is_empty() {
            return;
        }
        told.begun += 1;
        let at = thread_rng().gen_range(0..told.sent.len());
        told.sent[at].placed.log_offset
    };
    match store.truncate(to) {
        // An earlier truncation has dropped it.
        Ok(()) | Err(StoreError::Layout(_)) => {}
        Err(error) => panic!("{error}"),
    }
    told.lock().unwrap().ended += 1;
}

/// A reader sees whole, consecutive messages, whatever is dropped meanwhile.
fn look(store: &Store) {
    let found = read(store, "a", 0, 0);
    for (one, at) in found.iter().zip(0..) {
        assert_eq!(one.queue_offset, at, "{found:?}");
        let _ = store.record_at(message::LogOffset(one.log_offset));
        let stored = store.store_time("a", 0, QueueOffset(one.queue_offset));
        assert!(stored.is_none_or(|stored| stored == BEGIN_MS), "{} stored at {stored:?}", one.body);
    }
    // All have the same timestamp, so a search finds the first or the end, whatever is dropped meanwhile.
    let begin = store.offset_by_time("a", 0, BEGIN_MS, Boundary::Lower).expect("a search");
    assert_eq!(begin.0, 0);
    store.offset_by_time("a", 0, BEGIN_MS + 1, Boundary::Lower).expect("a search");
}

fn must_be_whole(store: &Store, told: &Told) {
    let found = read(store, "a", 0, 0);
    assert_eq!(found.len() as i64, store.max_offset("a", 0).0);
    for sent in told.sent.iter().filter(|sent| sent.after == Some(told.ended)) {
        assert!(found.iter().any(|one| one.body == sent.body), "lost: {}", sent.body);
    }
    store.run_background_work().unwrap();
    for (one, at) in found.iter().zip(0..) {
        assert_eq!(one.queue_offset, at, "{found:?}");
        let sent = told.sent.iter().find(|sent| sent.body == one.body).expect("sent");
        assert_eq!(
            (one.queue_offset, one.log_offset),
            (sent.placed.queue_offset.0, sent.placed.log_offset.0)
        );
        let by_key = store.query("a", key_of(&one.body), 0, i64::MAX, 8).unwrap().records.len();
        assert_eq!(by_key, 1, "{} by its key", one.body);
    }
}

pub(crate) fn truncation(mode: FlushMode) {
    let world = World::new(mode);
    let told: Arc<Mutex<Told>> = Arc::default();
    let spawn = |act: fn(&Store, &Mutex<Told>)| {
        let (store, told) = (world.store.clone(), told.clone());
        thread::spawn(move || act(&store, &told))
    };
    let threads = [
        spawn(|store, told| (0..3).for_each(|n| send(store, told, &format!("a-{n:03}")))),
        spawn(|store, told| (3..5).for_each(|n| send(store, told, &format!("a-{n:03}-{}", "x".repeat(1_500))))),
        spawn(|store, told| (0..2).for_each(|_| truncate(store, told))),
        spawn(|store, _| (0..3).for_each(|_| look(store))),
    ];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let told = told.lock().unwrap();
    must_be_whole(&world.store, &told);
    let killed = world.disk.process_killed();
    world.store.close().expect("it stops");
    let back = open(&killed, mode);
    must_be_whole(&back, &told);
    back.close().expect("it stops");
    let disk: std::sync::Arc<dyn store::disk::Disk> = std::sync::Arc::new(killed);
    let report = check(&disk, &InspectOptions::of(&options(mode)), &mut |_| {}).expect("the directory can be looked at");
    assert!(!report.is_damaged(), "a check finds {:#?}", report.findings);
}

/// One reader beside one thread that truncates and sends again: with few threads each of their steps meets each of the other's.
pub(crate) fn reads_across_truncation(mode: FlushMode) {
    let world = World::new(mode);
    let told: Arc<Mutex<Told>> = Arc::default();
    (0..2).for_each(|n| send(&world.store, &told, &format!("a-{n:03}")));
    let (store, by_sender) = (world.store.clone(), told.clone());
    let sender = thread::spawn(move || {
        truncate(&store, &by_sender);
        send(&store, &by_sender, &format!("a-002-{}", "x".repeat(300)));
    });
    (0..2).for_each(|_| look(&world.store));
    sender.join().unwrap();
    must_be_whole(&world.store, &told.lock().unwrap());
    world.store.close().expect("it stops");
}
