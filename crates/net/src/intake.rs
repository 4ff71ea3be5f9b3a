//! What all connections of a server may have of frames that have begun and are not complete yet.
//!
//! A frame that arrives whole in one read is not counted, nor is the beginning of one up to [`FREE_BYTES`]; so a server whose peers
//! send whole frames never writes to the counter. What is counted is memory that was taken, not what a length field promises.
//!
//! - **Growing.** A large frame's buffer grows as its bytes arrive. A step may take an eighth of what is free at most. So the first
//!   frames get much and the last ones little, and frames that need little still find it when those that need much do not.
//! - **Waiting.** A connection whose frame may not grow is not read. Small frames go before large ones ([`Place`]), and of those of
//!   about one size the one that came last is first: who sent the oldest has probably given up (a producer waits 3 s), or never means
//!   to complete it.
//! - **The reserve.** Of the bound, one largest frame is kept for one connection at a time that would have to wait otherwise. It may
//!   grow to its end, so there is always a frame that can be completed, and completing it frees memory.
//! - **Progress.** While somebody waits, connections that hold memory and are slow, or have waited for long ([`Partial::slow_bytes`]),
//!   are closed, those that hold the most first (`relief::close_slow_senders`). So neither memory nor the reserve is kept by those that do not
//!   send.
//!
//! Small frames are counted and never wait. If they alone go over the bound, the slow ones are closed likewise.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::partial::Partial;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering};

/// The beginning of a frame that every connection may have without being counted.
pub(crate) const FREE_BYTES: usize = 4 << 10;
/// The part of what is free that one step may take.
const PART: usize = 8;

/// A place among those that wait; the highest is first. By the size of the frame, in powers of two, then by its ticket.
type Place = (Reverse<u32>, u64);

/// A connection that waits for room.
struct Waiting {
    waker: Waker,
    /// Bytes that are not charged of its frame.
    missing: usize,
    /// It was told to try again, and has not yet.
    woken: bool,
}

pub(crate) struct Intake {
    /// Without the reserve.
    bound_bytes: usize,
    charged_bytes: AtomicUsize,
    /// Some connection may go over the bound with its frame.
    reserve_taken: AtomicBool,
    /// Size of `queue`.
    waiting: AtomicUsize,
    /// Connections that wait for room.
    queue: Mutex<BTreeMap<Place, Waiting>>,
    next_ticket: AtomicU64,
    shortage: Notify,
}

impl Intake {
    /// For `total_bytes` in all, of frames of up to `max_frame_bytes`.
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

    /// How much a read may bring, `most` at most: what is read has to be kept.
    pub(crate) fn read_bytes(&self, most: usize) -> usize {
        (self.free_bytes() / PART).clamp(FREE_BYTES, most)
    }

    /// Bytes counted now, without what the reserve holds.
    pub(crate) fn charged_bytes(&self) -> usize {
        self.charged_bytes.load(Ordering::SeqCst)
    }

    fn free_bytes(&self) -> usize {
        self.bound_bytes.saturating_sub(self.charged_bytes())
    }

    /// Waits until somebody has to wait, or small frames alone are over the bound. One task waits.
    pub(crate) async fn shortage(&self) {
        self.shortage.notified().await;
    }

    /// What would have to be freed so that nobody waits; 0 if nobody does.
    pub(crate) fn short_bytes(&self) -> usize {
        let excess = self.charged_bytes().saturating_sub(self.bound_bytes);
        let missing: usize = self.queue.lock().values().map(|waiting| waiting.missing).sum();
        excess + missing.saturating_mul(PART)
    }

    /// Has the first one that waits try again.
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

    /// Somebody waits who comes before this place.
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

    /// Something that was counted as `before` is `after` now.
    fn settle(&self, before: usize, after: usize) {
        if after < before {
            self.charged_bytes.fetch_sub(before - after, Ordering::SeqCst);
            self.wake_next();
        } else if self.charged_bytes.fetch_add(after - before, Ordering::SeqCst) + after - before > self.bound_bytes {
            self.shortage.notify_one();
        }
    }
}

/// What one connection has of it. Gives it back when it is dropped.
pub(crate) struct Share {
    intake: Arc<Intake>,
    partial: Arc<Partial>,
    charged_bytes: usize,
    /// Holds the reserve: what its frame takes beyond `charged_bytes` is not charged.
    reserved: bool,
    /// Of the frame, if it ever had to wait.
    ticket: Option<u64>,
    /// Where it waits.
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

    /// The partial frame holds so many bytes, whatever the bound. 0: there is none.
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

    /// Waits no more for now.
    pub(crate) fn pause(&mut self) {
        self.leave_queue();
    }

    /// Whether the partial frame may take `bytes` in all. It is counted then.
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

    /// Waits until the partial frame may take `bytes` in all. The whole frame has `total` bytes.
    pub(crate) fn poll_grow(&mut self, cx: &mut Context<'_>, bytes: usize, total: usize, now_ms: impl Fn() -> u64) -> Poll<()> {
        if !self.grow_or_reserve(bytes, total) {
            self.enqueue(cx.waker(), total, &now_ms);
            // Whoever gives something back after this sees who waits; what was given back before is seen by this look.
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
        // One that had to wait asks for the reserve first: with it, it will not have to wait again.
        if self.ticket.is_some() {
            self.reserve(total);
        }
        self.try_grow(bytes) || (self.reserve(total) && self.try_grow(bytes))
    }

    /// Takes the reserve, unless it is taken or somebody comes first.
    fn reserve(&mut self, total: usize) -> bool {
        // A frame that has not waited yet is younger than those that do.
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

    /// Whether it waited.
    fn leave_queue(&mut self) -> bool {
        let Some(place) = self.place.take() else { return false };
        let mut queue = self.intake.queue.lock();
        queue.remove(&place);
        self.intake.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        // If it was woken, there may be room for another one, too, or it has not used what there is.
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
