//! A broker with its proxy in this process, and a client of the generated protocol.
//!
//! In the test program `cluster` the proxy is one of a cluster: it finds the broker through a name server, and asks it over the network.
#![allow(dead_code, reason = "each test file uses a part of this")]

use broker::settings::BrokerSettings;
use broker::{Broker, StartError};
use proxy::Proxy;
use proxy::cluster_settings::ClusterSettings;
use proxy::settings::ProxySettings;
use proxy::v2::messaging_service_client::MessagingServiceClient;
use proxy::v2::receive_message_response::Content;
use proxy::v2::settings::PubSub;
use proxy::v2::telemetry_command::Command;
use proxy::v2::*;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::disk::simulated::SimulatedDisk;
use tls::Accepted;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

/// Time limit for what takes milliseconds on a quiet machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Whether the proxy does not know the broker of this process.
const IN_CLUSTER: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"cluster");

/// Settings of a small broker of this name.
pub(crate) fn broker_settings(name: &str) -> BrokerSettings {
    BrokerSettings {
        bind_address: Ipv4Addr::LOCALHOST.into(),
        listen_port: 0,
        broker_name: name.to_owned(),
        store_path_root_dir: "/store".into(),
        mapped_file_size_commit_log: 16 << 20,
        mapped_file_size_consume_queue: 20_000,
        max_hash_slot_num: 1_000,
        max_index_num: 4_000,
        clean_file_forcibly_enable: false,
        recall_message_enable: true,
        transaction_check_interval: Duration::from_millis(200),
        transaction_timeout: Duration::from_millis(200),
        ..BrokerSettings::default()
    }
}

/// Settings of a proxy at any free port.
pub(crate) fn proxy_settings() -> ProxySettings {
    ProxySettings {
        bind_address: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        min_polling: Duration::from_millis(1),
        min_invisible: Duration::from_millis(1),
        ..ProxySettings::default()
    }
}

/// A broker and its proxy.
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) proxy: Proxy,
    name_server: Option<net::Server>,
}

/// A name server at any free port.
pub(crate) fn name_server() -> net::Server {
    let settings = nameserver::NamesrvSettings::default();
    let network = net::Options {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        ..nameserver::NameServer::network(&settings)
    };
    let name_server = nameserver::NameServer::new(nameserver::Options::new(settings)).unwrap();
    net::Server::start(network, name_server).unwrap()
}

/// Starts a broker at any free port, and waits until the name server knows it.
pub(crate) fn registered(settings: BrokerSettings, name_server: &net::Server, disk: &SimulatedDisk) -> Broker {
    let name_servers = [name_server.local_addrs()[0].to_string()];
    let start = || {
        // It is told to the name server, so it is one that is free now. Another program may be faster.
        let listen_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let settings = BrokerSettings {
            listen_port,
            ..settings.clone()
        };
        match Broker::start(settings, net::session::Transport::default(), &name_servers, Arc::new(disk.clone())) {
            Ok(broker) => Some(broker),
            Err(StartError::Listen(_)) => None,
            Err(error) => panic!("{error}"),
        }
    };
    let broker = (0..100).find_map(|_| start()).expect("a free port");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let known = async {
        let client = ::client::Client::new(::client::Options::with_name_servers(name_servers.clone()));
        let topic = message::names::AUTO_CREATE_TOPIC;
        let is_known = |info: protocol::route::ClusterInfo| info.broker_addr_table.contains_key(&settings.broker_name);
        while !client.cluster().await.is_ok_and(is_known) || (settings.auto_create_topic_enable && client.topic_route(topic).await.is_err())
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    runtime.block_on(async { tokio::time::timeout(SOON, known).await.expect("the broker registers") });
    broker
}

/// Settings of a proxy that looks up everything again at once.
pub(crate) fn cluster(name_server: &net::Server) -> ClusterSettings {
    ClusterSettings {
        namesrv_addr: vec![name_server.local_addrs()[0].to_string()],
        route_age: Duration::ZERO,
        group_age: Duration::ZERO,
        heartbeat_period: Duration::from_millis(200),
        ..ClusterSettings::default()
    }
}

impl Server {
    pub(crate) fn start(change: impl FnOnce(&mut BrokerSettings, &mut ProxySettings)) -> Self {
        Self::start_on(&SimulatedDisk::new(1), change)
    }

    pub(crate) fn start_on(disk: &SimulatedDisk, change: impl FnOnce(&mut BrokerSettings, &mut ProxySettings)) -> Self {
        Self::start_with(disk, Accepted::Plain, change)
    }

    pub(crate) fn start_with(
        disk: &SimulatedDisk,
        accepted: Accepted,
        change: impl FnOnce(&mut BrokerSettings, &mut ProxySettings),
    ) -> Self {
        let (mut broker, mut proxy) = (broker_settings("b"), proxy_settings());
        change(&mut broker, &mut proxy);
        let name_server = IN_CLUSTER.then(name_server);
        let (broker, proxy) = match &name_server {
            None => {
                let broker = Broker::start(broker, net::session::Transport::default(), &[], Arc::new(disk.clone())).unwrap();
                let proxy = Proxy::start(proxy, accepted, broker.operations()).unwrap();
                (broker, proxy)
            }
            Some(name_server) => {
                let broker = registered(broker, name_server, disk);
                let proxy = Proxy::start_in_cluster(proxy, cluster(name_server), accepted, None).unwrap();
                (broker, proxy)
            }
        };
        Self {
            broker,
            proxy,
            name_server,
        }
    }

    /// Serves Admin with the broker.
    pub(crate) fn with_admin(self, change_log_level: Option<fn(tracing::Level) -> Result<(), String>>) -> Self {
        let core = self.broker.operations().core;
        let known = admin::Broker {
            cluster: core.settings.current().broker_cluster_name.clone(),
            name: core.settings.current().broker_name.clone(),
            id: 0,
            address: self.broker.addresses()[0].to_string(),
        };
        let options = ::client::Options {
            request_timeout: SOON,
            ..::client::Options::with_broker(&known.address)
        };
        self.proxy.serve_admin(proxy::Administration {
            cluster: admin::Cluster::of_broker(known, options),
            address_for: Some(Box::new(move |local| core.store_host(local))),
            change_log_level,
        });
        self
    }

    pub(crate) fn stop(self) {
        self.proxy.stop();
        self.broker.stop().unwrap();
        if let Some(name_server) = self.name_server {
            name_server.stop(SOON);
        }
    }

    /// Runs a test with clients, then stops both.
    pub(crate) fn run(self, test: impl AsyncFnOnce(&Server)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(4 * SOON, test(&self)).await.expect("it hangs") });
        drop(runtime);
        self.stop();
    }

    pub(crate) async fn client(&self, id: &str) -> Client {
        client(&self.proxy, id).await
    }
}

/// A client of a proxy.
pub(crate) async fn client(proxy: &Proxy, id: &str) -> Client {
    let channel = Endpoint::from_shared(format!("http://{}", proxy.address())).unwrap();
    Client {
        id: id.to_owned(),
        rpc: MessagingServiceClient::with_interceptor(channel.connect().await.unwrap(), Named(id.to_owned())),
    }
}

/// Adds the headers of a client.
#[derive(Clone)]
pub(crate) struct Named(String);

impl tonic::service::Interceptor for Named {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        request.metadata_mut().insert("x-mq-client-id", self.0.parse().unwrap());
        request.metadata_mut().insert("x-mq-language", "JAVA".parse().unwrap());
        Ok(request)
    }
}

/// A client.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) rpc: MessagingServiceClient<InterceptedService<Channel, Named>>,
}

/// The telemetry stream of a client.
pub(crate) struct Telemetry {
    pub(crate) send: mpsc::Sender<TelemetryCommand>,
    pub(crate) receive: Streaming<TelemetryCommand>,
}

impl Telemetry {
    pub(crate) async fn next(&mut self) -> Command {
        let command = self.receive.message().await.unwrap().expect("the stream ended");
        command.command.unwrap()
    }
}

pub(crate) fn resource(name: &str) -> Option<Resource> {
    Some(Resource {
        name: name.to_owned(),
        ..Resource::default()
    })
}

pub(crate) fn queue(topic: &str, id: i32) -> Option<MessageQueue> {
    Some(MessageQueue {
        topic: resource(topic),
        id,
        ..MessageQueue::default()
    })
}

pub(crate) fn endpoints() -> Option<Endpoints> {
    Some(Endpoints {
        scheme: AddressScheme::DomainName.into(),
        addresses: vec![Address {
            host: "proxy.example".to_owned(),
            port: 18_081,
        }],
    })
}

pub(crate) fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

pub(crate) fn millis(ms: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: ms / 1_000,
        nanos: (ms % 1_000) as i32 * 1_000_000,
    }
}

/// In so many milliseconds from now.
pub(crate) fn after(ms: i64) -> prost_types::Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64 + ms;
    prost_types::Timestamp {
        seconds: now / 1_000,
        nanos: (now % 1_000) as i32 * 1_000_000,
    }
}

pub(crate) fn message(topic: &str, body: &str, change: impl FnOnce(&mut SystemProperties)) -> Message {
    let mut system = SystemProperties {
        message_id: format!("id-{topic}-{body}"),
        born_timestamp: Some(after(0)),
        ..SystemProperties::default()
    };
    change(&mut system);
    Message {
        topic: resource(topic),
        body: body.as_bytes().to_vec().into(),
        system_properties: Some(system),
        ..Message::default()
    }
}

pub(crate) fn code(status: Option<Status>) -> Code {
    status.unwrap().code()
}

pub(crate) fn receipt(message: &Message) -> String {
    message.system_properties.as_ref().unwrap().receipt_handle.clone().unwrap()
}

pub(crate) fn attempt(message: &Message) -> i32 {
    message.system_properties.as_ref().unwrap().delivery_attempt.unwrap()
}

pub(crate) fn bodies(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|message| String::from_utf8(message.body.to_vec()).unwrap())
        .collect()
}

impl Client {
    pub(crate) async fn send(&mut self, messages: Vec<Message>) -> SendMessageResponse {
        self.rpc.send_message(SendMessageRequest { messages }).await.unwrap().into_inner()
    }

    /// Sends one message that is stored.
    pub(crate) async fn sent(&mut self, message: Message) -> SendResultEntry {
        let answer = self.send(vec![message]).await;
        assert_eq!(code(answer.status.clone()), Code::Ok, "{:?}", answer.status);
        answer.entries.into_iter().next().unwrap()
    }

    pub(crate) fn receive_request(group: &str, topic: &str, invisible_ms: i64) -> ReceiveMessageRequest {
        ReceiveMessageRequest {
            group: resource(group),
            message_queue: queue(topic, -1),
            filter_expression: Some(FilterExpression {
                r#type: FilterType::Tag.into(),
                expression: "*".to_owned(),
            }),
            batch_size: 32,
            invisible_duration: Some(millis(invisible_ms)),
            long_polling_timeout: Some(millis(1)),
            ..ReceiveMessageRequest::default()
        }
    }

    pub(crate) async fn receive(&mut self, request: ReceiveMessageRequest) -> (Code, Vec<Message>) {
        let mut answers = self.rpc.receive_message(request).await.unwrap().into_inner();
        let (mut code, mut messages) = (Code::Unspecified, Vec::new());
        while let Some(answer) = answers.message().await.unwrap() {
            match answer.content.unwrap() {
                Content::Status(status) => code = status.code(),
                Content::Message(message) => messages.push(message),
                Content::DeliveryTimestamp(_) => {}
            }
        }
        (code, messages)
    }

    /// Receives until there are so many.
    pub(crate) async fn receive_all(&mut self, group: &str, topic: &str, count: usize) -> Vec<Message> {
        let mut all = Vec::new();
        while all.len() < count {
            let request = ReceiveMessageRequest {
                long_polling_timeout: Some(millis(500)),
                ..Self::receive_request(group, topic, 60_000)
            };
            all.extend(self.receive(request).await.1);
        }
        all
    }

    /// A group without an offset begins at the end: its first receive makes one.
    pub(crate) async fn subscribe(&mut self, group: &str, topic: &str) {
        let (code, messages) = self.receive(Self::receive_request(group, topic, 60_000)).await;
        assert!(messages.is_empty() && code == Code::MessageNotFound, "{code:?}");
    }

    pub(crate) async fn ack(&mut self, group: &str, topic: &str, handle: &str) -> Code {
        let request = AckMessageRequest {
            group: resource(group),
            topic: resource(topic),
            entries: vec![AckMessageEntry {
                message_id: "id".to_owned(),
                receipt_handle: handle.to_owned(),
                lite_topic: None,
            }],
        };
        code(self.rpc.ack_message(request).await.unwrap().into_inner().status)
    }

    pub(crate) async fn change(&mut self, group: &str, topic: &str, handle: &str, ms: i64) -> (Code, String) {
        let request = ChangeInvisibleDurationRequest {
            group: resource(group),
            topic: resource(topic),
            receipt_handle: handle.to_owned(),
            invisible_duration: Some(millis(ms)),
            ..ChangeInvisibleDurationRequest::default()
        };
        let answer = self.rpc.change_invisible_duration(request).await.unwrap().into_inner();
        (code(answer.status), answer.receipt_handle)
    }

    pub(crate) async fn telemetry(&mut self, settings: Settings) -> (Telemetry, Settings) {
        let (send, out) = mpsc::channel(8);
        let command = |command| TelemetryCommand {
            status: None,
            command: Some(command),
        };
        send.send(command(Command::Settings(settings))).await.unwrap();
        let receive = self.rpc.telemetry(ReceiverStream::new(out)).await.unwrap().into_inner();
        let mut telemetry = Telemetry { send, receive };
        let Command::Settings(settings) = telemetry.next().await else {
            panic!("settings are answered first");
        };
        (telemetry, settings)
    }

    pub(crate) async fn produce(&mut self, topic: &str) -> (Telemetry, Settings) {
        let publishing = Publishing {
            topics: resource(topic).into_iter().collect(),
            ..Publishing::default()
        };
        let settings = Settings {
            client_type: Some(ClientType::Producer.into()),
            pub_sub: Some(PubSub::Publishing(publishing)),
            ..Settings::default()
        };
        self.telemetry(settings).await
    }

    pub(crate) fn consumer(kind: ClientType, group: &str, topic: &str) -> Settings {
        let subscription = Subscription {
            group: resource(group),
            subscriptions: vec![SubscriptionEntry {
                topic: resource(topic),
                expression: Some(FilterExpression {
                    r#type: FilterType::Tag.into(),
                    expression: "*".to_owned(),
                }),
            }],
            ..Subscription::default()
        };
        Settings {
            client_type: Some(kind.into()),
            pub_sub: Some(PubSub::Subscription(subscription)),
            ..Settings::default()
        }
    }
}
