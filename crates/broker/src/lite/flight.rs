//! Messages of one lite topic that are in flight in one group. Pure state; times are of the monotonic clock, in ms.
//!
//! A lite topic hands out nothing more before these messages are acknowledged or visible again, so its order holds. What was not
//! acknowledged is read again from the queue, and counts as one more delivery.

use crate::clients::Lease;
use smallvec::SmallVec;

/// Maximum messages of one pop of one lite topic: bits of `acked`.
pub(super) const MAX_MESSAGES: usize = 32;

/// One message in flight.
#[derive(Clone, Copy, Debug)]
struct Message {
    offset: i64,
    /// When it is visible again.
    visible_at: i64,
    /// How often it was handed out before.
    count: u16,
    is_acked: bool,
    /// The next delivery is not one more.
    is_suspended: bool,
    /// It stays invisible as long as it is held for the client.
    is_held: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// The pop that handed the messages out, epoch ms: a part of their handles.
    pub(super) pop_time: i64,
    attempt: Option<Box<str>>,
    /// For whom messages are held.
    lease: Option<Lease>,
    invisible_ms: i64,
    messages: SmallVec<[Message; 1]>,
}

/// A pop of a lite topic.
#[derive(Clone, Debug)]
pub(super) struct Handout<'a> {
    /// Queue offsets, in order; 1 to [`MAX_MESSAGES`].
    pub(super) offsets: &'a [i64],
    pub(super) attempt: Option<&'a str>,
    /// Epoch ms.
    pub(super) pop_time: i64,
    /// By the monotonic clock.
    pub(super) visible_at: i64,
    pub(super) invisible_ms: i64,
    /// For whom they are held.
    pub(super) lease: Option<Lease>,
}

impl Flight {
    /// The messages are handed out; `before` is what was in flight until now.
    pub(super) fn new(handout: &Handout<'_>, before: Option<&Self>) -> Self {
        debug_assert!(!handout.offsets.is_empty() && handout.offsets.len() <= MAX_MESSAGES);
        let is_repeated = before.is_some_and(|before| before.is_of(handout.attempt));
        let known = |offset: i64| before.and_then(|before| before.messages.iter().find(|message| message.offset == offset));
        Self {
            pop_time: handout.pop_time,
            attempt: handout.attempt.map(Into::into),
            lease: handout.lease.clone(),
            invisible_ms: handout.invisible_ms,
            messages: handout
                .offsets
                .iter()
                .map(|offset| Message {
                    offset: *offset,
                    visible_at: handout.visible_at,
                    count: known(*offset).map_or(0, |known| {
                        known.count.saturating_add(u16::from(!is_repeated && !known.is_suspended))
                    }),
                    is_acked: known(*offset).is_some_and(|known| known.is_acked),
                    is_suspended: false,
                    is_held: handout.lease.is_some(),
                })
                .collect(),
        }
    }

    /// Whether this request handed them out.
    pub(super) fn is_of(&self, attempt: Option<&str>) -> bool {
        self.attempt.is_some() && self.attempt.as_deref() == attempt
    }

    /// How often each was handed out before; `None` for one that is acknowledged already, and is not handed out again.
    pub(super) fn counts(&self) -> impl Iterator<Item = Option<u16>> + '_ {
        self.messages.iter().map(|message| (!message.is_acked).then_some(message.count))
    }

    fn left(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|message| !message.is_acked)
    }

    /// The holder of messages that are not acknowledged.
    pub(super) fn holder(&self) -> Option<u64> {
        let lease = self.lease.as_ref().filter(|_| self.left().any(|message| message.is_held))?;
        Some(lease.holder.id())
    }

    /// Of messages that are held, and whose own time has passed: when to look again whether they stay invisible.
    pub(super) fn look_again(&self, now: i64) -> Option<i64> {
        self.holder()?;
        self.lease.as_ref()?.look_again(self.invisible_ms, now)
    }

    /// Nothing is held any more.
    pub(super) fn let_go(&mut self) {
        self.lease = None;
    }

    /// When all that are not acknowledged are visible again, but for those that are held longer; `None` if all are acknowledged.
    pub(super) fn free_at(&self) -> Option<i64> {
        self.left().map(|message| message.visible_at).max()
    }

    /// Whether the lite topic hands out nothing now.
    pub(super) fn blocks(&self, now: i64) -> bool {
        self.free_at().is_some_and(|at| now < at) || self.look_again(now).is_some()
    }

    /// Acknowledges a message; the offset to commit, or `None` if it is not one of these.
    pub(super) fn ack(&mut self, offset: i64) -> Option<i64> {
        let message = self.messages.iter_mut().find(|message| message.offset == offset)?;
        message.is_acked = true;
        let first_left = self.left().next().map(|message| message.offset);
        first_left.or_else(|| self.messages.last().map(|last| last.offset + 1))
    }

    /// Changes when a message is visible again; it is not held any more. False if it is not one of these, or is acknowledged.
    pub(super) fn renew(&mut self, offset: i64, visible_at: i64) -> bool {
        let found = self
            .messages
            .iter_mut()
            .find(|message| message.offset == offset && !message.is_acked);
        found
            .map(|message| (message.visible_at, message.is_held) = (visible_at, false))
            .is_some()
    }

    /// All that are left are visible at that time, held or not, and handing them out again is not one more delivery.
    pub(super) fn suspend(&mut self, visible_at: i64) {
        for message in self.messages.iter_mut().filter(|message| !message.is_acked) {
            message.visible_at = visible_at;
            message.is_suspended = true;
            message.is_held = false;
        }
    }
}
