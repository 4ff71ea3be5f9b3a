//! What clients can do to the server and to each other: limits, abuse of HTTP/2, health and reflection.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::Request;
use proxy::v2::*;
use std::net::SocketAddr;
use std::time::Duration;
use support::{Client, Server, code, message};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

const SEND: &str = "/apache.rocketmq.v2.MessagingService/SendMessage";

/// A connection without a client library.
async fn raw(address: SocketAddr, window: u32) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).max_header_list_size(1 << 20);
    let (send, connection) = builder.handshake(stream).await.unwrap();
    (send, tokio::spawn(connection))
}

fn request(path: &str, more: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://x{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-mq-client-id", "raw");
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// A message of the protocol as it is sent: its length, and its bytes.
fn framed(message: &impl prost::Message) -> Bytes {
    let bytes = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend((bytes.len() as u32).to_be_bytes());
    framed.extend(bytes);
    framed.into()
}

async fn assert_serves(server: &Server) {
    let mut client = server.client("other").await;
    client.sent(message("alive", "x", |_| {})).await;
}

#[test]
fn thousands_of_reset_requests_end_their_connection_only() {
    Server::start(|_, _| {}).run(async |server| {
        let (send, connection) = raw(server.proxy.address(), 65_535).await;
        for _ in 0..20_000 {
            let Ok(mut send) = send.clone().ready().await else { break };
            let Ok((_, mut stream)) = send.send_request(request(SEND, &[]), false) else {
                break;
            };
            stream.send_reset(Reason::CANCEL);
        }
        assert_serves(server).await;
        drop(send);
        // Closed by the server, or by this client at the end.
        let _ = connection.await.unwrap();
    });
}

#[test]
fn headers_without_end_are_refused() {
    Server::start(|_, _| {}).run(async |server| {
        let (mut send, connection) = raw(server.proxy.address(), 65_535).await;
        let long = "x".repeat(4_000);
        let names: Vec<String> = (0..16).map(|n| format!("x-{n}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), long.as_str())).collect();
        send = send.ready().await.unwrap();
        let (answer, _) = send.send_request(request(SEND, &many), true).unwrap();
        match answer.await {
            Ok(answer) => assert_eq!(answer.status(), 431),
            Err(error) => assert!(error.is_reset() || error.is_go_away() || error.is_io(), "{error}"),
        }
        assert_serves(server).await;
        connection.abort();
    });
}

#[test]
fn a_client_that_does_not_read_is_closed_and_harms_nobody() {
    let server = Server::start(|_, proxy| proxy.stall_timeout = Duration::from_millis(300));
    server.run(async |server| {
        let mut client = server.client("c").await;
        client.subscribe("g", "t").await;
        for n in 0..4 {
            let large = "x".repeat(100_000);
            client
                .sent(message("t", &large, |system| system.message_id = format!("id-{n}")))
                .await;
        }
        // It gives the server room for one byte.
        let (mut send, connection) = raw(server.proxy.address(), 1).await;
        send = send.ready().await.unwrap();
        let path = "/apache.rocketmq.v2.MessagingService/ReceiveMessage";
        let (answer, mut body) = send.send_request(request(path, &[]), false).unwrap();
        body.send_data(framed(&Client::receive_request("g", "t", 60_000)), true).unwrap();
        let unread: RecvStream = answer.await.unwrap().into_body();
        let _ = connection.await.unwrap();
        drop(unread);
        assert_serves(server).await;
    });
}

#[test]
fn a_request_has_a_size_a_time_and_a_share_of_memory() {
    let server = Server::start(|_, proxy| {
        proxy.max_request_bytes = 10_000;
        proxy.request_timeout = Duration::from_millis(300);
    });
    server.run(async |server| {
        let mut client = server.client("c").await;
        let large = SendMessageRequest {
            messages: vec![message("t", &"x".repeat(20_000), |system| system.message_id = "id".to_owned())],
        };
        let status = client.rpc.send_message(large).await.unwrap_err();
        assert!(
            matches!(status.code(), tonic::Code::OutOfRange | tonic::Code::ResourceExhausted),
            "{status:?}"
        );
        // A body that never ends.
        let (mut send, connection) = raw(server.proxy.address(), 65_535).await;
        send = send.ready().await.unwrap();
        let (answer, mut body) = send.send_request(request(SEND, &[]), false).unwrap();
        body.send_data(Bytes::from_static(&[0, 0, 0, 0, 100, 1]), false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "4", "DEADLINE_EXCEEDED: {answer:?}");
        assert_serves(server).await;
        connection.abort();
    });
}

#[test]
fn connections_and_clients_are_limited() {
    let server = Server::start(|_, proxy| {
        proxy.max_connections = 2;
        proxy.max_clients = 1;
    });
    server.run(async |server| {
        let (mut first, mut second) = (server.client("a").await, server.client("b").await);
        first.sent(message("t", "x", |_| {})).await;
        second.sent(message("t", "y", |_| {})).await;
        let uri = format!("http://{}", server.proxy.address());
        let third = Endpoint::from_shared(uri).unwrap().connect().await;
        let refused = match third {
            Err(_) => true,
            Ok(channel) => {
                let mut client = messaging_service_client::MessagingServiceClient::new(channel);
                client.heartbeat(HeartbeatRequest::default()).await.is_err()
            }
        };
        assert!(refused, "a third connection is closed");
        let (_telemetry, _) = first.produce("t").await;
        let (_send, out) = tokio::sync::mpsc::channel::<TelemetryCommand>(1);
        let status = second
            .rpc
            .telemetry(tokio_stream::wrappers::ReceiverStream::new(out))
            .await
            .unwrap_err();
        assert!(status.message().contains("apogeeGrpcMaxClients"), "{status:?}");
    });
}

#[test]
fn a_connection_without_requests_is_closed() {
    let server = Server::start(|_, proxy| proxy.idle_timeout = Duration::from_millis(100));
    server.run(async |server| {
        let (_send, connection) = raw(server.proxy.address(), 65_535).await;
        let _ = connection.await.unwrap();
    });
}

#[test]
fn health_and_reflection_answer_and_other_requests_are_unimplemented() {
    Server::start(|_, _| {}).run(async |server| {
        let uri = format!("http://{}", server.proxy.address());
        let channel = Endpoint::from_shared(uri).unwrap().connect().await.unwrap();
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        for service in ["apache.rocketmq.v2.MessagingService", "apache.rocketmq.v2.Admin"] {
            let request = tonic_health::pb::HealthCheckRequest {
                service: service.to_owned(),
            };
            let answer = health.check(request).await.unwrap().into_inner();
            assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
        }

        use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let request = tonic_reflection::pb::v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut answers = ServerReflectionClient::new(channel)
            .server_reflection_info(tokio_stream::iter([request]))
            .await
            .unwrap()
            .into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = answer else {
            panic!()
        };
        for name in ["apache.rocketmq.v2.MessagingService", "apache.rocketmq.v2.Admin"] {
            assert!(list.service.iter().any(|service| service.name == name), "{name}");
        }

        let (mut send, connection) = raw(server.proxy.address(), 65_535).await;
        send = send.ready().await.unwrap();
        let (answer, _) = send
            .send_request(self::request("/apache.rocketmq.v2.Other/QueryMessage", &[]), true)
            .unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "12");
        connection.abort();
    });
}

#[test]
fn receives_that_wait_are_answered_when_the_server_stops() {
    let server = Server::start(|_, _| {});
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (waiting, sent) = runtime.block_on(async {
        let mut client = server.client("c").await;
        client.subscribe("g", "t").await;
        let mut other = client.clone();
        let waiting = tokio::spawn(async move {
            let request = ReceiveMessageRequest {
                long_polling_timeout: Some(support::millis(20_000)),
                ..Client::receive_request("g", "t", 60_000)
            };
            other.receive(request).await
        });
        let sent = client.send(vec![message("u", "x", |_| {})]).await;
        (waiting, sent)
    });
    assert_eq!(code(sent.status), Code::Ok);
    let begun = std::time::Instant::now();
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let answer = runtime.block_on(waiting).unwrap();
    assert_eq!(answer.0, Code::MessageNotFound);
}
