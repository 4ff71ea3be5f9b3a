//! The requests of the protocol without a connection, for fuzzing: what a client sends is served as if it had come over HTTP/2.
//!
//! Not for programs; not here: HTTP/2 itself, and Admin.

use crate::backend::Backend;
use crate::clients::Clients;
use crate::connection::{Connection, Unread};
use crate::local::Local;
use crate::service::{Messaging, Service};
use crate::settings::ProxySettings;
use crate::v2::messaging_service_server::MessagingServiceServer;
use broker::operations::Operations;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use std::{io, iter};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tonic::codegen::Service as _;

/// A proxy of a broker of this process, and one connection to it.
pub struct InProcess {
    service: MessagingServiceServer<Service>,
    connection: Arc<Connection>,
    runtime: Runtime,
    /// Dropped, it tells requests that wait to end.
    _stop: watch::Sender<bool>,
}

impl InProcess {
    /// Of this broker.
    ///
    /// # Errors
    /// The runtime cannot be made.
    pub fn new(settings: ProxySettings, broker: Operations) -> io::Result<Self> {
        let (stop, is_stopping) = watch::channel(false);
        let (clients, most_bytes) = (Arc::new(Clients::new(settings.max_clients)), settings.max_request_bytes);
        let messaging = Messaging::new(settings, Backend::Local(Arc::new(Local::new(broker))), clients, is_stopping);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8_081));
        Ok(Self {
            service: MessagingServiceServer::new(Service(Arc::new(messaging))).max_decoding_message_size(most_bytes),
            connection: Arc::new(Connection::new(address, address, Arc::<Unread>::default())),
            runtime: Builder::new_current_thread().enable_all().build()?,
            _stop: stop,
        })
    }

    /// Serves the request `rpc` (`SendMessage`) of this client. `body` is what gRPC sends: messages, each behind a byte 0 and its length in four bytes.
    /// Reads the whole answer and returns its size; `None` if that does not end within `patience`.
    pub fn call(&self, rpc: &str, client_id: &str, body: Bytes, patience: Duration) -> Option<usize> {
        let request = Request::post(format!("/apache.rocketmq.v2.MessagingService/{rpc}"))
            .header("content-type", "application/grpc")
            .header("x-mq-client-id", client_id)
            .extension(Arc::clone(&self.connection))
            .body(Full::new(body))
            .ok()?;
        let served = async {
            let Ok(answer) = self.service.clone().call(request).await;
            answer.into_body().collect().await.map_or(0, |read| read.to_bytes().len())
        };
        self.runtime.block_on(async { tokio::time::timeout(patience, served).await }).ok()
    }
}

/// A message as gRPC sends it.
#[must_use]
pub fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    iter::once(0).chain(length).chain(message.iter().copied()).collect()
}
