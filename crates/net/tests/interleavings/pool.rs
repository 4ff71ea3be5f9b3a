//! Thread pools: each job is done or dropped, whenever its connection starts to read or closes.

use shuttle::sync::mpsc::{self, Receiver, Sender};
use shuttle::thread;

use crate::jobs::{Bound, Bounds, Options, Pool};
use crate::outbox::Outbox;
use crate::sync::{Arc, Mutex};
use crate::transport::{self, Pipe, WriteSide};
use crate::{Connection, SCHEDULES, bounds, queue_much, send};

fn pool(threads: usize) -> Arc<Pool> {
    const MANY: Bound = Bound::new(100, "nothing");
    Arc::new(Pool::new(Options {
        name: "jobs",
        threads,
        threads_of_one: 1,
        holds_back: true,
        bounds: Bounds {
            jobs: MANY,
            jobs_of_one: MANY,
            bytes: MANY,
            bytes_of_one: MANY,
        },
    }))
}

fn connection(id: u64) -> Arc<Connection> {
    let pipe = Arc::new(Mutex::new(Pipe::default()));
    transport::make_room(&pipe, 100);
    Connection::new(id, Outbox::new(WriteSide(pipe), bounds(), Arc::default()))
}

/// Has jobs done for a connection that answer and then say their number.
fn ask(pool: &Pool, conn: &Arc<Connection>, numbers: [u8; 2], done: &Sender<u8>) {
    for number in numbers {
        let (to, done) = (conn.clone(), done.clone());
        let answer = move || {
            send(&to.outbox, number);
            done.send(number).unwrap();
        };
        pool.run(conn, 1, answer).unwrap();
    }
}

/// What was done, once nothing waits any more.
fn all(done: Receiver<u8>) -> Vec<u8> {
    done.iter().collect()
}

fn explore(run: fn(usize)) {
    for threads in [1, 2] {
        shuttle::check_random(move || run(threads), SCHEDULES / 2);
        shuttle::check_pct(move || run(threads), SCHEDULES / 2, 3);
    }
}

#[test]
fn jobs_that_were_held_are_done_when_the_peer_reads() {
    explore(|threads| {
        let (pool, deaf, polite) = (pool(threads), connection(1), connection(2));
        let (done, said) = mpsc::channel();
        queue_much(&deaf.outbox);
        let reading = {
            let deaf = deaf.clone();
            thread::spawn(move || assert!(deaf.outbox.flush()))
        };
        ask(&pool, &deaf, [1, 2], &done);
        ask(&pool, &polite, [11, 12], &done);
        drop(done);
        let said = all(said);
        for numbers in [[1, 2], [11, 12]] {
            let of_one: Vec<u8> = said.iter().copied().filter(|number| numbers.contains(number)).collect();
            assert_eq!(of_one, numbers, "in the order in which they came");
        }
        reading.join().unwrap();
    });
}

#[test]
fn jobs_of_a_connection_that_closes_are_done_or_dropped() {
    explore(|threads| {
        let (pool, closing, polite) = (pool(threads), connection(1), connection(2));
        let (done, said) = mpsc::channel();
        queue_much(&closing.outbox);
        let ending = {
            let (pool, closing) = (pool.clone(), closing.clone());
            thread::spawn(move || {
                closing.finish();
                pool.forget(&closing);
            })
        };
        ask(&pool, &closing, [1, 2], &done);
        ask(&pool, &polite, [11, 12], &done);
        drop(done);
        let said = all(said);
        assert_eq!(said.iter().filter(|number| **number > 10).count(), 2);
        ending.join().unwrap();
    });
}

#[test]
fn a_pool_that_ends_drops_waiting_jobs() {
    explore(|threads| {
        let (pool, deaf, polite) = (pool(threads), connection(1), connection(2));
        let (done, said) = mpsc::channel();
        queue_much(&deaf.outbox);
        ask(&pool, &deaf, [1, 2], &done);
        ask(&pool, &polite, [11, 12], &done);
        drop(done);
        drop(pool);
        assert!(all(said).iter().all(|number| *number > 10), "the deaf one is not served");
    });
}
