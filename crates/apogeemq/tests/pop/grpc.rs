//! Clients of the gRPC protocol.

use super::{Fate, GROUP, INVISIBLE_MS, MORE_TIME_MS, TOPIC, fate};
use proxy::v2::messaging_service_client::MessagingServiceClient;
use proxy::v2::receive_message_response::Content;
use proxy::v2::*;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status as Broken};

/// How long a receive waits.
const POLL_MS: i64 = 200;

/// A client with a connection of its own.
pub(crate) struct Client {
    id: String,
    rpc: MessagingServiceClient<Channel>,
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource {
        name: name.to_owned(),
        ..Resource::default()
    })
}

/// What every receive asks for.
fn to_receive() -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        group: resource(GROUP),
        message_queue: Some(MessageQueue {
            topic: resource(TOPIC),
            id: -1,
            ..MessageQueue::default()
        }),
        batch_size: 8,
        long_polling_timeout: millis(POLL_MS),
        ..ReceiveMessageRequest::default()
    }
}

fn millis(ms: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: ms / 1_000,
        nanos: (ms % 1_000) as i32 * 1_000_000,
    })
}

fn is_ok(status: Option<Status>) -> bool {
    status.is_some_and(|status| status.code() == Code::Ok)
}

impl Client {
    pub(crate) async fn connect(proxy: &str, id: String) -> Self {
        let channel = Endpoint::from_shared(format!("http://{proxy}")).unwrap().connect().await.unwrap();
        Self {
            id,
            rpc: MessagingServiceClient::new(channel),
        }
    }

    fn request<T>(&self, told: T) -> Request<T> {
        let mut request = Request::new(told);
        request.metadata_mut().insert("x-mq-client-id", self.id.parse().unwrap());
        request.metadata_mut().insert("x-mq-language", "RUST".parse().unwrap());
        request
    }

    async fn receive(&mut self) -> Result<Vec<Message>, Broken> {
        let asked = ReceiveMessageRequest {
            invisible_duration: millis(INVISIBLE_MS),
            ..to_receive()
        };
        self.received(asked).await
    }

    async fn received(&mut self, asked: ReceiveMessageRequest) -> Result<Vec<Message>, Broken> {
        let request = self.request(asked);
        let mut answers = self.rpc.receive_message(request).await?.into_inner();
        let mut messages = Vec::new();
        while let Some(answer) = answers.message().await? {
            if let Some(Content::Message(message)) = answer.content {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    /// Joins the group as a push consumer, for as long as the sender is kept.
    pub(crate) async fn join(&mut self) -> mpsc::Sender<TelemetryCommand> {
        let subscription = Subscription {
            group: resource(GROUP),
            subscriptions: vec![SubscriptionEntry {
                topic: resource(TOPIC),
                expression: None,
            }],
            ..Subscription::default()
        };
        let settings = Settings {
            client_type: Some(ClientType::PushConsumer.into()),
            pub_sub: Some(settings::PubSub::Subscription(subscription)),
            ..Settings::default()
        };
        let (send, out) = mpsc::channel(1);
        let command = TelemetryCommand {
            status: None,
            command: Some(telemetry_command::Command::Settings(settings)),
        };
        send.send(command).await.unwrap();
        let request = self.request(ReceiverStream::new(out));
        let mut answers = self.rpc.telemetry(request).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_some(), "settings are answered");
        tokio::spawn(async move { while answers.message().await.is_ok_and(|told| told.is_some()) {} });
        send
    }

    /// Receives as a push consumer does: bodies and handles.
    pub(crate) async fn receive_held(&mut self) -> Vec<(Vec<u8>, String)> {
        let asked = ReceiveMessageRequest {
            auto_renew: true,
            ..to_receive()
        };
        let messages = self.received(asked).await.unwrap().into_iter();
        let held = messages.map(|message| (message.body.to_vec(), message.system_properties.unwrap().receipt_handle.unwrap()));
        held.collect()
    }

    /// True if the message was acknowledged in time.
    pub(crate) async fn ack(&mut self, handle: String) -> Result<bool, Broken> {
        let request = self.request(AckMessageRequest {
            group: resource(GROUP),
            topic: resource(TOPIC),
            entries: vec![AckMessageEntry {
                receipt_handle: handle,
                ..AckMessageEntry::default()
            }],
        });
        Ok(is_ok(self.rpc.ack_message(request).await?.into_inner().status))
    }

    async fn more_time(&mut self, handle: String) -> Result<bool, Broken> {
        let request = self.request(ChangeInvisibleDurationRequest {
            group: resource(GROUP),
            topic: resource(TOPIC),
            receipt_handle: handle,
            invisible_duration: millis(MORE_TIME_MS),
            ..ChangeInvisibleDurationRequest::default()
        });
        Ok(is_ok(self.rpc.change_invisible_duration(request).await?.into_inner().status))
    }
}

/// Sends until the connection breaks; returns what was acknowledged.
pub(crate) async fn send(proxy: String, name: String) -> Vec<String> {
    let (mut client, mut sent) = (Client::connect(&proxy, name.clone()).await, Vec::new());
    for n in 0.. {
        let body = format!("{name}-{n}");
        let message = Message {
            topic: resource(TOPIC),
            body: body.clone().into(),
            system_properties: Some(SystemProperties {
                message_id: body.clone(),
                ..SystemProperties::default()
            }),
            ..Message::default()
        };
        let request = client.request(SendMessageRequest { messages: vec![message] });
        match client.rpc.send_message(request).await {
            Ok(answer) if is_ok(answer.get_ref().status.clone()) => sent.push(body),
            Ok(_) | Err(_) => break,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sent
}

/// Receives until the connection breaks; forgets some messages, and asks for more time for others. Returns what was acknowledged in time.
pub(crate) async fn consume(proxy: String, id: String) -> Vec<String> {
    let (mut client, mut acked) = (Client::connect(&proxy, id).await, Vec::new());
    while let Ok(messages) = client.receive().await {
        for (n, message) in messages.into_iter().enumerate() {
            let handle = message.system_properties.and_then(|system| system.receipt_handle).unwrap();
            let body = String::from_utf8(message.body.to_vec()).unwrap();
            let done = match fate(n) {
                Fate::Forgotten => continue,
                Fate::Renewed => client.more_time(handle).await.map(|_| false),
                Fate::Acknowledged => client.ack(handle).await,
            };
            match done {
                Ok(true) => acked.push(body),
                Ok(false) => {}
                Err(_) => return acked,
            }
        }
    }
    acked
}
