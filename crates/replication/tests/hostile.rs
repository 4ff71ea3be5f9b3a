//! Peers that send what they must not: the connection ends, nothing is taken from them, and others are served as before.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{disk, log, master_of, master_options, open, same, send, slave_of, until};
use replication::{Acks, Master};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use store::FlushMode;

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    stream
}

/// Whether the peer closes the connection without sending more than heartbeats and what it has to send.
fn is_closed(mut stream: &TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn a_master_believes_no_offset_that_it_has_not_sent() {
    let acks = Arc::new(Acks::new(1));
    let store = open(&disk(1), FlushMode::Async);
    send(&store, 0, 5);
    let master = master_of(&store, &acks);
    let end = store.written().0;
    let report = |offset: i64| offset.to_be_bytes();
    for first in [end + 1, i64::MAX, -1, i64::MIN, i64::from_be_bytes(*b"GET / HT")] {
        let mut stream = connect(master.addr());
        stream.write_all(&report(first)).unwrap();
        assert!(is_closed(&stream), "a first offset of {first}");
    }
    for later in [end + 1, i64::MAX, 1 << 40] {
        let mut stream = connect(master.addr());
        stream.write_all(&report(0)).unwrap();
        until("it is connected", || !master.slaves().is_empty());
        stream.write_all(&report(later)).unwrap();
        assert!(is_closed(&stream), "an acknowledgement of {later}");
    }
    // The end of the log, which was sent to nobody yet but for the last loop: send more, so that it was not.
    send(&store, 5, 1);
    assert!(!acks.has_copied(end + 1), "nothing of this has copied anything");
    let copy = open(&disk(2), FlushMode::Async);
    let _slave = slave_of(&copy, master.addr());
    same(&store, &copy, 0);
    until("the true slave acknowledges", || acks.has_copied(store.written().0));
}

#[test]
fn an_offset_that_nobody_was_sent_is_no_acknowledgement() {
    let acks = Arc::new(Acks::new(1));
    let store = open(&disk(1), FlushMode::Async);
    send(&store, 0, 5);
    let master = master_of(&store, &acks);
    let mut stream = connect(master.addr());
    stream.write_all(&store.written().0.to_be_bytes()).unwrap();
    until("it is connected", || !master.slaves().is_empty());
    let mut heartbeat = [0; 12];
    stream.read_exact(&mut heartbeat).unwrap();
    assert_eq!(heartbeat[8..], [0; 4]);
    assert!(!acks.has_copied(1), "the master has sent it to nobody");
}

#[test]
fn a_slave_that_says_nothing_is_disconnected() {
    let store = open(&disk(1), FlushMode::Async);
    let mut options = master_options();
    options.housekeeping = Duration::from_millis(30);
    let master = Master::start(store.clone(), Arc::new(Acks::new(0)), options).unwrap();
    let silent = connect(master.addr());
    let mut half = connect(master.addr());
    half.write_all(&[0; 7]).unwrap();
    let mut later = connect(master.addr());
    later.write_all(&[0; 8]).unwrap();
    for stream in [&silent, &half, &later] {
        assert!(is_closed(stream));
    }
    until("nobody is connected", || master.slaves().is_empty());
}

#[test]
fn a_slave_takes_nothing_but_the_next_records() {
    let store = open(&disk(1), FlushMode::Async);
    send(&store, 0, 3);
    let copy = open(&disk(2), FlushMode::Async);
    {
        let master = master_of(&store, &Arc::new(Acks::new(0)));
        let _slave = slave_of(&copy, master.addr());
        same(&store, &copy, 0);
    }
    let before = log(&copy, 0);
    let end = before.len() as i64;
    let block = |offset: i64, size: i32, data: &[u8]| [&offset.to_be_bytes()[..], &size.to_be_bytes(), data].concat();
    let record = &before[..i32::from_be_bytes(before[..4].try_into().unwrap()) as usize];
    let mut damaged = record.to_vec();
    damaged[28..36].copy_from_slice(&end.to_be_bytes());
    let body = damaged.windows(5).position(|bytes| bytes == b"00000").unwrap();
    damaged[body] ^= 1;
    let hostile: [Vec<u8>; 8] = [
        block(end + 1, 0, b""),
        block(0, 4, b"abcd"),
        block(end, -1, b""),
        block(end, i32::MIN, b""),
        block(end, 16, b"no record at all"),
        block(end, 8, &[0; 8]),
        block(end, record.len() as i32, record),
        block(end, damaged.len() as i32, &damaged),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slave = slave_of(&copy, listener.local_addr().unwrap());
    for sent in &hostile {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        let mut asked = [0; 8];
        stream.read_exact(&mut asked).unwrap();
        assert_eq!(i64::from_be_bytes(asked), end);
        stream.write_all(sent).unwrap();
        assert!(is_closed(&stream), "the slave goes on after {sent:?}");
        assert_eq!(log(&copy, 0).len() as i64, end, "{sent:?} was appended");
    }
    drop(slave);
    let master = master_of(&store, &Arc::new(Acks::new(0)));
    let _slave = slave_of(&copy, master.addr());
    same(&store, &copy, 0);
}
