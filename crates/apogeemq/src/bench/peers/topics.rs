//! `bench topics`: topics at a broker, created many at a time, and messages of 64 bytes in each of their queues.

use message::names;
use protocol::send::SendHeader;
use protocol::topic::{TopicConfig, TopicConfigList};
use protocol::{Frame, RequestCode, json};

use super::super::frames::{PRODUCER_GROUP, wall_ms};
use super::super::report::plural;
use super::arguments::TopicsArguments;
use super::asked::{ask_all, ask_in_turn};
use super::connect_all;
use super::figures::Figures;
use crate::failure::Failure;

/// Sends in flight on each connection.
const WINDOW: usize = 64;
const BODY: &[u8] = &[b'x'; 64];

pub(crate) fn run(arguments: &TopicsArguments) -> Result<Figures, Failure> {
    let topics = Topics {
        count: arguments.topics,
        queues: i32::from(arguments.queues),
    };
    let queues = u64::from(arguments.topics) * u64::from(arguments.queues);
    let (shown, messages) = (
        plural(u64::from(arguments.topics), "topic"),
        plural(u64::from(arguments.messages), "message"),
    );
    let load = format!("{shown} with {} in all, {messages} in each", plural(queues, "queue"));
    let mut figures = Figures::new(load, arguments.output.pid);
    let before = figures.memory("before");
    let sockets = connect_all(&arguments.broker, arguments.connections)?;
    let created = ask_in_turn(&sockets[0], topics.clone().parts(arguments.batch))?;
    figures.add("created_s", created.seconds);
    figures.answers("create", &created.counters);
    figures.cost("topic", before, u64::from(arguments.topics));
    let before = figures.memory("created");
    if arguments.messages == 0 {
        return Ok(figures);
    }
    let sending = sockets.into_iter().zip(0..).map(|(socket, connection)| {
        let topics = topics.clone();
        let own = (connection..topics.count).step_by(arguments.connections as usize);
        let queues = (0..arguments.messages).flat_map(move |_| own.clone());
        let sends = queues.flat_map(move |topic| {
            let topics = topics.clone();
            (0..topics.queues).map(move |queue| topics.send(topic, queue))
        });
        (socket, sends)
    });
    let sent = ask_all(sending.collect(), WINDOW)?;
    figures.add("filled_s", sent.seconds);
    figures.answers("send", &sent.counters);
    figures.cost("queue_with_messages", before, queues);
    figures.memory("filled");
    Ok(figures)
}

#[derive(Debug, Clone)]
struct Topics {
    count: u32,
    queues: i32,
}

impl Topics {
    fn name(topic: u32) -> String {
        format!("BenchTopic_{topic:06}")
    }

    /// Requests that create all topics, so many each.
    fn parts(self, batch: u32) -> impl Iterator<Item = Frame> {
        (0..self.count).step_by(batch as usize).map(move |first| {
            let topics = (first..self.count.min(first + batch)).map(|topic| TopicConfig::new(Self::name(topic), self.queues));
            let list = TopicConfigList {
                topic_config_list: topics.collect(),
            };
            Frame::request(RequestCode::UpdateAndCreateTopicList).with_body(json::write_standard(&list))
        })
    }

    fn send(&self, topic: u32, queue_id: i32) -> Frame {
        let mut frame = Frame::request(RequestCode::SendMessageV2);
        SendHeader {
            producer_group: PRODUCER_GROUP,
            topic: &Self::name(topic),
            default_topic: names::AUTO_CREATE_TOPIC,
            default_topic_queue_nums: 4,
            queue_id,
            born_timestamp: wall_ms(),
            ..SendHeader::default()
        }
        .encode_v2(&mut frame.ext);
        frame.with_body(BODY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_create_each_topic_once() {
        let topics = Topics { count: 25, queues: 3 };
        let created = topics.parts(10).flat_map(|frame| {
            let list: TopicConfigList = json::read(&frame.body).unwrap();
            list.topic_config_list.into_iter().map(|topic| topic.topic_name)
        });
        assert!(created.eq((0..25).map(Topics::name)));
    }
}
