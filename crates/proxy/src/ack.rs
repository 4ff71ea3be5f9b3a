//! Acknowledgements, changes of the invisible duration, and dead letters.

use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::handle::{self, Receipt};
use crate::lite::received_from;
use crate::renewal::Held;
use crate::route::{check_group, check_topic, name_of};
use crate::service::Messaging;
use crate::time::{duration_ms, now_ms};
use crate::v2::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, AckMessageResultEntry, ChangeInvisibleDurationRequest,
    ChangeInvisibleDurationResponse, Code, ForwardMessageToDeadLetterQueueRequest, ForwardMessageToDeadLetterQueueResponse,
};
use broker::pop::Renewed;
use protocol::pop::handle::Handle;
use protocol::retry::SendBackHeader;
use std::borrow::Cow;

/// Most messages of one acknowledgement.
const MAX_ENTRIES: usize = 4_096;

impl Messaging {
    pub(crate) async fn ack(&self, caller: &Caller, request: &AckMessageRequest) -> AckMessageResponse {
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
        let acked = |entry| async move {
            let outcome = self.ack_one(caller, group, topic, entry).await;
            AckMessageResultEntry {
                message_id: entry.message_id.clone(),
                receipt_handle: entry.receipt_handle.clone(),
                status: Some(outcome.map_or_else(Into::into, |()| codes::ok())),
            }
        };
        let entries = self.backend.each(request.entries.iter(), acked).await;
        AckMessageResponse {
            status: Some(codes::of_all(entries.iter().map(|entry| entry.status.as_ref()))),
            entries,
        }
    }

    async fn ack_one(&self, caller: &Caller, group: &str, topic: &str, entry: &AckMessageEntry) -> Result<(), Refused> {
        let from = received_from(topic, entry.lite_topic.as_deref(), &entry.receipt_handle);
        let current = self.current_handle(caller, group, &from, &entry.receipt_handle).await?;
        let receipt = Receipt::parse_in_time(&current, group, &from, now_ms())?;
        self.backend.ack(&receipt).await.map_err(of_handle)
    }

    /// The handle now of a message that the client says by the one with which it was received. It is not renewed any more.
    async fn current_handle<'h>(&self, caller: &Caller, group: &str, topic: &str, told: &'h str) -> Result<Cow<'h, str>, Refused> {
        // Before it is looked up: a handle of another group must not end the renewal.
        Receipt::parse(told, group, topic)?;
        let current = self.renewals.take(&caller.client_id, told).await;
        Ok(current.map_or(Cow::Borrowed(told), |current| Cow::Owned(current.into())))
    }

    pub(crate) async fn change_invisible(
        &self,
        caller: &Caller,
        request: &ChangeInvisibleDurationRequest,
    ) -> ChangeInvisibleDurationResponse {
        match self.changed_invisible(caller, request).await {
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

    async fn changed_invisible(&self, caller: &Caller, request: &ChangeInvisibleDurationRequest) -> Result<String, Refused> {
        let (topic, group) = (name_of(request.topic.as_ref()), name_of(request.group.as_ref()));
        check_topic(topic)?;
        check_group(group)?;
        let from = received_from(topic, request.lite_topic.as_deref(), &request.receipt_handle);
        let invisible_ms = request.invisible_duration.as_ref().map_or(0, duration_ms);
        self.check_invisible(invisible_ms, 0)?;
        let current = self.current_handle(caller, group, &from, &request.receipt_handle).await?;
        let receipt = Receipt::parse_in_time(&current, group, &from, now_ms())?;
        self.renew(&receipt, group, &from, invisible_ms, request.suspend.unwrap_or(false))
            .await
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
    pub(crate) async fn renew(
        &self,
        receipt: &Receipt<'_>,
        group: &str,
        topic: &str,
        invisible_ms: i64,
        suspend: bool,
    ) -> Result<String, Refused> {
        let renewed = self
            .backend
            .make_invisible(receipt, invisible_ms, suspend)
            .await
            .map_err(of_handle)?;
        Ok(handle_after(receipt, renewed, group, topic))
    }

    /// Gives messages back that no client will acknowledge. The next delivery does not count as a retry.
    pub(crate) async fn give_back(&self, held: impl Iterator<Item = Held>, after_ms: i64) {
        let give_back = |held: Held| async move {
            if let Ok(receipt) = Receipt::parse(&held.current, &held.group, &held.topic) {
                // One that cannot be given back is visible again when its time has passed.
                let _ = self.renew(&receipt, &held.group, &held.topic, after_ms, true).await;
            }
        };
        self.backend.each(held, give_back).await;
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
        let from = received_from(topic, request.lite_topic.as_deref(), &request.receipt_handle);
        let current = self.current_handle(caller, group, &from, &request.receipt_handle).await?;
        let mut receipt = Receipt::parse_in_time(&current, group, &from, now_ms())?;
        let Some(offset) = receipt.log_offset else {
            let text = "the receipt handle does not say where the message is stored: use the one with which it was received";
            return Err(Refused::new(Code::InvalidReceiptHandle, text));
        };
        let claimed;
        if receipt.is_late {
            // First: if it is not in flight any more, it is no dead letter, but delivered again.
            let time_ms = self.settings.default_invisible.as_millis() as i64;
            claimed = self.renew(&receipt, group, &from, time_ms, true).await?;
            receipt = Receipt::parse(&claimed, group, &from)?;
        }
        self.dead_letter(caller, (group, topic), receipt.handle.broker, offset, &request.message_id)
            .await?;
        self.backend.ack(&receipt).await.map_err(of_handle)
    }

    /// A message that failed too often is a dead letter; `from` is the topic or the queue that its handle is for. False if it could not be stored
    /// as one.
    pub(crate) async fn bury(&self, caller: &Caller, (group, topic): (&str, &str), from: &str, handle: &str, id: &str) -> bool {
        let bury = async {
            let receipt = Receipt::parse(handle, group, from)?;
            let offset = receipt.log_offset.unwrap_or_default();
            self.dead_letter(caller, (group, topic), receipt.handle.broker, offset, id).await?;
            self.backend.ack(&receipt).await
        };
        let buried = bury.await;
        if let Err(refused) = &buried {
            let reason = refused.text.as_str();
            tracing::warn!(group, topic, reason, "a message that failed too often is no dead letter");
        }
        buried.is_ok()
    }

    /// Stores the message at this offset of the broker's log as a dead letter of the group.
    pub(crate) async fn dead_letter(
        &self,
        caller: &Caller,
        (group, topic): (&str, &str),
        broker: &str,
        offset: i64,
        id: &str,
    ) -> Result<(), Refused> {
        let header = SendBackHeader {
            offset,
            group,
            delay_level: -1,
            origin_msg_id: Some(id),
            origin_topic: Some(topic),
            unit_mode: false,
            max_reconsume_times: None,
        };
        self.backend.send_back(caller, broker, header).await
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
    handle::write(&handle, receipt.log_offset.unwrap_or(0), group, topic, false)
}

/// What the broker says about a message that is not in flight any more is about the handle.
fn of_handle(refused: Refused) -> Refused {
    match refused.code {
        Code::MessageNotFound | Code::MessageCorrupted => Refused::new(Code::InvalidReceiptHandle, refused.text),
        _ => refused,
    }
}
