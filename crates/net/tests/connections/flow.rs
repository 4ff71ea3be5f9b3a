//! Limits of a server's connections, and how threads and memory are shared between them.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::*;
use bytes::Bytes;
use net::Limits;

const MIB: usize = 1 << 20;

fn many(code: i32, count: i32) -> Vec<u8> {
    (0..count).flat_map(|opaque| request(code, opaque, b"")).collect()
}

#[test]
fn announced_responses_pause_a_connection_until_they_are_sent() {
    let limits = Limits {
        outbox_pause_bytes: MIB,
        ..Limits::default()
    };
    let fixture = start(limits, 1);
    let (mut greedy, mut other) = (fixture.dial(), fixture.dial());
    greedy.stream.write_all(&many(ANNOUNCE, 1_000)).unwrap();
    // One more than fits: only what is served tells what it will cost.
    let most = MIB / OWED_BYTES + 1;
    wait_for("as many as fit", || fixture.echo.announced() == most);
    other.stream.write_all(&request(ECHO, 1, b"quick")).unwrap();
    assert_eq!(other.frame().body, "quick");
    assert_eq!(fixture.echo.announced(), most, "more was served before anything was answered");
    let mut answered = 0;
    while answered < 1_000 {
        wait_for("more", || fixture.echo.announced() > 0);
        let paid = fixture.echo.send_announced();
        assert!(paid <= most, "{paid} at once");
        answered += paid;
    }
    for opaque in 0..1_000 {
        assert_eq!(greedy.frame().opaque, opaque);
    }
}

#[test]
fn a_congested_connection_sleeps_until_its_queued_bytes_are_written() {
    let limits = Limits {
        outbox_pause_bytes: MIB,
        ..Limits::default()
    };
    let fixture = start(limits, 1);
    let (mut client, mut other) = (fixture.dial(), fixture.dial());
    let conn = fixture.hand_over(&mut client);
    // After this the turn that lent it is over.
    other.stream.write_all(&request(ECHO, 1, b"")).unwrap();
    other.frame();
    // As another thread does that has queued and not yet written. The socket is not full, so no room will wake the task.
    assert!(conn.queue(|out| out.body(Bytes::from([request(ECHO, 0, b""), vec![0; 2 * MIB]].concat()))));
    let before = fixture.echo.batches.load(Ordering::Relaxed);
    client.stream.write_all(&many(ECHO, 100)).unwrap();
    for _ in 0..100 {
        other.stream.write_all(&request(ECHO, 1, b"")).unwrap();
        other.frame();
    }
    let batches = fixture.echo.batches.load(Ordering::Relaxed) - before;
    assert!(batches <= 100, "{batches} calls for 100 requests of others");
    let served = fixture.echo.served.load(Ordering::Relaxed);
    conn.flush();
    wait_for("served", || fixture.echo.served.load(Ordering::Relaxed) == served + 100);
}

#[test]
fn a_turn_ends_before_an_expensive_batch_does() {
    const BATCH: i32 = 200;
    let fixture = start(Limits::default(), 1);
    let (mut holder, mut greedy, mut other_client) = (fixture.dial(), fixture.dial(), fixture.dial());
    // All are known to the thread before it is kept busy, and both requests are there when it goes on.
    for client in [&mut greedy, &mut other_client] {
        client.stream.write_all(&request(ECHO, 0, b"")).unwrap();
        client.frame();
    }
    holder.stream.write_all(&request(BLOCK, 0, b"")).unwrap();
    wait_for("blocked", || fixture.echo.served.load(Ordering::Relaxed) == 3);
    greedy.stream.write_all(&many(SLOW, BATCH)).unwrap();
    other_client.stream.write_all(&request(PROBE, 0, b"")).unwrap();
    fixture.unblock.send(()).unwrap();
    let before: i32 = std::str::from_utf8(&other_client.frame().body).unwrap().parse().unwrap();
    assert!(before <= 20, "{before} expensive requests came before one of another connection");
    for opaque in 0..BATCH {
        assert_eq!(greedy.frame().opaque, opaque);
    }
}

#[test]
fn peers_that_do_not_read_share_a_limit_and_others_are_served() {
    const BOUND: usize = 16 * MIB;
    let limits = Limits {
        outbox_pause_bytes: 4 * MIB,
        outbox_total_bytes: BOUND,
        ..Limits::default()
    };
    let fixture = start(limits, 1);
    let wanted: Vec<u8> = (0..1_000).flat_map(|opaque| request_bytes(opaque, 50_000)).collect();
    let unreading: Vec<Client> = (0..10)
        .map(|_| {
            let mut client = fixture.dial();
            client.stream.write_all(&wanted).unwrap();
            client
        })
        .collect();
    wait_for("half of the bound", || fixture.server.waiting_bytes() > BOUND / 2);
    let mut other_client = fixture.dial();
    for opaque in 0..200 {
        other_client.stream.write_all(&request(ECHO, opaque, b"quick")).unwrap();
        assert_eq!(other_client.frame().opaque, opaque);
        let waiting = fixture.server.waiting_bytes();
        assert!(waiting <= BOUND, "{waiting} bytes wait");
    }
    assert_eq!(fixture.echo.closed.load(Ordering::Relaxed), 0, "pausing was enough");
    drop(unreading);
    wait_for("nothing waits", || fixture.server.waiting_bytes() == 0);
    other_client.stream.write_all(&request(ECHO, 1, b"still here")).unwrap();
    assert_eq!(other_client.frame().body, "still here");
}

#[test]
fn the_connection_with_the_most_unread_bytes_is_closed_above_the_total_limit() {
    let limits = Limits {
        outbox_total_bytes: 32 * MIB,
        ..Limits::default()
    };
    let fixture = start(limits, 2);
    let mut clients: Vec<Client> = (0..3).map(|_| fixture.dial()).collect();
    let conns: Vec<_> = clients.iter_mut().map(|client| fixture.hand_over(client)).collect();
    let body = Bytes::from(vec![1; 100_000]);
    let fill = |conn: &Arc<net::Connection>, bytes: usize| {
        while conn.queued_bytes() < bytes && conn.send(|out| out.body(body.clone())) {}
    };
    // The system goes on taking some for a while, so they are filled again and again.
    let mut most = 0;
    wait_for("the largest is closed", || {
        most += MIB;
        for (conn, bytes) in conns.iter().zip([8 * MIB, 10 * MIB, most]) {
            fill(conn, bytes);
        }
        conns[2].is_closed()
    });
    assert!(most > 12 * MIB, "closed at {most} bytes");
    assert!(conns[2].is_closed());
    wait_for("its memory is free", || fixture.server.waiting_bytes() < 32 * MIB);
    assert!(!conns[0].is_closed() && !conns[1].is_closed());
}

#[test]
fn a_drain_ends_although_another_thread_writes_a_frame_that_was_not_announced() {
    for owed in [false, true] {
        let fixture = start(Limits::default(), 1);
        let mut client = fixture.dial();
        let conn = fixture.hand_over(&mut client);
        let owed = owed.then(|| conn.owe(0));
        // As `Connection::send` on another thread: queued before, and written after the drain began.
        assert!(conn.queue(|out| out.head().extend_from_slice(&request(ECHO, 7, b"late"))));
        let address = fixture.server.local_addrs()[0];
        let late = std::thread::spawn(move || {
            wait_for("draining", || TcpStream::connect(address).is_err());
            std::thread::sleep(Duration::from_millis(20));
            conn.flush();
            drop(owed);
        });
        let reading = std::thread::spawn(move || (client.frame().body, client.next().is_none()));
        assert_eq!(fixture.server.drain(DEADLINE).cut, 0);
        assert_eq!(fixture.server.connections(), 0);
        let (body, ended) = reading.join().unwrap();
        assert_eq!((&body[..], ended), (&b"late"[..], true));
        late.join().unwrap();
    }
}

#[test]
fn a_drain_waits_for_announced_responses_and_serves_no_more_requests() {
    let fixture = start(Limits::default(), 1);
    let mut client = fixture.dial();
    client.stream.write_all(&request(ANNOUNCE, 1, b"")).unwrap();
    wait_for("owed", || fixture.echo.announced() == 1);
    let address = fixture.server.local_addrs()[0];
    let echo = Arc::clone(&fixture.echo);
    let late = std::thread::spawn(move || {
        wait_for("draining", || TcpStream::connect(address).is_err());
        assert_eq!(echo.send_announced(), 1);
    });
    let reading = std::thread::spawn(move || {
        let answer = client.frame().opaque;
        // Perhaps refused by the system already.
        let _ = client.stream.write_all(&many(ECHO, 10));
        (answer, client.next().is_none())
    });
    assert_eq!(fixture.server.drain(DEADLINE).cut, 0);
    let served = fixture.echo.served.load(Ordering::Relaxed);
    assert_eq!(reading.join().unwrap(), (1, true));
    assert_eq!((served, fixture.echo.served.load(Ordering::Relaxed)), (1, 1));
    late.join().unwrap();
}
