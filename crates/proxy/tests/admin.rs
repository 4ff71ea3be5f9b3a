//! The service Admin against a whole broker, with consumers of both protocols.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ::client::Options;
use broker::attributes;
use broker::group::Rule;
use broker::topic::Spec;
use net::{Connection, Service};
use protocol::diagnose::{ConsumeDirectlyReply, ConsumeResult, RunningInfo};
use protocol::heartbeat::{self, ConsumerData, HeartbeatData};
use protocol::{Frame, RequestCode, json};
use proxy::v2::admin_client::AdminClient;
use proxy::v2::list_message_request::SearchKey;
use proxy::v2::telemetry_command::Command;
use proxy::v2::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use support::{Client, Server, Telemetry, code, message, receipt, resource};
use tonic::transport::{Channel, Endpoint};

type Admin = AdminClient<Channel>;

async fn admin(server: &Server) -> Admin {
    let uri = format!("http://{}", server.proxy.address());
    AdminClient::new(Endpoint::from_shared(uri).unwrap().connect().await.unwrap())
}

fn start() -> Server {
    Server::start(|_, _| {}).with_admin(None)
}

/// A consumer of the remoting protocol that answers what it is asked.
struct Remoting;

const TRACE: &str = "consume: in poll";
const ID: &str = "10.0.0.1@remoting";

impl Service for Remoting {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            let body = match RequestCode::try_from(frame.code) {
                Ok(RequestCode::GetConsumerRunningInfo) => json::write(&RunningInfo {
                    jstack: frame.ext.bool("jstackEnable").unwrap().then(|| TRACE.to_owned()),
                    properties: [("PROP_CONSUMEORDERLY".to_owned(), "false".into())].into(),
                    subscription_set: vec![subscription("t", "a || b")],
                    mq_table: [(protocol::MessageQueue::new("t", "b", 1), Default::default())].into(),
                    ..RunningInfo::default()
                }),
                Ok(RequestCode::ConsumeMessageDirectly) => json::write(&ConsumeDirectlyReply {
                    consume_result: Some(ConsumeResult::Later),
                    remark: Some("no stock".to_owned()),
                    ..ConsumeDirectlyReply::default()
                }),
                _ => continue,
            };
            let mut answer = Frame::response_to(&frame).with_body(body);
            answer.code = 0;
            conn.send_frame(&answer);
        }
    }
}

fn subscription(topic: &str, tags: &str) -> heartbeat::Subscription {
    heartbeat::Subscription {
        topic: topic.to_owned(),
        sub_string: tags.to_owned(),
        expression_type: "TAG".to_owned(),
        sub_version: 1_700_000_000_000,
        ..heartbeat::Subscription::default()
    }
}

/// Joins `g` with a subscription of its own.
async fn remoting_consumer(server: &Server) -> ::client::Client {
    let address = server.broker.addresses()[0].to_string();
    let client = ::client::Client::new(Options {
        service: Some(Arc::new(Remoting)),
        ..Options::with_broker(&address)
    });
    let data = HeartbeatData {
        client_id: ID.to_owned(),
        consumers: vec![ConsumerData {
            group_name: "g".to_owned(),
            subscriptions: vec![subscription("t", "a || b")],
            ..ConsumerData::default()
        }],
        ..HeartbeatData::default()
    };
    client.heartbeat(&address, &data).await.unwrap();
    client
}

async fn grpc_consumer(server: &Server, id: &str) -> (Client, Telemetry) {
    let mut client = server.client(id).await;
    let mut settings = Client::consumer(ClientType::PushConsumer, "g", "t");
    settings.user_agent = Some(Ua {
        language: Language::Java.into(),
        version: "5.2.0".to_owned(),
        hostname: "host".to_owned(),
        ..Ua::default()
    });
    let (telemetry, _) = client.telemetry(settings).await;
    (client, telemetry)
}

/// Fails with its text if a status is not OK.
fn ok(status: Option<Status>) {
    let status = status.unwrap();
    assert_eq!(status.code(), Code::Ok, "{}", status.message);
}

fn query(key: SearchKey) -> ListMessageRequest {
    ListMessageRequest {
        topic: resource("t"),
        search_key: Some(key),
        ..ListMessageRequest::default()
    }
}

fn texts(answer: &ListMessageResponse) -> Vec<String> {
    support::bodies(&answer.messages)
}

#[test]
fn clients_and_their_subscriptions_are_listed_for_both_protocols() {
    start().run(async |server| {
        let mut admin = admin(server).await;
        let (mut client, telemetry) = grpc_consumer(server, "grpc").await;
        client.subscribe("g", "t").await;
        let remoting = remoting_consumer(server).await;

        let request = ListConsumerConnectionRequest {
            group: resource("g"),
            ..ListConsumerConnectionRequest::default()
        };
        let answer = admin.list_consumer_connection(request.clone()).await.unwrap().into_inner();
        ok(answer.status);
        let mut found: Vec<_> = answer
            .client_info
            .iter()
            .map(|info| (info.client_id.as_str(), info.hostname.as_str(), info.egress_ip.as_str()))
            .collect();
        found.sort_unstable();
        assert_eq!(found, [(ID, "10.0.0.1", "127.0.0.1"), ("grpc", "host", "127.0.0.1")]);
        assert!(
            answer
                .client_info
                .iter()
                .all(|info| info.message_model() == MessageModel::Clustering)
        );
        let of_other = ListConsumerConnectionRequest {
            topic: resource("other"),
            ..request.clone()
        };
        let answer = admin.list_consumer_connection(of_other).await.unwrap().into_inner();
        ok(answer.status);
        assert!(answer.client_info.is_empty());

        // The two subscribe to different tags.
        for (topic, group) in [(Some("t"), None), (None, Some("g")), (Some("t"), Some("g"))] {
            let request = ListSubscriptionRequest {
                topic: topic.and_then(resource),
                group: group.and_then(resource),
                ..ListSubscriptionRequest::default()
            };
            let answer = admin.list_subscription(request).await.unwrap().into_inner();
            ok(answer.status);
            let [one] = &answer.subscription_info[..] else {
                panic!("{:?}", answer.subscription_info)
            };
            assert_eq!((one.group.clone(), one.topic.clone()), (resource("g"), resource("t")));
            assert!(one.online && !one.subscription_consistency && one.last_update_timestamp.is_some());
        }
        let request = DescribeSubscriptionRequest {
            group: resource("g"),
            ..DescribeSubscriptionRequest::default()
        };
        let answer = admin.describe_subscription(request.clone()).await.unwrap().into_inner();
        ok(answer.status);
        let mut found: Vec<_> = answer
            .client_subscription_info
            .into_iter()
            .map(|of| {
                (
                    of.client_info.unwrap().client_id,
                    of.subscription_info.unwrap().expression.unwrap().expression,
                )
            })
            .collect();
        found.sort_unstable();
        assert_eq!(found, [(ID.to_owned(), "a || b".to_owned()), ("grpc".to_owned(), "*".to_owned())]);

        drop((telemetry, client, remoting));
        let begun = std::time::Instant::now();
        loop {
            let answer = admin.describe_subscription(request.clone()).await.unwrap().into_inner();
            if code(answer.status) == Code::NotFound {
                break;
            }
            assert!(begun.elapsed() < support::SOON, "the consumers are still online");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let answer = admin.list_consumer_connection(request_of("g")).await.unwrap().into_inner();
        assert_eq!(code(answer.status), Code::NotFound);
        // Its offsets stay.
        let request = ListSubscriptionRequest {
            group: resource("g"),
            ..ListSubscriptionRequest::default()
        };
        let answer = admin.list_subscription(request).await.unwrap().into_inner();
        let [one] = &answer.subscription_info[..] else {
            panic!("{:?}", answer.subscription_info)
        };
        assert!(!one.online && one.topic == resource("t") && one.expression.is_none());
        let none = admin
            .list_subscription(ListSubscriptionRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(code(none.status), Code::BadRequest);

        let request = DeleteSubscriptionRequest {
            group: resource("g"),
            topic: resource("t"),
            ..DeleteSubscriptionRequest::default()
        };
        let status = admin.delete_subscription(request).await.unwrap().into_inner().status.unwrap();
        assert_eq!(status.code(), Code::NotImplemented);
        assert!(status.message.contains("deleteSubGroup -g g -r true"), "{}", status.message);
    });
}

fn request_of(group: &str) -> ListConsumerConnectionRequest {
    ListConsumerConnectionRequest {
        group: resource(group),
        ..ListConsumerConnectionRequest::default()
    }
}

#[test]
fn consumers_of_both_protocols_are_asked() {
    start().run(async |server| {
        let mut admin = admin(server).await;
        let (mut client, mut telemetry) = grpc_consumer(server, "grpc").await;
        let _remoting = remoting_consumer(server).await;
        client.sent(message("t", "x", |_| {})).await;

        let trace = |client_id: &str| PrintThreadStackTraceRequest {
            client_id: client_id.to_owned(),
            group: resource("g"),
            ..PrintThreadStackTraceRequest::default()
        };
        let answer = admin.print_thread_stack_trace(trace(ID)).await.unwrap().into_inner();
        ok(answer.status);
        assert_eq!(answer.thread_stack_trace.as_deref(), Some(TRACE));
        let mut other = admin.clone();
        let (answer, ()) = tokio::join!(other.print_thread_stack_trace(trace("grpc")), async {
            let Command::PrintThreadStackTraceCommand(asked) = telemetry.next().await else {
                panic!()
            };
            let trace = ThreadStackTrace {
                nonce: asked.nonce,
                thread_stack_trace: Some("main: in sleep".to_owned()),
            };
            reply(&telemetry, Command::ThreadStackTrace(trace)).await;
        });
        assert_eq!(answer.unwrap().into_inner().thread_stack_trace.as_deref(), Some("main: in sleep"));
        let status = admin
            .print_thread_stack_trace(trace("nobody"))
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap();
        assert_eq!(status.code(), Code::NotFound, "{}", status.message);

        let info = |client_id: &str| GetConsumerRunningInfoRequest {
            client_id: client_id.to_owned(),
            group: resource("g"),
            ..GetConsumerRunningInfoRequest::default()
        };
        let answer = admin.get_consumer_running_info(info(ID)).await.unwrap().into_inner();
        ok(answer.status);
        let told = answer.consumer_running_info.unwrap();
        assert_eq!(told.properties["PROP_CONSUMEORDERLY"], "false");
        assert_eq!(told.subscriptions["t"].expression, "a || b");
        assert_eq!(told.message_queue_table[0].message_queue.as_ref().unwrap().id, 1);
        let answer = admin.get_consumer_running_info(info("grpc")).await.unwrap().into_inner();
        ok(answer.status);
        let told = answer.consumer_running_info.unwrap();
        assert_eq!(told.subscriptions["t"].expression, "*");
        assert_eq!(told.properties["clientType"], "PUSH_CONSUMER");
        let status = admin
            .get_consumer_running_info(info("nobody"))
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap();
        assert_eq!(status.code(), Code::NotFound, "{}", status.message);

        let verify = |client_id: &str, message_id: &str| VerifyMessageRequest {
            client_id: client_id.to_owned(),
            group: resource("g"),
            topic: resource("t"),
            message_id: message_id.to_owned(),
            ..VerifyMessageRequest::default()
        };
        let status = admin
            .verify_message(verify(ID, "id-t-x"))
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap();
        assert_eq!(status.code(), Code::FailedToConsumeMessage);
        assert!(status.message.contains("CR_LATER no stock"), "{}", status.message);
        let (answer, ()) = tokio::join!(other.verify_message(verify("grpc", "id-t-x")), async {
            let Command::VerifyMessageCommand(asked) = telemetry.next().await else {
                panic!()
            };
            assert_eq!(asked.message.unwrap().body, "x");
            let result = VerifyMessageResult { nonce: asked.nonce };
            reply(&telemetry, Command::VerifyMessageResult(result)).await;
        });
        ok(answer.unwrap().into_inner().status);
        for (client_id, message_id, expected) in [
            ("grpc", "unknown", Code::MessageNotFound),
            ("nobody", "id-t-x", Code::NotFound),
            ("", "id-t-x", Code::BadRequest),
        ] {
            let status = admin
                .verify_message(verify(client_id, message_id))
                .await
                .unwrap()
                .into_inner()
                .status
                .unwrap();
            assert_eq!(status.code(), expected, "{}", status.message);
        }
    });
}

async fn reply(telemetry: &Telemetry, command: Command) {
    let command = TelemetryCommand {
        status: Some(Status {
            code: Code::Ok.into(),
            message: String::new(),
        }),
        command: Some(command),
    };
    telemetry.send.send(command).await.unwrap();
}

#[test]
fn progress_is_told_and_reset() {
    start().run(async |server| {
        let mut admin = admin(server).await;
        let mut client = server.client("c").await;
        let accumulation = |topics: &[&str]| DescribeGroupAccumulationRequest {
            group: resource("g"),
            topics: topics.iter().filter_map(|topic| resource(topic)).collect(),
            ..DescribeGroupAccumulationRequest::default()
        };
        let unknown = admin.describe_group_accumulation(accumulation(&[])).await.unwrap().into_inner();
        assert_eq!(code(unknown.status), Code::ConsumerGroupNotFound);
        client.subscribe("g", "t").await;
        for body in ["1", "2", "3"] {
            client.sent(message("t", body, |_| {})).await;
        }
        let request = ReceiveMessageRequest {
            batch_size: 1,
            long_polling_timeout: Some(support::millis(20_000)),
            ..Client::receive_request("g", "t", 60_000)
        };
        let got = client.receive(request).await.1;
        assert_eq!(got.len(), 1);
        for topics in [&[][..], &["t"]] {
            let answer = admin.describe_group_accumulation(accumulation(topics)).await.unwrap().into_inner();
            ok(answer.status);
            for of in [answer.accumulation.unwrap(), answer.topic_accumulation["t"]] {
                assert_eq!((of.inflight_messages, of.ready_messages, of.accumulation), (1, 2, 3), "{of:?}");
                assert!(of.deliver_delay_time.is_some());
            }
        }
        let other = admin
            .describe_group_accumulation(accumulation(&["none"]))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(code(other.status), Code::OffsetNotFound);
        let many = admin
            .describe_group_accumulation(accumulation(&["t"; 101]))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(code(many.status), Code::BadRequest);
        assert_eq!(client.ack("g", "t", &receipt(&got[0])).await, Code::Ok);

        let spans = |topics: &[&str]| QueryTimeSpanRequest {
            group: resource("g"),
            topics: topics.iter().filter_map(|topic| resource(topic)).collect(),
            ..QueryTimeSpanRequest::default()
        };
        for topics in [&[][..], &["t"]] {
            let answer = admin.query_time_span(spans(topics)).await.unwrap().into_inner();
            ok(answer.status);
            let of_t = answer
                .queue_time_span_list
                .iter()
                .filter(|span| span.message_queue.as_ref().unwrap().topic == resource("t"));
            let newest = of_t.map(|span| span.max_timestamp).max().unwrap();
            assert!(newest > 1_700_000_000_000, "{newest}");
        }
        let none = admin.query_time_span(spans(&["none"])).await.unwrap().into_inner();
        assert_eq!(code(none.status), Code::TopicNotFound);

        let reset = |group: &str, topic: &str, ms: Option<i64>| ResetGroupOffsetRequest {
            group: resource(group),
            topic: resource(topic),
            reset_timestamp: ms.map(|ms| prost_types::Timestamp {
                seconds: ms / 1_000,
                nanos: 0,
            }),
            ..ResetGroupOffsetRequest::default()
        };
        ok(admin
            .reset_group_offset(reset("g", "t", Some(0)))
            .await
            .unwrap()
            .into_inner()
            .status);
        let again = client.receive_all("g", "t", 3).await;
        assert_eq!(again.len(), 3, "the group begins with the first message again");
        for (request, expected) in [
            (reset("g", "t", None), Code::BadRequest),
            (reset("g", "none", Some(0)), Code::TopicNotFound),
            (reset("none", "t", Some(0)), Code::ConsumerGroupNotFound),
            (reset("g", "RMQ_SYS_TRACE_TOPIC", Some(0)), Code::IllegalTopic),
            (reset("", "t", Some(0)), Code::IllegalConsumerGroup),
        ] {
            let status = admin.reset_group_offset(request).await.unwrap().into_inner().status.unwrap();
            assert_eq!(status.code(), expected, "{}", status.message);
        }
    });
}

#[test]
fn lite_topics_have_an_accumulation_and_messages() {
    let server = Server::start(|broker, _| {
        broker.enable_lmq = true;
        broker.enable_multi_dispatch = true;
    });
    let core = server.broker.operations().core;
    let changes = attributes::parse("+message.type=LITE").unwrap();
    core.topics.update(vec![(Spec::new("t", 2), changes)], 1).unwrap();
    let rule = Rule {
        group_name: "g".to_owned(),
        attributes: [("+lite.bind.topic".to_owned(), "t".to_owned())].into_iter().collect(),
        ..Rule::default()
    };
    core.groups.update(vec![rule], 1).unwrap();
    server.with_admin(None).run(async |server| {
        let mut admin = admin(server).await;
        let mut client = server.client("c").await;
        let (_telemetry, _) = client.telemetry(Client::consumer(ClientType::LitePushConsumer, "g", "t")).await;
        let sync = SyncLiteSubscriptionRequest {
            action: LiteSubscriptionAction::PartialAdd.into(),
            topic: resource("t"),
            group: resource("g"),
            lite_topic_set: vec!["a".to_owned()],
            ..SyncLiteSubscriptionRequest::default()
        };
        ok(client.rpc.sync_lite_subscription(sync).await.unwrap().into_inner().status);
        for body in ["1", "2"] {
            client
                .sent(message("t", body, |system| system.lite_topic = Some("a".to_owned())))
                .await;
        }
        let accumulation = |lite: Option<&str>| DescribeGroupAccumulationRequest {
            group: resource("g"),
            lite_topic: lite.map(str::to_owned),
            ..DescribeGroupAccumulationRequest::default()
        };
        for lite in [None, Some("a")] {
            let answer = admin.describe_group_accumulation(accumulation(lite)).await.unwrap().into_inner();
            ok(answer.status);
            assert_eq!(answer.accumulation.unwrap().accumulation, 2, "{lite:?}");
            assert_eq!(answer.lite_topic_accumulation["a"].ready_messages, 2, "{lite:?}");
        }
        let none = admin
            .describe_group_accumulation(accumulation(Some("none")))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(code(none.status), Code::TopicNotFound);

        let of_lite = |lite: &str| ListConsumerConnectionRequest {
            topic: resource("t"),
            lite_topic: Some(lite.to_owned()),
            ..request_of("g")
        };
        let answer = admin.list_consumer_connection(of_lite("a")).await.unwrap().into_inner();
        ok(answer.status);
        assert_eq!(answer.client_info.len(), 1);
        let answer = admin.list_consumer_connection(of_lite("none")).await.unwrap().into_inner();
        assert!(answer.client_info.is_empty());

        let answer = admin
            .query_message(query(SearchKey::LiteTopic("a".to_owned())))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(texts(&answer), ["1", "2"], "{:?}", answer.status);
    });
}

#[test]
fn messages_are_found_by_id_key_and_tags_in_pages() {
    start().run(async |server| {
        let mut admin = admin(server).await;
        let mut client = server.client("c").await;
        for n in 0..7 {
            let sent = message("t", &n.to_string(), |system| {
                system.keys = vec!["k".to_owned()];
                system.tag = Some(if n % 2 == 0 { "even" } else { "odd" }.to_owned());
            });
            client.sent(sent).await;
        }
        let by_id = admin
            .query_message(query(SearchKey::MessageId("id-t-3".to_owned())))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(texts(&by_id), ["3"], "{:?}", by_id.status);
        // By the id that says where it is stored, too, but from no other address.
        let found = by_id.messages[0].system_properties.clone().unwrap();
        let address: std::net::SocketAddr = found.store_host.parse().unwrap();
        let store = &server.broker.operations().core.store;
        let log_offset = store
            .log_offset_of("t", found.queue_id, ::message::QueueOffset(found.queue_offset.unwrap()))
            .unwrap();
        let id_at = |address| ::message::id::offset_id(address, log_offset);
        let by_offset = admin
            .query_message(query(SearchKey::MessageId(id_at(address))))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(texts(&by_offset), ["3"], "{:?}", by_offset.status);
        let elsewhere = id_at(std::net::SocketAddr::from(([192, 0, 2, 1], 10_911)));
        for unknown in ["unknown", &elsewhere] {
            let answer = admin
                .query_message(query(SearchKey::MessageId(unknown.to_owned())))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(code(answer.status), Code::MessageNotFound, "{unknown}");
        }

        for key in [
            SearchKey::MessageKey("k".to_owned()),
            SearchKey::Subscription("*".to_owned()),
            SearchKey::Subscription("odd || even".to_owned()),
        ] {
            let (mut all, mut scroll_id, mut pages) = (Vec::new(), None, 0);
            loop {
                let request = ListMessageRequest {
                    max_message_nums: 3,
                    scroll_id: scroll_id.clone(),
                    ..query(key.clone())
                };
                let answer = admin.query_message(request).await.unwrap().into_inner();
                let found = texts(&answer);
                ok(answer.status);
                assert!(found.len() <= 3);
                all.extend(found);
                pages += 1;
                if answer.scroll_id.is_empty() {
                    break;
                }
                scroll_id = Some(answer.scroll_id);
            }
            all.sort_unstable();
            assert_eq!((all.join(""), pages), ("0123456".to_owned(), 3), "{key:?}");
            let second = ListMessageRequest {
                page_num: Some(2),
                page_size: Some(6),
                ..query(key.clone())
            };
            let answer = admin.query_message(second).await.unwrap().into_inner();
            assert_eq!(answer.messages.len(), 1, "{key:?}");
            let early = ListMessageRequest {
                end_timestamp: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
                ..query(key)
            };
            let answer = admin.query_message(early).await.unwrap().into_inner();
            assert!(answer.messages.is_empty());
        }
        let odd = admin
            .query_message(query(SearchKey::Subscription("odd".to_owned())))
            .await
            .unwrap()
            .into_inner();
        let mut found = texts(&odd);
        found.sort_unstable();
        assert_eq!(found, ["1", "3", "5"]);

        let wrong = |change: fn(&mut ListMessageRequest)| {
            let mut request = query(SearchKey::Subscription("*".to_owned()));
            change(&mut request);
            request
        };
        for (request, expected) in [
            (wrong(|request| request.search_key = None), Code::BadRequest),
            (wrong(|request| request.scroll_id = Some("x".to_owned())), Code::BadRequest),
            (
                wrong(|request| {
                    request.search_key = Some(SearchKey::MessageKey("k".to_owned()));
                    request.scroll_id = Some("x".to_owned());
                }),
                Code::BadRequest,
            ),
            (wrong(|request| request.page_num = Some(i32::MAX)), Code::BadRequest),
            (wrong(|request| request.queue_id = Some(99)), Code::NotFound),
            (wrong(|request| request.broker_name = Some("other".to_owned())), Code::NotFound),
            (wrong(|request| request.topic = resource("none")), Code::TopicNotFound),
            (wrong(|request| request.topic = None), Code::IllegalTopic),
            (
                wrong(|request| request.search_key = Some(SearchKey::MessageKey("none".to_owned()))),
                Code::MessageNotFound,
            ),
        ] {
            let status = admin.query_message(request).await.unwrap().into_inner().status.unwrap();
            assert_eq!(status.code(), expected, "{}", status.message);
        }
    });
}

#[test]
fn a_message_is_sent_and_its_topic_described() {
    start().run(async |server| {
        let mut admin = admin(server).await;
        let send = |topic: &str, body: &'static str| AdminSendMessageRequest {
            topic: resource(topic),
            tag: Some("tag".to_owned()),
            key: Some("key".to_owned()),
            body: body.as_bytes().into(),
            user_properties: [("own".to_owned(), "value".to_owned())].into(),
            ..AdminSendMessageRequest::default()
        };
        let sent = admin.admin_send_message(send("t", "x")).await.unwrap().into_inner();
        ok(sent.status);
        let found = admin
            .query_message(query(SearchKey::MessageId(sent.message_id)))
            .await
            .unwrap()
            .into_inner();
        let system = found.messages[0].system_properties.clone().unwrap();
        assert_eq!((system.tag.as_deref(), &system.keys[..]), (Some("tag"), &["key".to_owned()][..]));
        assert_eq!(found.messages[0].user_properties["own"], "value");
        let empty = admin.admin_send_message(send("t", "")).await.unwrap().into_inner();
        assert_eq!(code(empty.status), Code::MessageBodyEmpty);
        let illegal = admin.admin_send_message(send("a b", "x")).await.unwrap().into_inner();
        assert_eq!(code(illegal.status), Code::IllegalTopic);

        let describe = |topic: &str, deployment: Option<&str>| DescribeTopicStatusRequest {
            topic: resource(topic),
            deployment_name: deployment.map(str::to_owned),
        };
        for deployment in [None, Some(""), Some("DefaultCluster")] {
            let answer = admin.describe_topic_status(describe("t", deployment)).await.unwrap().into_inner();
            let (kind, perm) = (answer.topic_message_type(), answer.tags.get("perm").cloned());
            ok(answer.status);
            assert_eq!((kind, perm.as_deref()), (MessageType::Normal, Some("6")));
        }
        let status = admin
            .describe_topic_status(describe("none", None))
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap();
        assert_eq!(status.code(), Code::TopicNotFound, "{}", status.message);
        let status = admin
            .describe_topic_status(describe("t", Some("x")))
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap();
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message.contains("DefaultCluster"), "{}", status.message);

        let request = GetTopicRouteRequest {
            topic: resource("t"),
            ..GetTopicRouteRequest::default()
        };
        let answer = admin.get_topic_route(request).await.unwrap().into_inner();
        ok(answer.status);
        let route: protocol::route::TopicRoute = json::read(answer.topic_route_data.as_bytes()).unwrap();
        assert_eq!(route.broker_datas[0].broker_name, "b");
        let core = server.broker.operations().core;
        let expected = core.store_host(server.proxy.address()).to_string();
        assert_eq!(route.broker_datas[0].broker_addrs[&0], expected);
        assert!(route.queue_datas[0].read_queue_nums > 0);
    });
}

#[test]
fn the_process_tells_its_figures_and_changes_its_log() {
    static LEVEL: AtomicU8 = AtomicU8::new(u8::MAX);
    let change = |level| {
        LEVEL.store(u8::from(level == tracing::Level::DEBUG), Relaxed);
        Ok(())
    };
    Server::start(|_, _| {}).with_admin(Some(change)).run(async |server| {
        let mut admin = admin(server).await;
        let (_client, _telemetry) = grpc_consumer(server, "c").await;
        let (mut producer, _) = (server.client("p").await, ());
        let _publishing = producer.produce("t").await;
        let answer = admin
            .get_proxy_runtime_stats(GetProxyRuntimeStatsRequest {})
            .await
            .unwrap()
            .into_inner();
        ok(answer.status);
        assert_eq!((answer.connections, answer.producers, answer.consumers), (3, 1, 1));
        assert!(answer.proxy_name == "b" && answer.version.starts_with("ApogeeMQ"));

        let level = |level| ChangeLogLevelRequest { level };
        let debug = change_log_level_request::Level::Debug.into();
        let answer = admin.change_log_level(level(debug)).await.unwrap().into_inner();
        assert!(answer.remark.contains("DEBUG"), "{}", answer.remark);
        assert_eq!(LEVEL.load(Relaxed), 1);
        let status = admin.change_log_level(level(9)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    });
}

#[test]
fn a_log_whose_level_is_fixed_is_not_changed() {
    start().run(async |server| {
        let status = admin(server)
            .await
            .change_log_level(ChangeLogLevelRequest::default())
            .await
            .unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unimplemented);
        assert!(status.message().contains("--log"), "{status:?}");
    });
}

#[test]
fn admin_can_be_switched_off() {
    Server::start(|_, proxy| proxy.admin_enable = false)
        .with_admin(None)
        .run(async |server| {
            let status = admin(server)
                .await
                .get_proxy_runtime_stats(GetProxyRuntimeStatsRequest {})
                .await
                .unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unimplemented);
            assert!(status.message().contains("apogeeGrpcAdminEnable"), "{status:?}");
        });
}
