//! Pops and pulls. A pop asks one broker, and is parked there; what the broker answers becomes what a broker of this process would.
//!
//! A parked pop has a task of its own, which stays when its client goes: messages that come then are given back.

use super::route::Master;
use super::{Cluster, malformed, refused};
use crate::backend::{Popped, QueueName};
use crate::caller::Caller;
use crate::codes::Refused;
use crate::connection::Parked;
use crate::v2::Code;
use ::message::record::Record;
use ::message::{QueueOffset, names, properties};
use broker::lite::{LitePop, LitePopResult, LiteTaken};
use broker::pop::{PopResult, Taken};
use broker::pull::Pulled;
use bytes::Bytes;
use protocol::lite::{PopLiteHeader, PopLiteReply};
use protocol::pop::handle::{Handle, Origin};
use protocol::pop::{ORDER_REVIVE_QUEUE, PopHeader, PopReply};
use protocol::pull::{PullHeader, PullReply};
use protocol::{Frame, RequestCode, ResponseCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A pop, of whichever kind.
struct Asked<'a> {
    topic: &'a str,
    /// Name of the broker; empty for any.
    wanted: &'a str,
    request: Frame,
    poll_ms: i64,
}

impl Cluster {
    pub(crate) async fn pop(
        self: &Arc<Self>,
        caller: &Caller,
        header: &PopHeader<'_>,
        wanted: &str,
        unclaimed: impl Fn(Popped) + Send + 'static,
    ) -> Result<Popped, Refused> {
        let mut request = Frame::request(RequestCode::PopMessage);
        header.encode(&mut request.ext);
        let (topic, group) = (header.topic.to_owned(), header.consumer_group.to_owned());
        let read = move |answer: &Frame| pop_result(answer, &topic, &group);
        let asked = Asked {
            topic: header.topic,
            wanted,
            request,
            poll_ms: header.poll_time,
        };
        self.parked(caller, asked, read, unclaimed).await
    }

    pub(crate) async fn pop_lite(
        self: &Arc<Self>,
        caller: &Caller,
        pop: &LitePop<'_>,
        wanted: &str,
        unclaimed: impl Fn(Popped<LitePopResult>) + Send + 'static,
    ) -> Result<Popped<LitePopResult>, Refused> {
        let mut request = Frame::request(RequestCode::PopLiteMessage);
        let header = PopLiteHeader {
            client_id: pop.client,
            consumer_group: pop.group,
            topic: pop.topic,
            max_msg_num: pop.most,
            invisible_time: pop.invisible_ms,
            poll_time: pop.poll_ms,
            born_time: pop.born_ms,
            attempt_id: pop.attempt,
            hold_time: pop.hold_ms,
        };
        header.encode(&mut request.ext);
        let topic = pop.topic.to_owned();
        let read = move |answer: &Frame| lite_result(answer, &topic);
        let asked = Asked {
            topic: pop.topic,
            wanted,
            request,
            poll_ms: pop.poll_ms,
        };
        self.parked(caller, asked, read, unclaimed).await
    }

    /// # Errors
    /// `TooManyRequests`: brokers have as many receives of this connection as it may have requests, with those that it gave up.
    fn park(&self, caller: &Caller) -> Result<Parked, Refused> {
        caller.connection.park(self.most_parked).ok_or_else(|| {
            let text = format!(
                "{} receives of this connection are parked at brokers (grpcMaxConcurrentCallsPerConnection), those that were given up included; try again later",
                self.most_parked
            );
            Refused::new(Code::TooManyRequests, text)
        })
    }

    /// Asks the broker `wanted`, or another one if that is down.
    async fn parked<R: Send + 'static>(
        self: &Arc<Self>,
        caller: &Caller,
        asked: Asked<'_>,
        read: impl Fn(&Frame) -> Result<R, Refused> + Send + 'static,
        unclaimed: impl Fn(Popped<R>) + Send + 'static,
    ) -> Result<Popped<R>, Refused> {
        let Asked {
            topic,
            wanted,
            request,
            poll_ms,
        } = asked;
        let parked = self.park(caller)?;
        let route = self.known_route(topic).await?;
        let readers: Vec<Master> = self.readers(topic, &route, wanted)?.into_iter().cloned().collect();
        let timeout = self.settings.request_timeout + Duration::from_millis(u64::try_from(poll_ms).unwrap_or(0));
        let (done, popped) = oneshot::channel();
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            let popped = cluster.first_answer(&readers, &request, timeout, read).await;
            if let Err(Ok(popped)) = done.send(popped) {
                unclaimed(popped);
            }
            drop(parked);
        });
        popped
            .await
            .map_err(|_| Refused::new(Code::InternalServerError, "the proxy is shutting down"))?
    }

    /// The answer of the first broker that can be reached.
    async fn first_answer<R>(
        &self,
        readers: &[Master],
        request: &Frame,
        timeout: Duration,
        read: impl Fn(&Frame) -> Result<R, Refused>,
    ) -> Result<Popped<R>, Refused> {
        let mut failure = Refused::new(Code::InternalServerError, "no broker can be reached");
        for master in readers {
            let answer = self.client.call_within(&master.address, request.clone(), timeout).await;
            match self.noted(&master.address, answer) {
                Ok(answer) => {
                    return Ok(Popped {
                        result: read(&answer)?,
                        broker: Arc::clone(&master.name),
                    });
                }
                Err(error @ client::Error::Unreachable(_)) => failure = refused(error),
                Err(error) => return Err(refused(error)),
            }
        }
        Err(failure)
    }

    pub(crate) async fn pull(&self, header: &PullHeader<'_>, wanted: &str) -> Result<Pulled, Refused> {
        let queue = QueueName {
            topic: header.topic,
            broker: wanted,
            id: header.queue_id,
        };
        let address = self.address_of(queue).await?;
        let mut request = Frame::request(RequestCode::PullMessage);
        header.encode(&mut request.ext);
        let wait = Duration::from_millis(u64::try_from(header.suspend_timeout_ms).unwrap_or(0));
        let timeout = self.settings.request_timeout + wait;
        let answer = self.noted(&address, self.client.call_within(&address, request, timeout).await);
        let answer = answer.map_err(refused)?;
        use ResponseCode::{PullNotFound, PullOffsetMoved, PullRetryImmediately, Success};
        let code = answered(&answer, &[Success, PullNotFound, PullRetryImmediately, PullOffsetMoved])?;
        let reply = PullReply::decode(&answer.ext).map_err(|error| malformed(&error))?;
        let records = records(&answer.body);
        Ok(Pulled {
            code,
            status: "",
            next: QueueOffset(reply.next_begin_offset),
            min: QueueOffset(reply.min_offset),
            max: QueueOffset(reply.max_offset),
            offset_delta: None,
            topic_sys_flag: 0,
            group_sys_flag: 0,
            pull_from: reply.suggest_which_broker_id,
            bytes: answer.body.len(),
            records,
        })
    }
}

/// The code of an answer.
///
/// # Errors
/// It is none of `expected`.
fn answered(answer: &Frame, expected: &[ResponseCode]) -> Result<ResponseCode, Refused> {
    let remark = || answer.remark.clone().unwrap_or_default();
    match ResponseCode::try_from(answer.code) {
        Ok(code) if expected.contains(&code) => Ok(code),
        Ok(code) => Err(broker::errors::Refusal::new(code, remark()).into()),
        Err(unknown) => Err(Refused::new(Code::InternalServerError, format!("{unknown}: {}", remark()))),
    }
}

/// The code of the answer of a pop: `Success` has messages, other ones have none.
fn pop_code(answer: &Frame) -> Result<ResponseCode, Refused> {
    use ResponseCode::{PollingFull, PollingTimeout, PullNotFound, Success};
    answered(answer, &[Success, PollingFull, PollingTimeout, PullNotFound])
}

/// Consecutive records, up to the first that is malformed.
fn records(body: &Bytes) -> Vec<Bytes> {
    let mut at = 0;
    let one = |record: Result<Record<'_>, client::Error>| match record {
        Ok(record) => {
            let bytes = body.slice(at..at + record.size);
            at += record.size;
            Some(bytes)
        }
        Err(error) => {
            tracing::error!(%error, "a broker sent a malformed message; it and those behind it are not handed out");
            None
        }
    };
    client::records(body).map_while(one).collect()
}

fn pop_result(answer: &Frame, topic: &str, group: &str) -> Result<PopResult, Refused> {
    let code = pop_code(answer)?;
    let none = PopReply {
        pop_time: 0,
        invisible_time: 0,
        revive_queue: 0,
        rest_num: 0,
        start_offset_info: None,
        msg_offset_info: None,
        order_count_info: None,
        held: None,
    };
    let reply = match code {
        ResponseCode::Success => PopReply::decode(&answer.ext).map_err(|error| malformed(&error))?,
        _ => none,
    };
    let starts = reply.start_offset_info.unwrap_or_default();
    let mut taken = smallvec::SmallVec::new();
    let mut all = Vec::new();
    for bytes in records(&answer.body) {
        let found = Record::parse(&bytes)
            .ok()
            .and_then(|record| taken_from(&record, topic, group, starts));
        match found {
            Some(one) => {
                taken.push(one);
                all.push(bytes);
            }
            None => tracing::error!(topic, group, "a popped message is in no queue of the answer; it is not handed out"),
        }
    }
    Ok(PopResult {
        code,
        pop_time: reply.pop_time,
        invisible_ms: reply.invisible_time,
        revive_queue: reply.revive_queue,
        rest: reply.rest_num,
        start_offsets: String::new(),
        message_offsets: String::new(),
        order_counts: reply.order_count_info.map(str::to_owned),
        taken,
        records: all,
        bytes: answer.body.len(),
        is_held: reply.held.unwrap_or(false),
    })
}

/// Where a message was popped from. Compat: Apache's broker gives a retried message its own topic back, with a handle among its properties.
fn taken_from(record: &Record<'_>, topic: &str, group: &str, starts: &str) -> Option<Taken> {
    if let Some(text) = properties::text(record.properties, properties::POP_CK)
        && let Ok(handle) = Handle::parse(&text)
        && handle.offset.is_none_or(|offset| offset == record.queue_offset.0)
        && let Some(origin) = Origin::parse(handle.origin)
    {
        return Some(Taken {
            origin,
            queue_id: record.queue_id,
            start: handle.start,
            count: 1,
        });
    }
    let origin = if record.topic == topic {
        Origin::Topic
    } else if record.topic == names::pop_retry_topic_v2(topic, group) {
        Origin::RetryV2
    } else {
        Origin::RetryV1
    };
    Some(Taken {
        origin,
        queue_id: record.queue_id,
        start: start_of(starts, origin, record.queue_id)?,
        count: 1,
    })
}

/// The first offset of a queue, of `origin queue offset` separated by `;`.
fn start_of(starts: &str, origin: Origin, queue_id: i32) -> Option<i64> {
    starts.split(';').find_map(|part| {
        let mut words = part.split(' ');
        let is_it = words.next()? == origin.text() && words.next()?.parse() == Ok(queue_id);
        is_it.then(|| words.next()?.parse().ok())?
    })
}

fn lite_result(answer: &Frame, topic: &str) -> Result<LitePopResult, Refused> {
    let code = pop_code(answer)?;
    let none = PopLiteReply {
        pop_time: 0,
        invisible_time: 0,
        revive_queue: ORDER_REVIVE_QUEUE,
        order_count_info: None,
        held: None,
    };
    let reply = match code {
        ResponseCode::Success => PopLiteReply::decode(&answer.ext).map_err(|error| malformed(&error))?,
        _ => none,
    };
    let is_held = reply.held.unwrap_or(false);
    let mut counts = reply
        .order_count_info
        .unwrap_or_default()
        .split(';')
        .map(|count| count.parse().unwrap_or(0));
    let (mut taken, mut all) = (Vec::new(), Vec::new());
    for bytes in records(&answer.body) {
        let count = counts.next().unwrap_or(0);
        match Record::parse(&bytes).ok().and_then(|record| lite_place(&record, topic)) {
            Some((lite_topic, offset)) => {
                taken.push(LiteTaken {
                    lite_topic: lite_topic.into(),
                    offset,
                    count,
                });
                all.push(bytes);
            }
            None => tracing::error!(topic, "a popped message is of no lite topic; it is not handed out"),
        }
    }
    Ok(LitePopResult {
        code,
        pop_time: reply.pop_time,
        invisible_ms: reply.invisible_time,
        taken,
        records: all,
        bytes: answer.body.len(),
        is_held,
    })
}

/// The lite topic of a message, and its offset in the queue of that.
fn lite_place(record: &Record<'_>, topic: &str) -> Option<(String, i64)> {
    let text = |name| properties::text(record.properties, name);
    let lite = text(properties::LITE_TOPIC)?.into_owned();
    let queue = names::lite_queue(topic, &lite);
    let (queues, offsets) = (text(properties::INNER_MULTI_DISPATCH)?, text(properties::INNER_MULTI_QUEUE_OFFSET)?);
    let at = queues.split(',').position(|one| one == queue)?;
    let offset = offsets.split(',').nth(at)?.parse().ok()?;
    Some((lite, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_offset_of_a_queue_is_found() {
        let starts = "0 3 7;1 3 9;2 0 5";
        assert_eq!(start_of(starts, Origin::Topic, 3), Some(7));
        assert_eq!(start_of(starts, Origin::RetryV1, 3), Some(9));
        assert_eq!(start_of(starts, Origin::RetryV2, 3), None);
        assert_eq!(start_of("", Origin::Topic, 0), None);
    }

    #[test]
    fn a_malformed_record_ends_an_answer() {
        assert!(records(&Bytes::from_static(&[0; 100])).is_empty());
        let answer = Frame::request(ResponseCode::Success).with_body(vec![7; 200]);
        assert!(pop_result(&answer, "t", "g").is_err(), "it has no header");
        let none = Frame::request(ResponseCode::PollingTimeout);
        assert_eq!(pop_result(&none, "t", "g").unwrap().code, ResponseCode::PollingTimeout);
        let refused = Frame::request(ResponseCode::SubscriptionGroupNotExist);
        assert_eq!(pop_result(&refused, "t", "g").unwrap_err().code, Code::ConsumerGroupNotFound);
    }
}
