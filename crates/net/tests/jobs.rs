//! Thread pools for jobs, with real connections.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

const SECURED: bool = false;

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};

use bytes::Bytes;
use net::client::{Peer, PeerOptions};
use net::jobs::{Bound, Bounds, Busy, Full, Options, Pool};
use net::{Connection, Limits};
use support::*;

const BOUNDS: Bounds = Bounds {
    jobs: Bound::new(10, "maxJobs"),
    jobs_of_one: Bound::new(4, "maxJobsOfOne"),
    bytes: Bound::new(1_000, "maxBytes"),
    bytes_of_one: Bound::new(250, "maxBytesOfOne"),
};

fn pool(threads: usize, threads_of_one: usize) -> Pool {
    Pool::new(Options {
        name: "jobs",
        threads,
        threads_of_one,
        holds_back: true,
        bounds: BOUNDS,
    })
}

/// Connections to a listener that never reads.
fn with_connections(test: impl FnOnce(&Arc<Connection>, &Arc<Connection>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let one = Peer::connect(&address, PeerOptions::default()).await.unwrap();
        let other = Peer::connect(&address, PeerOptions::default()).await.unwrap();
        test(one.connection(), other.connection());
    });
}

/// Occupies a thread until the sender is dropped or used.
fn occupy(pool: &Pool, conn: &Arc<Connection>) -> Sender<()> {
    let (release, released) = channel::<()>();
    let (begun, begins) = channel();
    let wait = move || {
        begun.send(()).unwrap();
        let _ = released.recv();
    };
    pool.run(conn, 1, wait).unwrap();
    begins.recv_timeout(DEADLINE).unwrap();
    release
}

fn say(done: &Sender<&'static str>, what: &'static str) -> impl FnOnce() + Send + 'static {
    let done = done.clone();
    move || done.send(what).unwrap()
}

fn order(said: &Receiver<&'static str>, count: usize) -> Vec<&'static str> {
    (0..count).map(|_| said.recv_timeout(DEADLINE).unwrap()).collect()
}

fn refusal(result: Result<(), Busy>) -> Full {
    match result {
        Err(Busy::Full { full, .. }) => full,
        other => panic!("{other:?}"),
    }
}

#[test]
fn connections_take_turns_and_each_keeps_its_order() {
    with_connections(|one, other| {
        let pool = pool(1, 1);
        let release = occupy(&pool, other);
        let (done, said) = channel();
        for what in ["a1", "a2", "a3"] {
            pool.run(one, 1, say(&done, what)).unwrap();
        }
        pool.run(other, 1, say(&done, "b1")).unwrap();
        drop(release);
        assert_eq!(order(&said, 4), ["a1", "b1", "a2", "a3"]);
    });
}

#[test]
fn waiting_jobs_are_limited_for_each_connection_and_for_all() {
    with_connections(|one, other| {
        let pool = pool(1, 1);
        let release = occupy(&pool, other);
        let (done, said) = channel();
        pool.run(one, 200, say(&done, "a")).unwrap();
        assert_eq!(refusal(pool.run(one, 51, || ())), Full::BytesOfOne(200, "maxBytesOfOne"));
        pool.run(one, 50, say(&done, "a")).unwrap();
        pool.run(other, 600, say(&done, "large, but the only one of its connection"))
            .unwrap();
        assert_eq!(refusal(pool.run(other, 1, || ())), Full::BytesOfOne(600, "maxBytesOfOne"));
        for _ in 2..4 {
            pool.run(one, 0, || ()).unwrap();
        }
        assert_eq!(refusal(pool.run(one, 0, || ())), Full::JobsOfOne(4, "maxJobsOfOne"));
        drop(release);
        order(&said, 3);
    });
}

#[test]
fn jobs_of_a_closed_connection_are_dropped_and_a_panic_affects_only_its_own_job() {
    with_connections(|one, other| {
        let pool = pool(1, 1);
        let release = occupy(&pool, other);
        let (done, said) = channel();
        pool.run(one, 200, say(&done, "never")).unwrap();
        pool.run(other, 1, || panic!("a panic that a test asked for")).unwrap();
        pool.run(other, 1, say(&done, "after")).unwrap();
        one.close();
        drop(release);
        assert_eq!(order(&said, 1), ["after"]);
        drop(done);
        assert_eq!(
            said.recv_timeout(DEADLINE),
            Err(RecvTimeoutError::Disconnected),
            "the other was dropped"
        );
    });
}

#[test]
fn forgotten_jobs_are_dropped_immediately() {
    with_connections(|one, other| {
        let pool = pool(1, 1);
        let release = occupy(&pool, other);
        let (held, is_dropped) = channel::<()>();
        pool.run(one, 1, move || drop(held)).unwrap();
        pool.forget(one);
        assert!(is_dropped.recv().is_err());
        drop(release);
    });
}

#[test]
fn one_connection_uses_its_share_of_the_threads() {
    with_connections(|one, other| {
        let pool = pool(3, 2);
        let releases = [occupy(&pool, one), occupy(&pool, one)];
        let (done, said) = channel();
        pool.run(one, 1, say(&done, "a")).unwrap();
        pool.run(other, 1, say(&done, "b")).unwrap();
        assert_eq!(order(&said, 1), ["b"]);
        drop(releases);
        assert_eq!(order(&said, 1), ["a"]);
    });
}

#[test]
fn jobs_without_a_connection_are_done_and_limited() {
    let pool = Pool::new(Options {
        name: "jobs",
        threads: 1,
        threads_of_one: 1,
        holds_back: false,
        bounds: Bounds {
            jobs: Bound::new(2, "maxJobs"),
            ..BOUNDS
        },
    });
    let (hold, held) = channel::<()>();
    let (done, finished) = channel();
    let (started, running) = channel();
    pool.run_own(move || {
        started.send(()).unwrap();
        held.recv().unwrap();
    })
    .unwrap();
    running.recv().unwrap();
    for n in 0..2 {
        let done = done.clone();
        pool.run_own(move || done.send(n).unwrap()).unwrap();
    }
    let refused = pool.run_own(|| ()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no jobs thread for this request: 2 requests wait already, with this one more than maxJobs allows"
    );
    hold.send(()).unwrap();
    assert_eq!(finished.iter().take(2).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_job_that_panics_frees_its_thread_and_its_entry() {
    let pool = pool(1, 1);
    for _ in 0..20 {
        let (begun, done) = channel::<()>();
        pool.run_own(move || {
            let _begun = begun;
            panic!("as asked");
        })
        .unwrap();
        // Dropped by the unwinding.
        assert!(done.recv().is_err());
    }
    let (done, finished) = channel();
    pool.run_own(move || done.send(()).unwrap()).unwrap();
    finished.recv().unwrap();
}

#[test]
fn a_dropped_pool_ends_its_threads_and_drops_waiting_jobs() {
    with_connections(|one, _| {
        let pool = pool(1, 1);
        let release = occupy(&pool, one);
        let (held, is_dropped) = channel::<()>();
        pool.run(one, 1, move || held.send(()).unwrap()).unwrap();
        drop(pool);
        drop(release);
        // What waits belongs to the thread by then.
        assert_eq!(is_dropped.recv_timeout(DEADLINE), Err(RecvTimeoutError::Disconnected));
    });
}

#[test]
fn jobs_of_a_connection_that_does_not_read_wait_until_it_reads() {
    let limits = Limits {
        outbox_pause_bytes: 1 << 20,
        ..Limits::default()
    };
    let fixture = start(limits, 1);
    let (mut unreading, mut other_client) = (fixture.dial(), fixture.dial());
    let (one, other) = (fixture.hand_over(&mut unreading), fixture.hand_over(&mut other_client));
    let pool = pool(2, 1);
    let (done, said) = channel();
    let body = vec![0; 4 << 20];
    // Far more than the system takes.
    while one.queued_bytes() < 2 << 20 {
        let frame = request(ECHO, 0, &body);
        assert!(one.send(|out| out.body(Bytes::from(frame))));
    }
    for what in ["a1", "a2"] {
        pool.run(&one, 1, say(&done, what)).unwrap();
    }
    pool.run(&other, 1, say(&done, "b1")).unwrap();
    assert_eq!(order(&said, 1), ["b1"]);
    assert_eq!(said.try_recv(), Err(TryRecvError::Empty));
    assert!(one.peer_lags());
    let reading = std::thread::spawn(move || while unreading.next().is_some() {});
    assert_eq!(order(&said, 2), ["a1", "a2"]);
    one.close();
    reading.join().unwrap();
}

#[test]
fn jobs_of_a_connection_that_never_reads_are_dropped_when_it_closes() {
    let fixture = start(Limits::default(), 1);
    let (mut unreading, mut other) = (fixture.dial(), fixture.dial());
    let conn = fixture.hand_over(&mut unreading);
    // After this the turn that lent it is over.
    other.stream.write_all(&request(ECHO, 1, b"")).unwrap();
    other.frame();
    let pool = pool(1, 1);
    let (done, said) = channel();
    // Queued and never flushed: no room in the socket will wake anybody.
    assert!(conn.queue(|out| out.body(Bytes::from(vec![0; 5 << 20]))));
    pool.run(&conn, 1, say(&done, "never")).unwrap();
    let (begun, begins) = channel();
    pool.run_own(move || begun.send(()).unwrap()).unwrap();
    begins.recv_timeout(DEADLINE).unwrap();
    drop(done);
    conn.close();
    assert_eq!(said.recv_timeout(DEADLINE), Err(RecvTimeoutError::Disconnected));
}
