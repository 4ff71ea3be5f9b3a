//! Connections of the gRPC protocol, and calls on them, as cheap as a load generator wants them.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request};
use prost::Message;
use proxy::v2::{Code, Status};
use tokio::net::TcpStream;

use super::super::wire::TIMEOUT;
use crate::failure::Failure;

/// Bytes that the server may send before they are read.
const WINDOW: u32 = 4 << 20;
/// A message of a call begins with a flag and its length.
const PREFIX: usize = 5;

/// A connection of one client.
#[derive(Clone)]
pub(super) struct Channel {
    send: SendRequest<Bytes>,
    headers: HeaderMap,
}

impl Channel {
    /// Connects, on a Tokio runtime that keeps running.
    pub(super) async fn connect(address: &str, client_id: &str) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::new(format!("cannot connect to {address}: {error}"));
        let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (send, connection) = builder.handshake(stream).await.map_err(|error| failed(&error))?;
        tokio::spawn(async move {
            // Calls report how it ended.
            let _ = connection.await;
        });
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("x-mq-language", "RUST"),
            ("x-mq-protocol", "v2"),
            ("x-mq-client-version", "5.0.0"),
            ("x-mq-client-id", client_id),
        ] {
            headers.insert(name, HeaderValue::from_str(value).map_err(Failure::new)?);
        }
        Ok(Self { send, headers })
    }

    /// Begins a call whose answer may take so long.
    async fn begin(&self, method: &str, wait: Option<Duration>) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), Failure> {
        let path = format!("http://bench/apache.rocketmq.v2.MessagingService/{method}");
        let mut request = Request::post(path).body(()).map_err(Failure::new)?;
        request.headers_mut().clone_from(&self.headers);
        if let Some(wait) = wait {
            let millis = HeaderValue::from_str(&format!("{}m", wait.as_millis())).map_err(Failure::new)?;
            request.headers_mut().insert("grpc-timeout", millis);
        }
        let mut send = self.send.clone().ready().await.map_err(Failure::new)?;
        send.send_request(request, false).map_err(Failure::new)
    }

    /// A call whose answer is a stream of messages, at least one.
    pub(super) async fn call<A: Message + Default>(&self, method: &str, request: Bytes, wait: Duration) -> Result<Vec<A>, Failure> {
        let answered = async {
            let (answer, mut out) = self.begin(method, Some(wait)).await?;
            out.send_data(request, true).map_err(Failure::new)?;
            let answer = answer.await.map_err(Failure::new)?;
            check(method, answer.headers())?;
            let (mut messages, mut bytes, mut body) = (Vec::new(), BytesMut::new(), answer.into_body());
            while let Some(piece) = body.data().await {
                take(&mut body, piece, &mut bytes)?;
                while let Some(message) = next_message(&mut bytes) {
                    messages.push(A::decode(message).map_err(Failure::new)?);
                }
            }
            if let Some(trailers) = body.trailers().await.map_err(Failure::new)? {
                check(method, &trailers)?;
            }
            match messages.is_empty() {
                true => Err(Failure::new(format!("{method}: an empty answer"))),
                false => Ok(messages),
            }
        };
        let limited = tokio::time::timeout(wait + TIMEOUT, answered).await;
        limited.unwrap_or_else(|_| Err(Failure::new(format!("{method}: no answer in time"))))
    }

    /// A call with one message as its answer.
    pub(super) async fn unary<A: Message + Default>(&self, method: &str, request: Bytes) -> Result<A, Failure> {
        let mut messages = self.call(method, request, TIMEOUT).await?;
        Ok(messages.swap_remove(0))
    }

    /// A call that stays open, once the server has answered its first message.
    pub(super) async fn open(&self, method: &str, first: Bytes) -> Result<(SendStream<Bytes>, RecvStream), Failure> {
        let opened = async {
            let (answer, mut out) = self.begin(method, None).await?;
            out.send_data(first, false).map_err(Failure::new)?;
            let answer = answer.await.map_err(Failure::new)?;
            check(method, answer.headers())?;
            let (mut body, mut bytes) = (answer.into_body(), BytesMut::new());
            while next_message(&mut bytes).is_none() {
                let ended = || Failure::new(format!("{method}: the server ended the stream"));
                let piece = body.data().await.ok_or_else(ended)?;
                take(&mut body, piece, &mut bytes)?;
            }
            Ok((out, body))
        };
        let limited = tokio::time::timeout(TIMEOUT, opened).await;
        limited.unwrap_or_else(|_| Err(Failure::new(format!("{method}: no answer in time"))))
    }
}

fn take(body: &mut RecvStream, piece: Result<Bytes, h2::Error>, bytes: &mut BytesMut) -> Result<(), Failure> {
    let piece = piece.map_err(Failure::new)?;
    body.flow_control().release_capacity(piece.len()).map_err(Failure::new)?;
    bytes.extend_from_slice(&piece);
    Ok(())
}

fn next_message(bytes: &mut BytesMut) -> Option<Bytes> {
    let mut prefix = bytes.get(1..PREFIX)?;
    let length = prefix.get_u32() as usize;
    if bytes.len() < PREFIX + length {
        return None;
    }
    bytes.advance(PREFIX);
    Some(bytes.split_to(length).freeze())
}

/// The status of a call, which is in its trailers, or in its headers if there is no message.
fn check(method: &str, headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get("grpc-status") {
        Some(status) if status != "0" => {
            let text = headers.get("grpc-message").and_then(|text| text.to_str().ok()).unwrap_or_default();
            Err(Failure::new(format!("{method}: gRPC status {status:?} {text}")))
        }
        _ => Ok(()),
    }
}

/// A request as it is sent.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    // The buffer grows as it has to.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

/// Whether the status of an answer is one of these codes.
pub(super) fn is_code(status: Option<&Status>, codes: &[Code]) -> bool {
    status.is_some_and(|status| codes.iter().any(|code| *code as i32 == status.code))
}

/// The status of an answer as a text.
pub(super) fn told(status: Option<&Status>) -> String {
    status.map_or_else(
        || "an answer without a status".to_owned(),
        |status| format!("{:?}: {}", status.code(), status.message),
    )
}
