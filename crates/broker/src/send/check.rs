//! What a message must be to be taken: the Java broker's checks, in its order, with its codes.

use super::added::{Added, SendProperties};
use crate::destination::Destination;
use crate::errors::Refusal;
use crate::local_time;
use crate::log_writer::LogWriter;
use crate::schedule;
use crate::settings::BrokerSettings;
use crate::timer::when;
use crate::topic::{CreateOnSend, PERM_READ, PERM_WRITE, Spec, Topic, Topics, is_writable};
use crate::transaction::{self, half_properties};
use message::{batch, names, properties, record, sys_flag, text};
use protocol::codes::ResponseCode;
use protocol::send::SendHeader;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

/// Most bytes of a record that are neither body nor properties.
const RECORD_FRAME: usize = record::MIN_LEN + 24 + names::MAX_RETRY_TOPIC_LEN + 1;

/// The messages of a request that passed the checks.
pub(super) struct Checked<'a> {
    pub(super) messages: Messages<'a>,
    /// UNIQ_KEY of the message, generated here if the client gave none; empty for a batch without one.
    pub(super) uniq_key: Cow<'a, str>,
    /// Whether the answer waits for the flush under SYNC_FLUSH.
    pub(super) waits: bool,
    /// Number of messages.
    pub(super) count: usize,
    /// Upper bound of the records' bytes.
    pub(super) most_bytes: usize,
    /// Where they are stored.
    pub(super) destination: Destination,
}

/// What is known about a message beside its header.
pub(super) struct SentTo {
    /// Queue it was sent to, or the one chosen for it.
    pub(super) queue_id: i32,
    /// The dead letter topic, if it was sent for a retry beyond the group's maximum.
    pub(super) dead: Option<Arc<Topic>>,
    /// Whether the topic is compacted.
    pub(super) is_compacted: bool,
    /// The light queues that it asks for.
    pub(super) light: LightQueues,
    /// Epoch ms.
    pub(super) now_ms: i64,
}

/// One message or a batch.
pub(super) enum Messages<'a> {
    One {
        body: &'a [u8],
        properties: Cow<'a, [u8]>,
        added: &'a [u8],
    },
    Batch(Cow<'a, [u8]>),
}

/// The topic a message is sent to, created if that is allowed.
pub(super) fn topic(topics: &Topics, settings: &BrokerSettings, header: &SendHeader<'_>, now_ms: i64) -> Result<Arc<Topic>, Refusal> {
    let name = header.topic;
    if !is_writable(settings.broker_permission) && topics.is_ordered(name) {
        return Err(Refusal::new(
            ResponseCode::NoPermission,
            format!(
                "the broker[{}] sending message is forbidden: brokerPermission is {}",
                settings.broker_name, settings.broker_permission
            ),
        ));
    }
    if let Some(topic) = topics.find(name)
        && names::is_sendable(name)
    {
        return Ok(topic);
    }
    names::check_topic(name)?;
    if !names::is_sendable(name) {
        return Err(Refusal::new(
            ResponseCode::NoPermission,
            format!("Sending message to topic[{name}] is forbidden."),
        ));
    }
    create(topics, settings, header, now_ms)
}

fn create(topics: &Topics, settings: &BrokerSettings, header: &SendHeader<'_>, now_ms: i64) -> Result<Arc<Topic>, Refusal> {
    const UNIT: i32 = 1;
    const UNIT_SUBSCRIPTION: i32 = 2;
    let name = header.topic;
    let sys_flag = match (header.unit_mode, names::is_retry(name)) {
        (false, _) => 0,
        (true, true) => UNIT_SUBSCRIPTION,
        (true, false) => UNIT,
    };
    let asked = CreateOnSend {
        topic: name,
        template: header.default_topic,
        queues: header.default_topic_queue_nums,
        sys_flag,
        message_type: None,
    };
    if let Some(topic) = topics.create_on_send(&asked, settings.auto_create_topic_enable, now_ms)? {
        return Ok(topic);
    }
    if names::is_retry(name) {
        return Ok(topics.create_for_group(
            Spec {
                perm: PERM_READ | PERM_WRITE,
                sys_flag,
                ..Spec::new(name, 1)
            },
            now_ms,
        )?);
    }
    Err(Refusal::new(
        ResponseCode::TopicNotExist,
        format!("topic[{name}] not exist, apply first please! Create it with mqadmin updateTopic, or set autoCreateTopicEnable=true."),
    ))
}

/// Checks the queue that a message is sent to.
pub(super) fn queue(topic: &Topic, header: &SendHeader<'_>, peer: SocketAddr) -> Result<(), Refusal> {
    let queues = topic.write_queues.max(topic.read_queues);
    if topic.write_queues < 1 && header.queue_id < 0 {
        // Compat: Apache's broker fails here with a division by zero, answered with the same code.
        return Err(Refusal::system(format!(
            "topic[{}] has no queues to write to, give it some with mqadmin updateTopic",
            topic.name
        )));
    }
    if header.queue_id >= queues {
        return Err(Refusal::invalid(format!(
            "request queueId[{}] is illegal, topic {} has {} write and {} read queues, Producer: {peer}",
            header.queue_id, topic.name, topic.write_queues, topic.read_queues
        )));
    }
    Ok(())
}

fn illegal(settings: &BrokerSettings, why: &str) -> Refusal {
    Refusal::new(
        ResponseCode::MessageIllegal,
        format!(
            "the message is illegal, maybe msg body or properties length not matched. msg body length limit {}B, msg properties length limit 32KB. {why}",
            settings.max_message_size
        ),
    )
}

/// A message of a compacted topic without a key could not be kept. As in Apache's broker; it lets batches pass, and loses them.
fn key_of_compacted(has_keys: bool) -> Result<(), Refusal> {
    if has_keys {
        return Ok(());
    }
    Err(Refusal::new(ResponseCode::MessageIllegal, "Required message key is missing"))
}

/// `may_be_empty`: in a compacted topic a message without a body deletes its key.
fn body_size(settings: &BrokerSettings, body: &[u8], may_be_empty: bool) -> Result<(), Refusal> {
    if body.is_empty() && !may_be_empty {
        return Err(illegal(settings, "The body is empty."));
    }
    if body.len() > settings.max_message_size as usize {
        return Err(illegal(settings, &format!("The body has {} bytes (maxMessageSize).", body.len())));
    }
    Ok(())
}

/// Whether the broker accepts sends yet.
///
/// # Errors
/// `SystemError` before `startAcceptSendRequestTimeStamp`, as Apache's broker.
pub(crate) fn time(settings: &BrokerSettings, now_ms: i64) -> Result<(), Refusal> {
    let from = settings.start_accept_send_request_timestamp;
    if now_ms >= from {
        return Ok(());
    }
    Err(Refusal::system(format!(
        "broker unable to service, until {} (startAcceptSendRequestTimeStamp={from})",
        local_time::for_people(from)
    )))
}

/// Where a message is stored. A message that asks for an unsupported feature is refused.
fn destination(settings: &BrokerSettings, header: &SendHeader<'_>, seen: &SendProperties<'_>, to: SentTo) -> Result<Destination, Refusal> {
    let level = if to.dead.is_some() { -1 } else { schedule::level_of(seen.delay)? };
    // Compat: clients before 4.6.1 leave TRAN_MSG on a message that they send for a retry.
    let is_old_retry = header.reconsume_times > 0 && level > 0;
    let is_transaction = seen.is_transaction && !is_old_retry;
    if is_transaction && settings.reject_transaction_message {
        return Err(Refusal::new(
            ResponseCode::NoPermission,
            format!("the broker[{}] sending transaction message is forbidden", settings.broker_name),
        ));
    }
    refuse_flags(settings, header, is_transaction)?;
    refuse_inner_batch(settings, seen)?;
    Ok(match to.dead {
        Some(topic) => Destination::DeadLetter(topic),
        None if is_transaction => {
            // A delay begins with the commit; one that the commit would refuse is refused now.
            Destination::at(level, &seen.timer, settings, to.now_ms)?;
            Destination::Half
        }
        None => Destination::at(level, &seen.timer, settings, to.now_ms)?,
    })
}

/// A request with one message.
pub(super) fn single<'a>(
    settings: &BrokerSettings,
    header: &SendHeader<'a>,
    body: &'a [u8],
    seen: &SendProperties<'a>,
    added: &'a Added,
    mut to: SentTo,
) -> Result<Checked<'a>, Refusal> {
    let (queue_id, is_compacted) = (to.queue_id, to.is_compacted);
    let light = std::mem::take(&mut to.light);
    if is_compacted {
        key_of_compacted(seen.has_keys())?;
    }
    let destination = destination(settings, header, seen, to)?;
    body_size(settings, body, is_compacted)?;
    let mut base = added.base(header.properties, seen);
    if let Some(name) = light.of_lite_topic {
        let named = properties::Builder::from_bytes_without(&base, &[properties::INNER_MULTI_DISPATCH]);
        base = Cow::Owned(named.with(properties::INNER_MULTI_DISPATCH, &name).build());
    }
    match &destination {
        Destination::Topic | Destination::Half => {}
        Destination::DeadLetter(_) => {
            // Compat: Apache's broker marks dead letters like this.
            let marked = properties::Builder::from_bytes_without(&base, &[properties::DELAY]).with(properties::DELAY, "-1");
            base = Cow::Owned(marked.build());
        }
        Destination::Schedule { level, due_ms } => {
            base = Cow::Owned(schedule::waiting_properties(&base, *level, *due_ms, header.topic, queue_id));
        }
        // Below, with the unique key.
        Destination::Timer { .. } => {}
    }
    let mut uniq_key = text::as_java_reads(seen.uniq_key);
    if uniq_key.is_empty() {
        let fresh = super::added::fresh_uniq_key();
        base = Cow::Owned(properties::Builder::from_bytes(&base).with(properties::UNIQ_KEY, &fresh).build());
        uniq_key = Cow::Owned(fresh);
    }
    let mut growth = 0;
    if let Destination::Half = destination {
        base = Cow::Owned(half_properties(&base, header.topic, queue_id, &uniq_key));
        growth = transaction::GROWTH_BYTES;
    }
    if let Destination::Timer { value_ms } = destination {
        base = Cow::Owned(when::waiting_properties(&base, value_ms, header.topic, queue_id));
        growth = when::GROWTH_BYTES;
    }
    let behind = added.behind(&base);
    let properties_len = base.len() + behind.len();
    let growth = growth + light.bytes;
    if properties_len + growth > properties::MAX_BYTES {
        return Err(illegal(settings, &format!("The properties have {properties_len} bytes.")));
    }
    let most_bytes = RECORD_FRAME + body.len() + properties_len;
    Ok(Checked {
        messages: Messages::One {
            body,
            properties: base,
            added: behind,
        },
        uniq_key,
        waits: !seen.does_not_wait,
        count: 1,
        most_bytes,
        destination,
    })
}

/// Refuses system flags that do not fit the message.
///
/// A half message is recognised by its property. One with the flag alone is stored by Apache's broker in no queue, where nobody finds
/// it. An inner batch belongs into a batch queue, and recovery of Apache's broker would count it as several messages.
fn refuse_flags(settings: &BrokerSettings, header: &SendHeader<'_>, is_transaction: bool) -> Result<(), Refusal> {
    if !sys_flag::is_in_queue(header.sys_flag) && !is_transaction {
        return Err(illegal(
            settings,
            "Its flag says it is part of a transaction, and it has no property TRAN_MSG=true.",
        ));
    }
    if header.sys_flag & sys_flag::INNER_BATCH != 0 {
        return Err(illegal(
            settings,
            "It says it is an inner batch, and the topic has no batch queues.",
        ));
    }
    Ok(())
}

/// Refuses properties of an inner batch on any other message.
fn refuse_inner_batch(settings: &BrokerSettings, seen: &SendProperties<'_>) -> Result<(), Refusal> {
    if seen.is_inner_batch {
        return Err(illegal(
            settings,
            "It has a property of inner batches (INNER_NUM, INNER_BASE), and is none.",
        ));
    }
    Ok(())
}

/// Compat: Apache's broker takes such a batch, and its messages are in no light queue.
fn refuse_light_in_batch(settings: &BrokerSettings, seen: &SendProperties<'_>) -> Result<(), Refusal> {
    if seen.light_queues.is_empty() && seen.lite_topic.is_empty() {
        return Ok(());
    }
    let why = "A message of a batch cannot be in light queues (INNER_MULTI_DISPATCH, __LITE_TOPIC): send it alone.";
    Err(illegal(settings, why))
}

/// The light queues that a message asks for.
#[derive(Default)]
pub(super) struct LightQueues {
    /// That of its lite topic, whatever queues it names.
    pub(super) of_lite_topic: Option<String>,
    /// Upper bound of the bytes that its offsets there take.
    pub(super) bytes: usize,
}

/// Checks the light queues that a message to `topic` asks for.
///
/// # Errors
/// `RequestCodeNotSupported` if light queues are disabled, `LmqQuotaExceeded` if it would create too many, `MessageIllegal` if one has a
/// name that none can have.
pub(super) fn light_queues(
    settings: &BrokerSettings,
    log: &LogWriter,
    topic: &str,
    seen: &SendProperties<'_>,
) -> Result<LightQueues, Refusal> {
    const OFFSET_BYTES: usize = 20;
    if seen.light_queues.is_empty() && seen.lite_topic.is_empty() {
        return Ok(LightQueues::default());
    }
    if !settings.has_light_queues() {
        return Err(Refusal::new(
            ResponseCode::RequestCodeNotSupported,
            "the message is for light message queues (INNER_MULTI_DISPATCH) or one of the lite topics (__LITE_TOPIC), and they are disabled: set enableLmq=true and enableMultiDispatch=true".to_owned(),
        ));
    }
    let of_lite_topic = match text::as_java_reads(seen.lite_topic) {
        lite if lite.is_empty() => None,
        lite => Some(names::lite_queue(topic, &lite)),
    };
    let own = text::as_java_reads(seen.light_queues);
    let asked = of_lite_topic.as_deref().unwrap_or(&own);
    let mut count = 0;
    let mut fresh = 0;
    for name in asked.trim_end_matches(',').split(',') {
        if !names::can_be_light_queue(name) {
            let why = format!(
                "'{name}' cannot be a light queue: its name begins with {}, has at most {} bytes, and no '/' and no control character.",
                names::LIGHT_PREFIX,
                names::MAX_LIGHT_LEN
            );
            return Err(illegal(settings, &why));
        }
        count += 1;
        fresh += usize::from(!log.has_light_queue(name));
    }
    let most = settings.most_light_queues();
    if fresh > 0 && log.light_queue_count() + fresh > most {
        let key = if settings.enable_lmq_quota {
            "maxLmqConsumeQueueNum"
        } else {
            "apogeeMaxLightQueues"
        };
        let text = format!(
            "[LMQ_CONSUME_QUEUE_NUM_EXCEEDED]the broker has as many light queues as it may ({most}, see {key}), and the message would create more"
        );
        return Err(Refusal::new(ResponseCode::LmqQuotaExceeded, text));
    }
    Ok(LightQueues {
        of_lite_topic,
        bytes: properties::INNER_MULTI_QUEUE_OFFSET.len() + 3 + count * OFFSET_BYTES,
    })
}

/// A request with several messages.
pub(super) fn batch<'a>(
    settings: &BrokerSettings,
    header: &SendHeader<'a>,
    body: &'a [u8],
    is_compacted: bool,
) -> Result<Checked<'a>, Refusal> {
    let refused = |text: String| Err(Refusal::new(ResponseCode::MessageIllegal, text));
    if header.topic.len() > names::MAX_TOPIC_LEN {
        return refused(format!("message topic length too long {}", header.topic.len()));
    }
    if names::is_retry(header.topic) {
        return refused(format!("batch request does not support retry group {}", header.topic));
    }
    body_size(settings, body, false)?;
    refuse_flags(settings, header, false)?;
    let seen = SendProperties::of(header.properties);
    if schedule::level_of(seen.delay)? > 0 {
        return Err(illegal(settings, "A batch cannot be delayed."));
    }
    refuse_inner_batch(settings, &seen)?;
    let mut items = 0;
    let mut has_handles = false;
    for item in batch::items(body) {
        let item = item.map_err(|e| illegal(settings, &e.to_string()))?;
        // Compat: a delay level inside a batch is stored and has no effect; official clients refuse to send it.
        let seen = SendProperties::of(item.properties);
        if seen.is_transaction {
            return Err(illegal(settings, "A message of a batch cannot be part of a transaction."));
        }
        refuse_light_in_batch(settings, &seen)?;
        refuse_inner_batch(settings, &seen)?;
        if is_compacted {
            key_of_compacted(seen.has_keys())?;
        }
        has_handles |= seen.has_handle;
        items += 1;
    }
    let stored = if has_handles {
        Cow::Owned(without_handles(body))
    } else {
        Cow::Borrowed(body)
    };
    Ok(Checked {
        messages: Messages::Batch(stored),
        uniq_key: text::as_java_reads(seen.uniq_key),
        waits: !seen.does_not_wait,
        count: items,
        most_bytes: body.len() + items * RECORD_FRAME,
        destination: Destination::Topic,
    })
}

/// The batch without POP receipt handles (POP_CK) on its messages.
fn without_handles(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for item in batch::items(body).flatten() {
        let kept = properties::Builder::from_bytes_without(item.properties, &[properties::POP_CK]).build();
        let kept = batch::Item { properties: &kept, ..item };
        batch::push(&mut out, kept);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_are_taken_from_the_time_the_operator_says() {
        let settings = BrokerSettings {
            start_accept_send_request_timestamp: 1_700_000_000_007,
            ..BrokerSettings::default()
        };
        let refusal = time(&settings, 1_700_000_000_006).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::SystemError);
        assert!(
            refusal.text.starts_with("broker unable to service, until 2023-11-1"),
            "{}",
            refusal.text
        );
        assert!(
            refusal.text.contains("startAcceptSendRequestTimeStamp=1700000000007"),
            "{}",
            refusal.text
        );
        assert_eq!(time(&settings, 1_700_000_000_007), Ok(()));
        assert_eq!(time(&BrokerSettings::default(), 0), Ok(()));
    }
}
