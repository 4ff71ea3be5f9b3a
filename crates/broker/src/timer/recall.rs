//! Recall: a message that waits is not delivered.
//!
//! A recall is a timer message itself, for the time at which the recalled one is due: that slot leaves out what it names. So it is as
//! durable as the message, and moves with it.

use super::Timers;
use super::when::{TimerProperties, waiting_properties};
use crate::errors::Refusal;
use crate::log_writer::{Incomplete, WaitFor};
use crate::topic::is_writable;
use message::names;
use message::properties::{self, Builder};
use message::record::Draft;
use protocol::codes::ResponseCode;
use protocol::timer::RecallHandle;
use std::net::SocketAddr;
use store::timer::value_of;

/// Compat: Apache's tag and body of such a message.
const TAG: &str = "_RECALL_TAG_";
const BODY: &[u8] = b"0";

/// A message is to be recalled.
#[derive(Clone, Copy, Debug)]
pub struct Recall<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// What the answer to the send said.
    pub handle: &'a str,
    /// The group that recalls it.
    pub producer_group: &'a str,
    /// Address of the client.
    pub client: SocketAddr,
    /// The address written into the record.
    pub store_host: SocketAddr,
    /// Epoch ms.
    pub now_ms: i64,
}

impl Timers {
    /// Recalls a message. `done` gets its unique key once the recall is as durable as a send would be; it is called once, here or from
    /// another thread, and must not block. Whether the message still waits is not known then: one that is being delivered is delivered.
    pub fn recall(&self, request: Recall<'_>, done: impl FnOnce(Result<String, Refusal>) + Send + 'static) {
        let handle = match self.checked(&request) {
            Ok(handle) => handle,
            Err(refusal) => return done(Err(refusal)),
        };
        match self.append_recall(&request, &handle) {
            Ok(ticket) => {
                let wait = WaitFor {
                    flush: true,
                    topics: false,
                    slaves: true,
                };
                self.core.log.complete_then(ticket, wait, move |outcome| match outcome {
                    // Compat: as in Apache's broker.
                    Ok(()) | Err(Incomplete::NotCopied(_)) => done(Ok(handle.uniq_key)),
                    Err(reason) => done(Err(Refusal::system(reason.to_string()))),
                });
            }
            Err(refusal) => done(Err(refusal)),
        }
    }

    /// Compat: Apache's checks in its order, with its codes.
    fn checked(&self, request: &Recall<'_>) -> Result<RecallHandle, Refusal> {
        let settings = self.core.settings.current();
        let refused = |code, why: String| Refusal::new(code, format!("recall failed, {why}"));
        let illegal = |why: &str| refused(ResponseCode::IllegalOperation, why.to_owned());
        if !settings.recall_message_enable {
            let why = "operation is forbidden: recallMessageEnable is false";
            return Err(refused(ResponseCode::NoPermission, why.to_owned()));
        }
        let is_open = is_writable(settings.broker_permission) || settings.allow_recall_when_broker_not_writeable;
        if !is_open || request.now_ms < settings.start_accept_send_request_timestamp {
            return Err(refused(
                ResponseCode::ServiceNotAvailable,
                "broker service not available".to_owned(),
            ));
        }
        if self.core.topics.find(request.topic).is_none() {
            let why = format!("the topic[{}] not exist", request.topic);
            return Err(refused(ResponseCode::TopicNotExist, why));
        }
        let handle = RecallHandle::decode(request.handle).ok_or_else(|| illegal("recall handle is invalid"))?;
        if handle.topic != request.topic {
            return Err(illegal("topic not match"));
        }
        if handle.broker_name != settings.broker_name {
            return Err(illegal("the handle is one of another broker"));
        }
        let left_ms = handle.due_ms.saturating_sub(request.now_ms);
        if left_ms <= 0 || left_ms >= settings.timer_max_delay.as_millis() as i64 {
            return Err(illegal(
                "timestamp invalid: the message is due already, or further away than timerMaxDelaySec",
            ));
        }
        Ok(handle)
    }

    fn append_recall(&self, request: &Recall<'_>, handle: &RecallHandle) -> Result<store::Ticket, Refusal> {
        let settings = self.core.settings.current();
        let recalls = match settings.append_topic_for_timer_delete_key {
            true => format!("{}+{}", handle.topic, handle.uniq_key),
            false => handle.uniq_key.clone(),
        };
        let own = Builder::new()
            .with(properties::TIMER_DEL_UNIQKEY, &recalls)
            .with(properties::UNIQ_KEY, &handle.uniq_key)
            .with(properties::TIMER_DELIVER_MS, &handle.due_ms.to_string())
            .with(properties::BORN_TIMESTAMP, &request.now_ms.to_string())
            .with(properties::TAGS, TAG)
            .with(properties::PRODUCER_GROUP, request.producer_group)
            .build();
        let due_ms = TimerProperties::of(&own).due_ms(&settings, request.now_ms)?;
        let value_ms = value_of(due_ms.unwrap_or(handle.due_ms), settings.timer_precision_ms);
        let properties = waiting_properties(&own, value_ms, &handle.topic, 0);
        if properties.len() > properties::MAX_BYTES - super::when::GROWTH_BYTES {
            return Err(Refusal::new(
                ResponseCode::IllegalOperation,
                "recall failed, its names are too long",
            ));
        }
        let draft = Draft {
            properties: &properties,
            born_timestamp: request.now_ms,
            born_host: request.client,
            store_host: request.store_host,
            ..Draft::new(names::TIMER_TOPIC, 0, BODY)
        };
        let queue = self.core.log.queue(draft.topic, draft.queue_id);
        Ok(self
            .core
            .log
            .append(&[draft], &[queue], request.now_ms, &mut Vec::with_capacity(1))?)
    }
}
