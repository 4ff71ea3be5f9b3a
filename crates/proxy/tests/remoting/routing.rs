//! Which broker gets what, and what clients get back.

use crate::cluster::{Cluster, client, consumer, heartbeat, members, next, played, pull, send, stored, until};
use crate::support::SOON;
use client::{Message, Producer, PullOptions, Puller, Queue};
use protocol::frame::Encoding;
use protocol::route::TopicRoute;
use protocol::{Frame, RequestCode, ResponseCode};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn a_client_that_knows_the_proxy_only_sends_and_pulls_at_all_brokers() {
    Cluster::start(&["a", "b"], 1, |_| {}).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = client(&proxy);
        for broker in ["a", "b"] {
            let answer = client.call(&proxy, send(broker, "t", broker)).await.unwrap();
            assert_eq!(answer.code, 0, "{:?}", answer.remark);
        }
        let route: TopicRoute = loop {
            let route = client.topic_route("t").await;
            match route {
                Ok(route) if route.broker_datas.len() == 2 => break route,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        for broker in &route.broker_datas {
            assert_eq!(broker.broker_addrs, [(0, proxy.clone())].into());
        }
        assert!(cluster.brokers.iter().all(|broker| stored(broker, "t") == 1));
        for broker in ["a", "b"] {
            let answer = client.call(&proxy, pull(broker, "t", 0, 0)).await.unwrap();
            assert_eq!(answer.code, 0, "{:?}", answer.remark);
            let bodies: Vec<_> = client::records(&answer.body).map(|record| record.unwrap().body.to_vec()).collect();
            assert_eq!(bodies, [broker.as_bytes()]);
        }
        let unknown = client
            .call(&proxy, Frame::request(105).with_field("topic", "no-such-topic"))
            .await
            .unwrap();
        assert_eq!(unknown.code, i32::from(ResponseCode::TopicNotExist));
    });
}

#[test]
fn a_binary_request_has_a_binary_answer_under_its_own_opaque() {
    Cluster::start(&["a"], 1, |_| {}).run(async |cluster| {
        let mut stream = TcpStream::connect(cluster.address(0)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut buffer = bytes::BytesMut::new();
        for (opaque, request) in [
            (77, send("a", "t", "x")),
            (-5, Frame::request(105).with_field("topic", "TBW102")),
            (i32::MAX, pull("a", "t", 0, 0)),
        ] {
            let request = Frame {
                encoding: Encoding::Binary,
                opaque,
                ..request
            };
            stream.write_all(&request.to_bytes()).unwrap();
            let answer = next(&mut stream, &mut buffer);
            assert_eq!(
                (answer.code, answer.opaque, answer.encoding),
                (0, opaque, Encoding::Binary),
                "{answer:?}"
            );
        }
    });
}

#[test]
fn a_request_without_a_broker_is_clear_with_one_and_refused_with_two() {
    for (brokers, code) in [
        (&["a"][..], ResponseCode::Success),
        (&["a", "b"], ResponseCode::VersionNotSupported),
    ] {
        Cluster::start(brokers, 1, |_| {}).run(async |cluster| {
            let (proxy, mut nameless) = (cluster.address(0), send("a", "t", "x"));
            nameless.ext.remove("n");
            let answer = client(&proxy).call(&proxy, nameless).await.unwrap();
            assert_eq!(answer.code, i32::from(code), "{:?}", answer.remark);
            assert!(code == ResponseCode::Success || answer.remark.unwrap().contains("names no broker"));
        });
    }
}

#[test]
fn what_is_not_for_clients_is_refused_and_so_are_unknown_brokers_and_codes() {
    Cluster::start(&["a"], 1, |settings| settings.max_brokers_per_client = 2).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = client(&proxy);
        let refused = async |request: Frame| {
            let answer = client.call(&proxy, request).await.unwrap();
            (ResponseCode::try_from(answer.code).unwrap(), answer.remark.unwrap_or_default())
        };
        for code in [17, 25, 26, 106, 215, 3_001] {
            let (code, text) = refused(Frame::request(code).with_field("bname", "a")).await;
            assert_eq!(code, ResponseCode::RequestCodeNotSupported);
            assert!(text.contains("ask the port of a broker"), "{text}");
        }
        assert_eq!(refused(Frame::request(123_456)).await.0, ResponseCode::RequestCodeNotSupported);
        // Names that do not exist take no place.
        for name in ["x", "y", "z", "\u{1}\u{2}"] {
            let (code, text) = refused(send(name, "t", "x")).await;
            assert_eq!(code, ResponseCode::ServiceNotAvailable);
            assert!(text.contains("no name server of the proxy knows"), "{text}");
        }
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        // A one-way request that is refused has no answer, and harms nothing.
        client.one_way(&proxy, Frame::request(17)).await.unwrap();
        client.one_way(&proxy, send("x", "t", "x")).await.unwrap();
        client.one_way(&proxy, send("a", "t", "x")).await.unwrap();
        until("the one-way message is stored", || stored(&cluster.brokers[0], "t") == 2).await;
    });
}

#[test]
fn members_of_a_group_come_through_two_proxies_and_directly_and_know_each_other() {
    Cluster::start(&["a", "b"], 2, |_| {}).run(async |cluster| {
        let [one, other] = [cluster.address(0), cluster.address(1)];
        let direct = cluster.brokers[0].addresses()[0].to_string();
        let (first, notified) = consumer(&one);
        first.call(&one, send("a", "t", "x")).await.unwrap();
        let acknowledged = first.heartbeat(&one, &heartbeat("first", "g", "t")).await.unwrap();
        assert!(acknowledged.supports_v2, "the answer is a broker's own");
        let (second, _second) = consumer(&other);
        second.heartbeat(&other, &heartbeat("second", "g", "t")).await.unwrap();
        let (third, _third) = consumer(&direct);
        third.heartbeat(&direct, &heartbeat("third", "g", "t")).await.unwrap();
        for (client, address) in [(&first, &one), (&second, &other), (&third, &direct)] {
            assert_eq!(members(client, address, "g").await, ["first", "second", "third"]);
        }
        let both = cluster.brokers[1].addresses()[0].to_string();
        assert_eq!(
            members(&third, &both, "g").await,
            ["first", "second"],
            "a heartbeat goes to all masters"
        );
        let change = notified.recv_timeout(SOON).unwrap();
        assert_eq!((change.code, change.ext.text("consumerGroup")), (40, Some("g")));

        second.leave(&other, "second", None, Some("g")).await.unwrap();
        assert_eq!(members(&first, &one, "g").await, ["first", "third"]);
        // A client that is gone is gone at the brokers, with its connections.
        drop(first);
        until("the brokers know that the client is gone", || {
            cluster.proxies[0].broker_connections() == 0
        })
        .await;
        let begun = Instant::now();
        while members(&third, &direct, "g").await != ["third"] {
            assert!(begun.elapsed() < SOON, "it left the group");
        }
    });
}

#[test]
fn questions_of_two_brokers_under_one_opaque_are_told_apart() {
    Cluster::start(&["a"], 1, |_| {}).run(async |cluster| {
        let proxy = cluster.address(0);
        let (client, questions) = consumer(&proxy);
        let mut streams = Vec::new();
        for name in ["one", "other"] {
            let (address, accepted) = played();
            cluster.register(name, &address).await;
            client.one_way(&proxy, send(name, "t", "x")).await.unwrap();
            let stream = tokio::task::spawn_blocking(move || accepted.recv_timeout(SOON).unwrap())
                .await
                .unwrap();
            streams.push((name, stream));
        }
        tokio::task::spawn_blocking(move || {
            for (name, stream) in &mut streams {
                stream.set_read_timeout(Some(SOON)).unwrap();
                let question = Frame {
                    opaque: 5,
                    ..Frame::request(307).with_field("who", *name)
                };
                let check = Frame::request(39).with_field("msgId", "m").oneway();
                stream.write_all(&[question.to_bytes(), check.to_bytes()].concat()).unwrap();
            }
            for (name, stream) in &mut streams {
                let mut buffer = bytes::BytesMut::new();
                let mut frame = next(stream, &mut buffer);
                while !frame.is_response() {
                    frame = next(stream, &mut buffer);
                }
                assert_eq!((frame.opaque, &frame.body[..]), (5, name.as_bytes()));
            }
        })
        .await
        .unwrap();
        let asked: Vec<Frame> = (0..4).map(|_| questions.recv_timeout(SOON).unwrap()).collect();
        let opaques: Vec<i32> = asked.iter().filter(|frame| frame.code == 307).map(|frame| frame.opaque).collect();
        assert!(opaques.len() == 2 && opaques[0] != opaques[1], "{opaques:?}");
        // A check says which broker asks, also if the broker does not.
        let mut checks: Vec<_> = asked
            .iter()
            .filter(|frame| frame.code == 39)
            .filter_map(|frame| frame.ext.text("bname"))
            .collect();
        checks.sort_unstable();
        assert_eq!(checks, ["one", "other"]);
    });
}

#[test]
fn locks_go_to_the_broker_of_their_queues() {
    Cluster::start(&["a", "b"], 1, |_| {}).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = client(&proxy);
        let lock = |brokers: &[&str]| {
            let queues: Vec<_> = brokers
                .iter()
                .map(|name| format!(r#"{{"topic":"t","brokerName":"{name}","queueId":0}}"#))
                .collect();
            let body = format!(r#"{{"clientId":"c","consumerGroup":"g","mqSet":[{}]}}"#, queues.join(","));
            Frame::request(RequestCode::LockBatchMq).with_body(body)
        };
        for name in ["a", "b"] {
            let answer = client.call(&proxy, lock(&[name])).await.unwrap();
            assert_eq!(answer.code, 0, "{:?}", answer.remark);
            assert!(
                String::from_utf8(answer.body.to_vec())
                    .unwrap()
                    .contains(&format!(r#""brokerName":"{name}""#))
            );
        }
        let answer = client.call(&proxy, lock(&["a", "b"])).await.unwrap();
        assert_eq!(answer.code, i32::from(ResponseCode::InvalidParameter));
    });
}

#[test]
fn a_producer_and_a_consumer_need_nothing_but_the_proxy() {
    Cluster::start(&["a"], 1, |_| {}).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = client(&proxy);
        let producer = Producer::new(&client, "pg");
        // The topic is created by its first message, through the template's route.
        let queue = Queue::at(&proxy, "t", 0);
        let sent = producer.send_to(&queue, Message::new("t", "one")).await.unwrap();
        let puller = Puller::new(&client, "g");
        let pulled = puller.pull(&queue, sent.offset, &PullOptions::default()).await.unwrap();
        assert_eq!(pulled.records().next().unwrap().unwrap().body, b"one");
    });
}
