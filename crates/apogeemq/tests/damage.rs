//! The program with a damaged file in its data directory: the error says what the file holds, what can be done and what that costs.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{Message, Producer, PullOptions, Puller};
use common::{Home, apogeemq, block_on};
use std::process::Command;

/// Three messages in a topic with two queues, after a clean shutdown.
fn with_messages() -> Home {
    let home = Home::new();
    let mut running = home.start();
    block_on(async {
        home.create_topic("orders", 2).await;
        let producer = Producer::new(&home.client(), "writers");
        for body in ["a", "b", "c"] {
            producer
                .send_to(&home.queue("orders", 1), Message::new("orders", body))
                .await
                .unwrap();
        }
    });
    running.stop();
    home
}

fn damage(home: &Home, file: &str) {
    std::fs::write(home.path("data/config").join(file), [0; 120]).unwrap();
    let _ = std::fs::remove_file(home.path("data/config").join(format!("{file}.bak")));
}

fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_file_that_can_be_derived_is_rebuilt_with_a_warning() {
    let home = with_messages();
    damage(&home, "delayOffset.json");
    let mut running = home.start();
    home.logs(&[
        "WARN",
        "delayOffset.json",
        "NUL bytes",
        "how far each delay level was delivered",
        "delayOffset.json.bad",
    ]);
    running.stop();
    assert!(home.path("data/config/delayOffset.json.bad").exists());
}

#[test]
fn other_files_refuse_the_start_until_the_operator_says_so_and_messages_stay() {
    let home = with_messages();
    damage(&home, "topics.json");
    let text = refused(home.command());
    for told in [
        "topics.json",
        "NUL bytes",
        "permissions and attributes",
        "--start-without topics.json",
        "updateTopic",
    ] {
        assert!(text.contains(told), "{told} in {text}");
    }
    let checked = apogeemq(&home.path("")).args(["store", "check", "data"]).output().unwrap();
    assert_eq!(checked.status.code(), Some(1));
    let found = String::from_utf8(checked.stdout).unwrap();
    for told in ["topics.json", "NUL bytes", "orders: 3 messages"] {
        assert!(found.contains(told), "{told} in {found}");
    }
    let _running = home.run(home.command().args(["--start-without", "topics.json"]));
    home.logs(&["orders (2 queues, 3 messages)"]);
    block_on(async {
        let queue = home.queue("orders", 1);
        let puller = Puller::new(&home.client(), "readers");
        assert!(
            puller.pull(&queue, 0, &PullOptions::default()).await.is_err(),
            "the topic is not known"
        );
        home.create_topic("orders", 2).await;
        let pulled = puller.pull(&queue, 0, &PullOptions::default()).await.unwrap();
        assert_eq!(pulled.records().count(), 3);
    });
}

#[test]
fn a_start_reports_what_values_count_as_and_a_change_keys_without_effect() {
    let home = Home::new();
    let lines = "brokerRole=SYNC_MASTER\ndiskMaxUsedSpaceRatio=99\nstorePathConsumeQueue=/elsewhere\nsendMessageThreadPoolNums=16\n";
    std::fs::write(home.path("broker.conf"), lines).unwrap();
    let _running = home.run(home.command().args(["-c", "broker.conf"]));
    let told = [
        "brokerRole=SYNC_MASTER waits for no slave",
        "broker.conf:2: diskMaxUsedSpaceRatio=99 counts as 95, allowed is 10 to 95",
        "storePathConsumeQueue=/elsewhere has no effect: with storePathRootDir=data the location is data/consumequeue",
        "keys of Apache's that have no effect here",
    ];
    let logged = home.logs(&told);
    for told in told {
        assert_eq!(logged.matches(told).count(), 1, "{told} in {logged}");
    }
    let admin = |arguments: &[&str]| {
        let output = apogeemq(&home.path("")).arg("admin").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let broker = home.broker();
    let told = admin(&["updateBrokerConfig", "-b", &broker, "-k", "sendMessageThreadPoolNums", "-v", "8"]);
    assert!(told.contains("sendMessageThreadPoolNums has no effect here"), "{told}");
    let settings = admin(&["getBrokerConfig", "-b", &broker]);
    let value = |key: &str| {
        let line = settings.lines().find(|line| line.split_whitespace().next() == Some(key));
        line.and_then(|line| line.split_whitespace().last()).map(str::to_owned)
    };
    for (key, expected) in [
        ("sendMessageThreadPoolNums", "8"),
        ("diskMaxUsedSpaceRatio", "95"),
        ("brokerRole", "SYNC_MASTER"),
        ("aclEnable", "false"),
    ] {
        assert_eq!(value(key).as_deref(), Some(expected), "{key} in {settings}");
    }
}
