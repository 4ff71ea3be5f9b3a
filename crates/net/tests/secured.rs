//! The server and the client end over a transport that is not plain TCP: first all tests of plain connections, then tests of
//! handshakes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod connections;
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use net::Limits;
use net::client::{Peer, PeerOptions};
use net::session::{HANDSHAKE_BYTE, Session};
use support::toy::{SECRET, Toy, ToyStream, Toys, key_update};
use support::*;

const SECURED: bool = true;

fn dial_plain(fixture: &Fixture) -> Client {
    let stream = TcpStream::connect(fixture.server.local_addrs()[0]).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    Client::new(Stream::Plain(stream))
}

/// The first message of a handshake.
fn hello() -> BytesMut {
    let mut out = BytesMut::new();
    Toy::client(SECRET)
        .receive(&mut BytesMut::new(), &mut BytesMut::new(), &mut out)
        .unwrap();
    assert_eq!(out[0], HANDSHAKE_BYTE);
    out
}

/// A client that has begun a handshake and got the first answer.
fn half(fixture: &Fixture) -> Client {
    let mut client = dial_plain(fixture);
    client.stream.write_all(&hello()).unwrap();
    let mut answer = [0; 11];
    client.stream.read_exact(&mut answer).unwrap();
    client
}

fn is_served(client: &mut Client) {
    client.stream.write_all(&request(ECHO, 1, b"served")).unwrap();
    assert_eq!(client.frame().body, "served");
}

fn connect(address: &str, options: PeerOptions) -> std::io::Result<Peer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Peer::connect(address, options))
}

#[test]
fn the_first_byte_chooses_between_plain_and_secured() {
    let fixture = start(Limits::default(), 1);
    for _ in 0..3 {
        is_served(&mut dial_plain(&fixture));
        is_served(&mut fixture.dial());
    }
}

#[test]
fn a_handshake_that_hangs_is_closed_at_its_deadline() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let limits = Limits {
        handshake_timeout: TIMEOUT,
        ..Limits::default()
    };
    let fixture = start(limits, 1);
    let begun = Instant::now();
    let mut begins = dial_plain(&fixture);
    begins.stream.write_all(&[HANDSHAKE_BYTE]).unwrap();
    let mut half = half(&fixture);
    wait_for("memory is counted", || fixture.server.inbound_bytes() > 0);
    for client in [&mut begins, &mut half] {
        assert!(client.next().is_none());
        assert!(begun.elapsed() >= TIMEOUT, "closed after {:?}", begun.elapsed());
    }
    wait_for("nothing is left", || fixture.server.connections() == 0);
    assert_eq!(fixture.server.inbound_bytes(), 0);
    assert_eq!(fixture.echo.opened.load(Ordering::Relaxed), 0, "a connection without a handshake");
}

#[test]
fn a_handshake_that_fails_closes_the_connection_and_tells_the_peer() {
    let fixture = start(Limits::default(), 1);
    let address = fixture.server.local_addrs()[0].to_string();
    let options = PeerOptions {
        connector: Some(Arc::new(Toys(SECRET + 1))),
        ..PeerOptions::default()
    };
    let error = connect(&address, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(
        error.to_string().contains(&address) && error.to_string().contains("the other end found the secrets to differ"),
        "{error}"
    );
    // Not a handshake, and more than a handshake may begin with.
    for bytes in [vec![HANDSHAKE_BYTE, 0, 0], vec![HANDSHAKE_BYTE; 100_000]] {
        let mut client = dial_plain(&fixture);
        // The server may close before it has read all.
        let _ = client.stream.write_all(&bytes);
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest);
        assert!(rest.len() <= 11 + 3, "{rest:?}");
    }
    wait_for("nothing is left", || fixture.server.connections() == 0);
    is_served(&mut fixture.dial());
}

#[test]
fn half_handshakes_hold_no_thread_and_count_as_connections() {
    let limits = Limits {
        max_connections: 101,
        ..Limits::default()
    };
    let fixture = start(limits, 1);
    let halves: Vec<Client> = (0..100).map(|_| half(&fixture)).collect();
    let mut client = fixture.dial();
    is_served(&mut client);
    assert_eq!(fixture.server.connections(), 101);
    assert!(dial_plain(&fixture).next().is_none(), "one connection too many");
    drop(halves);
    wait_for("their end", || fixture.server.connections() == 1);
    is_served(&mut client);
}

#[test]
fn stop_does_not_wait_for_handshakes_and_silent_streams() {
    let fixture = start(Limits::default(), 1);
    let (mut half, mut silent) = (half(&fixture), dial_plain(&fixture));
    wait_for("both", || fixture.server.connections() == 2);
    assert_eq!(fixture.server.stop(DEADLINE).cut, 0);
    assert!(half.next().is_none() && silent.next().is_none());
}

#[test]
fn connect_times_out_if_the_handshake_is_not_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = PeerOptions {
        connect_timeout: Duration::from_millis(100),
        connector: Some(Arc::new(Toys(SECRET))),
        ..PeerOptions::default()
    };
    let error = connect(&address, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[test]
fn a_reader_answers_key_updates_while_other_threads_write() {
    const FRAMES: i32 = 2_000;
    let fixture = start(Limits::default(), 1);
    let mut client = fixture.dial();
    let conn = fixture.hand_over(&mut client);
    // Three writers of the server, and a client whose requests and key updates its task answers meanwhile.
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let conn = Arc::clone(&conn);
            std::thread::spawn(move || {
                for opaque in 0..FRAMES {
                    assert!(conn.send(|out| {
                        out.head().extend_from_slice(&request(RELAY, opaque, b""));
                    }));
                }
            })
        })
        .collect();
    let mut writer = client.stream.try_clone().unwrap();
    let asking = std::thread::spawn(move || {
        for opaque in 0..FRAMES {
            writer.write_all(&request(ECHO, opaque, b"")).unwrap();
        }
    });
    let (mut relayed, mut answered) = (0, 0);
    while (relayed, answered) != (3 * FRAMES, FRAMES) {
        let frame = client.frame();
        if frame.is_response() {
            assert_eq!(frame.opaque, answered);
            answered += 1;
        } else {
            relayed += 1;
        }
    }
    writers.into_iter().chain([asking]).for_each(|thread| thread.join().unwrap());
    let Stream::Secured(toy) = &client.stream else { panic!() };
    assert!(toy.answered() > 10, "{} key updates", toy.answered());
}

#[test]
fn a_peer_that_asks_for_answers_and_reads_none_is_not_read() {
    const MANY: usize = 64 << 20;
    let fixture = start(Limits::default(), 1);
    let stream = TcpStream::connect(fixture.server.local_addrs()[0]).unwrap();
    let mut client = Client::new(Stream::Secured(ToyStream::new(stream.try_clone().unwrap())));
    is_served(&mut client);
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let updates = key_update().repeat(10_000);
    let mut written = 0;
    while written < MANY {
        match (&stream).write(&updates) {
            Ok(bytes) => written += bytes,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                break;
            }
        }
    }
    assert!(written < MANY, "the server answers without end");
    // Its thread serves others.
    is_served(&mut fixture.dial());
}

#[test]
fn an_answer_larger_than_the_sockets_buffers_arrives_whole_and_its_memory_is_counted() {
    let fixture = start(Limits::default(), 1);
    let mut client = fixture.dial();
    let conn = fixture.hand_over(&mut client);
    let body: Vec<u8> = (0..12_000_000_u32).map(|at| (at / 7) as u8).collect();
    let frame = request(ECHO, 3, &body);
    assert!(conn.send(|out| out.body(Bytes::from(frame))));
    wait_for("the rest waits", || fixture.server.waiting_bytes() > 0);
    assert!(client.frame().body == body[..]);
    wait_for("nothing waits", || fixture.server.waiting_bytes() == 0);
    assert_eq!(conn.queued_bytes(), 0);
    is_served(&mut client);
}
