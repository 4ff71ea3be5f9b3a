//! What frames hold that are being read: the bound is kept, and whoever waits for room gets it when another frame is complete or its
//! connection closes.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use shuttle::{future, thread};

use crate::SCHEDULES;
use crate::intake::{FREE_BYTES, Intake, Share};
use crate::sync::Arc;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const FRAME: usize = 64 * KIB;

fn intake(bound: usize, frame: usize) -> Arc<Intake> {
    Arc::new(Intake::new(bound + frame, frame))
}

fn share(intake: &Arc<Intake>) -> Share {
    Share::new(intake.clone(), Arc::default())
}

/// Whether the frame may take `bytes` now; else it waits.
fn grows(share: &mut Share, bytes: usize, total: usize) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    share.poll_grow(&mut cx, bytes, total, || 0).is_ready()
}

async fn grow(share: &mut Share, bytes: usize, total: usize) {
    poll_fn(|cx| share.poll_grow(cx, bytes, total, || 0)).await;
}

/// One thread needs no exploring.
fn alone(test: fn()) {
    shuttle::check_random(test, 1);
}

fn explore(run: impl Fn() + Clone + Send + Sync + 'static) {
    shuttle::check_random(run.clone(), SCHEDULES / 2);
    shuttle::check_pct(run, SCHEDULES / 2, 3);
}

#[test]
fn a_step_takes_an_eighth_of_the_free_memory_and_small_steps_succeed_longer() {
    alone(|| {
        let intake = intake(64 * MIB, 16 * MIB);
        let mut one = share(&intake);
        assert!(!one.try_grow(9 * MIB));
        assert!(one.try_grow(8 * MIB));
        assert!(!one.try_grow(16 * MIB), "an eighth of 56 MiB is 7 MiB");
        let mut others: Vec<Share> = (2..9).map(|_| share(&intake)).collect();
        assert!(others.iter_mut().all(|other| other.try_grow(3 * MIB)));
        assert!(others[0].try_grow(4 * MIB));
        assert!(!one.try_grow(16 * MIB));
        assert_eq!(intake.charged_bytes(), 8 * MIB + 7 * 3 * MIB + MIB);
        drop(others);
        drop(one);
        assert_eq!(intake.charged_bytes(), 0);
    });
}

#[test]
fn many_frames_do_not_reach_the_limit_and_one_has_the_reserve() {
    alone(|| {
        let intake = intake(64 * MIB, 16 * MIB);
        let mut shares: Vec<Share> = (1..1_000).map(|_| share(&intake)).collect();
        let mut beyond = Vec::new();
        for (at, share) in shares.iter_mut().enumerate() {
            let (mut bytes, mut charged) = (64 * KIB, intake.charged_bytes());
            while bytes <= 16 * MIB && grows(share, bytes, 16 * MIB) {
                if intake.charged_bytes() == charged {
                    beyond.push((at, bytes));
                }
                bytes *= 2;
                charged = intake.charged_bytes();
            }
            assert!(charged <= 64 * MIB);
        }
        assert!(beyond.iter().all(|(at, _)| *at == beyond[0].0), "one of them");
        assert_eq!(beyond.last().unwrap().1, 16 * MIB, "to its end");
        assert!(intake.short_bytes() > 0);
    });
}

/// Says whether it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Beginning frames of so many bytes.
struct Reader {
    share: Share,
    total: usize,
    flag: std::sync::Arc<Flag>,
}

impl Reader {
    fn new(intake: &Arc<Intake>, total: usize) -> Self {
        let (share, flag) = (share(intake), std::sync::Arc::default());
        Self { share, total, flag }
    }

    fn grows(&mut self) -> bool {
        let waker = Waker::from(self.flag.clone());
        let mut cx = Context::from_waker(&waker);
        self.share.poll_grow(&mut cx, 8 * KIB, self.total, || 0).is_ready()
    }

    fn is_woken(&self) -> bool {
        self.flag.0.swap(false, Ordering::Relaxed)
    }
}

#[test]
fn the_newest_waiting_frame_comes_first() {
    alone(|| {
        let intake = intake(0, FRAME);
        let [mut first, mut old, mut young] = [(); 3].map(|()| Reader::new(&intake, FRAME));
        assert!(first.grows());
        assert!(!old.grows() && !young.grows());
        assert!(first.share.try_grow(FRAME), "to its end");
        assert!(!old.is_woken() && !young.is_woken());
        first.share.hold(0);
        assert!(!old.is_woken() && young.is_woken());
        assert!(!old.grows(), "not before the one that was woken");
        assert!(young.grows());
        assert!(old.is_woken(), "there might be room for it, too");
        assert!(!old.grows());
        assert!(!first.grows(), "its next frame");
        drop(young);
        assert!(!old.is_woken() && first.is_woken());
        drop(first);
        assert!(old.is_woken(), "the other one did not use it");
        assert!(old.grows());
        drop(old);
        assert_eq!((intake.charged_bytes(), intake.short_bytes()), (0, 0));
    });
}

#[test]
fn small_frames_come_before_large_ones() {
    alone(|| {
        let intake = intake(0, FRAME);
        let mut first = Reader::new(&intake, FRAME);
        let [mut small, mut large, mut new] = [FRAME / 4, FRAME, FRAME / 2].map(|total| Reader::new(&intake, total));
        assert!(first.grows());
        assert!(!small.grows() && !large.grows());
        drop(first);
        assert!(small.is_woken() && !large.is_woken());
        assert!(!new.grows() && !large.grows());
        assert!(small.grows());
        drop(small);
        assert!(new.is_woken());
        assert!(new.grows());
    });
}

#[test]
fn the_first_bytes_of_a_frame_are_not_counted() {
    alone(|| {
        let intake = intake(MIB, FRAME);
        let mut share = share(&intake);
        for (bytes, counted) in [(FREE_BYTES, 0), (FREE_BYTES + 1, FREE_BYTES + 1), (20, 0)] {
            share.hold(bytes);
            assert_eq!(intake.charged_bytes(), counted);
        }
    });
}

#[test]
fn a_read_is_not_larger_than_what_may_be_kept() {
    alone(|| {
        let intake = intake(MIB, FRAME);
        let mut share = share(&intake);
        for (held, read) in [(0, 128 * KIB), (512 * KIB, 64 * KIB), (2 * MIB, FREE_BYTES)] {
            share.hold(held);
            assert_eq!(intake.read_bytes(128 * KIB), read);
        }
        assert_eq!(intake.short_bytes(), MIB, "small frames alone are over the bound");
    });
}

/// Reads frames of so many bytes, as a connection's task does, and gives up within the last one.
async fn read(mut share: Share, frames: &[usize], bound: usize) {
    for (at, total) in frames.iter().enumerate() {
        let is_last = at + 1 == frames.len();
        let mut len = 8 * KIB;
        while len < *total {
            let bytes = (len * 2).min(*total);
            grow(&mut share, bytes, *total).await;
            assert!(share.intake().charged_bytes() <= bound);
            thread::yield_now();
            len = bytes;
            if is_last && len > *total / 2 {
                return;
            }
        }
        share.hold(0);
    }
}

#[test]
fn every_waiting_frame_gets_memory() {
    const FRAMES: [&[usize]; 3] = [&[FRAME, FRAME], &[FRAME / 2, FRAME], &[FRAME / 4, FRAME / 4, FRAME / 4]];
    // Nothing but the reserve, room for a small step, room for many.
    for bound in [0, 80 * KIB, 512 * KIB] {
        explore(move || {
            let intake = intake(bound, FRAME);
            let threads: Vec<_> = FRAMES
                .into_iter()
                .map(|frames| {
                    let share = share(&intake);
                    thread::spawn(move || future::block_on(read(share, frames, bound)))
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!((intake.charged_bytes(), intake.short_bytes()), (0, 0));
            // The reserve is free again.
            assert!(grows(&mut share(&intake), FRAME, FRAME));
        });
    }
}

#[test]
fn freed_memory_goes_to_all_frames_that_fit_while_the_reserve_is_taken() {
    for gives_up in [false, true] {
        explore(move || {
            let intake = intake(128 * KIB, FRAME);
            let [mut reserving, mut holding, mut one, mut other] = [1, 2, 3, 4].map(|_| share(&intake));
            holding.hold(128 * KIB);
            assert!(grows(&mut reserving, 8 * KIB, FRAME));
            let first = thread::spawn(move || {
                if !gives_up {
                    future::block_on(grow(&mut one, 8 * KIB, FRAME));
                    return Some(one);
                }
                // Its connection closes when it is woken.
                let mut polled = false;
                future::block_on(poll_fn(|cx| {
                    if polled || one.poll_grow(cx, 8 * KIB, FRAME, || 0).is_ready() {
                        return Poll::Ready(());
                    }
                    polled = true;
                    Poll::Pending
                }));
                None
            });
            let second = thread::spawn(move || {
                future::block_on(grow(&mut other, 8 * KIB, FRAME));
                other
            });
            holding.hold(0);
            // Both keep what they have.
            let kept = (first.join().unwrap(), second.join().unwrap());
            assert_eq!(intake.charged_bytes(), if gives_up { 8 * KIB } else { 16 * KIB });
            drop(kept);
        });
    }
}
