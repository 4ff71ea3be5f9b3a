//! `--protocol grpc`: the same loads by the protocol of the 5.x SDKs.
//!
//! Few threads, each with a Tokio runtime for its connections. The request of a send is encoded once; of each message its id and its stamp
//! are patched. A reader has a connection with its telemetry stream, as an SDK has, and one receive at a time.

mod call;
mod e2e;
mod send;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use proxy::v2::{
    Address, AddressScheme, Encoding, Endpoints, Message, MessageQueue, MessageType, Permission, QueryRouteRequest, QueryRouteResponse,
    Resource, SendMessageRequest, SystemProperties,
};

use super::arguments::Target;
use super::frames::STAMP_LEN;
use crate::failure::Failure;
use call::{Channel, framed, told};

pub(super) use e2e::run as e2e;
pub(super) use send::run as send;

/// Length of a message id, as SDKs make it.
const ID_LEN: usize = 34;

/// The endpoint to load.
fn address_of(target: &Target) -> Result<&str, Failure> {
    if target.tls.connector().map_err(Failure::new)?.is_some() {
        return Err(Failure::new("--protocol grpc is loaded without TLS only"));
    }
    let advice = "Give the gRPC endpoint with --broker HOST:8081";
    target
        .broker
        .as_deref()
        .ok_or_else(|| Failure::new("--protocol grpc needs an endpoint").advice(advice))
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource {
        name: name.to_owned(),
        ..Resource::default()
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::new)
}

/// As many threads as the connections can use.
fn thread_count(connections: u32) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    processors.min(connections.max(1) as usize)
}

fn duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: time.as_secs() as i64,
        nanos: time.subsec_nanos() as i32,
    }
}

/// The queues of the topic that can be read and written.
fn find_queues(address: &str, topic: &str) -> Result<Vec<MessageQueue>, Failure> {
    let (host, port) = address.rsplit_once(':').unwrap_or_default();
    let request = QueryRouteRequest {
        topic: resource(topic),
        endpoints: Some(Endpoints {
            scheme: AddressScheme::DomainName.into(),
            addresses: vec![Address {
                host: host.to_owned(),
                port: port.parse().unwrap_or_default(),
            }],
        }),
    };
    let answer: QueryRouteResponse = runtime()?.block_on(async {
        let channel = Channel::connect(address, "ApogeeBench").await?;
        channel.unary("QueryRoute", framed(&request)).await
    })?;
    let usable = answer.message_queues.into_iter();
    let usable: Vec<_> = usable.filter(|queue| queue.permission == Permission::ReadWrite as i32).collect();
    if usable.is_empty() {
        let failure = Failure::new(format!("topic {topic}: {}", told(answer.status.as_ref())));
        return Err(failure.advice("Create it with mqadmin updateTopic"));
    }
    Ok(usable)
}

/// Makes requests with one message.
struct Sends {
    /// The request of one message, whose id and stamp are zeros.
    request: Vec<u8>,
    id_at: usize,
    stamp_at: usize,
    run: u64,
    sent: u64,
}

impl Sends {
    /// For one of several senders of a run.
    fn new(topic: &str, size: usize, run: u64, sender: u64) -> Self {
        const ID: &str = "0000000000000000000000000000000000";
        let body: Vec<u8> = (0..size).map(|at| if at < STAMP_LEN { 0xFF } else { b'x' }).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let message = Message {
            topic: resource(topic),
            system_properties: Some(SystemProperties {
                message_id: ID.to_owned(),
                message_type: MessageType::Normal.into(),
                body_encoding: Encoding::Identity.into(),
                born_host: "bench".to_owned(),
                born_timestamp: Some(prost_types::Timestamp {
                    seconds: now.as_secs() as i64,
                    nanos: 0,
                }),
                ..SystemProperties::default()
            }),
            body: Bytes::from(body.clone()),
            ..Message::default()
        };
        let request = framed(&SendMessageRequest { messages: vec![message] }).to_vec();
        let place = |of: &[u8]| request.windows(of.len()).position(|window| window == of).unwrap_or_default();
        Self {
            id_at: place(ID.as_bytes()),
            stamp_at: place(&body),
            request,
            run: run ^ (sender << 48),
            sent: 0,
        }
    }

    /// The next request. With a stamp its body begins with the run and when it was due, in µs.
    fn next(&mut self, stamp: Option<(u64, u64)>) -> Bytes {
        self.sent += 1;
        let mut bytes = self.request.clone();
        let id = format!("01{:016X}{:016X}", self.run, self.sent);
        bytes[self.id_at..self.id_at + ID_LEN].copy_from_slice(id.as_bytes());
        if let Some((run, due_us)) = stamp {
            bytes[self.stamp_at..self.stamp_at + 8].copy_from_slice(&run.to_be_bytes());
            bytes[self.stamp_at + 8..self.stamp_at + STAMP_LEN].copy_from_slice(&due_us.to_be_bytes());
        }
        bytes.into()
    }
}
