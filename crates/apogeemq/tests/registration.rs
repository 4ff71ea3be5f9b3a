//! A broker whose topics do not fit into one frame of its name server, as two processes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{Client, Options};
use common::{DEADLINE, Home, apogeemq, block_on};
use protocol::kv::KvTable;
use protocol::topic::TopicConfig;
use protocol::{DataVersion, Frame, RequestCode};
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const TOPICS: usize = 3_000;

/// A process that ends with its test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn name(number: usize) -> String {
    format!("orders-of-a-region-{number:0>29}")
}

/// A table of topics as Apache's broker saves it.
fn saved_topics() -> String {
    let topics: BTreeMap<String, TopicConfig> = (0..TOPICS)
        .map(|number| (name(number), TopicConfig::new(name(number), 8)))
        .collect();
    let version = DataVersion {
        counter: 7,
        ..DataVersion::default()
    };
    let (version, topics) = (protocol::json::write(&version), protocol::json::write(&topics));
    format!(
        r#"{{"dataVersion":{},"topicConfigTable":{}}}"#,
        String::from_utf8(version).unwrap(),
        String::from_utf8(topics).unwrap()
    )
}

async fn has_route(client: &Client, topic: &str) -> bool {
    client.topic_route(topic).await.is_ok_and(|route| route.queue_datas.len() == 1)
}

#[test]
fn topics_beyond_one_frame_are_registered_and_listed_in_parts() {
    let home = Home::new();
    let dir = home.path("");
    std::fs::create_dir_all(home.path("data/config")).unwrap();
    std::fs::write(home.path("data/config/topics.json"), saved_topics()).unwrap();
    let smallest_frames = "com.rocketmq.remoting.frameMaxLength=65536\napogeeOutboxPauseBytes=65536\n";
    std::fs::write(home.path("namesrv.conf"), smallest_frames).unwrap();
    let (namesrv_port, broker_port) = (home.namesrv_port.to_string(), home.broker_port.to_string());
    let _name_server = Process::start(
        apogeemq(&dir)
            .args(["namesrv", "--bind", "127.0.0.1", "--data", "names", "-c", "namesrv.conf"])
            .args(["--namesrv-port", &namesrv_port]),
    );
    let broker = [
        "broker",
        "--bind",
        "127.0.0.1",
        "--data",
        "data",
        "-n",
        &home.namesrv(),
        "--broker-port",
        &broker_port,
    ];
    let _broker = Process::start(apogeemq(&dir).args(broker));
    block_on(async {
        let client = Client::new(Options::with_name_servers([home.namesrv()]));
        let begun = Instant::now();
        // The last part has the version; a topic of every other part is there before.
        for number in (0..TOPICS).step_by(100).chain([TOPICS - 1]) {
            while !has_route(&client, &name(number)).await {
                assert!(begun.elapsed() < DEADLINE, "topic {number} is not registered");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        let list = client
            .ask(&home.namesrv(), Frame::request(RequestCode::GetAllTopicListFromNameserver))
            .await;
        let refused = list.unwrap_err().to_string();
        assert!(refused.contains("frameMaxLength") && refused.contains("request 224"), "{refused}");
        // When the creation of a topic is answered, the name server has it.
        client.create_topic(&home.broker(), &TopicConfig::new("fresh", 4)).await.unwrap();
        assert!(has_route(&client, "fresh").await);
        let status: KvTable = client
            .ask_for(&home.broker(), Frame::request(RequestCode::GetBrokerRuntimeInfo))
            .await
            .unwrap();
        assert_eq!(status.table[&format!("apogeeNameServer_{}", home.namesrv())], "registered");
    });
}
