//! Acknowledgements, changes of the invisible duration, and dead letters.

use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::handle::{self, Receipt};
use crate::lite::received_from;
use crate::outcome::outcome;
use crate::renewal::Held;
use crate::route::{check_group, check_topic, name_of};
use crate::service::Messaging;
use crate::time::{duration_ms, now_ms};
use crate::v2::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, AckMessageResultEntry, ChangeInvisibleDurationRequest,
    ChangeInvisibleDurationResponse, Code, ForwardMessageToDeadLetterQueueRequest, ForwardMessageToDeadLetterQueueResponse,
};
use broker::errors::Refusal;
use broker::pop::Renewed;
use broker::retry::send_back::{SendBack, send_back};
use protocol::codes::ResponseCode;
use protocol::pop::handle::Handle;
use protocol::retry::SendBackHeader;
use protocol::version;
use std::borrow::Cow;
use tokio::sync::oneshot;

/// Most messages of one acknowledgement.
const MAX_ENTRIES: usize = 4_096;

impl Messaging {
    pub(crate) fn ack(&self, caller: &Caller, request: &AckMessageRequest) -> AckMessageResponse {
        let (topic, group) = (name_of(request.topic.as_ref()), name_of(request.group.as_ref()));
        let checked = check_topic(topic).and_then(|()| check_group(group)).and_then(|()| {
            if request.entries.len() <= MAX_ENTRIES {
                return Ok(());
            }
            let text = format!(
                "{} messages are acknowledged at once, the limit is {MAX_ENTRIES}",
                request.entries.len()
            );
            Err(Refused::new(Code::BadRequest, text))
        });
        if let Err(refused) = checked {
            return AckMessageResponse {
                status: Some(refused.into()),
                entries: Vec::new(),
            };
        }
        let acked = |entry: &AckMessageEntry| AckMessageResultEntry {
            message_id: entry.message_id.clone(),
            receipt_handle: entry.receipt_handle.clone(),
            status: Some(self.ack_one(caller, group, topic, entry).map_or_else(Into::into, |()| codes::ok())),
        };
        let entries: Vec<AckMessageResultEntry> = request.entries.iter().map(acked).collect();
        AckMessageResponse {
            status: Some(codes::of_all(entries.iter().map(|entry| entry.status.as_ref()))),
            entries,
        }
    }

    fn ack_one(&self, caller: &Caller, group: &str, topic: &str, entry: &AckMessageEntry) -> Result<(), Refused> {
        let from = received_from(topic, entry.lite_topic.as_deref());
        let current = self.current_handle(caller, group, &from, &entry.receipt_handle)?;
        let receipt = Receipt::parse_in_time(&current, group, &from, now_ms())?;
        self.acknowledge(&receipt).map_err(of_handle)
    }

    /// The handle now of a message that the client says by the one with which it was received. It is not renewed any more.
    fn current_handle<'h>(&self, caller: &Caller, group: &str, topic: &str, told: &'h str) -> Result<Cow<'h, str>, Refused> {
        // Before it is looked up: a handle of another group must not end the renewal.
        Receipt::parse(told, group, topic)?;
        let current = self.renewals.take(&caller.client_id, told);
        Ok(current.map_or(Cow::Borrowed(told), |current| Cow::Owned(current.into())))
    }

    pub(crate) fn change_invisible(&self, caller: &Caller, request: &ChangeInvisibleDurationRequest) -> ChangeInvisibleDurationResponse {
        match self.changed_invisible(caller, request) {
            Ok(receipt_handle) => ChangeInvisibleDurationResponse {
                status: Some(codes::ok()),
                receipt_handle,
            },
            Err(refused) => ChangeInvisibleDurationResponse {
                status: Some(refused.into()),
                receipt_handle: String::new(),
            },
        }
    }

    fn changed_invisible(&self, caller: &Caller, request: &ChangeInvisibleDurationRequest) -> Result<String, Refused> {
        let (topic, group) = (name_of(request.topic.as_ref()), name_of(request.group.as_ref()));
        check_topic(topic)?;
        check_group(group)?;
        let from = received_from(topic, request.lite_topic.as_deref());
        let invisible_ms = request.invisible_duration.as_ref().map_or(0, duration_ms);
        self.check_invisible(invisible_ms, 0)?;
        let current = self.current_handle(caller, group, &from, &request.receipt_handle)?;
        let receipt = Receipt::parse_in_time(&current, group, &from, now_ms())?;
        self.renew(&receipt, group, &from, invisible_ms, request.suspend.unwrap_or(false))
    }

    /// # Errors
    /// `IllegalInvisibleTime` if it is too short or too long.
    pub(crate) fn check_invisible(&self, invisible_ms: i64, min_ms: i64) -> Result<(), Refused> {
        let max_ms = self.settings.max_invisible.as_millis() as i64;
        let refused = |text: String| Err(Refused::new(Code::IllegalInvisibleTime, text));
        if invisible_ms < min_ms {
            return refused(format!(
                "the invisibleTime is too small. min is {min_ms} ms (minInvisibleTimeMillsForRecv); it is {invisible_ms} ms"
            ));
        }
        if max_ms > 0 && invisible_ms > max_ms {
            return refused(format!(
                "the invisibleTime is too large. max is {max_ms} ms (maxInvisibleTimeMills); it is {invisible_ms} ms"
            ));
        }
        Ok(())
    }

    /// Makes a message invisible from now on for this time; returns its new handle.
    pub(crate) fn renew(
        &self,
        receipt: &Receipt<'_>,
        group: &str,
        topic: &str,
        invisible_ms: i64,
        suspend: bool,
    ) -> Result<String, Refused> {
        let renewed = self.make_invisible(receipt, invisible_ms, suspend).map_err(of_handle)?;
        Ok(handle_after(receipt, renewed, group, topic))
    }

    /// Gives messages back that no client will acknowledge. The next delivery does not count as a retry.
    pub(crate) fn give_back(&self, held: impl Iterator<Item = Held>, after_ms: i64) {
        for held in held {
            let Ok(receipt) = Receipt::parse(&held.current, &held.group, &held.topic) else {
                continue;
            };
            // One that cannot be given back is visible again when its time has passed.
            let _ = self.renew(&receipt, &held.group, &held.topic, after_ms, true);
        }
    }

    pub(crate) async fn forward_to_dead_letters(
        &self,
        caller: &Caller,
        request: ForwardMessageToDeadLetterQueueRequest,
    ) -> ForwardMessageToDeadLetterQueueResponse {
        let outcome = self.forwarded(caller, &request).await;
        ForwardMessageToDeadLetterQueueResponse {
            status: Some(outcome.map_or_else(Into::into, |()| codes::ok())),
        }
    }

    async fn forwarded(&self, caller: &Caller, request: &ForwardMessageToDeadLetterQueueRequest) -> Result<(), Refused> {
        let (topic, group) = (name_of(request.topic.as_ref()), name_of(request.group.as_ref()));
        check_topic(topic)?;
        check_group(group)?;
        let from = received_from(topic, request.lite_topic.as_deref());
        let current = self.current_handle(caller, group, &from, &request.receipt_handle)?;
        let receipt = Receipt::parse_in_time(&current, group, &from, now_ms())?;
        let Some(offset) = receipt.log_offset else {
            let text = "the receipt handle does not say where the message is stored: use the one with which it was received";
            return Err(Refused::new(Code::InvalidReceiptHandle, text));
        };
        self.dead_letter(caller, (group, topic), offset, &request.message_id).await?;
        self.acknowledge(&receipt).map_err(of_handle)
    }

    /// Stores the message at this offset of the log as a dead letter of the group.
    pub(crate) async fn dead_letter(&self, caller: &Caller, (group, topic): (&str, &str), offset: i64, id: &str) -> Result<(), Refused> {
        let (done, stored) = oneshot::channel();
        let core = self.broker.core.clone();
        let store_host = core.store_host(caller.local());
        let (group_name, topic_name, id) = (group.to_owned(), topic.to_owned(), id.to_owned());
        // It is read from the log, which may wait for the disk.
        let job = move || {
            let back = SendBack {
                header: SendBackHeader {
                    offset,
                    group: &group_name,
                    delay_level: -1,
                    origin_msg_id: Some(&id),
                    origin_topic: Some(&topic_name),
                    unit_mode: false,
                    max_reconsume_times: None,
                },
                client_version: version::CURRENT,
                store_host,
                now_ms: now_ms(),
            };
            send_back(&core, &back, move |outcome| {
                let _ = done.send(outcome);
            });
        };
        self.broker.core.threads.reader.run_own(job).map_err(Refusal::from)?;
        Ok(outcome(stored).await??)
    }
}

fn handle_after(receipt: &Receipt<'_>, renewed: Renewed, group: &str, topic: &str) -> String {
    let handle = Handle {
        // A message that was renewed has a check point of its own, that starts with it.
        start: if receipt.handle.is_in_order() {
            receipt.handle.start
        } else {
            receipt.handle.offset.unwrap_or_default()
        },
        pop_time: renewed.pop_time,
        invisible_time: renewed.invisible_ms,
        revive_queue: renewed.revive_queue,
        ..receipt.handle
    };
    handle::write(&handle, receipt.log_offset.unwrap_or(0), group, topic)
}

/// What the broker says about a message that is not in flight any more is about the handle.
fn of_handle(refusal: Refusal) -> Refused {
    match refusal.code {
        ResponseCode::NoMessage | ResponseCode::MessageIllegal => Refused::new(Code::InvalidReceiptHandle, refusal.text),
        _ => refusal.into(),
    }
}
