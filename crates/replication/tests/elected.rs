//! Masters and slaves under a controller, on loopback: what an in-sync set has is confirmed, what it does not have is cut off.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{PATIENCE, disk, log, master_options, send, until};
use message::LogOffset;
use message::record::Draft;
use replication::{Acks, EpochFile, Follower, InSync, Master, MasterOptions, Member, Members, Slave, SlaveOptions, now_ms};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use store::disk::simulated::SimulatedDisk;
use store::{FlushMode, Store, StoreOptions, Ticket};

/// How long a replica may be late.
const LATE_MS: i64 = 500;

/// A broker: its log and its epochs.
struct Broker {
    id: i64,
    disk: Arc<SimulatedDisk>,
    store: Arc<Store>,
    epochs: Arc<EpochFile>,
}

impl Broker {
    fn new(id: i64) -> Self {
        Self::open(id, disk(id as u64), FlushMode::Async)
    }

    fn open(id: i64, disk: Arc<SimulatedDisk>, mode: FlushMode) -> Self {
        let mut options = StoreOptions::small("/store", mode);
        options.log.is_bounded = true;
        let (store, _) = Store::open(disk.clone(), options).unwrap();
        let epochs = Arc::new(EpochFile::open(disk.clone(), Path::new("/store/epochFileCheckpoint")).unwrap());
        Self { id, disk, store, epochs }
    }

    fn restarted(self) -> Self {
        let Self { id, disk, store, .. } = self;
        store.close().unwrap();
        drop(store);
        Self::open(id, disk, FlushMode::Async)
    }

    fn member(&self) -> Member {
        Member {
            id: self.id,
            epochs: self.epochs.clone(),
        }
    }

    /// Makes it the master of an epoch, with this in-sync set.
    fn elected(&self, epoch: i32, ids: &[i64]) -> (Master, Arc<Acks>) {
        let end = self.store.written().0;
        assert!(self.epochs.change(|epochs| epochs.begin(epoch, end)).unwrap());
        let acks = Arc::new(Acks::under_controller(true));
        let options = MasterOptions {
            member: Some(self.member()),
            ..master_options()
        };
        acks.begin(InSync::new(self.id, end, members(ids, epoch), now_ms()), &self.store);
        (Master::start(self.store.clone(), acks.clone(), options).unwrap(), acks)
    }

    fn follows(&self, master: SocketAddr) -> Slave {
        self.follows_as(master, false)
    }

    fn follows_as(&self, master: SocketAddr, is_learner: bool) -> Slave {
        let options = SlaveOptions {
            heartbeat: Duration::from_millis(50),
            housekeeping: Duration::from_secs(30),
            retry: [Duration::from_millis(2), Duration::from_millis(20)],
            follower: Some(Follower {
                member: self.member(),
                is_learner,
                from_last_file: false,
            }),
        };
        let slave = Slave::start(self.store.clone(), options).unwrap();
        slave.set_master(Some(&master.to_string()));
        slave
    }

    /// Appends without a wait for anybody.
    fn write(&self, count: usize) -> Ticket {
        let mut last = None;
        for n in 0..count {
            let body = format!("{}-{n}", self.id);
            let queues = [self.store.queue("a", 0)];
            let ticket = self
                .store
                .append(&[Draft::new("a", 0, body.as_bytes())], &queues, 1_700_000_000_000, &mut Vec::new())
                .unwrap();
            let (done, outcome) = mpsc::channel();
            let later = || Box::new(move |written| done.send(written).unwrap()) as store::Completion;
            let at_once = self.store.complete_here(ticket, true, later);
            assert_eq!(at_once.unwrap_or_else(|| outcome.recv_timeout(PATIENCE).unwrap()), Ok(()));
            last = Some(ticket);
        }
        last.unwrap()
    }
}

fn members(ids: &[i64], epoch: i32) -> Members {
    Members {
        ids: ids.iter().copied().collect(),
        epoch,
    }
}

/// Does what the controller would: takes what the master proposes, until this is the set.
fn settle(acks: &Acks, store: &Store, ids: &[i64]) {
    until("the in-sync set", || {
        let end = store.written().0;
        if let Some(proposal) = acks.change(store, |set| set.propose(end, LATE_MS, now_ms())).flatten() {
            let taken = Members {
                ids: proposal.members,
                epoch: proposal.replaces + 1,
            };
            acks.change(store, |set| set.told(taken, true, now_ms()));
        }
        acks.look(|set| set.members().ids == BTreeSet::from_iter(ids.iter().copied()))
            .unwrap()
    });
}

fn same(one: &Broker, other: &Broker) {
    until("both logs end at one place", || one.store.written() == other.store.written());
    assert!(log(&one.store, 0) == log(&other.store, 0), "the logs differ");
    until("all is confirmed", || {
        let end = one.store.written();
        one.store.confirmed() == end && other.store.confirmed() == end
    });
    until("the epochs are the same", || one.epochs.epochs() == other.epochs.epochs());
}

#[test]
fn readers_see_what_the_in_sync_set_has_and_a_lost_slave_holds_it_back() {
    for mode in [FlushMode::Async, FlushMode::Sync] {
        let one = Broker::open(1, disk(1), mode);
        let (master, acks) = one.elected(1, &[1]);
        send(&one.store, 0, 20);
        assert!(acks.has_copied(one.store.written().0), "it is alone");
        let two = Broker::open(2, disk(2), mode);
        let slave = two.follows(master.addr());
        settle(&acks, &one.store, &[1, 2]);
        assert_eq!(acks.in_sync(), 2);
        send(&one.store, 20, 20);
        same(&one, &two);
        until("the slave may be read", || slave.is_aligned());
        assert!(master.slaves().iter().all(|slave| slave.in_sync && slave.id == Some(2)));

        drop(slave);
        until("it is gone", || master.slaves().is_empty());
        let confirmed = one.store.confirmed();
        let ticket = one.write(3);
        let (done, outcome) = mpsc::channel();
        acks.when_copied(ticket.end().0, std::time::Instant::now(), move |copied| done.send(copied).unwrap());
        assert_eq!((one.store.confirmed(), outcome.try_recv().is_err()), (confirmed, true));
        assert_eq!(
            one.store.max_offset("a", 0),
            two.store.max_offset("a", 0),
            "no reader sees what one broker has"
        );
        settle(&acks, &one.store, &[1]);
        assert_eq!(outcome.recv_timeout(PATIENCE).unwrap(), Ok(()));
        assert_eq!(one.store.confirmed(), one.store.written());
        let slave = two.follows(master.addr());
        settle(&acks, &one.store, &[1, 2]);
        same(&one, &two);
        drop(slave);
        one.store.close().unwrap();
        two.store.close().unwrap();
    }
}

#[test]
fn a_slave_that_connects_again_reports_only_what_it_has_synced() {
    let one = Broker::new(1);
    let two = Broker::open(2, disk(2), FlushMode::Sync);
    let (master, acks) = one.elected(1, &[1]);
    let slave = two.follows(master.addr());
    send(&one.store, 0, 10);
    settle(&acks, &one.store, &[1, 2]);
    same(&one, &two);

    two.disk.hold_syncs();
    let synced = one.store.confirmed();
    let _ = one.write(3);
    let end = one.store.written();
    until("the slave has written all", || two.store.written() == end);
    let first = master.slaves()[0].addr;
    slave.set_master(None);
    until("the connection has ended", || {
        master.slaves().iter().all(|slave| slave.addr != first)
    });
    slave.set_master(Some(&master.addr().to_string()));
    // A report of what is not synced would come at once.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(one.store.confirmed(), synced, "nothing more is synced");
    assert!(master.slaves().iter().all(|slave| slave.acknowledged <= synced.0));
    two.disk.let_syncs_go();
    until("all is confirmed", || one.store.confirmed() == end);
    drop(slave);
}

#[test]
fn the_end_that_only_the_old_master_has_is_cut_off() {
    let (one, two, three) = (Broker::new(1), Broker::new(2), Broker::new(3));
    let (master, acks) = one.elected(1, &[1]);
    let slaves = [two.follows(master.addr()), three.follows(master.addr())];
    send(&one.store, 0, 50);
    settle(&acks, &one.store, &[1, 2, 3]);
    send(&one.store, 50, 10);
    same(&one, &two);
    same(&one, &three);
    // The network of the master fails, while it goes on writing.
    drop((slaves, master));
    let common = one.store.written();
    let _ = one.write(7);
    assert_eq!(one.store.confirmed(), common);

    let (master, acks) = two.elected(2, &[2]);
    let slave = three.follows(master.addr());
    settle(&acks, &two.store, &[2, 3]);
    send(&two.store, 60, 30);
    // The old one comes back, here by a restart: what it had alone was published then, and is taken back.
    let one = one.restarted();
    assert!(one.store.written() > common);
    let old = one.follows(master.addr());
    settle(&acks, &two.store, &[1, 2, 3]);
    same(&two, &one);
    same(&two, &three);
    assert!(old.is_aligned());
    assert_eq!(one.store.max_offset("a", 0), two.store.max_offset("a", 0));
    let begins: Vec<_> = one.epochs.epochs().all().iter().map(|epoch| (epoch.number, epoch.begin)).collect();
    assert_eq!(begins, [(1, 0), (2, common.0)]);

    // Roles change without a restart, too, and an epoch in which nothing was written leaves no trace.
    drop((old, slave, master));
    let (master, _) = three.elected(3, &[3]);
    drop(master);
    let (master, acks) = one.elected(4, &[1]);
    let slaves = [two.follows(master.addr()), three.follows(master.addr())];
    settle(&acks, &one.store, &[1, 2, 3]);
    let _ = one.write(5);
    same(&one, &two);
    same(&one, &three);
    assert_eq!(one.epochs.epochs().last().map(|last| last.number), Some(4));
    drop(slaves);
}

#[test]
fn a_learner_copies_and_stays_outside() {
    let (one, two) = (Broker::new(1), Broker::new(2));
    let (master, acks) = one.elected(1, &[1]);
    let _slave = two.follows_as(master.addr(), true);
    send(&one.store, 0, 30);
    until("it has all", || two.store.written() == one.store.written());
    settle(&acks, &one.store, &[1]);
    send(&one.store, 30, 5);
    same(&one, &two);
}

#[test]
fn a_log_that_is_none_of_the_masters_is_left_alone() {
    let (one, two) = (Broker::new(1), Broker::new(2));
    let (master, _) = one.elected(1, &[1]);
    send(&one.store, 0, 5);
    two.store.raise_bound(LogOffset(i64::MAX));
    send(&two.store, 0, 3);
    let before = log(&two.store, 0);
    let slave = two.follows(master.addr());
    std::thread::sleep(Duration::from_millis(100));
    assert!(!slave.is_aligned() && log(&two.store, 0) == before, "it has no epochs");
    drop(slave);
    assert!(two.epochs.change(|epochs| epochs.begin(9, 0)).unwrap());
    let slave = two.follows(master.addr());
    std::thread::sleep(Duration::from_millis(100));
    assert!(!slave.is_aligned() && log(&two.store, 0) == before, "its epochs are others");
}

#[test]
fn hostile_peers_end_with_their_connection() {
    let one = Broker::new(1);
    let (master, acks) = one.elected(1, &[1]);
    send(&one.store, 0, 5);
    let hello = |id: i64| [&[0, 0, 0, 1, 0, 0, 0, 0][..], &id.to_be_bytes()].concat();
    let report = |offset: i64| [&[0, 0, 0, 2][..], &offset.to_be_bytes()].concat();
    let end = one.store.written().0;
    let floods: [Vec<u8>; 6] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        hello(1),
        hello(-4),
        [hello(2), report(end + 1)].concat(),
        [hello(2), report(-1)].concat(),
        [hello(2), report(0), b"junkjunkjunk".to_vec()].concat(),
    ];
    for flood in floods {
        let mut stream = TcpStream::connect(master.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&flood).unwrap();
        let mut sent = Bytes::new();
        let mut buffer = [0; 4096];
        // The answer may be a reset.
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 {
                break;
            }
            sent = Bytes::copy_from_slice(&buffer[..count]);
        }
        drop(sent);
        until("it is gone", || master.slaves().is_empty());
    }
    assert_eq!(acks.look(|set| set.members().ids.len()), Some(1));
    send(&one.store, 5, 5);
}
