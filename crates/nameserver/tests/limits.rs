//! Limits of a name server: memory, time, and the length of answers.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::*;
use nameserver::NamesrvSettings;
use net::client::Peer;
use protocol::register::RegisterBrokerBody;
use protocol::route::TopicRoute;
use protocol::topic::TopicConfig;
use protocol::{Frame, RequestCode, json};

fn list_of_all() -> Frame {
    Frame::request(RequestCode::GetAllTopicListFromNameserver)
}

fn many(count: usize) -> RegisterBrokerBody {
    let names: Vec<String> = (0..count).map(|n| format!("topic-{n:0>42}")).collect();
    topics(&names.iter().map(String::as_str).collect::<Vec<_>>(), 1)
}

async fn remark(peer: &Peer, frame: Frame) -> String {
    let answer = ask(peer, frame).await;
    assert_ne!(answer.code, 0);
    answer.remark.unwrap_or_default()
}

#[test]
fn a_broker_that_reconnects_while_its_old_connection_closes_stays_registered() {
    let settings = NamesrvSettings {
        worker_threads: 2,
        ..NamesrvSettings::default()
    };
    run(start(settings, None), async |fixture: Fixture| {
        let body = topics(&["orders", "other"], 1);
        let mut broker = fixture.dial("127.0.0.1").await;
        succeed(&broker, register(0, "10.0.0.1:10911", &body, false)).await;
        for round in 0..500 {
            let next = fixture.dial("127.0.0.1").await;
            drop(broker);
            succeed(&next, register(0, "10.0.0.1:10911", &body, false)).await;
            assert_eq!(ask(&next, route("orders")).await.code, 0, "in round {round}");
            broker = next;
        }
        drop(broker);
        wait_for("the broker is removed", || fixture.names.live_brokers() == 0).await;
    });
}

#[test]
fn a_registration_served_after_its_connection_closed_is_removed() {
    with_server(async |fixture: Fixture| {
        let heavy = many(2_000);
        for round in 0..50 {
            let broker = fixture.dial("127.0.0.1").await;
            let frame = register(0, &format!("10.0.0.1:{}", 10_000 + round), &heavy, false);
            broker.one_way(&frame).unwrap();
            tokio::task::yield_now().await;
        }
        // Registrations are served in order: when this one is removed, all before it are.
        let last = fixture.dial("127.0.0.1").await;
        succeed(&last, register(0, "10.0.0.2:1", &heavy, false)).await;
        drop(last);
        wait_for("all brokers are removed", || fixture.names.live_brokers() == 0).await;
    });
}

#[test]
fn brokers_of_a_connection_are_limited_and_removed_with_it() {
    let settings = NamesrvSettings {
        max_brokers: 50,
        max_brokers_per_connection: 20,
        ..NamesrvSettings::default()
    };
    run(start(settings, None), async |fixture: Fixture| {
        let body = topics(&["orders", "other"], 1);
        let named = |name: usize, port: usize| {
            let mut frame = register(0, &format!("10.0.0.9:{port}"), &body, false);
            frame.ext.remove("brokerName");
            frame.with_field("brokerName", &format!("ghost{name}"))
        };
        let clusters = async |peer: &Peer| text(&succeed(peer, Frame::request(RequestCode::GetBrokerClusterInfo)).await).to_owned();
        let client = fixture.dial("127.0.0.1").await;
        let ghost = fixture.dial("127.0.0.1").await;
        // With one address or many.
        for name in 0..20 {
            succeed(&ghost, named(name, name % 2)).await;
        }
        assert!(remark(&ghost, named(20, 1)).await.contains("apogeeMaxBrokersPerConnection"));
        assert_eq!(clusters(&client).await.matches(r#""brokerName":"ghost"#).count(), 20);
        let others = [fixture.dial("127.0.0.1").await, fixture.dial("127.0.0.1").await];
        for name in 20..50 {
            succeed(&others[name % 2], named(name, 1 + name)).await;
        }
        assert!(remark(&others[0], named(50, 51)).await.contains("apogeeMaxBrokers"));
        drop((ghost, others));
        wait_for("all brokers are removed", || fixture.names.live_brokers() == 0).await;
        assert!(!clusters(&client).await.contains("ghost"));
        assert_eq!(text(&succeed(&client, list_of_all()).await), r#"{"topicList":[]}"#);
    });
}

#[test]
fn extreme_values_of_a_registration_are_clamped() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let mut body = topics(&["orders", "other"], 1);
        let huge = TopicConfig {
            read_queue_nums: i32::MAX,
            write_queue_nums: -1,
            ..TopicConfig::new("huge", 1)
        };
        body.topics.topic_config_table.insert("huge".to_owned(), huge);
        body.topics.data_version.state_version = i64::MAX;
        let frame = register(0, "10.0.0.1:10911", &body, false).with_field("heartbeatTimeoutMillis", i64::MAX);
        succeed(&peer, frame).await;
        let told: TopicRoute = json::read(&succeed(&peer, route("huge")).await.body).unwrap();
        let queues = &told.queue_datas[0];
        assert_eq!((queues.read_queue_nums, queues.write_queue_nums), (65_536, 0));
        let by_hand = r#"{"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":2147483647,"writeQueueNums":1}]}"#;
        let enter = Frame::request(RequestCode::RegisterTopicInNamesrv).with_field("topic", "entered");
        succeed(&peer, enter.with_body(by_hand)).await;
        assert!(text(&succeed(&peer, route("entered")).await).contains(r#""readQueueNums":65536"#));
        // An epoch that no controller has does not keep a newer broker from its id.
        body.topics.data_version.state_version = i64::from(i32::MAX);
        succeed(&peer, register(0, "10.0.0.2:10911", &body, false)).await;
        assert!(text(&succeed(&peer, route("huge")).await).contains("10.0.0.2"));
        fixture.now_ms.fetch_add(600_001, Ordering::Relaxed);
        fixture.names.tick(fixture.names.now_ms());
        assert_eq!(fixture.names.live_brokers(), 0);
        // A timeout that no heartbeat can meet does not remove a live broker.
        let frame = register(0, "10.0.0.1:10911", &body, false).with_field("heartbeatTimeoutMillis", -1);
        succeed(&peer, frame).await;
        fixture.names.tick(fixture.names.now_ms());
        assert_eq!(fixture.names.live_brokers(), 1);
        let negative = register(-1, "10.0.0.3:10911", &body, false);
        assert_eq!(remark(&peer, negative).await, "brokerId -1 must not be negative");
    });
}

#[test]
fn invalid_names_are_refused_by_every_request() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let sound = topics(&["orders", "other"], 1);
        succeed(&peer, register(0, "10.0.0.1:10911", &sound, false)).await;
        let with = |frame: &Frame, field: &str, value: &str| {
            let mut frame = frame.clone();
            frame.ext.remove(field);
            frame.with_field(field, value)
        };
        let request = |code: RequestCode, fields: &[&str]| {
            fields
                .iter()
                .fold(Frame::request(code), |frame, field| frame.with_field(field, "sound"))
        };
        let registration = register(0, "10.0.0.1:10911", &sound, false);
        let goodbye = identity(RequestCode::UnregisterBroker, 0, "10.0.0.1:10911");
        for (frame, fields) in [
            (
                registration,
                &["brokerName", "brokerAddr", "clusterName", "haServerAddr", "__ZONE_NAME"][..],
            ),
            (goodbye, &["brokerName", "brokerAddr", "clusterName"]),
            (
                request(RequestCode::PutKvConfig, &["namespace", "key", "value"]),
                &["namespace", "key"],
            ),
            (request(RequestCode::RegisterTopicInNamesrv, &["topic"]), &["topic"]),
            (request(RequestCode::DeleteTopicInNamesrv, &["topic"]), &["topic"]),
            (request(RequestCode::WipeWritePermOfBroker, &["brokerName"]), &["brokerName"]),
            (request(RequestCode::AddWritePermOfBroker, &["brokerName"]), &["brokerName"]),
            (request(RequestCode::GetTopicsByCluster, &["cluster"]), &["cluster"]),
            (
                request(RequestCode::GetBrokerMemberGroup, &["clusterName", "brokerName"]),
                &["clusterName", "brokerName"],
            ),
        ] {
            for field in fields {
                for bad in ["line\nbreak", "\u{1b}[31m", &"x".repeat(256)] {
                    let remark = remark(&peer, with(&frame, field, bad)).await;
                    assert!(remark.starts_with(field) && remark.len() < 200, "{field}: {remark}");
                }
            }
            succeed(&peer, frame).await;
        }
        // A look-up of a long name answers "not found" with the name cut.
        for (frame, field) in [
            (route("t"), "topic"),
            (request(RequestCode::GetKvConfig, &["namespace", "key"]), "key"),
            (request(RequestCode::GetKvlistByNamespace, &["namespace"]), "namespace"),
        ] {
            let remark = remark(&peer, with(&frame, field, &"x".repeat(1 << 20))).await;
            assert!(remark.len() < 400, "{} bytes", remark.len());
        }
    });
}

#[test]
fn a_topic_with_an_invalid_name_does_not_prevent_the_others() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let body = topics(&["orders", "other", "li\nne"], 1);
        let told = remark(&peer, register(0, "10.0.0.1:10911", &body, false)).await;
        assert!(told.contains("1 of the topics, the first is 'li"), "{told}");
        succeed(&peer, route("orders")).await;
        let query = identity(RequestCode::QueryDataVersion, 0, "10.0.0.1:10911");
        let query = query.with_body(json::write(&body.topics.data_version));
        assert_eq!(succeed(&peer, query).await.ext.text("changed"), Some("true"));
    });
}

#[test]
fn an_answer_longer_than_a_frame_is_refused_with_advice() {
    let settings = NamesrvSettings {
        frame_max_length: 256 << 10,
        ..NamesrvSettings::default()
    };
    run(start(settings, None), async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let put = |key: String| {
            let put = Frame::request(RequestCode::PutKvConfig).with_field("namespace", "ORDER_TOPIC_CONFIG");
            put.with_field("key", &key).with_field("value", &"\u{1}".repeat(2_000))
        };
        for key in 0..25 {
            succeed(&peer, put(key.to_string())).await;
        }
        let list = Frame::request(RequestCode::GetKvlistByNamespace).with_field("namespace", "ORDER_TOPIC_CONFIG");
        let told = remark(&peer, list).await;
        assert!(
            told.contains("300") && told.contains("262144") && told.contains("request 101"),
            "{told}"
        );
        // Brokers can still register, without that table in the answer.
        assert!(
            succeed(&peer, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false))
                .await
                .body
                .is_empty()
        );
        succeed(&peer, register(0, "10.0.0.1:10911", &many(6_000), true)).await;
        for (frame, advice) in [
            (list_of_all(), "request 224"),
            (
                Frame::request(RequestCode::GetTopicsByCluster).with_field("cluster", "DefaultCluster"),
                "request 21",
            ),
        ] {
            for _ in 0..2 {
                let told = remark(&peer, frame.clone()).await;
                assert!(told.contains("262144") && told.contains(advice), "{told}");
            }
        }
        // Short answers are still served.
        succeed(&peer, route("orders")).await;
        succeed(&peer, Frame::request(RequestCode::GetBrokerClusterInfo)).await;
    });
}

#[test]
fn a_list_is_never_older_than_the_last_change() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        succeed(&peer, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false)).await;
        for _ in 0..2 {
            assert_eq!(text(&succeed(&peer, list_of_all()).await), r#"{"topicList":["other","orders"]}"#);
        }
        let delete = Frame::request(RequestCode::DeleteTopicInNamesrv).with_field("topic", "orders");
        succeed(&peer, delete).await;
        assert_eq!(text(&succeed(&peer, list_of_all()).await), r#"{"topicList":["other"]}"#);
        succeed(&peer, register(1, "10.0.0.2:10911", &topics(&["orders", "other"], 1), false)).await;
        let clusters = succeed(&peer, Frame::request(RequestCode::GetBrokerClusterInfo)).await;
        assert!(text(&clusters).contains("10.0.0.2:10911"));
    });
}

#[test]
fn a_slow_reader_gets_all_answers_of_two_hundred_lists() {
    with_server(async |fixture: Fixture| {
        let peer = Arc::new(fixture.dial("127.0.0.1").await);
        succeed(&peer, register(0, "10.0.0.1:10911", &many(8_000), true)).await;
        let asking: Vec<_> = (0..200)
            .map(|_| {
                let peer = Arc::clone(&peer);
                tokio::spawn(async move { succeed(&peer, list_of_all()).await.body.len() })
            })
            .collect();
        // 80 MB in total, more than the outbox limit of a connection.
        for answer in asking {
            assert!(answer.await.unwrap() > 400_000);
        }
    });
}

#[test]
fn the_kv_configuration_is_limited_in_bytes() {
    let settings = NamesrvSettings {
        max_kv_bytes: 64 << 10,
        ..NamesrvSettings::default()
    };
    run(start(settings, None), async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let put = |key: &str, value: &str| {
            let put = Frame::request(RequestCode::PutKvConfig).with_field("namespace", "n");
            put.with_field("key", key).with_field("value", value)
        };
        succeed(&peer, put("a", &"x".repeat(50_000))).await;
        assert!(remark(&peer, put("b", &"x".repeat(50_000))).await.contains("apogeeMaxKvBytes"));
        succeed(&peer, put("b", "x")).await;
        let missing = Frame::request(RequestCode::DeleteKvConfig).with_field("namespace", "n");
        let file = fixture.directory.path().join("namesrv/kvConfig.json");
        std::fs::remove_file(&file).unwrap();
        succeed(&peer, missing.with_field("key", "c")).await;
        assert!(!file.exists(), "nothing was written");
    });
}
