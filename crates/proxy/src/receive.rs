//! Receives: a pop of the broker whose answer is a stream of messages.

use crate::backend::{Popped, broker_of};
use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::connection::Owed;
use crate::handle;
use crate::message::{Shown, of_record};
use crate::renewal::Held;
use crate::route::{check_group, check_topic, name_of};
use crate::service::Messaging;
use crate::telemetry::expression;
use crate::time::{duration_ms, now_ms, to_timestamp};
use crate::v2::receive_message_response::Content;
use crate::v2::{Code, Message, ReceiveMessageRequest, ReceiveMessageResponse};
use ::message::record::Record;
use broker::group::Rule;
use broker::pop::EXPIRE_EVERY;
use protocol::codes::ResponseCode;
use protocol::pop::PopHeader;
use protocol::pop::handle::{Handle, Origin};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime;
use tokio_stream::Stream;
use tonic::Status;

/// Most messages of one receive, as of a pop.
const MAX_BATCH: i32 = 32;
/// A group without an offset begins with the last message of a queue. Compat: as with Apache's proxy.
const INIT_MAX: i32 = 1;
/// A receive waits so much less long than its deadline, in ms: the broker answers a parked one up to [`EXPIRE_EVERY`] late, and the
/// answer has to travel.
const RESERVE_MS: i64 = EXPIRE_EVERY.as_millis() as i64 + 200;

/// An answer that is a stream. It is made before it is sent, and counts as unread until the connection takes it.
pub(crate) struct Answers<T> {
    items: std::vec::IntoIter<(T, usize)>,
    owed: Option<Owed>,
}

impl<T> Answers<T> {
    /// Items, each with the bytes that it keeps.
    pub(crate) fn new(items: Vec<(T, usize)>, owed: Option<Owed>) -> Self {
        Self {
            items: items.into_iter(),
            owed,
        }
    }
}

impl<T: Unpin> Stream for Answers<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some((item, bytes)) = self.items.next() else {
            return Poll::Ready(None);
        };
        if let Some(owed) = &mut self.owed {
            owed.sent(bytes);
        }
        Poll::Ready(Some(Ok(item)))
    }
}

/// Memory of a message that is not read yet, about, in bytes.
pub(crate) fn kept_bytes(message: &Message) -> usize {
    const FIELDS: usize = 512;
    message.body.len() + FIELDS
}

/// What a receive asks for.
pub(crate) struct Asked<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    /// Messages.
    pub(crate) most: i32,
    pub(crate) poll_ms: i64,
    pub(crate) invisible_ms: i64,
    /// Whether its messages stay invisible as long as the client is online.
    pub(crate) auto_renew: bool,
}

impl Messaging {
    pub(crate) async fn receive(self: &Arc<Self>, caller: &Caller, request: ReceiveMessageRequest) -> Answers<ReceiveMessageResponse> {
        match self.received(caller, &request).await {
            Ok(answers) => answers,
            Err(refused) => {
                let content = Content::Status(refused.into());
                Answers::new(vec![(answer(content), 0)], None)
            }
        }
    }

    async fn received(
        self: &Arc<Self>,
        caller: &Caller,
        request: &ReceiveMessageRequest,
    ) -> Result<Answers<ReceiveMessageResponse>, Refused> {
        self.check_lag(caller)?;
        // What does not wait for messages is in boxes: many receives are parked.
        if let Some(settings) = self.lite_settings(caller) {
            return Box::pin(self.receive_lite(caller, request, &settings)).await;
        }
        let asked = self.asked(caller, request)?;
        self.topic_to_read(asked.topic).await?;
        let rule = self.backend.group(asked.group).await?;
        let mut header = pop_header(&asked, request, rule.as_deref());
        header.hold_time = self.hold_ms(caller, asked.auto_renew);
        header.hold_for = header.hold_time.map(|_| &*caller.client_id);
        let messaging = Arc::clone(self);
        let (group, topic): (Box<str>, Box<str>) = (asked.group.into(), asked.topic.into());
        let unclaimed = self.giving_back(move |popped| messaging.held(&group, &topic, &popped));
        let wanted = broker_of(request.message_queue.as_ref());
        let popped = self.backend.pop(self.number_of(caller), caller, &header, wanted, unclaimed);
        let popped = self.until_stopped(popped).await?;
        check_popped(popped.result.code)?;
        let max_attempts = rule.map_or(i32::MAX, |rule| rule.retry_max_times.saturating_add(1));
        Box::pin(self.handed_out(caller, &asked, &popped, max_attempts)).await
    }

    /// What is called with a pop whose client is gone: the messages that `held` says are given back.
    pub(crate) fn giving_back<R: 'static>(
        self: &Arc<Self>,
        held: impl Fn(Popped<R>) -> Vec<Held> + Send + 'static,
    ) -> impl Fn(Popped<R>) + Send + 'static {
        let (messaging, runtime) = (Arc::clone(self), runtime::Handle::current());
        move |popped| {
            let (messaging, held) = (Arc::clone(&messaging), held(popped));
            runtime.spawn(async move { messaging.give_back(held.into_iter(), 0).await });
        }
    }

    /// For how long at most brokers are asked to hold messages for a client; `None` if they do not know it, or nothing is to be held.
    pub(crate) fn hold_ms(&self, caller: &Caller, auto_renew: bool) -> Option<i64> {
        let client = self.clients.find(&caller.client_id).filter(|_| auto_renew)?;
        (!client.is_refused(now_ms())).then_some(self.settings.renew_max.as_millis() as i64)
    }

    /// The number by which the broker knows a client.
    pub(crate) fn number_of(&self, caller: &Caller) -> u64 {
        self.clients
            .find(&caller.client_id)
            .map_or(caller.connection.id, |client| client.id)
    }

    /// Waits for a read, which may be parked, until the server stops.
    pub(crate) async fn until_stopped<T>(&self, read: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
        tokio::select! {
            answered = read => answered,
            () = self.stopping() => Err(no_message()),
        }
    }

    /// # Errors
    /// `TooManyRequests`: the client has not read what it received before.
    pub(crate) fn check_lag(&self, caller: &Caller) -> Result<(), Refused> {
        let settings = &self.settings;
        if !caller.connection.lags(settings.max_unread_bytes, settings.max_unread_total_bytes) {
            return Ok(());
        }
        let text = "the messages of earlier answers were not read by this connection (apogeeGrpcUnreadBytes, apogeeGrpcUnreadTotalBytes)";
        Err(Refused::new(Code::TooManyRequests, text))
    }

    /// What a receive asks for, of whichever kind its client is.
    pub(crate) fn asked<'a>(&self, caller: &Caller, request: &'a ReceiveMessageRequest) -> Result<Asked<'a>, Refused> {
        let queue = request.message_queue.as_ref();
        let (group, topic) = (
            name_of(request.group.as_ref()),
            name_of(queue.and_then(|queue| queue.topic.as_ref())),
        );
        check_topic(topic)?;
        check_group(group)?;
        if request.batch_size > MAX_BATCH {
            let text = format!("batch_size is {}, the limit is {MAX_BATCH}", request.batch_size);
            return Err(Refused::new(Code::BadRequest, text));
        }
        let poll_ms = self.poll_ms(caller, request.long_polling_timeout.as_ref().map(duration_ms))?;
        let (auto_renew, invisible_ms) = self.invisible_of(request)?;
        Ok(Asked {
            group,
            topic,
            most: request.batch_size.max(1),
            poll_ms,
            invisible_ms,
            auto_renew,
        })
    }

    /// Whether messages of a receive stay invisible as long as the client is online, and how long they are invisible.
    fn invisible_of(&self, request: &ReceiveMessageRequest) -> Result<(bool, i64), Refused> {
        if request.auto_renew && self.settings.enable_auto_renew {
            return Ok((true, self.settings.default_invisible.as_millis() as i64));
        }
        let told = request.invisible_duration.as_ref().map_or(0, duration_ms);
        self.check_invisible(told, self.settings.min_invisible.as_millis() as i64)?;
        Ok((false, told))
    }

    /// How long a receive waits, in ms.
    ///
    /// # Errors
    /// `ILLEGAL_POLLING_TIME` if the request's deadline is before the shortest wait.
    pub(crate) fn poll_ms(&self, caller: &Caller, told_ms: Option<i64>) -> Result<i64, Refused> {
        poll_ms(caller.timeout, told_ms, self.settings.min_polling, self.settings.max_polling)
    }

    /// Answers with the messages of a pop. Compat: one that failed too often is a dead letter, as with Apache's proxy, whose brokers hand it out again.
    async fn handed_out(
        &self,
        caller: &Caller,
        asked: &Asked<'_>,
        popped: &Popped,
        max_attempts: i32,
    ) -> Result<Answers<ReceiveMessageResponse>, Refused> {
        let counts = popped.result.order_counts.as_deref().map(OrderCounts);
        let mut dead = Vec::new();
        let messages = self.messages(asked.group, asked.topic, popped, counts);
        let messages = messages.filter_map(|(message, handle)| {
            if let Some(system) = &message.system_properties
                && system.delivery_attempt.is_some_and(|attempt| attempt > max_attempts)
            {
                dead.push((handle, system.message_id.clone()));
                return None;
            }
            if asked.auto_renew && !popped.result.is_held {
                self.renew_later(caller, asked, handle, popped.result.pop_time);
            }
            Some(message)
        });
        let answers = answers_of(caller, messages);
        let have_all_failed = dead.len() == popped.result.records.len();
        // One that cannot be stored as a dead letter comes again.
        let bury =
            |(handle, id): (String, String)| async move { self.bury(caller, (asked.group, asked.topic), asked.topic, &handle, &id).await };
        self.backend.each(dead.into_iter(), bury).await;
        match have_all_failed {
            true => Err(no_message()),
            false => Ok(answers),
        }
    }

    fn messages<'a>(
        &'a self,
        group: &'a str,
        topic: &'a str,
        popped: &'a Popped,
        counts: Option<OrderCounts<'a>>,
    ) -> impl Iterator<Item = (Message, String)> + 'a {
        let Popped { result: popped, broker } = popped;
        let taken = popped.taken.iter().flat_map(|taken| std::iter::repeat_n(taken, taken.count));
        taken.zip(&popped.records).filter_map(move |(taken, record)| {
            let record = match Record::parse(record) {
                Ok(record) => record,
                Err(error) => {
                    tracing::error!(topic, %error, "a popped message cannot be read and is not handed out");
                    return None;
                }
            };
            let offset = record.queue_offset.0;
            let handle = Handle {
                start: taken.start,
                pop_time: popped.pop_time,
                invisible_time: popped.invisible_ms,
                revive_queue: popped.revive_queue,
                origin: taken.origin.text(),
                broker,
                queue_id: taken.queue_id,
                offset: Some(offset),
            };
            let text = handle::write(&handle, record.log_offset.0, group, topic, popped.is_held);
            let shown = Shown {
                topic: topic.to_owned(),
                receipt_handle: Some(text.clone()),
                invisible_ms: Some(popped.invisible_ms),
                attempt: counts
                    .and_then(|counts| counts.of(taken.origin, taken.queue_id, offset))
                    .map(|count| count.saturating_add(1)),
            };
            Some((of_record(&record, shown), text))
        })
    }

    /// The messages of a pop.
    fn held(&self, group: &str, topic: &str, popped: &Popped) -> Vec<Held> {
        let messages = self.messages(group, topic, popped, None);
        let held = messages.map(|(_, handle)| Held {
            group: group.into(),
            topic: topic.into(),
            current: handle.into(),
            received_ms: popped.result.pop_time,
        });
        held.collect()
    }

    /// The message is renewed until the client acknowledges it: its broker does not hold it.
    fn renew_later(&self, caller: &Caller, asked: &Asked<'_>, handle: String, received_ms: i64) {
        let held = Held {
            group: asked.group.into(),
            topic: asked.topic.into(),
            current: handle.into(),
            received_ms,
        };
        self.renewals.add(&caller.client_id, held, self.renew_at(received_ms));
    }

    /// When a message that became invisible then is renewed.
    pub(crate) fn renew_at(&self, since_ms: i64) -> i64 {
        let (invisible, ahead) = (self.settings.default_invisible, self.settings.renew_ahead);
        let after = invisible.saturating_sub(ahead).max(invisible / 2).max(Duration::from_millis(1));
        since_ms + after.as_millis() as i64
    }
}

fn pop_header<'a>(asked: &Asked<'a>, request: &'a ReceiveMessageRequest, rule: Option<&Rule>) -> PopHeader<'a> {
    let (kind, text) = expression(request.filter_expression.as_ref());
    PopHeader {
        consumer_group: asked.group,
        topic: asked.topic,
        // Compat: as Apache's proxy, all queues of the broker, whichever the client names. A simple consumer names one after the other.
        queue_id: -1,
        max_msg_nums: asked.most,
        invisible_time: asked.invisible_ms,
        poll_time: asked.poll_ms,
        born_time: now_ms(),
        init_mode: INIT_MAX,
        exp_type: Some(kind),
        exp: Some(text),
        order: rule.is_some_and(|rule| rule.consume_message_orderly),
        attempt_id: request.attempt_id.as_deref(),
        hold_for: None,
        hold_time: None,
    }
}

/// Compat: within limits, and less long than the client waits. The Rust SDK 5.0.0 waits exactly as long as it tells.
fn poll_ms(timeout: Option<Duration>, told_ms: Option<i64>, min: Duration, max: Duration) -> Result<i64, Refused> {
    let (min, max) = (min.as_millis() as i64, max.as_millis() as i64);
    let left = timeout.map(|timeout| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX));
    let wanted = told_ms.unwrap_or_else(|| left.map_or(max, |left| left - left / 4));
    let poll = wanted.min(max).max(min);
    match left {
        Some(left) if left < min => {
            let text = format!(
                "The deadline time remaining is not enough for polling: {left} ms, at least {min} ms are needed; please check network condition"
            );
            Err(Refused::new(Code::IllegalPollingTime, text))
        }
        Some(left) => Ok(poll.min((left - RESERVE_MS).max(0))),
        None => Ok(poll),
    }
}

/// No message has arrived in time.
pub(crate) fn no_message() -> Refused {
    Refused::new(Code::MessageNotFound, "no new message")
}

/// # Errors
/// The pop has no messages.
pub(crate) fn check_popped(code: ResponseCode) -> Result<(), Refused> {
    match code {
        ResponseCode::Success => Ok(()),
        ResponseCode::PollingFull => Err(Refused::new(
            Code::TooManyRequests,
            "polling full: too many receives wait (maxPopPollingSize, apogeeMaxParkedPullsPerConnection)",
        )),
        _ => Err(no_message()),
    }
}

/// The answer with these messages.
pub(crate) fn answers_of(caller: &Caller, messages: impl Iterator<Item = Message>) -> Answers<ReceiveMessageResponse> {
    let mut bytes = 0;
    let mut items = vec![(answer(Content::Status(codes::ok())), 0)];
    items.extend(messages.map(|message| {
        let size = kept_bytes(&message);
        bytes += size;
        (answer(Content::Message(message)), size)
    }));
    items.push((answer(Content::DeliveryTimestamp(to_timestamp(now_ms()))), 0));
    Answers::new(items, Some(caller.connection.owe(bytes)))
}

fn answer(content: Content) -> ReceiveMessageResponse {
    ReceiveMessageResponse { content: Some(content) }
}

/// How often messages of a pop in order were handed out before: `origin qo<queue>%<offset> count`, separated by `;`.
#[derive(Clone, Copy)]
struct OrderCounts<'a>(&'a str);

impl OrderCounts<'_> {
    fn of(self, origin: Origin, queue_id: i32, offset: i64) -> Option<i32> {
        self.0.split(';').find_map(|part| {
            let mut words = part.split(' ');
            let is_origin = words.next()? == origin.text();
            let (queue, at) = words.next()?.strip_prefix("qo")?.split_once('%')?;
            let is_it = is_origin && queue.parse() == Ok(queue_id) && at.parse() == Ok(offset);
            is_it.then(|| words.next()?.parse().ok())?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receive_waits_less_long_than_its_deadline_and_the_check_of_deadlines_together() {
        let (min, max) = (Duration::from_secs(5), Duration::from_secs(20));
        let waits = |timeout: Option<u64>, told_ms| poll_ms(timeout.map(Duration::from_millis), told_ms, min, max);
        let latest = |deadline_ms| deadline_ms - EXPIRE_EVERY.as_millis() as i64;
        for deadline in [5_000, 6_000, 20_000] {
            let wait = waits(Some(deadline), Some(deadline as i64)).expect("enough time");
            assert!(wait > 0 && wait < latest(deadline as i64), "{wait} of {deadline}");
        }
        assert_eq!(waits(Some(15_000), Some(5_000)).ok(), Some(5_000));
        assert_eq!(waits(Some(60_000), Some(30_000)).ok(), Some(20_000));
        assert_eq!(waits(Some(12_000), None).ok(), Some(9_000));
        assert_eq!(waits(None, Some(1)).ok(), Some(5_000));
        assert!(waits(Some(4_999), Some(4_999)).is_err());
    }

    #[test]
    fn counts_of_messages_in_order_are_found() {
        let counts = OrderCounts("0 qo3%7 2;1 qo3%7 5;0 3 0");
        assert_eq!(counts.of(Origin::Topic, 3, 7), Some(2));
        assert_eq!(counts.of(Origin::RetryV1, 3, 7), Some(5));
        assert_eq!(counts.of(Origin::Topic, 3, 8), None);
        assert_eq!(OrderCounts("").of(Origin::Topic, 3, 8), None);
    }
}
