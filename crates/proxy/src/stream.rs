//! Connections as they are accepted: TLS or plain, which the first byte says, as on the other ports of the process.

use std::io;
use std::time::Duration;
use tls::Accepted;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// How a TLS connection begins: the content type of a handshake. HTTP/2 begins with a letter.
const HANDSHAKE: u8 = 0x16;
/// The protocol that a client and this server agree on (ALPN).
const PROTOCOLS: [&[u8]; 1] = [b"h2"];

pub(crate) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Waits for the first byte of a connection, and for the end of its handshake if it is one.
///
/// # Errors
/// The client sends nothing for too long, what it sends is no handshake, or the mode (`tls.server.mode`) refuses it.
pub(crate) async fn accept(stream: TcpStream, accepted: &Accepted, within: Duration) -> io::Result<Stream> {
    let accepting = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match (first[0] == HANDSHAKE, accepted) {
            (true, Accepted::Both(server) | Accepted::Encrypted(server)) => {
                let acceptor = TlsAcceptor::from(server.config_with_protocols(&PROTOCOLS));
                Ok(Either::Right(acceptor.accept(stream).await?))
            }
            (true, Accepted::Plain) => Err(io::Error::other("it wants TLS, which tls.server.mode=disabled refuses")),
            (false, Accepted::Encrypted(_)) => Err(io::Error::other("it is plain, which tls.server.mode=enforcing refuses")),
            (false, Accepted::Plain | Accepted::Both(_)) => Ok(Either::Left(stream)),
        }
    };
    tokio::time::timeout(within, accepting).await?
}
