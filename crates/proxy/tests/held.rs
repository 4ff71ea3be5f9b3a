//! Messages of push consumers, which the broker holds for them as long as they are online.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use broker::attributes;
use broker::group::Rule;
use broker::settings::BrokerSettings;
use broker::topic::Spec;
use proxy::settings::ProxySettings;
use proxy::v2::*;
use std::time::Duration;
use store::disk::simulated::SimulatedDisk;
use support::{Client, Server, Telemetry, attempt, bodies, code, message, millis, receipt, resource};

const INVISIBLE: Duration = Duration::from_millis(500);
/// When a handle has expired that is not of a held message, with the tolerance for clocks.
const LATE: Duration = Duration::from_millis(1_700);

/// Messages are written to the revive topic soon, and a client that is gone may come back within `grace`.
fn settings(grace: Duration) -> impl Fn(&mut BrokerSettings, &mut ProxySettings) {
    move |broker, proxy| {
        broker.pop_stay = Duration::from_millis(50);
        broker.pop_holder_grace = grace;
        broker.enable_lmq = true;
        broker.enable_multi_dispatch = true;
        proxy.default_invisible = INVISIBLE;
        proxy.renew_ahead = Duration::from_millis(100);
        proxy.invisible_when_clear = Duration::from_millis(1);
    }
}

const LONG: Duration = Duration::from_secs(60);

fn renewed(poll: Duration) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        auto_renew: true,
        long_polling_timeout: Some(millis(poll.as_millis() as i64)),
        ..Client::receive_request("g", "t", 0)
    }
}

async fn push_consumer(server: &Server, id: &str) -> (Client, Telemetry) {
    let mut client = server.client(id).await;
    let (telemetry, _) = client.telemetry(Client::consumer(ClientType::PushConsumer, "g", "t")).await;
    (client, telemetry)
}

/// A push consumer with one message, that another client sent.
async fn with_message(server: &Server, id: &str, body: &str) -> (Client, Telemetry, Message) {
    let (mut client, telemetry) = push_consumer(server, id).await;
    client.subscribe("g", "t").await;
    client.sent(message("t", body, |_| {})).await;
    loop {
        let got = client.receive(renewed(Duration::from_secs(5))).await.1;
        if let Some(got) = got.into_iter().next() {
            return (client, telemetry, got);
        }
    }
}

/// Nobody else gets a message for this time.
async fn nobody_gets_it(client: &mut Client, time: Duration) {
    let request = ReceiveMessageRequest {
        auto_renew: false,
        invisible_duration: Some(millis(60_000)),
        ..renewed(time)
    };
    let (_, got) = client.receive(request).await;
    assert!(got.is_empty(), "it is held: {:?}", bodies(&got));
}

/// The handle of a message that client `c` received before it died: it had a runtime of its own, whose end broke its connection.
fn received_before_it_died(server: &Server) -> String {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let received = runtime.block_on(with_message(server, "c", "x"));
        // Before its stream is dropped, which would be a goodbye.
        runtime.shutdown_background();
        receipt(&received.2)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[test]
fn a_message_is_held_beyond_its_time_and_acknowledged_with_its_first_handle() {
    Server::start(settings(LONG)).run(async |server| {
        let (mut client, _telemetry, got) = with_message(server, "c", "x").await;
        let mut other = server.client("d").await;
        nobody_gets_it(&mut other, LATE + INVISIBLE).await;
        assert_eq!(client.ack("g", "t", &receipt(&got)).await, Code::Ok);
        nobody_gets_it(&mut other, INVISIBLE).await;
        assert_eq!(
            client.ack("g", "t", &receipt(&got)).await,
            Code::InvalidReceiptHandle,
            "it is not in flight any more"
        );
    });
}

#[test]
fn a_message_that_failed_is_tried_again_by_its_first_handle() {
    Server::start(settings(LONG)).run(async |server| {
        let (mut client, _telemetry, got) = with_message(server, "c", "x").await;
        tokio::time::sleep(LATE).await;
        let (outcome, changed) = client.change("g", "t", &receipt(&got), 300).await;
        assert_eq!(outcome, Code::Ok);
        assert_eq!(client.change("g", "t", &receipt(&got), 300).await.0, Code::InvalidReceiptHandle);
        let again = client.receive_all("g", "t", 1).await;
        assert_eq!((bodies(&again), attempt(&again[0])), (vec!["x".to_owned()], 2));
        assert_eq!(client.ack("g", "t", &receipt(&got)).await, Code::InvalidReceiptHandle);
        drop(changed);
        assert_eq!(client.ack("g", "t", &receipt(&again[0])).await, Code::Ok);
    });
}

#[test]
fn a_held_message_becomes_a_dead_letter_by_its_first_handle_once() {
    Server::start(settings(LONG)).run(async |server| {
        let (mut client, _telemetry, got) = with_message(server, "c", "x").await;
        tokio::time::sleep(LATE).await;
        let request = || ForwardMessageToDeadLetterQueueRequest {
            group: resource("g"),
            topic: resource("t"),
            receipt_handle: receipt(&got),
            message_id: "id".to_owned(),
            delivery_attempt: 1,
            max_delivery_attempts: 1,
            ..ForwardMessageToDeadLetterQueueRequest::default()
        };
        let forwarded = client
            .rpc
            .forward_message_to_dead_letter_queue(request())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(code(forwarded.status), Code::Ok);
        let forwarded = client
            .rpc
            .forward_message_to_dead_letter_queue(request())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(code(forwarded.status), Code::InvalidReceiptHandle);
        let store = server.broker.operations().core.store;
        assert_eq!(store.max_offset("%DLQ%g", 0).0, 1);
        nobody_gets_it(&mut client, INVISIBLE).await;
    });
}

#[test]
fn what_a_client_held_comes_again_when_it_died() {
    Server::start(settings(Duration::from_millis(300))).run(async |server| {
        let handle = received_before_it_died(server);
        let mut other = server.client("d").await;
        let again = other.receive_all("g", "t", 1).await;
        assert_eq!((bodies(&again), attempt(&again[0])), (vec!["x".to_owned()], 2));
        tokio::time::sleep(LATE).await;
        assert_eq!(
            other.ack("g", "t", &handle).await,
            Code::InvalidReceiptHandle,
            "the one of the dead client"
        );
        assert_eq!(other.ack("g", "t", &receipt(&again[0])).await, Code::Ok);
    });
}

#[test]
fn a_client_whose_connection_broke_keeps_its_messages_when_it_comes_back() {
    Server::start(settings(LONG)).run(async |server| {
        let handle = received_before_it_died(server);
        let (mut client, _telemetry) = push_consumer(server, "c").await;
        let mut other = server.client("d").await;
        nobody_gets_it(&mut other, LATE + INVISIBLE).await;
        assert_eq!(client.ack("g", "t", &handle).await, Code::Ok);
        nobody_gets_it(&mut other, INVISIBLE).await;
    });
}

#[test]
fn a_client_that_ends_gives_back_what_it_held_and_that_is_no_retry() {
    Server::start(settings(LONG)).run(async |server| {
        let handle = received_before_it_died(server);
        // Its connection broke before.
        let mut client = server.client("c").await;
        let request = NotifyClientTerminationRequest { group: resource("g") };
        let ended = client.rpc.notify_client_termination(request).await.unwrap().into_inner();
        assert_eq!(code(ended.status), Code::Ok);
        let mut other = server.client("d").await;
        let again = other.receive_all("g", "t", 1).await;
        assert_eq!((bodies(&again), attempt(&again[0])), (vec!["x".to_owned()], 1));
        tokio::time::sleep(LATE).await;
        assert_eq!(other.ack("g", "t", &handle).await, Code::InvalidReceiptHandle);
    });
}

#[test]
fn held_messages_in_order_block_their_queue() {
    Server::start(settings(LONG)).run(async |server| {
        let rule = Rule {
            group_name: "g".to_owned(),
            consume_message_orderly: true,
            ..Rule::default()
        };
        server.broker.operations().core.groups.update(vec![rule], 1).unwrap();
        let (mut client, telemetry) = push_consumer(server, "c").await;
        client.subscribe("g", "t").await;
        let fifo = |body: &str| message("t", body, |system| system.message_group = Some("one".to_owned()));
        for body in ["1", "2"] {
            client.sent(fifo(body)).await;
        }
        let request = || ReceiveMessageRequest {
            batch_size: 1,
            ..renewed(Duration::from_secs(5))
        };
        let first = client.receive(request()).await.1;
        assert_eq!(bodies(&first), ["1"]);
        let mut other = server.client("d").await;
        nobody_gets_it(&mut other, LATE).await;
        assert_eq!(client.ack("g", "t", &receipt(&first[0])).await, Code::Ok);
        let second = client.receive(request()).await.1;
        assert_eq!(bodies(&second), ["2"]);
        drop(telemetry);
        let request = NotifyClientTerminationRequest { group: resource("g") };
        client.rpc.notify_client_termination(request).await.unwrap();
        let again = other.receive_all("g", "t", 1).await;
        assert_eq!(bodies(&again), ["2"]);
        tokio::time::sleep(LATE).await;
        assert_eq!(client.ack("g", "t", &receipt(&second[0])).await, Code::InvalidReceiptHandle);
        assert_eq!(other.ack("g", "t", &receipt(&again[0])).await, Code::Ok);
    });
}

#[test]
fn held_messages_of_lite_topics_block_them() {
    Server::start(settings(LONG)).run(async |server| {
        let core = server.broker.operations().core;
        let changes = attributes::parse("+message.type=LITE").unwrap();
        core.topics.update(vec![(Spec::new("t", 2), changes)], 1).unwrap();
        let rule = Rule {
            group_name: "g".to_owned(),
            attributes: [("+lite.bind.topic".to_owned(), "t".to_owned())].into(),
            ..Rule::default()
        };
        core.groups.update(vec![rule], 1).unwrap();
        let mut clients = Vec::new();
        for id in ["c", "d"] {
            let mut client = server.client(id).await;
            let (telemetry, _) = client.telemetry(Client::consumer(ClientType::LitePushConsumer, "g", "t")).await;
            let request = SyncLiteSubscriptionRequest {
                action: LiteSubscriptionAction::PartialAdd.into(),
                topic: resource("t"),
                group: resource("g"),
                lite_topic_set: vec!["a".to_owned()],
                ..SyncLiteSubscriptionRequest::default()
            };
            let synced = client.rpc.sync_lite_subscription(request).await.unwrap().into_inner();
            assert_eq!(code(synced.status), Code::Ok);
            clients.push((client, telemetry));
        }
        let lite = |body: &str| message("t", body, |system| system.lite_topic = Some("a".to_owned()));
        let [(client, _telemetry), (other, _)] = &mut clients[..] else {
            panic!()
        };
        client.sent(lite("1")).await;
        let first = client.receive(renewed(Duration::from_secs(5))).await.1;
        assert_eq!(bodies(&first), ["1"]);
        nobody_gets_it(other, LATE).await;
        assert_eq!(client.ack("g", "t", &receipt(&first[0])).await, Code::Ok);
        client.sent(lite("2")).await;
        let second = client.receive(renewed(Duration::from_secs(5))).await.1;
        assert_eq!(bodies(&second), ["2"]);
        let request = NotifyClientTerminationRequest { group: resource("g") };
        client.rpc.notify_client_termination(request).await.unwrap();
        let again = other.receive_all("g", "t", 1).await;
        assert_eq!((bodies(&again), attempt(&again[0])), (vec!["2".to_owned()], 1));
        tokio::time::sleep(LATE).await;
        assert_eq!(other.ack("g", "t", &receipt(&second[0])).await, Code::InvalidReceiptHandle);
        assert_eq!(other.ack("g", "t", &receipt(&again[0])).await, Code::Ok);
    });
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(4 * support::SOON, work).await.expect("it hangs") })
}

/// A message is held while the broker stops, or is killed, and starts again.
fn survives(stop: impl FnOnce(Server, &SimulatedDisk) -> SimulatedDisk) {
    let disk = SimulatedDisk::new(1);
    let server = Server::start_on(&disk, settings(LONG));
    let handle = on_a_runtime(async {
        let got = with_message(&server, "c", "x").await;
        // Until it is written: what is in flight for less is handed out again after a kill.
        let store = server.broker.operations().core.store;
        let written = || {
            (0..8)
                .map(|queue| store.max_offset("rmq_sys_REVIVE_LOG_DefaultCluster", queue).0)
                .sum::<i64>()
        };
        while written() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        receipt(&got.2)
    });
    let disk = stop(server, &disk);
    let server = Server::start_on(&disk, settings(LONG));
    server.run(async |server| {
        let (mut client, _telemetry) = push_consumer(server, "c").await;
        let mut other = server.client("d").await;
        nobody_gets_it(&mut other, LATE + INVISIBLE).await;
        assert_eq!(client.ack("g", "t", &handle).await, Code::Ok);
        nobody_gets_it(&mut other, INVISIBLE).await;
        assert_eq!(server.broker.operations().pops.in_flight(), 0);
    });
}

#[test]
fn a_message_is_held_while_the_broker_stops_and_starts() {
    survives(|server, disk| {
        server.stop();
        disk.mounted_again(2)
    });
}

#[test]
fn a_message_is_held_while_the_broker_is_killed_and_starts() {
    survives(|server, disk| {
        let left = disk.process_killed();
        server.stop();
        left
    });
}

#[test]
fn what_is_held_for_a_client_that_does_not_come_back_after_a_start_comes_again() {
    let disk = SimulatedDisk::new(1);
    let server = Server::start_on(&disk, settings(LONG));
    on_a_runtime(async { drop(with_message(&server, "c", "x").await) });
    server.stop();
    Server::start_on(&disk.mounted_again(2), settings(Duration::from_millis(500))).run(async |server| {
        let mut other = server.client("d").await;
        assert_eq!(bodies(&other.receive_all("g", "t", 1).await), ["x"]);
    });
}

#[test]
fn the_clients_of_a_group_are_shown() {
    Server::start(settings(LONG)).run(async |server| {
        let one = push_consumer(server, "c").await;
        let other = push_consumer(server, "d").await;
        let mut producer = server.client("p").await;
        let producing = producer.produce("t").await;
        let online = server.broker.operations().online;
        let shown = |group: &str| {
            let members = online.consumers.members(group).unwrap_or_default();
            let mut ids: Vec<String> = members.iter().map(|member| member.client_id.to_string()).collect();
            ids.sort();
            ids
        };
        assert_eq!(shown("g"), ["c", "d"]);
        let producers = online.producers.members("t").unwrap();
        assert_eq!((producers.len(), &*producers[0].client_id), (1, "p"));
        drop((one, producing));
        while shown("g") != ["d"] || online.producers.members("t").is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(other);
        while !shown("g").is_empty() || !online.proxied.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}
