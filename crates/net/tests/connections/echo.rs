//! The server over real sockets, with a tiny service.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::support::*;
use bytes::Bytes;
use net::{Limits, RequestError};
use protocol::frame::Frame;

#[test]
fn pipelined_requests_are_answered_in_order_and_in_batches() {
    let fixture = start(Limits::default(), 2);
    let mut client = fixture.dial();
    let mut bytes = Vec::new();
    for opaque in 0..5_000 {
        bytes.extend_from_slice(&request(ECHO, opaque, format!("body {opaque}").as_bytes()));
    }
    let mut writer = client.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
    for opaque in 0..5_000 {
        let frame = client.frame();
        assert_eq!(frame.opaque, opaque);
        assert_eq!(frame.body, format!("body {opaque}"));
    }
    writing.join().unwrap();
    assert!(fixture.echo.batches.load(Ordering::Relaxed) < 2_500);
}

#[test]
fn frames_may_come_byte_by_byte() {
    let fixture = start(Limits::default(), 1);
    let mut client = fixture.dial();
    let bytes = [request(ECHO, 1, b"first"), request(ECHO, 2, b"second")].concat();
    for byte in bytes {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(client.frame().body, "first");
    assert_eq!(client.frame().body, "second");
}

#[test]
fn large_bodies_between_small_frames_arrive_whole() {
    let fixture = start(Limits::default(), 1);
    let mut client = fixture.dial();
    let sizes = [10, 40_000, 5_000_000, 0, 200_000, 3, 131_072, 1_000_000];
    let bodies: Vec<Vec<u8>> = sizes
        .iter()
        .enumerate()
        .map(|(n, size)| (0..*size).map(|at| (at * 7 + n) as u8).collect())
        .collect();
    let mut writer = client.stream.try_clone().unwrap();
    let bytes: Vec<u8> = bodies.iter().flat_map(|body| request(ECHO, 9, body)).collect();
    let writing = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
    for body in &bodies {
        assert!(client.frame().body == body[..]);
    }
    writing.join().unwrap();
}

#[test]
fn a_wrong_length_closes_only_its_own_connection() {
    let fixture = start(Limits::default(), 1);
    let mut valid = fixture.dial();
    for bytes in [
        &b"\xff\xff\xff\xff"[..],
        b"\x7f\xff\xff\xff",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x20\x00",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut invalid = fixture.dial();
        invalid.stream.write_all(bytes).unwrap();
        assert!(invalid.next().is_none());
    }
    valid.stream.write_all(&request(ECHO, 1, b"still here")).unwrap();
    assert_eq!(valid.frame().body, "still here");
    wait_for("all invalid gone", || fixture.echo.closed.load(Ordering::Relaxed) == 5);
}

#[test]
fn requests_before_an_invalid_frame_are_answered() {
    let fixture = start(Limits::default(), 1);
    let mut client = fixture.dial();
    client
        .stream
        .write_all(&[request(ECHO, 1, b"good"), vec![0xff; 8]].concat())
        .unwrap();
    assert_eq!(client.frame().body, "good");
    assert!(client.next().is_none());
}

#[test]
fn a_tls_handshake_on_the_plain_port_is_closed() {
    let fixture = start(Limits::default(), 1);
    let mut client = fixture.dial();
    client.stream.write_all(&[0x16, 3, 1, 0, 200]).unwrap();
    assert!(client.next().is_none());
}

#[test]
fn a_client_that_never_reads_is_paused_and_others_are_served() {
    let limits = Limits {
        outbox_pause_bytes: 1 << 20,
        ..Limits::default()
    };
    let fixture = start(limits, 1);
    let mut unreading = fixture.dial();
    let mut other = fixture.dial();
    unreading.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let wanted: Vec<u8> = (0..2_000).flat_map(|opaque| request_bytes(opaque, 100_000)).collect();
    unreading.stream.write_all(&wanted).unwrap();
    let conn = {
        other.stream.write_all(&request(ECHO, 1, b"quick")).unwrap();
        assert_eq!(other.frame().body, "quick");
        fixture.hand_over(&mut other)
    };
    wait_for("pause", || fixture.echo.served.load(Ordering::Relaxed) > 5);
    std::thread::sleep(Duration::from_millis(100));
    let served = fixture.echo.served.load(Ordering::Relaxed);
    assert!(served < 200, "{served} of 2000 were served for a client that does not read");
    assert_eq!(conn.queued_bytes(), 0);
    // When it reads at last, it gets all of it.
    for _ in 0..2_000 {
        assert_eq!(unreading.frame().body.len(), 100_000);
    }
}

#[test]
fn a_client_that_never_reads_is_closed_above_the_outbox_limit() {
    let limits = Limits {
        outbox_close_bytes: 2 << 20,
        ..Limits::default()
    };
    let fixture = start(limits, 1);
    let mut unreading = fixture.dial();
    let conn = fixture.hand_over(&mut unreading);
    let body = Bytes::from(vec![1; 100_000]);
    wait_for("overflow", || !conn.send(|out| out.body(body.clone())));
    assert!(conn.is_closed());
    wait_for("closed", || fixture.echo.closed.load(Ordering::Relaxed) == 1);
    assert!(!conn.send(|out| out.body(body.clone())));
}

#[test]
fn many_threads_may_send_on_one_connection_and_frames_stay_whole() {
    let fixture = start(Limits::default(), 1);
    let mut client = fixture.dial();
    let conn = fixture.hand_over(&mut client);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let conn = Arc::clone(&conn);
            std::thread::spawn(move || {
                for round in 0..2_000 {
                    let mut frame = Frame::request(thread);
                    frame.opaque = round;
                    frame.body = Bytes::from(vec![thread as u8; (round as usize * 13) % 3_000]);
                    while conn.queued_bytes() > 4 << 20 {
                        std::thread::yield_now();
                    }
                    assert!(conn.send_frame(&frame));
                }
            })
        })
        .collect();
    let mut expected = [0; 4];
    for _ in 0..8_000 {
        let frame = client.frame();
        let next = &mut expected[frame.code as usize];
        assert_eq!(frame.opaque, *next);
        assert_eq!(frame.body.len(), (*next as usize * 13) % 3_000);
        assert!(frame.body.iter().all(|byte| i32::from(*byte) == frame.code));
        *next += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn frames_for_another_connection_are_written_when_the_batch_is_served() {
    for workers in [1, 2] {
        let fixture = start(Limits::default(), workers);
        let mut receiver = fixture.dial();
        let mut sender = fixture.dial();
        receiver.stream.write_all(&request(MARK, 0, b"")).unwrap();
        receiver.frame();
        let batch: Vec<u8> = (0..100).flat_map(|opaque| request(RELAY, opaque, b"for you")).collect();
        sender.stream.write_all(&batch).unwrap();
        for opaque in 0..100 {
            assert_eq!(receiver.frame().opaque, opaque);
        }
        // Also what was queued before the service panicked.
        let batch = [request(RELAY, 100, b"for you"), request(PANIC, 0, b"")].concat();
        sender.stream.write_all(&batch).unwrap();
        assert_eq!(receiver.frame().opaque, 100);
        // In the test's own thread no service runs: at once.
        let conn = fixture.hand_over(&mut receiver);
        conn.send_later(|out| out.head().extend_from_slice(&request(ECHO, 101, b"")));
        assert_eq!(receiver.frame().opaque, 101);
    }
}

#[test]
fn queued_frames_wait_for_the_flush() {
    let fixture = start(Limits::default(), 1);
    let (mut client, mut other) = (fixture.dial(), fixture.dial());
    let conn = fixture.hand_over(&mut client);
    // After this the turn that lent it is over: its end writes what is queued.
    other.stream.write_all(&request(ECHO, 1, b"")).unwrap();
    other.frame();
    for opaque in 0..3 {
        conn.queue(|out| out.head().extend_from_slice(&request(ECHO, opaque, b"x")));
    }
    assert!(conn.queued_bytes() > 0);
    conn.flush();
    assert_eq!(conn.queued_bytes(), 0);
    for opaque in 0..3 {
        assert_eq!(client.frame().opaque, opaque);
    }
}

#[test]
fn a_thousand_connections_are_served_and_counted() {
    let fixture = start(Limits::default(), 2);
    let mut clients: Vec<Client> = (0..1_000).map(|_| fixture.dial()).collect();
    for (opaque, client) in (0..).zip(&mut clients) {
        client.stream.write_all(&request(ECHO, opaque, b"hello")).unwrap();
    }
    for (opaque, client) in (0..).zip(&mut clients) {
        assert_eq!(client.frame().opaque, opaque);
    }
    assert_eq!(fixture.server.connections(), 1_000);
    drop(clients);
    wait_for("all gone", || fixture.server.connections() == 0);
    assert_eq!(fixture.echo.opened.load(Ordering::Relaxed), 1_000);
    assert_eq!(fixture.echo.closed.load(Ordering::Relaxed), 1_000);
}

#[test]
fn a_connection_over_the_limit_is_closed_immediately() {
    let fixture = start(
        Limits {
            max_connections: 2,
            ..Limits::default()
        },
        1,
    );
    let mut kept = [fixture.dial(), fixture.dial()];
    for client in &mut kept {
        client.stream.write_all(&request(ECHO, 1, b"a")).unwrap();
        client.frame();
    }
    assert!(fixture.dial().next().is_none());
    drop(kept);
    wait_for("room", || fixture.server.connections() == 0);
    let mut next = fixture.dial();
    next.stream.write_all(&request(ECHO, 1, b"a")).unwrap();
    next.frame();
}

#[test]
fn a_silent_connection_is_closed_and_a_busy_one_is_not() {
    let fixture = start(
        Limits {
            idle_timeout: Duration::from_millis(300),
            ..Limits::default()
        },
        1,
    );
    let mut silent = fixture.dial();
    let mut busy = fixture.dial();
    let begin = Instant::now();
    let waiting = std::thread::spawn(move || {
        assert!(silent.next().is_none());
        begin.elapsed()
    });
    while begin.elapsed() < Duration::from_millis(900) {
        busy.stream.write_all(&request(ECHO, 1, b"a")).unwrap();
        busy.frame();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(waiting.join().unwrap() >= Duration::from_millis(290));
}

#[test]
fn the_listener_of_a_connection_is_known() {
    let fixture = start(Limits::default(), 2);
    for index in [0, 1] {
        let mut client = fixture.dial_listener(index);
        let conn = fixture.hand_over(&mut client);
        assert_eq!(conn.listener(), index);
        assert_eq!(conn.peer(), client.stream.local_addr().unwrap());
        assert_eq!(conn.local(), client.stream.peer_addr().unwrap());
    }
}

#[test]
fn a_panicking_service_loses_one_connection_only() {
    let fixture = start(Limits::default(), 1);
    let mut first = fixture.dial();
    let mut second = fixture.dial();
    first.stream.write_all(&request(PANIC, 1, b"")).unwrap();
    assert!(first.next().is_none());
    second.stream.write_all(&request(ECHO, 1, b"fine")).unwrap();
    assert_eq!(second.frame().body, "fine");
    assert_eq!(fixture.echo.closed.load(Ordering::Relaxed), 1);
}

#[test]
fn our_requests_are_answered_timed_out_or_ended_with_the_connection() {
    let fixture = start(
        Limits {
            max_pending_requests: 2,
            ..Limits::default()
        },
        1,
    );
    let mut client = fixture.dial();
    let conn = fixture.hand_over(&mut client);
    let (report, results) = mpsc::channel();
    let ask = |timeout| {
        let report = report.clone();
        conn.request(Frame::request(40), timeout, move |result| {
            report.send(result.map(|frame| frame.body)).unwrap()
        })
    };
    ask(DEADLINE).unwrap();
    let asked = client.frame();
    let mut answer = Frame::response_to(&asked);
    answer.body = Bytes::from_static(b"here");
    client.stream.write_all(&encoded(&answer)).unwrap();
    assert_eq!(results.recv_timeout(DEADLINE).unwrap().unwrap(), "here");
    // Answers never reach the service: only HAND_OVER did.
    assert_eq!(fixture.echo.served.load(Ordering::Relaxed), 1);

    ask(Duration::from_millis(50)).unwrap();
    assert_eq!(results.recv_timeout(DEADLINE).unwrap(), Err(RequestError::TimedOut));

    ask(DEADLINE).unwrap();
    ask(DEADLINE).unwrap();
    assert_eq!(ask(DEADLINE), Err(RequestError::TooMany));
    drop(client);
    assert_eq!(results.recv_timeout(DEADLINE).unwrap(), Err(RequestError::Closed));
    assert_eq!(results.recv_timeout(DEADLINE).unwrap(), Err(RequestError::Closed));
    wait_for("closed", || fixture.server.connections() == 0);
    assert_eq!(ask(DEADLINE), Err(RequestError::Closed));
}

#[test]
fn stop_writes_queued_responses_and_refuses_new_connections() {
    let fixture = start(Limits::default(), 2);
    let mut client = fixture.dial();
    client.stream.write_all(&request_bytes(1, 6_000_000)).unwrap();
    wait_for("queued", || fixture.echo.served.load(Ordering::Relaxed) == 1);
    let address = fixture.server.local_addrs()[0];
    let stopping = std::thread::spawn(move || fixture.server.stop(DEADLINE));
    wait_for("refused", || TcpStream::connect(address).is_err());
    assert_eq!(client.frame().body.len(), 6_000_000);
    assert!(client.next().is_none());
    assert_eq!(stopping.join().unwrap().cut, 0);
}

#[test]
fn stop_does_not_wait_for_a_client_that_never_reads() {
    let fixture = start(Limits::default(), 1);
    let mut unreading = fixture.dial();
    unreading.stream.write_all(&request_bytes(1, 20_000_000)).unwrap();
    wait_for("queued", || fixture.echo.served.load(Ordering::Relaxed) == 1);
    let begin = Instant::now();
    assert_eq!(fixture.server.stop(Duration::from_millis(200)).cut, 1);
    assert!(begin.elapsed() < Duration::from_secs(5));
}
