//! Helpers: a store with small files on any disk, and simple calls.
#![allow(dead_code)]

use message::QueueOffset;
use message::record::{Draft, Placement, Record};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use store::disk::Disk;
use store::{Limits, ReadSource, ReadStatus, Store, StoreError, StoreOptions};

/// The store's directory on a simulated disk.
pub(crate) const ROOT: &str = "/store";
/// Retention deletes a log file that was not changed for this time.
pub(crate) const OLD_ENOUGH: Duration = Duration::from_secs(100 * 3600);
/// For reads that are not about limits.
pub(crate) const PLENTY: Limits = Limits {
    messages: 32,
    bytes: 1 << 20,
    scan: 800,
};

pub(crate) fn open(disk: Arc<dyn Disk>, options: StoreOptions) -> Result<Arc<Store>, StoreError> {
    Store::open(disk, options).map(|(store, _)| store)
}

/// Sends one message with one key, and waits until it is as durable as the flush mode promises.
pub(crate) fn send(store: &Store, topic: &str, queue_id: i32, body: &str) -> Result<Placement, String> {
    send_all(store, topic, queue_id, &[body]).map(|placed| placed[0])
}

pub(crate) fn send_all(store: &Store, topic: &str, queue_id: i32, bodies: &[&str]) -> Result<Vec<Placement>, String> {
    let (placed, outcome) = place_all(store, topic, queue_id, bodies);
    outcome.map(|()| placed)
}

/// As [`send_all`]; also returns the places of messages that were refused after they had one.
pub(crate) fn place_all(store: &Store, topic: &str, queue_id: i32, bodies: &[&str]) -> (Vec<Placement>, Result<(), String>) {
    let properties: Vec<Vec<u8>> = bodies
        .iter()
        .map(|b| format!("KEYS\u{1}k{}\u{2}TAGS\u{1}t\u{2}", &b[..b.len().min(12)]).into_bytes())
        .collect();
    let drafts: Vec<Draft<'_>> = bodies
        .iter()
        .zip(&properties)
        .map(|(body, properties)| Draft {
            properties,
            ..Draft::new(topic, queue_id, body.as_bytes())
        })
        .collect();
    let queues = vec![store.queue(topic, queue_id); drafts.len()];
    let mut placed = Vec::new();
    let ticket = match store.append(&drafts, &queues, 1_700_000_000_000, &mut placed) {
        Ok(ticket) => ticket,
        Err(error) => return (placed, Err(error.to_string())),
    };
    let (done, outcome) = mpsc::channel();
    store.complete_then(ticket, true, move |o| done.send(o).unwrap_or(()));
    let outcome = outcome.recv_timeout(Duration::from_secs(20)).expect("no completion in 20 s");
    (placed, outcome.map_err(|reason| reason.to_string()))
}

/// All bodies of a queue from `from` on.
pub(crate) fn bodies(store: &Store, topic: &str, queue_id: i32, from: i64) -> Vec<String> {
    let mut at = QueueOffset(from);
    let mut all = Vec::new();
    loop {
        let result = store.read(topic, queue_id, at, PLENTY, &|_| true, ReadSource::Disk).unwrap();
        if result.status != ReadStatus::Found {
            return all;
        }
        for bytes in &result.records {
            let record = Record::parse(bytes).unwrap();
            assert!(record.crc_matches());
            assert_eq!((record.topic, record.queue_id), (topic, queue_id));
            assert_eq!(
                record.queue_offset.0,
                from + all.len() as i64,
                "offsets of a queue follow each other"
            );
            all.push(String::from_utf8(record.body.to_vec()).unwrap());
        }
        at = result.next;
    }
}
