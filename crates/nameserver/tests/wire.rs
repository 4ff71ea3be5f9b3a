//! Requests of brokers and clients to a name server over sockets, and its answers.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::*;
use nameserver::NamesrvSettings;
use protocol::route::{ClusterInfo, MemberGroupReply, TopicRoute};
use protocol::topic::TopicList;
use protocol::{DataVersion, Frame, RequestCode, ResponseCode, json, version};

#[test]
fn plain_and_compressed_registrations_make_the_same_route() {
    with_server(async |fixture: Fixture| {
        let broker = fixture.dial("127.0.0.1").await;
        for compressed in [false, true] {
            let body = topics(&["orders", "other"], 1);
            succeed(&broker, register(0, "10.0.0.1:10911", &body, compressed)).await;
            let answer = succeed(&broker, route("orders")).await;
            let route: TopicRoute = json::read(&answer.body).unwrap();
            assert_eq!(route.broker_datas[0].broker_addrs[&0], "10.0.0.1:10911");
            assert_eq!(route.queue_datas[0].write_queue_nums, 4);
            succeed(&broker, identity(RequestCode::UnregisterBroker, 0, "10.0.0.1:10911")).await;
            assert_eq!(
                ask(&broker, self::route("orders")).await.code,
                i32::from(ResponseCode::TopicNotExist)
            );
        }
    });
}

#[test]
fn a_compressed_registration_without_its_flag_is_read() {
    with_server(async |fixture: Fixture| {
        let broker = fixture.dial("127.0.0.1").await;
        let silent = register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), true).with_field("compressed", false);
        succeed(&broker, silent).await;
        succeed(&broker, route("orders")).await;
    });
}

#[test]
fn a_damaged_registration_is_refused() {
    with_server(async |fixture: Fixture| {
        let broker = fixture.dial("127.0.0.1").await;
        let mut damaged = register(0, "10.0.0.1:10911", &topics(&["a", "b"], 1), true);
        damaged.body = [&damaged.body[..], b"x"].concat().into();
        let answer = ask(&broker, damaged.clone()).await;
        assert_eq!((answer.code, answer.remark.as_deref()), (1, Some("crc32 not match")));
        damaged.body = b"nonsense".to_vec().into();
        damaged.ext.remove("bodyCrc32");
        assert_eq!(ask(&broker, damaged).await.code, 1);
        let mut nameless = register(0, "10.0.0.1:10911", &topics(&["a", "b"], 1), false);
        nameless.ext.remove("brokerName");
        let answer = ask(&broker, nameless).await;
        assert!(answer.remark.unwrap().contains("brokerName"));
        assert_eq!(fixture.names.live_brokers(), 0);
    });
}

#[test]
fn old_clients_get_bare_broker_ids_and_new_ones_quoted() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        succeed(&peer, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false)).await;
        let mut old = route("orders");
        old.version = version::V4_9_3;
        // Twice: the second answer is from the cache.
        for _ in 0..2 {
            assert!(text(&succeed(&peer, old.clone()).await).contains(r#"{0:"10.0.0.1:10911"}"#));
            assert!(text(&succeed(&peer, route("orders")).await).contains(r#"{"0":"10.0.0.1:10911"}"#));
            let strict = old.clone().with_field("acceptStandardJsonOnly", true);
            assert!(text(&succeed(&peer, strict).await).contains(r#"{"0":"10.0.0.1:10911"}"#));
        }
    });
}

#[test]
fn a_cached_route_is_never_older_than_the_last_change() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        succeed(&peer, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false)).await;
        assert!(text(&succeed(&peer, route("orders")).await).contains(r#""perm":6"#));
        let wiped = succeed(
            &peer,
            Frame::request(RequestCode::WipeWritePermOfBroker).with_field("brokerName", "broker-a"),
        )
        .await;
        assert_eq!(wiped.ext.int::<i32>("wipeTopicCount"), Some(2));
        assert!(text(&succeed(&peer, route("orders")).await).contains(r#""perm":4"#));
        let added = succeed(
            &peer,
            Frame::request(RequestCode::AddWritePermOfBroker).with_field("brokerName", "broker-a"),
        )
        .await;
        assert_eq!(added.ext.int::<i32>("addTopicCount"), Some(2));
        assert!(text(&succeed(&peer, route("orders")).await).contains(r#""perm":6"#));
        succeed(&peer, register(1, "10.0.0.2:10911", &topics(&["orders", "other"], 1), false)).await;
        assert!(text(&succeed(&peer, route("orders")).await).contains("10.0.0.2:10911"));
        let delete = Frame::request(RequestCode::DeleteTopicInNamesrv).with_field("topic", "orders");
        succeed(&peer, delete).await;
        assert_eq!(ask(&peer, route("orders")).await.code, 17);
    });
}

#[test]
fn a_slave_gets_its_master_and_brokers_the_order_configuration() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let put = Frame::request(RequestCode::PutKvConfig)
            .with_field("namespace", "ORDER_TOPIC_CONFIG")
            .with_field("key", "orders");
        succeed(&peer, put.with_field("value", "broker-a:4")).await;
        let first = succeed(&peer, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false)).await;
        assert_eq!(text(&first), r#"{"table":{"orders":"broker-a:4"}}"#);
        assert_eq!(first.ext.text("masterAddr"), None);
        let second = succeed(&peer, register(1, "10.0.0.2:10911", &topics(&["orders", "other"], 1), true)).await;
        assert_eq!(second.ext.text("masterAddr"), Some("10.0.0.1:10911"));
        assert_eq!(second.ext.text("haServerAddr"), Some("10.0.0.1:10912"));
        assert!(!text(&succeed(&peer, route("orders")).await).contains("orderTopicConf"));
        succeed(
            &peer,
            Frame::request(RequestCode::UpdateNamesrvConfig).with_body("orderMessageEnable=true"),
        )
        .await;
        assert!(text(&succeed(&peer, route("orders")).await).contains(r#""orderTopicConf":"broker-a:4""#));
    });
}

#[test]
fn a_repeated_registration_is_a_heartbeat_and_brings_back_what_was_deleted() {
    with_server(async |fixture: Fixture| {
        let (master, slave) = (fixture.dial("127.0.0.1").await, fixture.dial("127.0.0.1").await);
        let body = topics(&["orders", "other"], 1);
        let register_both = async || {
            succeed(&master, register(0, "10.0.0.1:10911", &body, false)).await;
            let answer = succeed(&slave, register(1, "10.0.0.2:10911", &body, false)).await;
            assert_eq!(answer.ext.text("masterAddr"), Some("10.0.0.1:10911"));
        };
        for _ in 0..3 {
            register_both().await;
            fixture.now_ms.fetch_add(100_000, Ordering::Relaxed);
            fixture.names.tick(fixture.now_ms.load(Ordering::Relaxed));
            assert_eq!(fixture.names.live_brokers(), 2);
        }
        let delete = Frame::request(RequestCode::DeleteTopicInNamesrv).with_field("topic", "orders");
        succeed(&master, delete).await;
        assert_eq!(ask(&master, route("orders")).await.code, 17);
        register_both().await;
        succeed(&master, route("orders")).await;
        // The same topics, by another address.
        succeed(&master, register(0, "10.0.0.3:10911", &body, false)).await;
        assert!(text(&succeed(&master, route("orders")).await).contains("10.0.0.3:10911"));
    });
}

#[test]
fn a_closed_connection_and_silence_remove_a_broker() {
    with_server(async |fixture: Fixture| {
        let client = fixture.dial("127.0.0.1").await;
        let broker = fixture.dial("127.0.0.1").await;
        succeed(&broker, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false)).await;
        drop(broker);
        wait_for("the broker is removed", || fixture.names.live_brokers() == 0).await;
        assert_eq!(ask(&client, route("orders")).await.code, 17);

        let broker = fixture.dial("127.0.0.1").await;
        succeed(&broker, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false)).await;
        fixture.now_ms.fetch_add(119_000, Ordering::Relaxed);
        succeed(&broker, identity(RequestCode::BrokerHeartbeat, 0, "10.0.0.1:10911")).await;
        fixture.now_ms.fetch_add(119_000, Ordering::Relaxed);
        fixture.names.tick(fixture.names.now_ms());
        succeed(&client, route("orders")).await;
        fixture.now_ms.fetch_add(2_000, Ordering::Relaxed);
        fixture.names.tick(fixture.names.now_ms());
        assert_eq!(ask(&client, route("orders")).await.code, 17);
        // A broker that was only slow is back with its next registration.
        succeed(&broker, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false)).await;
        succeed(&client, route("orders")).await;
    });
}

#[test]
fn data_versions_are_compared_and_count_as_a_heartbeat() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let query = |counter| {
            let theirs = DataVersion {
                counter,
                state_version: 0,
                timestamp: 7,
            };
            identity(RequestCode::QueryDataVersion, 0, "10.0.0.1:10911").with_body(json::write(&theirs))
        };
        let unknown = succeed(&peer, query(1)).await;
        assert_eq!((unknown.ext.text("changed"), text(&unknown)), (Some("true"), ""));
        succeed(&peer, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false)).await;
        let same = succeed(&peer, query(1)).await;
        assert_eq!(same.ext.text("changed"), Some("false"));
        assert_eq!(text(&same), r#"{"counter":1,"stateVersion":0,"timestamp":7}"#);
        assert_eq!(succeed(&peer, query(2)).await.ext.text("changed"), Some("true"));
        fixture.now_ms.fetch_add(100_000, Ordering::Relaxed);
        succeed(&peer, query(2)).await;
        fixture.now_ms.fetch_add(100_000, Ordering::Relaxed);
        fixture.names.tick(fixture.names.now_ms());
        assert_eq!(fixture.names.live_brokers(), 1);
        // Compat: with Apache, no version counts as a different one.
        let nothing = succeed(&peer, identity(RequestCode::QueryDataVersion, 0, "10.0.0.1:10911")).await;
        assert_eq!(nothing.ext.text("changed"), Some("true"));
        assert_eq!(text(&nothing), r#"{"counter":1,"stateVersion":0,"timestamp":7}"#);
    });
}

#[test]
fn clusters_members_and_lists_are_answered() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        succeed(&peer, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false)).await;
        let info = succeed(&peer, Frame::request(RequestCode::GetBrokerClusterInfo)).await;
        // Compat: Apache writes this body with unquoted keys for every client.
        assert!(text(&info).contains(r#"{0:"10.0.0.1:10911"}"#));
        let info: ClusterInfo = json::read(&info.body).unwrap();
        assert!(info.cluster_addr_table["DefaultCluster"].contains("broker-a"));
        let member = Frame::request(RequestCode::GetBrokerMemberGroup).with_field("clusterName", "DefaultCluster");
        let members: MemberGroupReply = json::read(&succeed(&peer, member.with_field("brokerName", "broker-a")).await.body).unwrap();
        assert_eq!(members.broker_member_group.unwrap().broker_addrs[&0], "10.0.0.1:10911");
        for (frame, expected) in [
            (Frame::request(RequestCode::GetAllTopicListFromNameserver), &["orders", "other"][..]),
            (
                Frame::request(RequestCode::GetTopicsByCluster).with_field("cluster", "DefaultCluster"),
                &["orders", "other"],
            ),
            (
                Frame::request(RequestCode::GetSystemTopicListFromNs),
                &["DefaultCluster", "broker-a"],
            ),
            (Frame::request(RequestCode::GetUnitTopicList), &[]),
        ] {
            let list: TopicList = json::read(&succeed(&peer, frame).await.body).unwrap();
            assert_eq!(list.topic_list.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        }
        succeed(
            &peer,
            Frame::request(RequestCode::UpdateNamesrvConfig).with_body("enableTopicList=false\nenableAllTopicList=false"),
        )
        .await;
        for code in [RequestCode::GetAllTopicListFromNameserver, RequestCode::GetUnitTopicList] {
            let answer = ask(&peer, Frame::request(code)).await;
            assert_eq!((answer.code, answer.remark.as_deref()), (1, Some("disable")));
        }
    });
}

#[test]
fn a_topic_is_registered_by_hand_with_the_body_of_a_route() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        succeed(&peer, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false)).await;
        let body = r#"{"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":3,"topicSysFlag":0,"writeQueueNums":3}]}"#;
        let enter = Frame::request(RequestCode::RegisterTopicInNamesrv)
            .with_field("topic", "by hand")
            .with_body(body);
        succeed(&peer, enter).await;
        assert!(text(&succeed(&peer, route("by hand")).await).contains(r#""readQueueNums":3"#));
    });
}

#[test]
fn kv_entries_are_stored_listed_and_deleted() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let entry = |code| Frame::request(code).with_field("namespace", "n").with_field("key", "k");
        let missing = ask(&peer, entry(RequestCode::GetKvConfig)).await;
        assert_eq!(
            (missing.code, missing.remark.as_deref()),
            (22, Some("No config item, Namespace: n Key: k"))
        );
        succeed(&peer, entry(RequestCode::PutKvConfig).with_field("value", "v")).await;
        assert_eq!(succeed(&peer, entry(RequestCode::GetKvConfig)).await.ext.text("value"), Some("v"));
        let list = Frame::request(RequestCode::GetKvlistByNamespace).with_field("namespace", "n");
        assert_eq!(text(&succeed(&peer, list.clone()).await), r#"{"table":{"k":"v"}}"#);
        let file = fixture.directory.path().join("namesrv/kvConfig.json");
        assert_eq!(std::fs::read_to_string(file).unwrap(), r#"{"configTable":{"n":{"k":"v"}}}"#);
        succeed(&peer, entry(RequestCode::DeleteKvConfig)).await;
        assert_eq!(ask(&peer, entry(RequestCode::GetKvConfig)).await.code, 22);
    });
}

#[test]
fn settings_are_listed_and_changed_except_those_that_move_paths() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let all = succeed(&peer, Frame::request(RequestCode::GetNamesrvConfig)).await;
        assert!(text(&all).contains("supportActingMaster=false\n"));
        let update = |body: &'static str| Frame::request(RequestCode::UpdateNamesrvConfig).with_body(body);
        for fixed in [
            "kvConfigPath=/tmp/x",
            "rocketmqHome=/",
            "configBlackList=",
            "listenPort=1",
            "supportActingMaster=true\nconfigStorePath=/x",
        ] {
            let answer = ask(&peer, update(fixed)).await;
            assert_eq!(answer.code, i32::from(ResponseCode::NoPermission), "{fixed}");
            assert!(answer.remark.unwrap().starts_with("Can not update config in black list."));
        }
        for key in config::NEVER_OVER_THE_WIRE {
            let body = format!("orderMessageEnable=true\n{key}=/tmp/x\n");
            let answer = ask(&peer, Frame::request(RequestCode::UpdateNamesrvConfig).with_body(body)).await;
            assert_eq!(answer.code, i32::from(ResponseCode::NoPermission), "{key}");
        }
        let all = succeed(&peer, Frame::request(RequestCode::GetNamesrvConfig)).await;
        assert!(
            text(&all).contains("orderMessageEnable=false\n"),
            "a refused update changes nothing"
        );
        assert_eq!(ask(&peer, update("supportActingMastr=true")).await.code, 1);
        succeed(&peer, update("supportActingMaster=true")).await;
        let all = succeed(&peer, Frame::request(RequestCode::GetNamesrvConfig)).await;
        assert!(text(&all).contains("supportActingMaster=true\n"));
        let kept = std::fs::read_to_string(fixture.directory.path().join("namesrv/live.properties")).unwrap();
        assert!(kept.ends_with("\nsupportActingMaster=true\n"), "{kept}");
    });
}

#[test]
fn an_unserved_code_is_refused_with_its_name() {
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let answer = ask(&peer, Frame::request(RequestCode::SendMessage)).await;
        assert_eq!(answer.code, i32::from(ResponseCode::RequestCodeNotSupported));
        assert!(answer.remark.as_deref().unwrap().starts_with(" request type 10 not supported"));
        assert!(answer.remark.unwrap().contains("SEND_MESSAGE"));
        let answer = ask(&peer, Frame::request(31_999)).await;
        assert_eq!(
            (answer.code, answer.remark.as_deref()),
            (3, Some(" request type 31999 not supported"))
        );
    });
}

#[test]
fn every_code_is_served_or_refused_with_its_feature() {
    const SERVED: usize = 23;
    with_server(async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let mut served = 0;
        for code in RequestCode::ALL {
            let answer = ask(&peer, Frame::request(*code)).await;
            if answer.code != i32::from(ResponseCode::RequestCodeNotSupported) {
                served += 1;
                continue;
            }
            let remark = answer.remark.unwrap();
            assert!(
                remark.contains(code.name()) && remark.contains(code.feature()),
                "{code:?}: {remark}"
            );
        }
        assert_eq!(served, SERVED);
    });
}

#[test]
fn an_embedded_broker_is_shown_under_the_address_the_client_used() {
    let local: nameserver::LocalBroker = Arc::new(|| Some("172.17.0.2:10911".into()));
    run(start(NamesrvSettings::default(), Some(local)), async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        succeed(&peer, register(0, "172.17.0.2:10911", &topics(&["orders", "other"], 1), false)).await;
        succeed(&peer, register(1, "10.0.0.2:10911", &topics(&["orders", "other"], 1), false)).await;
        let far = fixture.dial("[::1]").await;
        for _ in 0..2 {
            assert!(text(&succeed(&peer, route("orders")).await).contains(r#"{"0":"127.0.0.1:10911","1":"10.0.0.2:10911"}"#));
            assert!(text(&succeed(&far, route("orders")).await).contains(r#"{"0":"[::1]:10911","1":"10.0.0.2:10911"}"#));
        }
        assert!(text(&succeed(&peer, Frame::request(RequestCode::GetBrokerClusterInfo)).await).contains("127.0.0.1:10911"));
        let member = Frame::request(RequestCode::GetBrokerMemberGroup).with_field("clusterName", "DefaultCluster");
        let members = succeed(&peer, member.with_field("brokerName", "broker-a")).await;
        assert!(text(&members).contains("127.0.0.1:10911") && !text(&members).contains("172.17"));
    });
}

#[test]
fn routes_are_refused_until_brokers_had_time_to_register() {
    let settings = NamesrvSettings {
        need_wait_for_service: true,
        ..NamesrvSettings::default()
    };
    run(start(settings, None), async |fixture: Fixture| {
        let peer = fixture.dial("127.0.0.1").await;
        let early = ask(&peer, route("orders")).await;
        assert_eq!((early.code, early.remark.as_deref()), (1, Some("name server not ready")));
        fixture.now_ms.fetch_add(45_000, Ordering::Relaxed);
        assert_eq!(ask(&peer, route("orders")).await.code, 17);
    });
}

#[test]
fn pipelined_requests_are_all_answered() {
    with_server(async |fixture: Fixture| {
        let peer = Arc::new(fixture.dial("127.0.0.1").await);
        succeed(&peer, register(0, "10.0.0.1:10911", &topics(&["orders", "other"], 1), false)).await;
        let asking: Vec<_> = (0..300)
            .map(|_| {
                let peer = Arc::clone(&peer);
                tokio::spawn(async move { succeed(&peer, route("orders")).await.body.len() })
            })
            .collect();
        for answer in asking {
            assert!(answer.await.unwrap() > 100);
        }
    });
}
