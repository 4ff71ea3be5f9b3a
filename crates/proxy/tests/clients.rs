//! Clients and their telemetry: settings, groups, questions, renewals, and the end.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use broker::clients::ClientChannel;
use broker::clients::table::Channel;
use protocol::diagnose::ConsumerRunningInfoHeader;
use protocol::{Frame, RequestCode};
use proxy::v2::telemetry_command::Command;
use proxy::v2::*;
use std::time::{Duration, Instant};
use support::{Client, SOON, Server, code, message, millis, receipt, resource};
use tokio::sync::oneshot;

/// Waits for a condition.
async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn members(server: &Server, group: &str) -> Vec<ClientChannel> {
    let members = server.broker.operations().online.consumers.members(group).unwrap_or_default();
    members.into_iter().map(|member| member.channel).collect()
}

#[test]
fn a_consumer_joins_with_its_settings_and_leaves_with_its_stream() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        let beat = HeartbeatRequest {
            group: resource("g"),
            client_type: ClientType::PushConsumer.into(),
        };
        let early = client.rpc.heartbeat(beat.clone()).await.unwrap().into_inner();
        assert_eq!(code(early.status), Code::UnrecognizedClientType);
        let (telemetry, told) = client.telemetry(Client::consumer(ClientType::PushConsumer, "g", "t")).await;
        let backoff = told.backoff_policy.unwrap();
        assert_eq!(backoff.max_attempts, 17);
        assert!(matches!(backoff.strategy, Some(retry_policy::Strategy::CustomizedBackoff(list)) if list.next.len() == 18));
        let Some(settings::PubSub::Subscription(told)) = told.pub_sub else {
            panic!()
        };
        assert_eq!((told.fifo, told.receive_batch_size), (Some(false), Some(32)));
        assert_eq!(members(server, "g").len(), 1);
        assert_eq!(code(client.rpc.heartbeat(beat).await.unwrap().into_inner().status), Code::Ok);
        let view = server.broker.operations().online.consumers.view("g").unwrap();
        assert_eq!(view.subscriptions["t"].data.sub_string, "*");
        drop(telemetry);
        until("the client leaves", || members(server, "g").is_empty()).await;
    });
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    Server::start(|_, _| {}).run(async |server| {
        server.broker.operations().core.groups.find_or_create("g", true, 1).unwrap();
        let mut ordered = Client::consumer(ClientType::PushConsumer, "g", "t");
        let Some(settings::PubSub::Subscription(subscription)) = &mut ordered.pub_sub else {
            panic!()
        };
        subscription.fifo = Some(true);
        for (settings, expected) in [
            (ordered, "updateSubGroup -g g -o true"),
            (Settings::default(), "no publishing or subscription"),
            (Client::consumer(ClientType::PushConsumer, "a b", "t"), "ILLEGAL_CONSUMER_GROUP"),
            (Client::consumer(ClientType::LitePushConsumer, "l", "t"), "group l is not bound"),
        ] {
            let mut client = server.client("c").await;
            let (send, out) = tokio::sync::mpsc::channel(1);
            let command = TelemetryCommand {
                status: None,
                command: Some(Command::Settings(settings)),
            };
            send.send(command).await.unwrap();
            let stream = client.rpc.telemetry(tokio_stream::wrappers::ReceiverStream::new(out)).await;
            let status = stream.unwrap().into_inner().message().await.unwrap_err();
            assert!(status.message().contains(expected), "{expected}: {status:?}");
        }
    });
}

fn running_info() -> Frame {
    let mut request = Frame::request(RequestCode::GetConsumerRunningInfo);
    let header = ConsumerRunningInfoHeader {
        consumer_group: "g",
        client_id: "c",
        jstack_enable: true,
    };
    header.encode(&mut request.ext);
    request
}

#[test]
fn a_client_is_asked_through_its_telemetry() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        let (mut telemetry, _) = client.telemetry(Client::consumer(ClientType::PushConsumer, "g", "t")).await;
        let channel = members(server, "g").remove(0);
        let (done, answered) = oneshot::channel();
        let request = running_info();
        channel.call(request, SOON, Box::new(move |result| drop(done.send(result))));
        let Command::PrintThreadStackTraceCommand(asked) = telemetry.next().await else {
            panic!()
        };
        let trace = ThreadStackTrace {
            nonce: asked.nonce,
            thread_stack_trace: Some("main: in sleep".to_owned()),
        };
        let command = TelemetryCommand {
            status: None,
            command: Some(Command::ThreadStackTrace(trace)),
        };
        telemetry.send.send(command).await.unwrap();
        let frame = answered.await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&frame.body).contains("main: in sleep"));

        // One that does not answer, and is gone meanwhile.
        let (done, answered) = oneshot::channel();
        let request = running_info();
        channel.call(request, SOON, Box::new(move |result| drop(done.send(result))));
        telemetry.next().await;
        drop(telemetry);
        let answer = answered.await.unwrap();
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.code != 0));
    });
}

#[test]
fn messages_of_a_push_consumer_are_renewed_until_it_ends() {
    let server = Server::start(|_, proxy| {
        proxy.default_invisible = Duration::from_millis(1_000);
        proxy.renew_ahead = Duration::from_millis(900);
        proxy.invisible_when_clear = Duration::from_millis(1);
    });
    server.run(async |server| {
        let mut client = server.client("c").await;
        let (_telemetry, _) = client.telemetry(Client::consumer(ClientType::PushConsumer, "g", "t")).await;
        client.subscribe("g", "t").await;
        client.sent(message("t", "x", |_| {})).await;
        let renewed = || ReceiveMessageRequest {
            auto_renew: true,
            long_polling_timeout: Some(millis(2_500)),
            ..Client::receive_request("g", "t", 0)
        };
        let first = loop {
            let got = client.receive(renewed()).await.1;
            if !got.is_empty() {
                break got;
            }
        };
        // Longer than its invisible time.
        let (_, none) = client.receive(renewed()).await;
        assert!(none.is_empty(), "it is renewed");
        assert_eq!(client.ack("g", "t", &receipt(&first[0])).await, Code::Ok, "with its first handle");

        client.sent(message("t", "y", |_| {})).await;
        let second = client.receive(renewed()).await.1;
        assert_eq!(second.len(), 1);
        let request = NotifyClientTerminationRequest { group: resource("g") };
        let answer = client.rpc.notify_client_termination(request).await.unwrap().into_inner();
        assert_eq!(code(answer.status), Code::Ok);
        assert!(members(server, "g").is_empty());
        let mut other = server.client("d").await;
        let again = other.receive_all("g", "t", 1).await;
        assert_eq!(support::bodies(&again), ["y"], "it is given back at once");
    });
}

#[test]
fn a_client_may_end_its_stream_before_it_says_that_it_ends() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        let (telemetry, _) = client.telemetry(Client::consumer(ClientType::SimpleConsumer, "g", "t")).await;
        assert_eq!(members(server, "g").len(), 1);
        drop(telemetry);
        until("the client is gone", || members(server, "g").is_empty()).await;
        let request = NotifyClientTerminationRequest { group: resource("g") };
        let answer = client.rpc.notify_client_termination(request).await.unwrap().into_inner();
        assert_eq!(code(answer.status), Code::Ok);
    });
}

#[test]
fn messages_of_a_receive_that_its_client_gave_up_are_not_kept() {
    Server::start(|_, _| {}).run(async |server| {
        let mut client = server.client("c").await;
        client.subscribe("g", "t").await;
        let mut other = client.clone();
        let waiting = tokio::spawn(async move {
            let request = ReceiveMessageRequest {
                long_polling_timeout: Some(millis(20_000)),
                // If the server hears of it too late, the message comes again soon.
                ..Client::receive_request("g", "t", 500)
            };
            other.receive(request).await
        });
        let pops = server.broker.operations().pops;
        tokio::time::sleep(Duration::from_millis(50)).await;
        waiting.abort();
        let _ = waiting.await;
        client.sent(message("t", "x", |_| {})).await;
        let got = client.receive_all("g", "t", 1).await;
        assert_eq!(support::bodies(&got), ["x"]);
        until("only what was received is in flight", || pops.in_flight() == 1).await;
    });
}

#[test]
fn a_client_has_an_id() {
    Server::start(|_, _| {}).run(async |server| {
        let uri = format!("http://{}", server.proxy.address());
        let channel = tonic::transport::Endpoint::from_shared(uri).unwrap().connect().await.unwrap();
        let mut client = messaging_service_client::MessagingServiceClient::new(channel);
        let request = HeartbeatRequest::default();
        assert_eq!(
            code(client.heartbeat(request).await.unwrap().into_inner().status),
            Code::ClientIdRequired
        );
    });
}
