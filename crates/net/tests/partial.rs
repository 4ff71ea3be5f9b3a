//! Incomplete frames: their memory and their time-outs.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

const SECURED: bool = false;

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use bytes::Bytes;
use net::Limits;
use support::*;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A client that sends most of a frame, as fast as it is read, and then nothing.
struct Stalled {
    stream: Stream,
    sending: JoinHandle<()>,
}

impl Stalled {
    fn begin(fixture: &Fixture, frame: Vec<u8>) -> Self {
        let stream = fixture.dial().stream;
        let mut writing = stream.try_clone().unwrap();
        let sending = spawn(move || {
            // Fails when the server closes the connection, or the test ends.
            let _ = writing.write_all(&frame[..frame.len() * 9 / 10]);
        });
        Self { stream, sending }
    }

    fn end(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        self.sending.join().unwrap();
    }
}

#[test]
fn a_frame_takes_memory_as_its_bytes_arrive_and_frees_it_when_it_is_complete_or_its_connection_closes() {
    let fixture = start(Limits::default(), 1);
    let mut client = fixture.dial();
    let frame = request(ECHO, 1, &vec![0; 8 * MIB]);
    let held = || fixture.server.inbound_bytes();
    client.stream.write_all(&frame[..3 * KIB]).unwrap();
    client.stream.write_all(&frame[3 * KIB..10 * KIB]).unwrap();
    wait_for("the beginning", || held() > 0);
    assert!(held() <= 64 * KIB, "{} bytes for a promise", held());
    let mut sent = 10 * KIB;
    for part in [200 * KIB, MIB, 5 * MIB] {
        client.stream.write_all(&frame[sent..part]).unwrap();
        sent = part;
        wait_for("the part", || held() >= sent);
        assert!(held() <= 2 * sent);
    }
    client.stream.write_all(&frame[sent..]).unwrap();
    assert_eq!(client.frame().body.len(), 8 * MIB);
    assert_eq!(held(), 0);
    client.stream.write_all(&frame[..MIB]).unwrap();
    wait_for("the next one", || held() >= MIB);
    drop(client);
    wait_for("nothing", || held() == 0);
}

#[test]
fn whole_frames_and_small_beginnings_are_not_counted() {
    let fixture = start(Limits::default(), 1);
    let mut client = fixture.dial();
    let frame = request(ECHO, 1, &vec![0; 4_000]);
    for at in 0..200 {
        let cut = at * frame.len() / 200;
        client.stream.write_all(&frame[..cut]).unwrap();
        assert_eq!(fixture.server.inbound_bytes(), 0);
        client.stream.write_all(&frame[cut..]).unwrap();
        client.frame();
    }
    let many: Vec<u8> = (0..100).flat_map(|_| frame.clone()).collect();
    client.stream.write_all(&many).unwrap();
    for _ in 0..100 {
        client.frame();
        assert_eq!(fixture.server.inbound_bytes(), 0);
    }
}

#[test]
fn incomplete_frames_are_limited_over_all_connections_and_others_are_served() {
    const BOUND: usize = 8 * MIB;
    let limits = Limits {
        max_frame_bytes: MIB,
        inbound_total_bytes: BOUND,
        ..Limits::default()
    };
    let fixture = start(limits, 2);
    let mut other_client = fixture.dial();
    let mut small = |count| {
        for opaque in 0..count {
            other_client.stream.write_all(&request(ECHO, opaque, &[7; 2_000])).unwrap();
            assert_eq!(other_client.frame().opaque, opaque);
            let held = fixture.server.inbound_bytes();
            assert!(held <= BOUND, "{held} bytes are held");
        }
    };
    let frame = request(ECHO, 0, &vec![0; MIB - KIB]);
    let stalled: Vec<Stalled> = (0..40).map(|_| Stalled::begin(&fixture, frame.clone())).collect();
    wait_for("the bound", || fixture.server.inbound_bytes() > BOUND / 2);
    small(200);
    // 10 Mbit/s, which is valid, and as large as a frame may be.
    let mut slow = fixture.dial();
    let slow = spawn({
        let frame = frame.clone();
        move || {
            let begun = Instant::now();
            for (at, part) in frame.chunks(16 * KIB).enumerate() {
                let due = Duration::from_micros(16 * 1_024 * 8 / 10) * u32::try_from(at).unwrap();
                sleep(due.saturating_sub(begun.elapsed()));
                slow.stream.write_all(part).unwrap();
            }
            slow.frame().body.len()
        }
    });
    let mut large = fixture.dial();
    for _ in 0..3 {
        large.stream.write_all(&frame).unwrap();
        assert_eq!(large.frame().body.len(), MIB - KIB);
    }
    assert_eq!(slow.join().unwrap(), MIB - KIB);
    assert!(
        fixture.echo.closed.load(Ordering::Relaxed) > 0,
        "some that sent nothing more had to go"
    );
    small(200);
    stalled.into_iter().for_each(Stalled::end);
    drop(large);
    wait_for("nothing", || fixture.server.inbound_bytes() == 0);
}

#[test]
fn frames_that_exceed_the_memory_together_are_all_served_in_turn() {
    const FRAME: usize = 256 * KIB;
    let limits = Limits {
        max_frame_bytes: FRAME,
        inbound_total_bytes: 2 * FRAME,
        ..Limits::default()
    };
    let fixture = start(limits, 2);
    let frame = request(ECHO, 0, &vec![0; FRAME - KIB]);
    let threads: Vec<_> = (0..32)
        .map(|_| {
            let (mut client, frame) = (fixture.dial(), frame.clone());
            spawn(move || {
                for _ in 0..5 {
                    client.stream.write_all(&frame).unwrap();
                    assert_eq!(client.frame().body.len(), FRAME - KIB);
                }
            })
        })
        .collect();
    for thread in threads {
        assert!(fixture.server.inbound_bytes() <= 2 * FRAME);
        thread.join().unwrap();
    }
    assert_eq!(fixture.server.inbound_bytes(), 0);
}

#[test]
fn a_connection_is_closed_if_its_frame_is_not_complete_in_time() {
    const TIMEOUT: Duration = Duration::from_millis(400);
    let limits = Limits {
        frame_timeout: TIMEOUT,
        ..Limits::default()
    };
    let fixture = start(limits, 1);
    let (mut idle, mut busy, mut late) = (fixture.dial(), fixture.dial(), fixture.dial());
    let frame = request(ECHO, 0, &[0; 100]);
    idle.stream.write_all(&frame).unwrap();
    assert_eq!(idle.frame().opaque, 0);
    let trickling = spawn(move || {
        let begun = Instant::now();
        late.stream.write_all(&frame[..3]).unwrap();
        for byte in &frame[3..] {
            sleep(Duration::from_millis(20));
            if late.stream.write_all(std::slice::from_ref(byte)).is_err() {
                break;
            }
        }
        assert!(late.next().is_none());
        begun.elapsed()
    });
    // Never without a frame that has begun, but each is complete soon.
    let two = [request(ECHO, 1, &[0; 100]), request(ECHO, 2, &[0; 100])].concat();
    let cut = two.len() * 3 / 4;
    busy.stream.write_all(&two[..cut]).unwrap();
    while !trickling.is_finished() {
        busy.stream.write_all(&two[cut..]).unwrap();
        busy.stream.write_all(&two[..cut]).unwrap();
        sleep(Duration::from_millis(20));
    }
    let lasted = trickling.join().unwrap();
    assert!(lasted >= TIMEOUT, "closed after {lasted:?}");
    assert_eq!(fixture.echo.closed.load(Ordering::Relaxed), 1);
    busy.stream.write_all(&two[cut..]).unwrap();
    idle.stream.write_all(&two).unwrap();
    for client in [&mut busy, &mut idle] {
        assert_eq!(client.frame().opaque, 1);
    }
}

#[test]
fn the_time_out_of_a_frame_stops_while_its_connection_is_not_read() {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let limits = Limits {
        frame_timeout: TIMEOUT,
        outbox_pause_bytes: MIB,
        ..Limits::default()
    };
    let fixture = start(limits, 1);
    let mut client = fixture.dial();
    let conn = fixture.hand_over(&mut client);
    let frame = request(ECHO, 5, &[0; 100]);
    client
        .stream
        .write_all(&[request(ECHO, 4, b""), frame[..20].to_vec()].concat())
        .unwrap();
    assert_eq!(client.frame().opaque, 4);
    // Queued and not written: its requests are not read.
    let answer = request(ECHO, 0, &vec![0; 2 * MIB]);
    assert!(conn.queue(|out| out.body(Bytes::from(answer))));
    // Has the task look.
    client.stream.write_all(&frame[20..30]).unwrap();
    sleep(4 * TIMEOUT);
    assert!(!conn.is_closed());
    conn.flush();
    client.stream.write_all(&frame[30..]).unwrap();
    assert_eq!(client.frame().body.len(), 2 * MIB);
    assert_eq!(client.frame().opaque, 5);
}
