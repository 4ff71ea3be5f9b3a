//! Helpers: stores on simulated disks, a master and slaves of them on loopback, and waiting for a condition.
#![allow(dead_code)]

use bytes::{Bytes, BytesMut};
use message::LogOffset;
use message::record::{Draft, Record};
use replication::{Acks, Master, MasterOptions, Slave, SlaveOptions};
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use store::disk::simulated::SimulatedDisk;
use store::{FlushMode, Limits, ReadSource, ReadStatus, Store, StoreOptions};

/// Bytes of a log file.
pub(crate) const FILE: i64 = 4096;
/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn open(disk: &Arc<SimulatedDisk>, mode: FlushMode) -> Arc<Store> {
    Store::open(disk.clone(), StoreOptions::small("/store", mode)).unwrap().0
}

pub(crate) fn disk(seed: u64) -> Arc<SimulatedDisk> {
    Arc::new(SimulatedDisk::new(seed))
}

pub(crate) fn master_options() -> MasterOptions {
    MasterOptions {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        heartbeat: Duration::from_millis(50),
        housekeeping: Duration::from_secs(30),
        block_bytes: 700,
        // Connections that a test has seen closed count for a moment longer.
        max_slaves: 16,
        max_gap: 1000,
        member: None,
    }
}

pub(crate) fn master_of(store: &Arc<Store>, acks: &Arc<Acks>) -> Master {
    Master::start(store.clone(), acks.clone(), master_options()).unwrap()
}

pub(crate) fn slave_of(store: &Arc<Store>, master: SocketAddr) -> Slave {
    let options = SlaveOptions {
        heartbeat: Duration::from_millis(50),
        housekeeping: Duration::from_secs(30),
        retry: [Duration::from_millis(2), Duration::from_millis(20)],
        follower: None,
    };
    let slave = Slave::start(store.clone(), options).unwrap();
    slave.set_master(Some(&master.to_string()));
    slave
}

/// Sends messages of several sizes to several queues, some in batches; the bodies have `from` and so on.
pub(crate) fn send(store: &Store, from: usize, count: usize) {
    for n in from..from + count {
        let body = format!("{n:05}-{}", "b".repeat(n * 37 % 400));
        let (topic, queue_id) = (["a", "b", "c"][n % 3], (n % 2) as i32);
        let batch: Vec<Draft<'_>> = (0..1 + n % 3).map(|_| Draft::new(topic, queue_id, body.as_bytes())).collect();
        let queues = vec![store.queue(topic, queue_id); batch.len()];
        let ticket = store.append(&batch, &queues, 1_700_000_000_000, &mut Vec::new()).unwrap();
        let (done, outcome) = mpsc::channel();
        store.complete_then(ticket, true, move |written| done.send(written).unwrap());
        outcome.recv_timeout(PATIENCE).unwrap().unwrap();
    }
}

/// The written log from `from` on.
pub(crate) fn log(store: &Store, from: i64) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), BytesMut::new());
    loop {
        let mut pieces: Vec<Bytes> = Vec::new();
        let at = LogOffset(from + all.len() as i64);
        if store.read_log_bytes(at, 1 << 20, &mut buffer, &mut pieces).unwrap() == 0 {
            return all;
        }
        pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    }
}

/// The bodies of all queues.
pub(crate) fn bodies(store: &Store) -> Vec<Vec<String>> {
    let queues = ["a", "b", "c"].into_iter().flat_map(|topic| [(topic, 0), (topic, 1)]);
    queues.map(|(topic, queue_id)| of_queue(store, topic, queue_id)).collect()
}

fn of_queue(store: &Store, topic: &str, queue_id: i32) -> Vec<String> {
    let mut all = Vec::new();
    let mut at = store.min_offset(topic, queue_id);
    let plenty = Limits {
        messages: 32,
        bytes: 1 << 20,
        scan: 800,
    };
    loop {
        let read = store.read(topic, queue_id, at, plenty, &|_| true, ReadSource::Disk).unwrap();
        if read.status != ReadStatus::Found {
            return all;
        }
        for bytes in &read.records {
            let record = Record::parse(bytes).unwrap();
            assert!(record.crc_matches());
            all.push(format!("{}:{}", record.queue_offset, String::from_utf8_lossy(record.body)));
        }
        at = read.next;
    }
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the slave's log ends, published, where the master's does, and compares logs and queues from `from` on.
pub(crate) fn same(master: &Store, slave: &Store, from: i64) {
    let end = master.written();
    until("the slave has the master's log", || {
        slave.written() == end && slave.log_range().1 == end
    });
    assert!(log(master, from) == log(slave, from), "the logs differ");
    if from == 0 {
        until("the queues are published", || bodies(master) == bodies(slave));
    }
}
