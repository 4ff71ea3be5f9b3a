//! TLS on the port of the proxy: which connections it accepts in which mode.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bytes::Bytes;
use http::Request;
use std::net::SocketAddr;
use std::sync::Arc;
use store::disk::simulated::SimulatedDisk;
use support::{SOON, Server, message};
use tls::{Accepted, Tls, TlsMode, TlsSettings};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

fn start(mode: TlsMode) -> (Tls, Server) {
    let tls = Tls::open(&TlsSettings {
        mode,
        enable: Some(true),
        ..TlsSettings::default()
    })
    .unwrap();
    let server = Server::start_with(&SimulatedDisk::new(1), tls.accepted(), |_, _| {});
    (tls, server)
}

/// A TLS connection of a client that speaks the application protocols given.
async fn secured(tls: &Tls, address: SocketAddr, protocols: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config = (*tls.client().unwrap().config()).clone();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let host = "any.example".try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(host, stream).await
}

/// Asks for the health of the server, without a client library.
async fn is_healthy(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<bool, h2::Error> {
    let (send, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post("https://x/grpc.health.v1.Health/Check").header("content-type", "application/grpc");
    let mut send = send.ready().await?;
    let (answer, mut body) = send.send_request(request.body(()).unwrap(), false)?;
    body.send_data(Bytes::from_static(&[0; 5]), true)?;
    let mut answered = answer.await?.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = answered.data().await {
        bytes.extend(piece?);
    }
    drop(send);
    connection.abort();
    // A message of two bytes: status (field 1) is SERVING (1).
    Ok(bytes == [0, 0, 0, 0, 2, 8, 1])
}

#[test]
fn both_kinds_are_served_on_one_port() {
    let (tls, server) = start(TlsMode::Permissive);
    server.run(async |server| {
        let address = server.proxy.address();
        let stream = secured(&tls, address, &[b"h2"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        assert!(is_healthy(stream).await.unwrap());
        let without_name = secured(&tls, address, &[]).await.unwrap();
        assert!(is_healthy(without_name).await.unwrap());
        assert!(
            secured(&tls, address, &[b"http/1.1"]).await.is_err(),
            "the server speaks HTTP/2 only"
        );
        server.client("plain").await.sent(message("t", "x", |_| {})).await;
    });
}

#[test]
fn enforcing_refuses_plain_and_disabled_refuses_tls() {
    let (tls, server) = start(TlsMode::Enforcing);
    server.run(async |server| {
        let address = server.proxy.address();
        assert!(is_healthy(secured(&tls, address, &[b"h2"]).await.unwrap()).await.unwrap());
        assert!(is_healthy(TcpStream::connect(address).await.unwrap()).await.is_err());
    });
    let (tls, server) = start(TlsMode::Disabled);
    assert!(matches!(tls.accepted(), Accepted::Plain));
    server.run(async |server| {
        let address = server.proxy.address();
        assert!(secured(&tls, address, &[b"h2"]).await.is_err());
        assert!(is_healthy(TcpStream::connect(address).await.unwrap()).await.unwrap());
    });
}

#[test]
fn broken_and_unfinished_handshakes_harm_nobody() {
    let (tls, server) = start(TlsMode::Permissive);
    server.run(async |server| {
        let address = server.proxy.address();
        let mut open = Vec::new();
        for bytes in [
            &b"\x16"[..],
            b"\x16\x03\x01\x40\x00",
            b"\x16garbage that is no handshake at all",
            b"",
        ] {
            for _ in 0..50 {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(bytes).await.unwrap();
                open.push(stream);
            }
        }
        let healthy = async { is_healthy(secured(&tls, address, &[b"h2"]).await.unwrap()).await };
        assert!(tokio::time::timeout(SOON, healthy).await.unwrap().unwrap());
        // What is no handshake is closed at once, the others when their time is over.
        for stream in &mut open[100..150] {
            let mut rest = Vec::new();
            let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
        }
    });
}
