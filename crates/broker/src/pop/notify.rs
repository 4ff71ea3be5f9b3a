//! Notifications (200054): whether a pop would find messages, answered when it would.

use super::Pops;
use super::check::Reads;
use super::steps::ReadsOf;
use super::wake::GroupOnTopic;
use crate::asker::Asker;
use crate::errors::Refusal;
use crate::filter::{TagFilter, is_tag_type};
use crate::hold::{ANY_QUEUE, NotParked, Waiter};
use protocol::codes::ResponseCode;
use protocol::pop::{NotificationHeader, PollingInfoHeader};
use std::sync::Arc;

/// Answer of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notified {
    /// Whether there are messages.
    pub has_messages: bool,
    /// Too many requests are parked.
    pub is_full: bool,
}

/// A notification that passed the checks.
pub struct Notice {
    asker: Asker<Notified>,
    reads: ReadsOf,
    pub(super) of: Arc<GroupOnTopic>,
    tags: TagFilter,
    until: Option<i64>,
}

impl Waiter for Notice {
    fn queue(&self) -> (&str, i32) {
        (&self.of.key, if self.reads.queue_id < 0 { ANY_QUEUE } else { self.reads.queue_id })
    }

    fn owner(&self) -> u64 {
        self.asker.client()
    }

    fn is_disconnected(&self) -> bool {
        self.asker.is_disconnected()
    }

    fn tags(&self) -> Option<&[i32]> {
        self.tags.codes()
    }
}

impl Notice {
    fn answer_found(self) {
        self.asker.answer(Notified {
            has_messages: true,
            is_full: false,
        });
    }

    pub(super) fn answer_none(self) {
        self.asker.answer(Notified {
            has_messages: false,
            is_full: false,
        });
    }
}

impl Pops {
    /// Handles a notification request.
    pub fn notification(self: &Arc<Self>, asker: Asker<Notified>, header: &NotificationHeader<'_>, now_ms: i64) {
        let settings = self.core.settings.current();
        let reads = Reads {
            topic: header.topic,
            group: header.consumer_group,
            queue_id: header.queue_id,
        };
        let check = || {
            let (topic, _) = self.allowed(&settings, reads, asker.peer(), now_ms)?;
            let of = self.waiting.of(header.topic, header.consumer_group);
            let of = of.map_err(|full| Refusal::new(ResponseCode::SystemBusy, full.to_string()))?;
            // An SQL filter is left to the pop that follows.
            let exp = header.exp.filter(|_| is_tag_type(header.exp_type.unwrap_or("")));
            let tags = TagFilter::parse(exp.unwrap_or("")).map_err(|why| {
                let text = format!("parse the consumer's subscription failed: {why}");
                Refusal::new(ResponseCode::SubscriptionParseFailed, text)
            })?;
            Ok((topic, of, tags))
        };
        let (topic, of, tags) = match check() {
            Ok(allowed) => allowed,
            Err(refusal) => return asker.refuse(refusal),
        };
        let born = if header.born_time == 0 { now_ms } else { header.born_time };
        let reads = ReadsOf {
            topic,
            of: Arc::clone(&of),
            queue_id: header.queue_id,
            in_order: header.order,
            attempt: header.attempt_id.map(Into::into),
        };
        self.notify(Notice {
            asker,
            reads,
            of,
            tags,
            until: super::deadline(born, header.poll_time, now_ms),
        });
    }

    /// Answers a notification whose deadline has passed. Compat: as Apache, it looks once more, since with its attempt id it may see what a pop with
    /// the same id was handed out meanwhile.
    pub(super) fn notify_late(&self, notice: Notice) {
        if self.has_messages(&notice.reads) {
            notice.answer_found();
        } else {
            notice.answer_none();
        }
    }

    /// Answers a notification if there are messages, else parks it.
    pub(super) fn notify(self: &Arc<Self>, notice: Notice) {
        if self.has_messages(&notice.reads) {
            return notice.answer_found();
        }
        let Some(until) = notice.until else { return notice.answer_none() };
        let reads = notice.reads.clone();
        match self.notices.park(until, notice) {
            Ok(id) => {
                if self.has_messages(&reads)
                    && let Some(notice) = self.notices.take_one(id)
                {
                    notice.answer_found();
                }
            }
            Err((notice, NotParked::Closed)) => notice.answer_none(),
            Err((notice, _)) => notice.asker.answer(Notified {
                has_messages: false,
                is_full: true,
            }),
        }
    }

    /// How many pops of a group are parked for a queue, or with a queue below 0 for any.
    #[must_use]
    pub fn polling(&self, header: &PollingInfoHeader<'_>) -> usize {
        let Ok(of) = self.waiting.of(header.topic, header.consumer_group) else {
            return 0;
        };
        self.hold
            .count(&of.key, if header.queue_id < 0 { ANY_QUEUE } else { header.queue_id })
    }
}
