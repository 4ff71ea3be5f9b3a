//! Parts of this crate under a scheduler that explores interleavings: their sources, compiled over its primitives and a socket that
//! takes a few bytes at a time. A task or thread that is never woken is reported as a deadlock.
#![allow(missing_docs, dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../src/batch.rs"]
mod batch;
#[path = "../../src/intake.rs"]
mod intake;
#[path = "../../src/jobs/mod.rs"]
mod jobs;
#[path = "../../src/outbox.rs"]
mod outbox;
#[path = "../../src/partial.rs"]
mod partial;

mod pool;
mod reading;
mod writing;

use connection::Connection;
use outbox::{Bounds, Outbox};
use sync::{Arc, Mutex};

/// Schedules tried a test.
const SCHEDULES: usize = 3_000;

mod sync {
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    use shuttle::rand::Rng;
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use shuttle::sync::{Arc, Weak};
    pub(crate) use shuttle::thread;

    /// As `parking_lot`'s.
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().unwrap()))
        }
    }

    /// Empty only inside [`Condvar::wait_for`].
    pub(crate) struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().unwrap()
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().unwrap()
        }
    }

    pub(crate) struct Condvar(shuttle::sync::Condvar);

    /// Whether a wait timed out.
    pub(crate) struct Waited(bool);

    impl Waited {
        pub(crate) fn timed_out(&self) -> bool {
            self.0
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(shuttle::sync::Condvar::new())
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        /// Times out now and then, for no reason.
        pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> Waited {
            let times_out = shuttle::rand::thread_rng().gen_bool(0.2);
            // The wait releases and takes the lock again, as a time-out does.
            let inner = guard.0.take().unwrap();
            let waited = if times_out {
                self.0.wait_timeout(inner, Duration::ZERO).unwrap().0
            } else {
                self.0.wait(inner).unwrap()
            };
            guard.0 = Some(waited);
            Waited(times_out)
        }
    }
}

mod spare {
    use crate::batch::Part;
    use bytes::BytesMut;
    use std::collections::VecDeque;

    pub(crate) fn out_buffer() -> BytesMut {
        BytesMut::with_capacity(64)
    }

    pub(crate) fn give_out_buffer(_: BytesMut) {}

    pub(crate) fn parts() -> VecDeque<Part> {
        VecDeque::new()
    }

    pub(crate) fn give_parts(_: VecDeque<Part>) {}
}

mod budget {
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts; not a point at which threads change.
    #[derive(Default)]
    pub(crate) struct Budget(AtomicUsize);

    impl Budget {
        pub(crate) fn settle(&self, before: usize, after: usize) {
            self.0.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }

        pub(crate) fn allowance(&self, limit_bytes: usize) -> usize {
            limit_bytes
        }

        pub(crate) fn charged(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }
}

mod transport {
    use super::*;
    use std::io;
    use std::task::{Context, Poll, Waker};

    /// What a session takes at once.
    const SEALED: usize = 5;

    /// A socket and its peer, perhaps with a session.
    #[derive(Default)]
    pub(crate) struct Pipe {
        room: usize,
        /// With a session: what it has taken and the socket has not.
        unsent: Option<Vec<u8>>,
        pub(crate) taken: Vec<u8>,
        /// What was unsent when the stream was ended.
        pub(crate) cut: usize,
        waker: Option<Waker>,
    }

    impl Pipe {
        pub(crate) fn secured() -> Self {
            Self {
                unsent: Some(Vec::new()),
                ..Self::default()
            }
        }

        fn send(&mut self) -> io::Result<()> {
            let Some(unsent) = &mut self.unsent else { return Ok(()) };
            let sent = unsent.len().min(self.room);
            self.room -= sent;
            self.taken.extend(unsent.drain(..sent));
            if unsent.is_empty() {
                Ok(())
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    #[derive(Clone)]
    pub(crate) struct WriteSide(pub(crate) Arc<Mutex<Pipe>>);

    impl WriteSide {
        pub(crate) fn write(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
            let mut pipe = self.0.lock();
            pipe.send()?;
            let most = if pipe.unsent.is_some() { SEALED } else { pipe.room };
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(most).collect();
            if bytes.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if let Some(unsent) = &mut pipe.unsent {
                unsent.extend_from_slice(&bytes);
                // What is left is for `flush`.
                let _ = pipe.send();
            } else {
                pipe.room -= bytes.len();
                pipe.taken.extend_from_slice(&bytes);
            }
            Ok(bytes.len())
        }

        pub(crate) fn flush(&self) -> io::Result<()> {
            self.0.lock().send()
        }

        pub(crate) fn unsent_bytes(&self) -> usize {
            self.0.lock().unsent.as_ref().map_or(0, Vec::len)
        }

        pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let mut pipe = self.0.lock();
            let is_ready = match pipe.unsent {
                Some(_) => pipe.send().is_ok(),
                None => pipe.room > 0,
            };
            if is_ready {
                return Poll::Ready(Ok(()));
            }
            pipe.waker = Some(cx.waker().clone());
            Poll::Pending
        }

        pub(crate) fn end(&self) {
            let mut pipe = self.0.lock();
            pipe.cut = pipe.unsent.as_ref().map_or(0, Vec::len);
        }

        pub(crate) fn shutdown(&self) {}
    }

    /// The peer reads.
    pub(crate) fn make_room(pipe: &Mutex<Pipe>, bytes: usize) {
        let mut pipe = pipe.lock();
        pipe.room += bytes;
        if let Some(waker) = pipe.waker.take() {
            waker.wake();
        }
    }
}

mod connection {
    use super::*;
    use sync::{AtomicBool, Ordering};

    /// What a pool asks of a connection.
    pub(crate) struct Connection {
        pub(crate) outbox: Outbox,
        id: u64,
        closing: AtomicBool,
    }

    impl Connection {
        pub(crate) fn new(id: u64, outbox: Outbox) -> Arc<Self> {
            let closing = AtomicBool::new(false);
            Arc::new(Self { outbox, id, closing })
        }

        pub(crate) fn id(&self) -> u64 {
            self.id
        }

        pub(crate) fn is_closed(&self) -> bool {
            self.closing.load(Ordering::SeqCst)
        }

        pub(crate) fn peer_lags(&self) -> bool {
            self.outbox.lags()
        }

        pub(crate) fn when_peer_reads(&self, then: impl FnOnce() + Send + 'static) -> bool {
            self.outbox.when_read(Box::new(then))
        }

        pub(crate) fn finish(&self) {
            self.closing.store(true, Ordering::SeqCst);
            self.outbox.close();
        }
    }
}

/// Bytes of a frame.
const FRAME: usize = 3;

fn bounds() -> Bounds {
    Bounds { pause: 4, close: 1_000 }
}

/// One frame, told apart by its bytes.
fn send(outbox: &Outbox, number: u8) {
    outbox.queue(|out| out.head().extend_from_slice(&[number; FRAME]));
    // It fails when the task is gone.
    let _ = outbox.flush();
}

/// More than the bound, not written yet.
fn queue_much(outbox: &Outbox) {
    assert_eq!(outbox.queue(|out| out.head().extend_from_slice(&[0; 9])), outbox::Queued::Waiting);
}
