//! Lite topics of the protocol, against a whole broker.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use broker::attributes;
use broker::group::Rule;
use broker::topic::Spec;
use proxy::v2::telemetry_command::Command;
use proxy::v2::*;
use support::{Client, Server, Telemetry, attempt, bodies, code, endpoints, message, millis, receipt, resource};

fn start(more: &[(&str, &str)]) -> Server {
    let server = Server::start(|broker, _| {
        broker.enable_lmq = true;
        broker.enable_multi_dispatch = true;
    });
    let core = server.broker.operations().core;
    let changes = attributes::parse("+message.type=LITE").unwrap();
    core.topics.update(vec![(Spec::new("p", 2), changes)], 1).unwrap();
    let attributes = [("+lite.bind.topic", "p")].iter().chain(more);
    let rule = Rule {
        group_name: "g".to_owned(),
        attributes: attributes.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        retry_max_times: 1,
        ..Rule::default()
    };
    core.groups.update(vec![rule], 1).unwrap();
    server
}

async fn sync(client: &mut Client, action: LiteSubscriptionAction, lites: &[&str]) -> Code {
    let request = SyncLiteSubscriptionRequest {
        action: action.into(),
        topic: resource("p"),
        group: resource("g"),
        lite_topic_set: lites.iter().map(|lite| (*lite).to_owned()).collect(),
        ..SyncLiteSubscriptionRequest::default()
    };
    code(client.rpc.sync_lite_subscription(request).await.unwrap().into_inner().status)
}

async fn lite_client(server: &Server, id: &str) -> (Client, Telemetry, Subscription) {
    let mut client = server.client(id).await;
    let (telemetry, told) = client.telemetry(Client::consumer(ClientType::LitePushConsumer, "g", "p")).await;
    let Some(settings::PubSub::Subscription(told)) = told.pub_sub else {
        panic!()
    };
    (client, telemetry, told)
}

fn lite_message(lite: &str, body: &str) -> Message {
    message("p", body, |system| system.lite_topic = Some(lite.to_owned()))
}

fn request(invisible_ms: i64, poll_ms: i64) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        long_polling_timeout: Some(millis(poll_ms)),
        ..Client::receive_request("g", "p", invisible_ms)
    }
}

fn lite_of(message: &Message) -> Option<String> {
    message.system_properties.as_ref().unwrap().lite_topic.clone()
}

async fn ack(client: &mut Client, message: &Message, lite: Option<&str>) -> Code {
    let request = AckMessageRequest {
        group: resource("g"),
        topic: resource("p"),
        entries: vec![AckMessageEntry {
            message_id: "id".to_owned(),
            receipt_handle: receipt(message),
            lite_topic: lite.map(str::to_owned),
        }],
    };
    code(client.rpc.ack_message(request).await.unwrap().into_inner().status)
}

#[test]
fn a_client_receives_the_messages_of_its_lite_topics() {
    start(&[]).run(async |server| {
        let (mut client, _telemetry, told) = lite_client(server, "c").await;
        assert_eq!((told.lite_subscription_quota, told.max_lite_topic_size), (Some(2_000), Some(64)));
        assert_eq!(sync(&mut client, LiteSubscriptionAction::PartialAdd, &["a", "b"]).await, Code::Ok);
        for (lite, body) in [("a", "1"), ("other", "2"), ("a", "3")] {
            client.sent(lite_message(lite, body)).await;
        }
        let (_, got) = client.receive(request(60_000, 1)).await;
        assert_eq!(
            (bodies(&got), lite_of(&got[0])),
            (vec!["1".to_owned(), "3".to_owned()], Some("a".to_owned()))
        );
        assert_eq!(
            (attempt(&got[0]), got[1].system_properties.as_ref().unwrap().queue_offset),
            (1, Some(1))
        );
        let kind = got[0].system_properties.as_ref().unwrap().message_type();
        assert_eq!(kind, MessageType::Lite);
        assert_eq!(ack(&mut client, &got[0], Some("b")).await, Code::InvalidReceiptHandle);
        // The handle names the lite topic, too.
        for (message, lite) in got.iter().zip([Some("a"), None]) {
            assert_eq!(ack(&mut client, message, lite).await, Code::Ok, "{lite:?}");
        }
        let mut other = client.clone();
        let waiting = other.receive(request(60_000, 20_000));
        let (next, _) = tokio::join!(waiting, client.sent(lite_message("b", "4")));
        assert_eq!(bodies(&next.1), ["4"]);
        assert_eq!(sync(&mut client, LiteSubscriptionAction::PartialRemove, &["a"]).await, Code::Ok);
        assert_eq!(server.broker.operations().lites.subscriptions(), 1);
        let end = NotifyClientTerminationRequest { group: resource("g") };
        client.rpc.notify_client_termination(end).await.unwrap();
        assert_eq!(server.broker.operations().lites.subscriptions(), 0);
    });
}

#[test]
fn a_message_that_fails_is_received_again_and_then_a_dead_letter() {
    start(&[]).run(async |server| {
        let (mut client, _telemetry, _) = lite_client(server, "c").await;
        assert_eq!(sync(&mut client, LiteSubscriptionAction::CompleteAdd, &["a"]).await, Code::Ok);
        client.sent(lite_message("a", "1")).await;
        for expected in [1, 2] {
            let (_, got) = client.receive(request(60_000, 20_000)).await;
            assert_eq!((bodies(&got), attempt(&got[0])), (vec!["1".to_owned()], expected));
            let request = ChangeInvisibleDurationRequest {
                group: resource("g"),
                topic: resource("p"),
                receipt_handle: receipt(&got[0]),
                invisible_duration: Some(millis(1)),
                lite_topic: Some("a".to_owned()),
                ..ChangeInvisibleDurationRequest::default()
            };
            let changed = client.rpc.change_invisible_duration(request).await.unwrap().into_inner();
            assert_eq!(code(changed.status), Code::Ok);
        }
        let (code, got) = client.receive(request(60_000, 20_000)).await;
        assert!(got.is_empty() && code == Code::MessageNotFound, "{code:?} {got:?}");
        let operations = server.broker.operations();
        assert_eq!(operations.core.store.max_offset("%DLQ%g", 0).0, 1);
        assert_eq!(
            (operations.lites.in_flight(), operations.core.offsets.committed("%LMQ%$p$a", "g", 0)),
            (0, Some(1))
        );
    });
}

#[test]
fn who_loses_a_lite_topic_is_told() {
    start(&[("+lite.sub.model", "Exclusive")]).run(async |server| {
        let (mut first, mut telemetry, _) = lite_client(server, "c").await;
        let (mut second, _telemetry, _) = lite_client(server, "d").await;
        assert_eq!(sync(&mut first, LiteSubscriptionAction::PartialAdd, &["a"]).await, Code::Ok);
        assert_eq!(sync(&mut second, LiteSubscriptionAction::PartialAdd, &["a"]).await, Code::Ok);
        let Command::NotifyUnsubscribeLiteCommand(told) = telemetry.next().await else {
            panic!()
        };
        assert_eq!(told.lite_topic, "a");
        first.sent(lite_message("a", "1")).await;
        assert_eq!(bodies(&second.receive(request(60_000, 20_000)).await.1), ["1"]);
    });
}

#[test]
fn limits_and_names_have_codes_of_their_own() {
    start(&[("+lite.sub.client.quota", "1")]).run(async |server| {
        let mut nobody = server.client("x").await;
        let code_of = sync(&mut nobody, LiteSubscriptionAction::PartialAdd, &["a"]).await;
        assert_eq!(code_of, Code::UnrecognizedClientType, "settings come first");
        let (mut client, _telemetry, _) = lite_client(server, "c").await;
        for (lites, expected) in [
            (&["a", "b"][..], Code::LiteSubscriptionQuotaExceeded),
            (&["a b"], Code::IllegalLiteTopic),
            (&["a"], Code::Ok),
        ] {
            assert_eq!(
                sync(&mut client, LiteSubscriptionAction::PartialAdd, lites).await,
                expected,
                "{lites:?}"
            );
        }
        let plain = client.send(vec![message("p", "x", |_| {})]).await;
        assert_eq!(code(plain.status.clone()), Code::MessagePropertyConflictWithType);
        let answer = client
            .rpc
            .query_route(QueryRouteRequest {
                topic: resource("p"),
                endpoints: endpoints(),
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.message_queues[0].accept_message_types, [i32::from(MessageType::Lite)]);
    });
}
