//! The program is killed and stopped while it acknowledges changes of every kind. Each change is there after the next start.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{Client, Error, Message, Producer, Puller, Stored};
use common::{Home, block_on};
use protocol::group::GroupConfig;
use protocol::reset::ResetOffsetHeader;
use protocol::topic::TopicConfig;
use protocol::{Frame, RequestCode, ResponseCode};
use std::time::Duration;

/// How often the program is killed and stopped, unless `ACKNOWLEDGED_ROUNDS` is set.
const ROUNDS: usize = 4;
/// How long changes are made before the end.
const BUSY: Duration = Duration::from_millis(400);
const GROUP: &str = "readers";

/// A change that was acknowledged, and what must be true afterwards.
#[derive(Clone, Debug)]
enum Change {
    TopicMade(String),
    TopicDeleted(String),
    /// Its offset in queue 0, in a topic that it made or met being made.
    Sent(String, i64),
    GroupMade(String),
    GroupDeleted(String),
    Forbidden(String),
    /// The last offset that was committed in a queue of the topic `kept`.
    Committed(i32, i64),
    /// An operator's reset of the same.
    Reset(i32, i64),
}

fn frame(code: RequestCode, fields: &[(&str, &str)]) -> Frame {
    let mut frame = Frame::request(code);
    for (name, value) in fields {
        frame.ext.push(name, *value);
    }
    frame
}

/// Makes changes of one kind until the broker is gone; returns those that were acknowledged.
async fn change<F: Future<Output = Result<Change, Error>>>(mut next: impl FnMut(usize) -> F) -> Vec<Change> {
    let mut done = Vec::new();
    for n in 0.. {
        match next(n).await {
            Ok(change) => done.push(change),
            Err(_) => break,
        }
    }
    done
}

/// Makes changes, each worker on its own connection.
struct Worker {
    home_broker: String,
    round: usize,
}

impl Worker {
    fn client(&self) -> Client {
        Client::new(client::Options::with_broker(self.home_broker.clone()))
    }

    fn name(&self, kind: &str, n: usize) -> String {
        format!("{kind}-{}-{n}", self.round)
    }

    async fn make_topics(self) -> Vec<Change> {
        let client = self.client();
        change(async |n| {
            let name = self.name("made", n);
            client.create_topic(&self.home_broker, &TopicConfig::new(&name, 2)).await?;
            Ok(Change::TopicMade(name))
        })
        .await
    }

    async fn delete_topics(self) -> Vec<Change> {
        let client = self.client();
        let producer = Producer::new(&client, "writers");
        change(async |n| {
            let name = self.name("deleted", n);
            client.create_topic(&self.home_broker, &TopicConfig::new(&name, 1)).await?;
            let queue = client::Queue::at(&self.home_broker, &name, 0);
            producer.send_to(&queue, Message::new(&name, "gone")).await?;
            client.delete_topic(&self.home_broker, &name).await?;
            Ok(Change::TopicDeleted(name))
        })
        .await
    }

    /// Sends to topics that another worker sends to for the first time at the same time.
    async fn send_to_new_topics(self) -> Vec<Change> {
        let client = self.client();
        let producer = Producer::new(&client, "writers");
        change(async |n| {
            let name = self.name("fresh", n);
            let sent = producer
                .send_to(&client::Queue::at(&self.home_broker, &name, 0), Message::new(&name, "kept"))
                .await?;
            assert_eq!(sent.stored, Stored::Confirmed);
            Ok(Change::Sent(name, sent.offset))
        })
        .await
    }

    async fn make_groups(self) -> Vec<Change> {
        let client = self.client();
        change(async |n| {
            let name = self.name("group", n);
            let config = GroupConfig::new(&name);
            client.create_group(&self.home_broker, &config).await?;
            if n % 2 == 0 {
                return Ok(Change::GroupMade(name));
            }
            client.delete_group(&self.home_broker, &name, true).await?;
            Ok(Change::GroupDeleted(name))
        })
        .await
    }

    async fn forbid(self) -> Vec<Change> {
        let client = self.client();
        change(async |n| {
            let name = self.name("forbidden", n);
            let fields = [("group", name.as_str()), ("topic", "kept"), ("readable", "false")];
            client
                .ask(&self.home_broker, frame(RequestCode::UpdateAndGetGroupForbidden, &fields))
                .await?;
            Ok(Change::Forbidden(name))
        })
        .await
    }

    async fn commit(self) -> Vec<Change> {
        let client = self.client();
        let puller = Puller::new(&client, GROUP);
        change(async |n| {
            let offset = n as i64 + 1;
            puller.commit(&client::Queue::at(&self.home_broker, "kept", 0), offset).await?;
            Ok(Change::Committed(0, offset))
        })
        .await
    }

    async fn reset(self) -> Vec<Change> {
        let client = self.client();
        change(async |n| {
            let offset = n as i64 % 5;
            let header = ResetOffsetHeader {
                topic: "kept",
                group: GROUP,
                queue_id: Some(1),
                offset: Some(offset),
                timestamp: -1,
                is_force: true,
            };
            client.reset_offsets(&self.home_broker, &header).await?;
            Ok(Change::Reset(1, offset))
        })
        .await
    }
}

/// Compares what was acknowledged with the restarted broker. After a kill, offsets that clients committed
/// may be older, because they are saved every few seconds.
async fn compare(home: &Home, acknowledged: &[Change], was_stopped: bool) {
    let (client, broker) = (home.client(), home.broker());
    let puller = Puller::new(&client, GROUP);
    let has_topic = async |name: &str| {
        let asked = client.ask(&broker, frame(RequestCode::GetTopicConfig, &[("topic", name)])).await;
        match asked {
            Ok(_) => true,
            Err(error) if error.code() == Some(ResponseCode::TopicNotExist.into()) => false,
            Err(error) => panic!("{error}"),
        }
    };
    let has_group = async |name: &str| {
        let groups = client.group_configs(&broker).await.unwrap();
        groups.subscription_group_table.contains_key(name)
    };
    let mut last: [Option<&Change>; 2] = [None, None];
    for change in acknowledged {
        match change {
            Change::TopicMade(name) => assert!(has_topic(name).await, "{change:?}"),
            Change::TopicDeleted(name) => {
                assert!(!has_topic(name).await, "{change:?}");
                assert_eq!(client.max_offset(&home.queue(name, 0)).await.unwrap(), 0, "{change:?}");
            }
            Change::Sent(name, offset) => {
                assert!(has_topic(name).await, "{change:?}");
                assert!(client.max_offset(&home.queue(name, 0)).await.unwrap() > *offset, "{change:?}");
            }
            Change::GroupMade(name) => assert!(has_group(name).await, "{change:?}"),
            Change::GroupDeleted(name) => assert!(!has_group(name).await, "{change:?}"),
            Change::Forbidden(name) => {
                let asked = frame(RequestCode::UpdateAndGetGroupForbidden, &[("group", name), ("topic", "kept")]);
                let answer = client.ask(&broker, asked).await.unwrap();
                let text = String::from_utf8(answer.body.to_vec()).unwrap();
                assert!(text.contains("\"readable\":false"), "{change:?}: {text}");
            }
            Change::Committed(queue, _) | Change::Reset(queue, _) => last[*queue as usize] = Some(change),
        }
    }
    for change in last.into_iter().flatten() {
        match change {
            Change::Committed(queue, offset) if was_stopped => {
                assert_eq!(puller.committed(&home.queue("kept", *queue)).await.unwrap(), Some(*offset));
            }
            // One more may have been committed whose answer did not arrive.
            Change::Reset(queue, offset) => {
                let found = puller.committed(&home.queue("kept", *queue)).await.unwrap().unwrap();
                assert!(found == *offset || found == (offset + 1) % 5, "{change:?}, found {found}");
            }
            _ => {}
        }
    }
}

fn rounds() -> usize {
    std::env::var("ACKNOWLEDGED_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap())
}

/// Makes changes, ends the process and compares, repeatedly on one directory.
fn end_again_and_again(was_stopped: bool, end: fn(common::Running)) {
    let home = Home::new();
    let mut counts = [0; 7];
    for round in 0..rounds() {
        let server = home.start();
        let acknowledged = block_on(async {
            home.create_topic("kept", 2).await;
            let producer = Producer::new(&home.client(), "writers");
            for _ in 0..10 {
                producer
                    .send_to(&home.queue("kept", 1), Message::new("kept", "to be reset"))
                    .await
                    .unwrap();
            }
            home.client().create_group(&home.broker(), &GroupConfig::new(GROUP)).await.unwrap();
            let worker = || Worker {
                home_broker: home.broker(),
                round,
            };
            let end = async {
                tokio::time::sleep(BUSY).await;
                tokio::task::spawn_blocking(move || end(server)).await.unwrap();
            };
            let (made, deleted, fresh, fresh_too, groups, forbidden, committed, moved, ()) = tokio::join!(
                worker().make_topics(),
                worker().delete_topics(),
                worker().send_to_new_topics(),
                worker().send_to_new_topics(),
                worker().make_groups(),
                worker().forbid(),
                worker().commit(),
                worker().reset(),
                end,
            );
            let kinds = [made, deleted, [fresh, fresh_too].concat(), groups, forbidden, committed, moved];
            for (count, kind) in counts.iter_mut().zip(&kinds) {
                *count += kind.len();
            }
            kinds.concat()
        });
        let mut server = home.start();
        block_on(compare(&home, &acknowledged, was_stopped));
        server.stop();
    }
    assert!(
        counts.iter().all(|count| *count > 0),
        "something of every kind was acknowledged: {counts:?}"
    );
    println!("acknowledged and there: {counts:?}");
}

#[test]
fn what_was_acknowledged_before_a_kill_holds() {
    end_again_and_again(false, common::Running::kill);
}

#[test]
fn what_was_acknowledged_before_and_during_a_stop_holds() {
    end_again_and_again(true, |mut server| server.stop());
}
