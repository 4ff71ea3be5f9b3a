//! A master and its slaves on loopback: what is written on one is on the others, byte for byte, whatever happens on the way.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{FILE, PATIENCE, disk, log, master_of, master_options, open, same, send, slave_of, until};
use replication::{Acks, Master, NotCopied};
use std::sync::{Arc, mpsc};
use std::time::Instant;
use store::FlushMode;

fn nobody_waits() -> Arc<Acks> {
    Arc::new(Acks::new(0))
}

#[test]
fn slaves_get_what_is_there_and_what_comes() {
    for mode in [FlushMode::Async, FlushMode::Sync] {
        let store = open(&disk(1), mode);
        // Within the first file: slaves that have nothing begin there.
        send(&store, 0, 4);
        let master = master_of(&store, &nobody_waits());
        let copies = [open(&disk(2), mode), open(&disk(3), FlushMode::Async)];
        let slaves = copies.each_ref().map(|copy| slave_of(copy, master.addr()));
        copies.iter().for_each(|copy| same(&store, copy, 0));
        send(&store, 4, 150);
        copies.iter().for_each(|copy| same(&store, copy, 0));
        until("both are in sync", || {
            master.slaves().iter().filter(|slave| slave.in_sync).count() == 2
        });
        assert!(
            slaves
                .iter()
                .all(|slave| slave.report().connected && slave.report().last_read_ms > 0)
        );
        assert!(master.slaves().iter().all(|slave| slave.sent == store.written().0));
    }
}

#[test]
fn a_slave_that_has_nothing_begins_at_the_newest_file() {
    let store = open(&disk(1), FlushMode::Async);
    send(&store, 0, 100);
    let begin = store.written().0 / FILE * FILE;
    assert!(begin > 0, "the log has several files");
    let master = master_of(&store, &nobody_waits());
    let copy = open(&disk(2), FlushMode::Async);
    let _slave = slave_of(&copy, master.addr());
    same(&store, &copy, begin);
    assert_eq!(copy.log_range().0.0, begin);
    send(&store, 100, 100);
    same(&store, &copy, begin);
    assert_eq!(store.max_offset("a", 0), copy.max_offset("a", 0));
}

#[test]
fn a_slave_that_is_far_behind_catches_up_beside_new_messages() {
    let store = open(&disk(1), FlushMode::Async);
    let copy_disk = disk(2);
    let mut master = master_of(&store, &nobody_waits());
    {
        let copy = open(&copy_disk, FlushMode::Async);
        let slave = slave_of(&copy, master.addr());
        send(&store, 0, 3);
        same(&store, &copy, 0);
        drop(slave);
        copy.close().unwrap();
    }
    // Far over what the tail in memory holds.
    send(&store, 3, 400);
    assert!(store.written().0 > 20 * FILE);
    let copy = open(&copy_disk, FlushMode::Async);
    let _slave = slave_of(&copy, master.addr());
    send(&store, 403, 100);
    same(&store, &copy, 0);
    master.stop();
    assert!(master.slaves().is_empty());
}

#[test]
fn a_slave_that_was_killed_goes_on_where_its_disk_ends() {
    let store = open(&disk(1), FlushMode::Async);
    let master = master_of(&store, &nobody_waits());
    let mut copy_disk = disk(2);
    {
        let copy = open(&copy_disk, FlushMode::Async);
        let _slave = slave_of(&copy, master.addr());
        send(&store, 0, 3);
        same(&store, &copy, 0);
    }
    let mut sent = 3;
    for kill in 0..6 {
        let copy = open(&copy_disk, FlushMode::Async);
        let slave = slave_of(&copy, master.addr());
        send(&store, sent, 40);
        sent += 40;
        if kill % 2 == 0 {
            let at_least = copy.written();
            until("the slave goes on", || {
                copy.written() > at_least || copy.written() == store.written()
            });
        }
        // What the process would have left at this moment; then this one ends, on a disk that nobody reads again.
        copy_disk = Arc::new(copy_disk.process_killed());
        drop(slave);
        drop(copy);
    }
    let copy = open(&copy_disk, FlushMode::Async);
    let _slave = slave_of(&copy, master.addr());
    same(&store, &copy, 0);
}

#[test]
fn slaves_follow_a_master_that_was_started_again_on_another_port() {
    let master_disk = disk(1);
    let copy = open(&disk(2), FlushMode::Async);
    let slave;
    {
        let store = open(&master_disk, FlushMode::Async);
        let mut master = master_of(&store, &nobody_waits());
        slave = slave_of(&copy, master.addr());
        send(&store, 0, 3);
        same(&store, &copy, 0);
        send(&store, 3, 57);
        same(&store, &copy, 0);
        master.stop();
        store.close().unwrap();
    }
    let store = open(&master_disk, FlushMode::Async);
    let master = master_of(&store, &nobody_waits());
    slave.set_master(Some(&master.addr().to_string()));
    send(&store, 60, 60);
    same(&store, &copy, 0);
}

#[test]
fn what_waits_for_copies_ends_when_the_slave_has_it_on_its_disk() {
    let acks = Arc::new(Acks::new(1));
    let store = open(&disk(1), FlushMode::Async);
    let master = master_of(&store, &acks);
    let wait = || {
        let (done, outcome) = mpsc::channel();
        acks.when_copied(store.written().0, Instant::now(), move |copied| done.send(copied).unwrap());
        outcome
    };
    send(&store, 0, 5);
    let alone = wait();
    acks.time_out(Instant::now());
    assert_eq!(alone.recv_timeout(PATIENCE), Ok(Err(NotCopied)));

    let copy_disk = disk(2);
    let copy = open(&copy_disk, FlushMode::Sync);
    let _slave = slave_of(&copy, master.addr());
    assert_eq!(wait().recv_timeout(PATIENCE), Ok(Ok(())));
    copy_disk.hold_syncs();
    // Within the file: the next one is synced before it is used.
    send(&store, 5, 1);
    until("the slave has written it", || copy.written() == store.written());
    assert!(!acks.has_copied(store.written().0), "nothing is acknowledged before it is synced");
    copy_disk.let_syncs_go();
    assert_eq!(wait().recv_timeout(PATIENCE), Ok(Ok(())));
    assert!(copy.flushed() == store.written());
}

#[test]
fn more_slaves_than_allowed_are_not_served() {
    let store = open(&disk(1), FlushMode::Async);
    let mut options = master_options();
    options.max_slaves = 1;
    let master = Master::start(store.clone(), nobody_waits(), options).unwrap();
    let copies = [open(&disk(2), FlushMode::Async), open(&disk(3), FlushMode::Async)];
    let first = slave_of(&copies[0], master.addr());
    send(&store, 0, 4);
    same(&store, &copies[0], 0);
    let _second = slave_of(&copies[1], master.addr());
    send(&store, 4, 4);
    same(&store, &copies[0], 0);
    assert!(log(&copies[1], 0).is_empty() && master.slaves().len() == 1);
    drop(first);
    same(&store, &copies[1], 0);
}
