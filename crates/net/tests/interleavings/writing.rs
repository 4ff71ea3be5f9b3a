//! The outbox: frames of several threads are written whole and in order, and every waiting task or callback is woken.

use std::future::poll_fn;
use std::task::Poll;

use shuttle::sync::mpsc;
use shuttle::{future, thread};

use crate::budget::Budget;
use crate::outbox::{Next, Outbox};
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering};
use crate::transport::{self, Pipe, WriteSide};
use crate::{FRAME, SCHEDULES, bounds, queue_much, send};

/// What a connection's task does: serves `requests`, every second one by way of `aside`, until it is drained.
async fn task(outbox: &Outbox, requests: u8, aside: mpsc::Sender<u8>) {
    let mut served = 0;
    loop {
        let room = poll_fn(|cx| {
            outbox.register(cx.waker());
            if outbox.is_blocked() && outbox.poll_writable(cx).is_ready() {
                return Poll::Ready(Some(true));
            }
            match outbox.next() {
                Next::Drained => Poll::Ready(None),
                Next::Go if served < requests => Poll::Ready(Some(false)),
                // Nothing to read, or told to wait.
                Next::Go | Next::Wait => Poll::Pending,
            }
        });
        match room.await {
            None => return,
            Some(true) => assert!(outbox.resume()),
            Some(false) if served % 2 == 0 => {
                outbox.owe(FRAME);
                aside.send(served).unwrap();
                served += 1;
            }
            Some(false) => {
                send(outbox, served);
                served += 1;
            }
        }
    }
}

/// A plain socket, and one with a session.
const PIPES: [fn() -> Pipe; 2] = [Pipe::default, Pipe::secured];

struct World {
    outbox: Arc<Outbox>,
    pipe: Arc<Mutex<Pipe>>,
    budget: Arc<Budget>,
}

fn world(pipe: Pipe) -> World {
    let pipe = Arc::new(Mutex::new(pipe));
    let budget = Arc::new(Budget::default());
    let outbox = Arc::new(Outbox::new(WriteSide(pipe.clone()), bounds(), budget.clone()));
    World { outbox, pipe, budget }
}

/// Runs the task, a thread that answers what it leaves aside, a peer that reads `room` bytes at a time, and `other`. Returns how many bytes were lost in the session.
fn run(pipe: Pipe, requests: u8, room: usize, other: impl FnOnce(&Outbox) + Send + 'static) -> usize {
    let world = world(pipe);
    let (aside, jobs) = mpsc::channel();
    let outbox = world.outbox.clone();
    let main = thread::spawn(move || {
        future::block_on(task(&outbox, requests, aside));
        outbox.end();
        outbox.close();
    });
    let outbox = world.outbox.clone();
    let answering = thread::spawn(move || {
        for number in jobs.iter() {
            send(&outbox, number);
            outbox.paid(FRAME);
        }
    });
    let pipe = world.pipe.clone();
    let reading = thread::spawn(move || {
        // Enough for whatever is answered.
        for _ in 0..(usize::from(requests) + 2) * FRAME / room + 1 {
            transport::make_room(&pipe, room);
            thread::yield_now();
        }
    });
    other(&world.outbox);
    for thread in [main, answering, reading] {
        thread.join().unwrap();
    }
    let taken = std::mem::take(&mut world.pipe.lock().taken);
    assert!(
        taken
            .chunks(FRAME)
            .all(|frame| frame.len() == FRAME && frame.iter().all(|byte| *byte == frame[0])),
        "torn: {taken:?}"
    );
    assert_eq!((world.outbox.queued_bytes(), world.budget.charged()), (0, 0));
    world.pipe.lock().cut
}

/// A task that may not go on because of what `before` did, and a thread that ends the reason: each alone with the other, so that few
/// schedules are needed to try all orders.
fn wakes(before: fn(&Outbox), ends: fn(&Outbox)) {
    shuttle::check_random(
        move || {
            let World { outbox, pipe, .. } = world(Pipe::default());
            transport::make_room(&pipe, 100);
            before(&outbox);
            let ending = {
                let outbox = outbox.clone();
                thread::spawn(move || ends(&outbox))
            };
            future::block_on(poll_fn(|cx| {
                outbox.register(cx.waker());
                match outbox.next() {
                    Next::Wait => Poll::Pending,
                    Next::Go | Next::Drained => Poll::Ready(()),
                }
            }));
            ending.join().unwrap();
        },
        SCHEDULES,
    );
}

#[test]
fn no_wake_is_lost_between_the_check_and_the_sleep() {
    wakes(|outbox| outbox.owe(9), |outbox| outbox.paid(9));
    wakes(queue_much, |outbox| assert!(outbox.flush()));
    let drain_indebted = |outbox: &Outbox| {
        outbox.owe(0);
        outbox.drain();
    };
    wakes(drain_indebted, |outbox| {
        send(outbox, 1);
        outbox.paid(0);
    });
    wakes(
        |outbox| {
            outbox.queue(|out| out.head().extend_from_slice(b"late"));
            outbox.drain();
        },
        |outbox| assert!(outbox.flush()),
    );
}

#[test]
fn a_waiting_task_is_woken_when_the_reason_ends() {
    for (room, pipe) in [1, FRAME, 100].into_iter().flat_map(|room| PIPES.map(|pipe| (room, pipe))) {
        let run = move || assert_eq!(run(pipe(), 4, room, |outbox| outbox.drain()), 0);
        shuttle::check_random(run, SCHEDULES);
        shuttle::check_pct(run, SCHEDULES, 3);
    }
}

#[test]
fn a_drain_ends_although_another_thread_writes_a_frame_that_was_not_announced() {
    // As a message that was just stored goes to a parked pull of another connection: queued, then written.
    let other = |outbox: &Outbox| {
        thread::scope(|scope| {
            scope.spawn(|| send(outbox, 200));
            outbox.drain();
        });
    };
    for pipe in PIPES {
        // What the other thread sends after the task has ended is lost.
        let run = move || {
            run(pipe(), 2, FRAME, other);
        };
        shuttle::check_random(run, SCHEDULES);
        shuttle::check_pct(run, SCHEDULES, 3);
    }
}

#[test]
fn concurrent_writers_leave_nothing_queued() {
    shuttle::check_random(
        || {
            let World { outbox, pipe, .. } = world(Pipe::default());
            transport::make_room(&pipe, 100);
            let sent = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..3)
                .map(|number| {
                    let (outbox, sent) = (outbox.clone(), sent.clone());
                    thread::spawn(move || {
                        send(&outbox, number);
                        sent.fetch_add(FRAME, Ordering::SeqCst);
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(pipe.lock().taken.len(), sent.load(Ordering::SeqCst));
            assert_eq!(outbox.queued_bytes(), 0);
        },
        SCHEDULES,
    );
}
