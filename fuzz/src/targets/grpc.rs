//! Requests of the gRPC protocol, served by a proxy and its broker in the process: what a client sends is decoded, checked, carried out and
//! answered.
//!
//! Input: requests in turn, each its number in [`RPCS`] (1 byte; the highest bit: the body is not one message, but what gRPC would send),
//! its length (2 bytes, little endian), and its body. The broker is a new one now and then: inputs make topics and groups.

use crate::Target;
use broker::Broker;
use broker::settings::BrokerSettings;
use prost::Message as _;
use prost_types::Duration as Length;
use proxy::fuzzing::{InProcess, framed};
use proxy::settings::ProxySettings;
use proxy::v2::settings::PubSub;
use proxy::v2::telemetry_command::Command;
use proxy::v2::*;
use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use store::disk::simulated::SimulatedDisk;

/// See the module.
pub const TARGET: Target = Target { name: "grpc", run, seeds };

const RPCS: [&str; 17] = [
    "QueryRoute",
    "Heartbeat",
    "SendMessage",
    "QueryAssignment",
    "ReceiveMessage",
    "AckMessage",
    "ForwardMessageToDeadLetterQueue",
    "PullMessage",
    "UpdateOffset",
    "GetOffset",
    "QueryOffset",
    "EndTransaction",
    "Telemetry",
    "NotifyClientTermination",
    "ChangeInvisibleDuration",
    "RecallMessage",
    "SyncLiteSubscription",
];
/// The body is what gRPC sends.
const RAW: u8 = 0x80;
/// Requests of one input.
const MOST: usize = 8;
/// Inputs for one broker.
const INPUTS: u32 = 2_000;
/// No request waits: receives and pulls are answered at once.
const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    proxy: InProcess,
    broker: Option<Broker>,
    inputs: u32,
}

impl Drop for Running {
    fn drop(&mut self) {
        // What it could not save is on a disk that is gone, too.
        let _ = self.broker.take().map(Broker::stop);
    }
}

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

fn start() -> Option<Running> {
    let broker = BrokerSettings {
        bind_address: Ipv4Addr::LOCALHOST.into(),
        listen_port: 0,
        broker_name: "b".to_owned(),
        store_path_root_dir: "/store".into(),
        mapped_file_size_commit_log: 4 << 20,
        mapped_file_size_consume_queue: 20_000,
        max_hash_slot_num: 1_000,
        max_index_num: 4_000,
        clean_file_forcibly_enable: false,
        recall_message_enable: true,
        enable_lmq: true,
        enable_multi_dispatch: true,
        max_topics: 1_000,
        max_groups: 1_000,
        ..BrokerSettings::default()
    };
    let proxy = ProxySettings {
        min_polling: Duration::ZERO,
        max_polling: Duration::ZERO,
        min_invisible: Duration::from_millis(1),
        ..ProxySettings::default()
    };
    let disk = Arc::new(SimulatedDisk::new(1));
    let broker = Broker::start(broker, net::session::Transport::default(), &[], disk).ok()?;
    let proxy = InProcess::new(proxy, broker.operations()).ok()?;
    Some(Running {
        proxy,
        broker: Some(broker),
        inputs: 0,
    })
}

fn run(data: &[u8]) {
    RUNNING.with_borrow_mut(|running| {
        if running.as_ref().is_none_or(|running| running.inputs >= INPUTS) {
            *running = None;
            *running = start();
        }
        assert!(running.is_some(), "the broker does not start");
        let Some(running) = running else { return };
        running.inputs += 1;
        let mut rest = data;
        for _ in 0..MOST {
            let Some((&[rpc, low, high], more)) = rest.split_first_chunk::<3>() else {
                return;
            };
            let (body, more) = more.split_at(usize::from(u16::from_le_bytes([low, high])).min(more.len()));
            rest = more;
            let name = RPCS[usize::from(rpc & !RAW) % RPCS.len()];
            let body = match rpc & RAW {
                0 => framed(body),
                _ => body.to_vec().into(),
            };
            let answer = running.proxy.call(name, "fuzz", body, PATIENCE);
            assert!(answer.is_some(), "{name} is not answered");
        }
    });
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource {
        name: name.to_owned(),
        ..Resource::default()
    })
}

fn queue() -> Option<MessageQueue> {
    Some(MessageQueue {
        topic: resource("t"),
        id: 0,
        broker: Some(proxy::v2::Broker {
            name: "b".to_owned(),
            ..Default::default()
        }),
        ..MessageQueue::default()
    })
}

fn one_second() -> Option<Length> {
    Some(Length { seconds: 1, nanos: 0 })
}

fn message(change: impl FnOnce(&mut SystemProperties)) -> Vec<u8> {
    let mut system = SystemProperties {
        message_id: "id".to_owned(),
        tag: Some("a".to_owned()),
        keys: vec!["k".to_owned()],
        ..SystemProperties::default()
    };
    change(&mut system);
    let message = Message {
        topic: resource("t"),
        body: b"body".to_vec().into(),
        system_properties: Some(system),
        user_properties: [("a".to_owned(), "1".to_owned())].into(),
    };
    SendMessageRequest { messages: vec![message] }.encode_to_vec()
}

/// Requests as an input.
fn requests(all: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut input = Vec::new();
    for (name, body) in all {
        let rpc = RPCS.iter().position(|rpc| rpc == name).unwrap_or_default();
        input.push(rpc as u8);
        input.extend((body.len() as u16).to_le_bytes());
        input.extend(body);
    }
    input
}

fn seeds() -> Vec<Vec<u8>> {
    let filter = |r#type: FilterType, expression: &str| {
        Some(FilterExpression {
            r#type: r#type.into(),
            expression: expression.to_owned(),
        })
    };
    let receive = |filter_expression| {
        let request = ReceiveMessageRequest {
            group: resource("g"),
            message_queue: queue(),
            filter_expression,
            batch_size: 4,
            invisible_duration: one_second(),
            auto_renew: true,
            ..ReceiveMessageRequest::default()
        };
        request.encode_to_vec()
    };
    let handle = "0 1700000000000 60000 0 0 b 0 0 0".to_owned();
    let ack = AckMessageRequest {
        group: resource("g"),
        topic: resource("t"),
        entries: vec![AckMessageEntry {
            message_id: "id".to_owned(),
            receipt_handle: handle.clone(),
            lite_topic: Some("l".to_owned()),
        }],
    };
    let change = ChangeInvisibleDurationRequest {
        group: resource("g"),
        topic: resource("t"),
        receipt_handle: handle.clone(),
        invisible_duration: one_second(),
        suspend: Some(true),
        ..ChangeInvisibleDurationRequest::default()
    };
    let forward = ForwardMessageToDeadLetterQueueRequest {
        group: resource("g"),
        topic: resource("t"),
        receipt_handle: handle,
        message_id: "id".to_owned(),
        ..ForwardMessageToDeadLetterQueueRequest::default()
    };
    let pull = PullMessageRequest {
        group: resource("g"),
        message_queue: queue(),
        batch_size: 4,
        filter_expression: filter(FilterType::Tag, "a || b"),
        ..PullMessageRequest::default()
    };
    let at = UpdateOffsetRequest {
        group: resource("g"),
        message_queue: queue(),
        offset: 1,
    };
    let offset = GetOffsetRequest {
        group: resource("g"),
        message_queue: queue(),
    };
    let query = QueryOffsetRequest {
        message_queue: queue(),
        query_offset_policy: QueryOffsetPolicy::Timestamp.into(),
        timestamp: Some(prost_types::Timestamp { seconds: 5, nanos: 6 }),
    };
    let end = EndTransactionRequest {
        topic: resource("t"),
        message_id: "id".to_owned(),
        transaction_id: "b 0 0".to_owned(),
        resolution: TransactionResolution::Commit.into(),
        ..EndTransactionRequest::default()
    };
    let settings = |client_type: ClientType, pub_sub: PubSub| {
        let settings = Settings {
            client_type: Some(client_type.into()),
            pub_sub: Some(pub_sub),
            ..Settings::default()
        };
        let command = TelemetryCommand {
            status: None,
            command: Some(Command::Settings(settings)),
        };
        command.encode_to_vec()
    };
    let publishing = Publishing {
        topics: resource("t").into_iter().collect(),
        ..Publishing::default()
    };
    let subscription = Subscription {
        group: resource("g"),
        subscriptions: vec![SubscriptionEntry {
            topic: resource("t"),
            expression: filter(FilterType::Sql, "a > 0"),
        }],
        ..Subscription::default()
    };
    let lite = SyncLiteSubscriptionRequest {
        action: LiteSubscriptionAction::PartialAdd.into(),
        topic: resource("t"),
        group: resource("g"),
        lite_topic_set: vec!["l".to_owned()],
        ..SyncLiteSubscriptionRequest::default()
    };
    let route = QueryRouteRequest {
        topic: resource("t"),
        endpoints: Some(Endpoints {
            scheme: AddressScheme::IPv4.into(),
            addresses: vec![Address {
                host: "127.0.0.1".to_owned(),
                port: 8_081,
            }],
        }),
    };
    let assignment = QueryAssignmentRequest {
        topic: resource("t"),
        group: resource("g"),
        endpoints: None,
    };
    let recall = RecallMessageRequest {
        topic: resource("t"),
        recall_handle: "djEgYiB0IDE3MDAwMDAwMDAwMDAgaWQ=".to_owned(),
    };
    let thread = TelemetryCommand {
        status: None,
        command: Some(Command::ThreadStackTrace(ThreadStackTrace {
            nonce: "1".to_owned(),
            thread_stack_trace: Some("main".to_owned()),
        })),
    };
    let group = resource("g");
    let heartbeat = HeartbeatRequest {
        group: group.clone(),
        client_type: ClientType::PushConsumer.into(),
    };
    vec![
        requests(&[
            ("SendMessage", message(|_| ())),
            ("QueryRoute", route.encode_to_vec()),
            ("QueryAssignment", assignment.encode_to_vec()),
        ]),
        requests(&[
            ("ReceiveMessage", receive(filter(FilterType::Tag, "*"))),
            ("SendMessage", message(|_| ())),
            ("ReceiveMessage", receive(filter(FilterType::Sql, "a = '1'"))),
            ("AckMessage", ack.encode_to_vec()),
        ]),
        requests(&[
            (
                "SendMessage",
                message(|system| system.delivery_timestamp = Some(prost_types::Timestamp { seconds: 1, nanos: 0 })),
            ),
            ("SendMessage", message(|system| system.message_group = Some("m".to_owned()))),
            ("SendMessage", message(|system| system.lite_topic = Some("l".to_owned()))),
            ("SendMessage", message(|system| system.priority = Some(3))),
            ("RecallMessage", recall.encode_to_vec()),
        ]),
        requests(&[
            (
                "SendMessage",
                message(|system| system.message_type = MessageType::Transaction.into()),
            ),
            ("EndTransaction", end.encode_to_vec()),
        ]),
        requests(&[
            ("ChangeInvisibleDuration", change.encode_to_vec()),
            ("ForwardMessageToDeadLetterQueue", forward.encode_to_vec()),
        ]),
        requests(&[
            ("PullMessage", pull.encode_to_vec()),
            ("UpdateOffset", at.encode_to_vec()),
            ("GetOffset", offset.encode_to_vec()),
            ("QueryOffset", query.encode_to_vec()),
        ]),
        requests(&[
            ("Telemetry", settings(ClientType::Producer, PubSub::Publishing(publishing))),
            (
                "Telemetry",
                settings(ClientType::SimpleConsumer, PubSub::Subscription(subscription.clone())),
            ),
            (
                "Telemetry",
                settings(ClientType::LitePushConsumer, PubSub::Subscription(subscription)),
            ),
            ("Telemetry", thread.encode_to_vec()),
        ]),
        requests(&[
            ("Heartbeat", heartbeat.encode_to_vec()),
            ("SyncLiteSubscription", lite.encode_to_vec()),
            ("NotifyClientTermination", NotifyClientTerminationRequest { group }.encode_to_vec()),
        ]),
    ]
}
