//! Subscriptions and progress of groups: codes 300, 303, 343 and 345.

use crate::clients::Consumers;
use crate::clients::table::Channel;
use crate::errors::Refusal;
use crate::local_time;
use crate::offset::Offsets;
use crate::offset::handler::Progress;
use crate::reply::{Answer, Outcome};
use protocol::diagnose::{ConsumeTimeSpanHeader, ConsumeTimeSpans, QuerySubscriptionHeader, QuerySubscriptionReply, QueueTimeSpan};
use protocol::group::{GroupHeader, GroupList};
use protocol::topic::{TopicHeader, TopicList};
use protocol::{Frame, MessageQueue, ResponseCode, json};

/// Code 300: groups that subscribe to a topic or have offsets on it.
///
/// # Errors
/// `SystemError` if a field is missing.
pub fn groups_of_topic<C: Channel>(request: &Frame, consumers: &Consumers<C>, offsets: &Offsets) -> Outcome {
    let topic = TopicHeader::decode(&request.ext)?.topic;
    let mut groups = consumers.groups_of(topic);
    groups.extend(offsets.groups_of(topic));
    let body = GroupList {
        group_list: groups.into_iter().collect(),
    };
    Ok(Answer::body(json::write(&body)))
}

/// Code 343: topics on which a group has offsets. `address` is that of this broker.
///
/// # Errors
/// `SystemError` if a field is missing.
pub fn topics_of_group(request: &Frame, offsets: &Offsets, address: &str) -> Outcome {
    let body = TopicList {
        broker_addr: Some(address.to_owned()),
        topic_list: offsets.topics_of(GroupHeader::decode(&request.ext)?.group),
    };
    Ok(Answer::body(json::write(&body)))
}

/// Code 345: a group's subscription to a topic.
///
/// # Errors
/// `SystemError` if a field is missing.
pub fn subscription<C: Channel>(request: &Frame, consumers: &Consumers<C>) -> Outcome {
    let header = QuerySubscriptionHeader::decode(&request.ext)?;
    let subscribed = header.topic.and_then(|topic| consumers.subscription(header.group, topic));
    let body = QuerySubscriptionReply {
        group: Some(header.group.to_owned()),
        subscription_data: subscribed.map(|subscribed| subscribed.data.clone()),
        topic: header.topic.map(str::to_owned),
    };
    Ok(Answer::body(json::write(&body)))
}

/// Code 303: first and last store timestamp of a topic's queues, and the delay of a group in each.
///
/// # Errors
/// `TopicNotExist`, or `SystemError` if a field is missing.
pub fn time_spans<C>(request: &Frame, of: &Progress<'_, C>, now_ms: i64) -> Outcome {
    let header = ConsumeTimeSpanHeader::decode(&request.ext)?;
    let (name, group) = (header.topic, header.group);
    let topic = of
        .topics
        .find(name)
        .ok_or_else(|| Refusal::new(ResponseCode::TopicNotExist, format!("topic[{name}] not exist")))?;
    let stored = |queue_id, offset| of.queues.store_time(name, queue_id, offset).unwrap_or(-1);
    let span = |queue_id| {
        let end = of.queues.max(name, queue_id);
        let earliest = of.queues.earliest(name, queue_id).unwrap_or(-1);
        let consumed = of.offsets.committed(name, group, queue_id).unwrap_or(-1);
        let next = if consumed < end { stored(queue_id, consumed) } else { now_ms };
        let consumed_at = if consumed > 0 { stored(queue_id, consumed - 1) } else { earliest };
        let newest = stored(queue_id, end - 1);
        QueueTimeSpan {
            consume_time_stamp: consumed_at,
            consume_time_stamp_str: local_time::with_hash(consumed_at),
            // Without a next message there is no delay; Apache returns the time since 1970.
            delay_time: if next > 0 { now_ms - next } else { 0 },
            max_time_stamp: newest,
            max_time_stamp_str: local_time::with_hash(newest),
            message_queue: MessageQueue::new(name, of.broker, queue_id),
            min_time_stamp: earliest,
            min_time_stamp_str: local_time::with_hash(earliest),
        }
    };
    let body = ConsumeTimeSpans {
        consume_time_span_set: (0..topic.write_queues).map(span).collect(),
    };
    Ok(Answer::body(json::write(&body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::table::ClientLimits;
    use crate::queues::testing::FakeQueues;
    use crate::stats::BrokerStats;
    use crate::testing;
    use crate::topic::{Spec, TopicLimits, Topics};
    use protocol::RequestCode;
    use std::sync::Arc;

    fn frame(fields: &[(&str, &str)]) -> Frame {
        testing::frame(RequestCode::ViewBrokerStatsData, fields)
    }

    #[test]
    fn time_spans_have_the_delay_of_a_group() {
        let limits = TopicLimits { topics: 10, queues: 64 };
        let stats = Arc::new(BrokerStats::new("c", 100));
        let topics = Topics::new(vec![Spec::new("t", 1)], limits, Arc::clone(&stats), Arc::default(), 0);
        let offsets = Offsets::new(Default::default());
        offsets.commit("t", "g", 0, 2).unwrap();
        let consumers: Consumers<u64> = Consumers::new(ClientLimits::default());
        let queues = FakeQueues::default().with("t", 0, 0, &[100, 200, 300]);
        let of = Progress {
            offsets: &offsets,
            topics: &topics,
            consumers: &consumers,
            stats: &stats,
            queues: &queues,
            broker: "b",
        };
        let answer = time_spans(&frame(&[("topic", "t"), ("group", "g")]), &of, 1_000).unwrap();
        let body: ConsumeTimeSpans = json::read(&answer.body).unwrap();
        let span = &body.consume_time_span_set[0];
        let times = (span.min_time_stamp, span.max_time_stamp, span.consume_time_stamp, span.delay_time);
        assert_eq!(times, (100, 300, 200, 700));
        let texts = (&span.min_time_stamp_str, &span.max_time_stamp_str, &span.consume_time_stamp_str);
        assert!(
            texts.0.ends_with(":00:100") && texts.1.ends_with(":00:300") && texts.2.ends_with(":00:200"),
            "{texts:?}"
        );
    }

    #[test]
    fn groups_of_a_topic_and_topics_of_a_group_are_listed() {
        let offsets = Offsets::new(Default::default());
        offsets.commit("t", "g", 0, 2).unwrap();
        let consumers: Consumers<u64> = Consumers::new(ClientLimits::default());
        let answer = groups_of_topic(&frame(&[("topic", "t")]), &consumers, &offsets).unwrap();
        assert_eq!(&answer.body[..], br#"{"groupList":["g"]}"#);
        let answer = topics_of_group(&frame(&[("group", "g")]), &offsets, "a:1").unwrap();
        assert_eq!(&answer.body[..], br#"{"brokerAddr":"a:1","topicList":["t"]}"#);
        assert!(subscription(&frame(&[("group", "g"), ("topic", "t")]), &consumers).is_ok());
    }
}
