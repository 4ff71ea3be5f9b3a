//! The limit of memory for incomplete frames over all connections of a server.
//!
//! Frames that arrive whole in one read are not counted, nor is the beginning of a frame up to [`FREE_BYTES`]. So a server whose peers send
//! whole frames does not write to the counter. Allocated memory is counted, not the value of length fields.
//!
//! - **Growing.** A large frame's buffer grows as its bytes arrive, in steps of at most an eighth of what is free. So the first frames get
//!   much and the last ones little, and small steps succeed when large ones do not.
//! - **Waiting.** A connection whose frame may not grow is not read. Smaller frames come before larger ones ([`Place`]). Among frames of about
//!   the same size the newest comes first: the sender of the oldest has probably given up (a producer waits 3 s) or never completes it.
//! - **Reserve.** Memory for one frame of maximum size is reserved for one connection at a time that would have to wait otherwise. Its frame
//!   may grow to its end. So there is always a frame that can be completed, and its completion frees memory.
//! - **Progress.** While connections wait, those that hold memory and send slowly, or have waited long ([`Partial::slow_bytes`]), are closed,
//!   those with the most memory first (`relief::close_slow_senders`). So peers that do not send keep neither memory nor the reserve.
//!
//! Small frames are counted and never wait. If they alone exceed the limit, slow ones are closed too.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::partial::Partial;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering};

/// The first bytes of a frame that are not counted, for each connection.
pub(crate) const FREE_BYTES: usize = 4 << 10;
/// One step may take one of so many parts of what is free.
const PART: usize = 8;
/// Below one of so many parts of the limit, little is charged.
const LITTLE: usize = 64;

/// Position in the queue for memory; the highest comes first. Ordered by the frame's size in powers of two, then by its ticket.
type Place = (Reverse<u32>, u64);

/// A connection that waits for memory.
struct Waiting {
    waker: Waker,
    /// Bytes of its frame that are not charged yet.
    missing: usize,
    /// It was woken and has not tried yet.
    woken: bool,
}

pub(crate) struct Intake {
    /// Without the reserve.
    bound_bytes: usize,
    charged_bytes: AtomicUsize,
    /// Some connection holds the reserve.
    reserve_taken: AtomicBool,
    /// Size of `queue`.
    waiting: AtomicUsize,
    /// Connections that wait for memory.
    queue: Mutex<BTreeMap<Place, Waiting>>,
    next_ticket: AtomicU64,
    shortage: Notify,
}

impl Intake {
    /// Creates a limit of `total_bytes` for frames of up to `max_frame_bytes`.
    pub(crate) fn new(total_bytes: usize, max_frame_bytes: usize) -> Self {
        Self {
            bound_bytes: total_bytes.saturating_sub(max_frame_bytes),
            charged_bytes: AtomicUsize::new(0),
            reserve_taken: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            queue: Mutex::new(BTreeMap::new()),
            next_ticket: AtomicU64::new(0),
            shortage: Notify::new(),
        }
    }

    /// Maximum size of a read, at most `most`: what is read may have to be kept.
    pub(crate) fn read_bytes(&self, most: usize) -> usize {
        (self.free_bytes() / PART).clamp(FREE_BYTES, most)
    }

    /// Charged bytes, without the reserve.
    pub(crate) fn charged_bytes(&self) -> usize {
        self.charged_bytes.load(Ordering::SeqCst)
    }

    /// Whether little is charged.
    pub(crate) fn is_little(&self) -> bool {
        self.charged_bytes() <= self.bound_bytes / LITTLE
    }

    fn free_bytes(&self) -> usize {
        self.bound_bytes.saturating_sub(self.charged_bytes())
    }

    /// Waits until a connection has to wait for memory, or small frames exceed the limit. Called by one task.
    pub(crate) async fn shortage(&self) {
        self.shortage.notified().await;
    }

    /// Bytes to free so that no connection waits; 0 if none does.
    pub(crate) fn short_bytes(&self) -> usize {
        let excess = self.charged_bytes().saturating_sub(self.bound_bytes);
        let missing: usize = self.queue.lock().values().map(|waiting| waiting.missing).sum();
        excess + missing.saturating_mul(PART)
    }

    /// Wakes the first waiting connection that was not woken yet.
    pub(crate) fn wake_next(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut queue = self.queue.lock();
        if let Some(first) = queue.values_mut().rev().find(|waiting| !waiting.woken) {
            first.woken = true;
            first.waker.wake_by_ref();
        }
    }

    /// Whether a connection waits at a better place.
    fn is_behind(&self, place: Place) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0 && self.queue.lock().last_key_value().is_some_and(|(first, _)| *first > place)
    }

    fn try_take(&self, bytes: usize) -> bool {
        let taken = |charged: usize| {
            let free = self.bound_bytes.saturating_sub(charged);
            (bytes <= free / PART).then_some(charged + bytes)
        };
        self.charged_bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken).is_ok()
    }

    /// Changes a charge from `before` to `after` bytes.
    fn settle(&self, before: usize, after: usize) {
        if after < before {
            self.charged_bytes.fetch_sub(before - after, Ordering::SeqCst);
            self.wake_next();
        } else if self.charged_bytes.fetch_add(after - before, Ordering::SeqCst) + after - before > self.bound_bytes {
            self.shortage.notify_one();
        }
    }
}

/// The memory of one connection. Given back when it is dropped.
pub(crate) struct Share {
    intake: Arc<Intake>,
    partial: Arc<Partial>,
    charged_bytes: usize,
    /// Holds the reserve: bytes of its frame beyond `charged_bytes` are not charged.
    reserved: bool,
    /// Ticket of the frame, if it had to wait.
    ticket: Option<u64>,
    /// Its place in the queue, while it waits.
    place: Option<Place>,
}

impl Share {
    pub(crate) fn new(intake: Arc<Intake>, partial: Arc<Partial>) -> Self {
        Self {
            intake,
            partial,
            charged_bytes: 0,
            reserved: false,
            ticket: None,
            place: None,
        }
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    pub(crate) fn partial(&self) -> &Arc<Partial> {
        &self.partial
    }

    /// Sets the bytes of the incomplete frame, even if they exceed the limit. 0 means that there is no frame.
    pub(crate) fn hold(&mut self, bytes: usize) {
        if bytes == 0 {
            self.leave_queue();
            self.ticket = None;
        }
        let bytes = if bytes > FREE_BYTES { bytes } else { 0 };
        if bytes == self.charged_bytes && !self.reserved {
            return;
        }
        let before = std::mem::replace(&mut self.charged_bytes, bytes);
        self.partial.hold(bytes);
        self.intake.settle(before, bytes);
        if std::mem::take(&mut self.reserved) {
            self.intake.reserve_taken.store(false, Ordering::SeqCst);
            self.intake.wake_next();
        }
    }

    /// Leaves the queue for now.
    pub(crate) fn pause(&mut self) {
        self.leave_queue();
    }

    /// Charges `bytes` for the incomplete frame if the limit allows it. Returns whether it did.
    pub(crate) fn try_grow(&mut self, bytes: usize) -> bool {
        let step = bytes.saturating_sub(self.charged_bytes);
        if !self.reserved {
            if !self.intake.try_take(step) {
                return false;
            }
            self.charged_bytes += step;
        }
        self.partial.hold(bytes);
        true
    }

    /// Waits until the incomplete frame may have `bytes`. The complete frame has `total` bytes.
    pub(crate) fn poll_grow(&mut self, cx: &mut Context<'_>, bytes: usize, total: usize, now_ms: impl Fn() -> u64) -> Poll<()> {
        if !self.grow_or_reserve(bytes, total) {
            self.enqueue(cx.waker(), total, &now_ms);
            // A connection that frees memory after this sees the queue; this second try sees memory that was freed before.
            if !self.grow_or_reserve(bytes, total) {
                return Poll::Pending;
            }
        }
        if self.leave_queue() {
            self.partial.resume(now_ms());
        }
        Poll::Ready(())
    }

    fn grow_or_reserve(&mut self, bytes: usize, total: usize) -> bool {
        // A frame that had to wait tries the reserve first, because with it, it does not wait again.
        if self.ticket.is_some() {
            self.reserve(total);
        }
        self.try_grow(bytes) || (self.reserve(total) && self.try_grow(bytes))
    }

    /// Takes the reserve unless it is taken or a connection with a better place waits.
    fn reserve(&mut self, total: usize) -> bool {
        // A frame that has not waited yet is newer than those that do.
        if !self.reserved && !self.intake.is_behind(place(total, self.ticket.unwrap_or(u64::MAX))) {
            self.reserved = !self.intake.reserve_taken.swap(true, Ordering::SeqCst);
        }
        self.reserved
    }

    fn enqueue(&mut self, waker: &Waker, total: usize, now_ms: impl Fn() -> u64) {
        let next_ticket = || self.intake.next_ticket.fetch_add(1, Ordering::Relaxed);
        let place = place(total, *self.ticket.get_or_insert_with(next_ticket));
        let waiting = Waiting {
            waker: waker.clone(),
            missing: total.saturating_sub(self.charged_bytes),
            woken: false,
        };
        let mut queue = self.intake.queue.lock();
        queue.insert(place, waiting);
        self.intake.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        if self.place.replace(place).is_none() {
            self.partial.wait(now_ms());
            self.intake.shortage.notify_one();
        }
    }

    /// Leaves the queue. Returns whether it was in it.
    fn leave_queue(&mut self) -> bool {
        let Some(place) = self.place.take() else { return false };
        let mut queue = self.intake.queue.lock();
        queue.remove(&place);
        self.intake.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        // If it was woken, memory may be left for the next one.
        self.intake.wake_next();
        true
    }
}

fn place(total: usize, ticket: u64) -> Place {
    (Reverse(total.max(1).ilog2()), ticket)
}

impl Drop for Share {
    fn drop(&mut self) {
        self.hold(0);
    }
}
