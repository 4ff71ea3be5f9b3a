//! Several brokers behind a proxy, and several proxies in front of a broker.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use broker::Broker;
use broker::settings::BrokerSettings;
use proxy::Proxy;
use proxy::settings::ProxySettings;
use proxy::v2::telemetry_command::Command;
use proxy::v2::*;
use std::collections::BTreeSet;
use std::time::Duration;
use store::disk::simulated::SimulatedDisk;
use support::{Client, SOON, bodies, client, code, endpoints, message, millis, receipt, resource};
use tls::Accepted;

/// Brokers and proxies that know each other by a name server only.
struct Cluster {
    brokers: Vec<Broker>,
    proxies: Vec<Proxy>,
    name_server: net::Server,
}

impl Cluster {
    fn start(brokers: &[&str], proxies: usize, change: impl Fn(&mut BrokerSettings, &mut ProxySettings)) -> Self {
        let name_server = support::name_server();
        let mut proxy = support::proxy_settings();
        let brokers = brokers.iter().map(|name| {
            let mut settings = support::broker_settings(name);
            change(&mut settings, &mut proxy);
            support::registered(settings, &name_server, &SimulatedDisk::new(1))
        });
        let brokers = brokers.collect();
        let start = |_| Proxy::start_in_cluster(proxy.clone(), support::cluster(&name_server), Accepted::Plain, None).unwrap();
        Self {
            brokers,
            proxies: (0..proxies).map(start).collect(),
            name_server,
        }
    }

    fn run(mut self, test: impl AsyncFnOnce(&mut Self)) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { tokio::time::timeout(4 * SOON, test(&mut self)).await.expect("it hangs") });
        drop(runtime);
        self.proxies.into_iter().for_each(Proxy::stop);
        for broker in self.brokers {
            broker.stop().unwrap();
        }
        self.name_server.stop(SOON);
    }
}

/// Stops something that may not be stopped on a thread of a runtime.
fn stop(stop: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(stop).join().unwrap());
}

fn stored(broker: &Broker, topic: &str) -> i64 {
    let store = broker.operations().core.store;
    (0..8).map(|queue| store.max_offset(topic, queue).0).sum()
}

/// Receives from each broker once, so that the group has an offset at both.
async fn subscribe(client: &mut Client, group: &str, topic: &str, brokers: &[&str]) {
    for broker in brokers {
        let mut request = Client::receive_request(group, topic, 60_000);
        request.message_queue.as_mut().unwrap().broker = Some(proxy::v2::Broker {
            name: (*broker).to_owned(),
            ..proxy::v2::Broker::default()
        });
        assert_eq!(client.receive(request).await.0, Code::MessageNotFound);
    }
}

#[test]
fn messages_go_to_all_brokers_and_one_that_ends_is_left_out() {
    Cluster::start(&["a", "b"], 1, |_, _| {}).run(async |cluster| {
        let mut client = client(&cluster.proxies[0], "c").await;
        subscribe(&mut client, "g", "t", &["a", "b"]).await;
        let route = QueryRouteRequest {
            topic: resource("t"),
            endpoints: endpoints(),
        };
        let route = client.rpc.query_route(route).await.unwrap().into_inner().message_queues;
        let of = |queue: &MessageQueue| queue.broker.clone().unwrap().name;
        assert_eq!(route.iter().map(of).collect::<BTreeSet<_>>(), ["a", "b"].map(str::to_owned).into());
        assert!(route.iter().all(|queue| queue.broker.as_ref().unwrap().endpoints == endpoints()));

        for body in 0..32 {
            client.sent(message("t", &body.to_string(), |_| {})).await;
        }
        assert!(cluster.brokers.iter().all(|broker| stored(broker, "t") > 0));
        let got = client.receive_all("g", "t", 32).await;
        for message in &got {
            assert_eq!(client.ack("g", "t", &receipt(message)).await, Code::Ok);
        }
        assert_eq!(bodies(&got).into_iter().collect::<BTreeSet<_>>().len(), 32, "each one once");

        // The name server does not know yet that it is gone.
        let left = cluster.brokers.pop().unwrap();
        let before = stored(&cluster.brokers[0], "t");
        stop(move || left.stop().unwrap());
        for body in 0..8 {
            client.sent(message("t", &body.to_string(), |_| {})).await;
        }
        assert_eq!(stored(&cluster.brokers[0], "t"), before + 8);
        assert_eq!(client.receive_all("g", "t", 8).await.len(), 8);
    });
}

#[test]
fn without_a_broker_requests_have_a_clear_status() {
    Cluster::start(&["a"], 1, |_, _| {}).run(async |cluster| {
        let mut client = client(&cluster.proxies[0], "c").await;
        client.sent(message("t", "x", |_| {})).await;
        let left = cluster.brokers.pop().unwrap();
        stop(move || left.stop().unwrap());
        let answer = client.send(vec![message("t", "y", |_| {})]).await;
        let status = answer.status.unwrap();
        assert_ne!(status.code(), Code::Ok);
        assert!(!status.message.is_empty());
        let (code, none) = client.receive(Client::receive_request("g", "t", 60_000)).await;
        assert!(none.is_empty() && code != Code::Ok && code != Code::MessageNotFound, "{code:?}");
    });
}

#[test]
fn a_client_may_use_any_of_several_proxies() {
    Cluster::start(&["a", "b"], 2, |_, _| {}).run(async |cluster| {
        let [mut one, mut other] = [client(&cluster.proxies[0], "c").await, client(&cluster.proxies[1], "d").await];
        subscribe(&mut one, "g", "t", &["a", "b"]).await;
        for body in 0..16 {
            one.sent(message("t", &body.to_string(), |_| {})).await;
        }
        let mut all = BTreeSet::new();
        while all.len() < 16 {
            let request = || ReceiveMessageRequest {
                batch_size: 4,
                long_polling_timeout: Some(millis(200)),
                ..Client::receive_request("g", "t", 60_000)
            };
            let (mine, its) = tokio::join!(one.receive(request()), other.receive(request()));
            // Each acknowledges what the other one has received.
            for (client, got) in [(&mut other, mine.1), (&mut one, its.1)] {
                for message in &got {
                    assert_eq!(client.ack("g", "t", &receipt(message)).await, Code::Ok);
                }
                assert!(bodies(&got).into_iter().all(|body| all.insert(body)), "each one once");
            }
        }
    });
}

#[test]
fn a_transaction_ends_through_another_proxy_and_a_producer_is_asked_through_its_own() {
    Cluster::start(&["a"], 2, |_, _| {}).run(async |cluster| {
        let [mut one, mut other] = [client(&cluster.proxies[0], "c").await, client(&cluster.proxies[1], "d").await];
        let half = |body: &str| message("t", body, |system| system.set_message_type(MessageType::Transaction));
        let sent = one.sent(half("x")).await;
        let (mut telemetry, _) = other.produce("t").await;
        other.subscribe("g", "t").await;
        let end = |id: &str| EndTransactionRequest {
            topic: resource("t"),
            message_id: sent.message_id.clone(),
            transaction_id: id.to_owned(),
            resolution: TransactionResolution::Commit.into(),
            source: TransactionSource::SourceClient.into(),
            ..EndTransactionRequest::default()
        };
        let ended = other.rpc.end_transaction(end(&sent.transaction_id)).await.unwrap().into_inner();
        assert_eq!(code(ended.status), Code::Ok);
        assert_eq!(bodies(&other.receive_all("g", "t", 1).await), ["x"]);

        // Its producer is at the other proxy.
        one.sent(half("y")).await;
        let asked = loop {
            let Command::RecoverOrphanedTransactionCommand(asked) = telemetry.next().await else {
                panic!()
            };
            // The first one may have been asked for before it ended.
            match &*asked.message.as_ref().unwrap().body {
                b"x" => {}
                body => break (body == b"y").then_some(asked).unwrap(),
            }
        };
        let ended = one.rpc.end_transaction(end(&asked.transaction_id)).await.unwrap().into_inner();
        assert_eq!(code(ended.status), Code::Ok);
        assert_eq!(bodies(&other.receive_all("g", "t", 1).await), ["y"]);
    });
}

fn renewed(poll_ms: i64) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        auto_renew: true,
        long_polling_timeout: Some(millis(poll_ms)),
        ..Client::receive_request("g", "t", 0)
    }
}

/// A push consumer of the first proxy with one message.
async fn with_message(cluster: &Cluster, id: &str) -> (Client, support::Telemetry, Message) {
    let mut client = client(&cluster.proxies[0], id).await;
    let (telemetry, _) = client.telemetry(Client::consumer(ClientType::PushConsumer, "g", "t")).await;
    client.subscribe("g", "t").await;
    client.sent(message("t", "x", |_| {})).await;
    let got = client.receive(renewed(20_000)).await.1.remove(0);
    (client, telemetry, got)
}

#[test]
fn a_message_is_held_when_its_proxy_is_gone_and_its_client_goes_to_another_one() {
    let change = |_: &mut BrokerSettings, proxy: &mut ProxySettings| proxy.default_invisible = Duration::from_millis(500);
    Cluster::start(&["a"], 2, change).run(async |cluster| {
        let (client_of_first, telemetry, got) = with_message(cluster, "c").await;
        let left = cluster.proxies.remove(0);
        // First: a client that ends its stream says goodbye.
        stop(move || left.stop());
        drop((telemetry, client_of_first));
        let [mut again, mut other] = [client(&cluster.proxies[0], "c").await, client(&cluster.proxies[0], "d").await];
        let (_telemetry, _) = again.telemetry(Client::consumer(ClientType::PushConsumer, "g", "t")).await;
        let (_, none) = other.receive(renewed(3_000)).await;
        assert!(none.is_empty(), "it is held, six times its time");
        assert_eq!(again.ack("g", "t", &receipt(&got)).await, Code::Ok, "with its first handle");
        let (_, none) = other.receive(renewed(1_000)).await;
        assert!(none.is_empty());
        assert_eq!(cluster.brokers[0].operations().pops.in_flight(), 0);
    });
}

#[test]
fn a_message_is_held_as_long_as_its_client_is_at_any_proxy() {
    let change = |broker: &mut BrokerSettings, proxy: &mut ProxySettings| {
        broker.pop_holder_grace = Duration::from_millis(1);
        proxy.default_invisible = Duration::from_millis(300);
    };
    Cluster::start(&["a"], 2, change).run(async |cluster| {
        let (_first, telemetry, got) = with_message(cluster, "c").await;
        let [mut again, mut other] = [client(&cluster.proxies[1], "c").await, client(&cluster.proxies[1], "d").await];
        let (_telemetry, _) = again.telemetry(Client::consumer(ClientType::PushConsumer, "g", "t")).await;
        // Even a goodbye: the client is online at the other one.
        drop(telemetry);
        let (_, none) = other.receive(renewed(1_500)).await;
        assert!(none.is_empty());
        assert_eq!(again.ack("g", "t", &receipt(&got)).await, Code::Ok);
    });
}

#[test]
fn what_was_held_comes_again_through_another_proxy_when_proxy_and_client_are_gone() {
    let change = |broker: &mut BrokerSettings, proxy: &mut ProxySettings| {
        broker.pop_holder_grace = Duration::from_millis(500);
        proxy.default_invisible = Duration::from_secs(1);
    };
    Cluster::start(&["a"], 2, change).run(async |cluster| {
        let (client_of_first, telemetry, _) = with_message(cluster, "c").await;
        let mut other = client(&cluster.proxies[1], "d").await;
        let left = cluster.proxies.remove(0);
        drop((telemetry, client_of_first));
        stop(move || left.stop());
        assert_eq!(bodies(&other.receive_all("g", "t", 1).await), ["x"]);
    });
}

#[test]
fn a_broker_that_comes_back_is_told_of_the_clients_soon() {
    let change = |_: &mut BrokerSettings, _: &mut ProxySettings| {};
    Cluster::start(&["a"], 1, change).run(async |cluster| {
        let mut one = client(&cluster.proxies[0], "c").await;
        let (_telemetry, _) = one.telemetry(Client::consumer(ClientType::PushConsumer, "g", "t")).await;
        let members = |cluster: &Cluster| cluster.brokers[0].operations().online.consumers.members("g").unwrap_or_default();
        assert_eq!(&*members(cluster)[0].client_id, "c");
        let left = cluster.brokers.pop().unwrap();
        let name_server = &cluster.name_server;
        let back = std::thread::scope(|scope| {
            let back = scope.spawn(move || {
                left.stop().unwrap();
                support::registered(support::broker_settings("a"), name_server, &SimulatedDisk::new(2))
            });
            back.join().unwrap()
        });
        cluster.brokers.push(back);
        while members(cluster).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(&*members(cluster)[0].client_id, "c");
    });
}

#[test]
fn messages_of_a_client_that_a_broker_does_not_take_are_renewed_by_the_proxy() {
    let change = |broker: &mut BrokerSettings, proxy: &mut ProxySettings| {
        broker.max_clients_per_connection = 1;
        proxy.default_invisible = Duration::from_secs(1);
        proxy.renew_ahead = Duration::from_millis(900);
    };
    Cluster::start(&["a"], 1, change).run(async |cluster| {
        let mut first = client(&cluster.proxies[0], "b").await;
        let (_first, _) = first.telemetry(Client::consumer(ClientType::PushConsumer, "g", "t")).await;
        let (mut second, _telemetry, got) = with_message(cluster, "c").await;
        let members = cluster.brokers[0].operations().online.consumers.members("g").unwrap();
        assert_eq!((members.len(), &*members[0].client_id), (1, "b"), "one more is refused");
        assert_eq!(cluster.brokers[0].operations().online.proxied.len(), 1);
        let (_, none) = first.receive(renewed(4_000)).await;
        assert!(none.is_empty());
        assert_eq!(second.ack("g", "t", &receipt(&got)).await, Code::Ok, "with its first handle");
        while cluster.brokers[0].operations().pops.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_lite_topic_is_at_one_broker_and_a_client_receives_from_all() {
    let lite = |broker: &mut BrokerSettings, _: &mut ProxySettings| (broker.enable_lmq, broker.enable_multi_dispatch) = (true, true);
    Cluster::start(&["a", "b"], 1, lite).run(async |cluster| {
        for broker in &cluster.brokers {
            let core = broker.operations().core;
            let changes = broker::attributes::parse("+message.type=LITE").unwrap();
            core.topics.update(vec![(broker::topic::Spec::new("p", 2), changes)], 1).unwrap();
            let rule = broker::group::Rule {
                group_name: "g".to_owned(),
                attributes: [("+lite.bind.topic".to_owned(), "p".to_owned())].into(),
                ..broker::group::Rule::default()
            };
            core.groups.update(vec![rule], 1).unwrap();
        }
        let mut client = client(&cluster.proxies[0], "c").await;
        let consumer = Client::consumer(ClientType::LitePushConsumer, "g", "p");
        let (_telemetry, _) = client.telemetry(consumer).await;
        let names: Vec<String> = (0..20).map(|n| format!("lite{n}")).collect();
        let subscribe = SyncLiteSubscriptionRequest {
            action: LiteSubscriptionAction::PartialAdd.into(),
            topic: resource("p"),
            group: resource("g"),
            lite_topic_set: names.clone(),
            ..SyncLiteSubscriptionRequest::default()
        };
        let answer = client.rpc.sync_lite_subscription(subscribe).await.unwrap().into_inner();
        assert_eq!(code(answer.status), Code::Ok);
        for n in 0..3 {
            for name in &names {
                let body = format!("{name} {n}");
                client
                    .sent(message("p", &body, |system| system.lite_topic = Some(name.clone())))
                    .await;
            }
        }
        let at: Vec<i64> = cluster.brokers.iter().map(|broker| stored(broker, "p")).collect();
        assert!(
            at.iter().all(|count| *count > 0 && count % 3 == 0),
            "whole lite topics at each: {at:?}"
        );
        let got = bodies(&client.receive_all("g", "p", 60).await);
        for name in &names {
            let own: Vec<&String> = got.iter().filter(|body| body.starts_with(&format!("{name} "))).collect();
            assert_eq!(own, [&format!("{name} 0"), &format!("{name} 1"), &format!("{name} 2")]);
        }
    });
}
