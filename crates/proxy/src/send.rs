//! Sends, and recalls of messages that wait.

use crate::backend::Topic;
use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::message::{Incoming, MessageRules, UNSPECIFIED, accepted, type_name};
use crate::route::{check_topic, name_of};
use crate::service::Messaging;
use crate::time::now_ms;
use crate::transaction::TransactionId;
use crate::v2::{Code, MessageType, RecallMessageRequest, RecallMessageResponse, SendMessageRequest, SendMessageResponse, SendResultEntry};
use bytes::Bytes;

/// Messages of one request that passed their checks. All have one topic.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) topic: Box<str>,
    /// Each with its body.
    pub(crate) messages: Vec<(Incoming, Bytes)>,
    /// Whether there are transactions among them, whose ids are told.
    have_transactions: bool,
}

impl Checked {
    /// The hash of the message group of a single message: it says the queue.
    pub(crate) fn group_hash(&self) -> Option<i32> {
        match &*self.messages {
            [(one, _)] => one.group_hash,
            _ => None,
        }
    }
}

impl Messaging {
    pub(crate) async fn send(&self, caller: &Caller, request: SendMessageRequest) -> SendMessageResponse {
        match self.sent(caller, &request).await {
            Ok(entries) => SendMessageResponse {
                status: Some(codes::of_all(entries.iter().map(|entry| entry.status.as_ref()))),
                entries,
            },
            Err(refused) => SendMessageResponse {
                status: Some(refused.into()),
                entries: Vec::new(),
            },
        }
    }

    async fn sent(&self, caller: &Caller, request: &SendMessageRequest) -> Result<Vec<SendResultEntry>, Refused> {
        let now_ms = now_ms();
        let first = request
            .messages
            .first()
            .ok_or_else(|| Refused::new(Code::MessageCorrupted, "no message to send"))?;
        let topic = name_of(first.topic.as_ref());
        check_topic(topic)?;
        if request.messages.iter().any(|message| name_of(message.topic.as_ref()) != topic) {
            return Err(Refused::new(
                Code::MessageCorrupted,
                "topic in message is not same: all messages of a request have one topic",
            ));
        }
        let incoming = self.incoming(caller, request, topic, now_ms)?;
        let found = self.typed_topic(topic, &incoming).await?;
        let checked = Checked {
            topic: topic.into(),
            have_transactions: incoming.iter().any(|incoming| incoming.kind == MessageType::Transaction),
            messages: incoming
                .into_iter()
                .zip(request.messages.iter().map(|message| message.body.clone()))
                .collect(),
        };
        self.backend.send(caller, found, checked).await
    }

    fn incoming(&self, caller: &Caller, request: &SendMessageRequest, topic: &str, now_ms: i64) -> Result<Vec<Incoming>, Refused> {
        let peer = caller.peer().to_string();
        let rules = MessageRules {
            settings: &self.settings,
            max_body_bytes: self.backend.max_body_bytes(),
            peer: &peer,
            now_ms,
        };
        request.messages.iter().map(|message| Incoming::of(message, topic, rules)).collect()
    }

    /// The topic, created with the type of the first message if that is allowed.
    async fn typed_topic(&self, name: &str, incoming: &[Incoming]) -> Result<Topic, Refused> {
        let kind = incoming.first().map_or(MessageType::Normal, |incoming| incoming.kind);
        let asked = (kind != MessageType::Normal).then(|| type_name(kind));
        let topic = self.backend.topic_or_create(name, asked).await?;
        if !self.settings.enable_topic_message_type_check {
            return Ok(topic);
        }
        let attribute = topic.message_type();
        if attribute == Some(UNSPECIFIED) {
            // The first message of a topic that a consumer created says its type.
            self.backend.set_type(name, type_name(kind)).await;
            return Ok(topic);
        }
        let allowed = accepted(attribute);
        let Some(wrong) = incoming.iter().find(|incoming| !allowed.contains(&incoming.kind)) else {
            return Ok(topic);
        };
        let kind = type_name(wrong.kind);
        let text = format!(
            "TopicMessageType validate failed, the expected type is {}, but actual type is {kind}: send to a topic with message.type={kind}, \
             or change this one (mqadmin updateTopic -t {name} -a +message.type={kind})",
            attribute.unwrap_or("NORMAL")
        );
        Err(Refused::new(Code::MessagePropertyConflictWithType, text))
    }

    pub(crate) async fn recall(&self, caller: &Caller, request: RecallMessageRequest) -> RecallMessageResponse {
        match self.recalled(caller, &request).await {
            Ok(message_id) => RecallMessageResponse {
                status: Some(codes::ok()),
                message_id,
            },
            Err(refused) => RecallMessageResponse {
                status: Some(refused.into()),
                message_id: String::new(),
            },
        }
    }

    async fn recalled(&self, caller: &Caller, request: &RecallMessageRequest) -> Result<String, Refused> {
        let topic = name_of(request.topic.as_ref());
        check_topic(topic)?;
        self.backend.recall(caller, topic, &request.recall_handle).await
    }
}

/// The bucket of a hash, as Guava's consistent hash with a linear congruential generator has it.
pub(crate) fn bucket(hash: i64, buckets: i32) -> i32 {
    const FACTOR: i64 = 2_862_933_555_777_941_757;
    let mut state = hash;
    let mut candidate = 0;
    loop {
        state = state.wrapping_mul(FACTOR).wrapping_add(1);
        let draw = f64::from((((state as u64) >> 33) as i32).wrapping_add(1)) / f64::from(1_u32 << 31);
        let next = (f64::from(candidate + 1) / draw) as i32;
        if !(0..buckets).contains(&next) {
            return candidate;
        }
        candidate = next;
    }
}

/// The outcome of a message that was refused.
pub(crate) fn refused_entry(refused: Refused) -> SendResultEntry {
    SendResultEntry {
        status: Some(refused.into()),
        ..SendResultEntry::default()
    }
}

/// The outcome of a message that was stored at these offsets of its queue and of the log; `broker` has it, if there are several.
pub(crate) fn stored_entry(
    checked: &Checked,
    uniq_key: &str,
    place: Option<(i64, i64)>,
    recall_handle: Option<String>,
    broker: Option<&str>,
) -> SendResultEntry {
    let id = |(half, log_offset)| {
        let id = TransactionId {
            uniq_key,
            half,
            log_offset,
            broker,
        };
        id.to_string()
    };
    SendResultEntry {
        status: Some(codes::ok()),
        message_id: uniq_key.to_owned(),
        transaction_id: place.filter(|_| checked.have_transactions).map(id).unwrap_or_default(),
        offset: place.map_or(0, |(offset, _)| offset),
        recall_handle: recall_handle.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_group_go_to_the_queue_that_apaches_proxy_chooses() {
        // Computed with Guava 32.
        let known = [
            (0, 1, 0),
            (0, 8, 0),
            (1, 8, 6),
            (98, 8, 5),
            (-5, 8, 5),
            (i64::from(i32::MAX), 16, 9),
            (i64::from(i32::MIN), 16, 2),
            (98_629_247, 4, 0),
        ];
        for (hash, buckets, expected) in known {
            assert_eq!(bucket(hash, buckets), expected, "{hash} {buckets}");
        }
        let moved = (0..1_000).filter(|hash| bucket(*hash, 8) != bucket(*hash, 9)).count();
        assert!((50..200).contains(&moved), "few of them move when a queue is added: {moved}");
    }
}
