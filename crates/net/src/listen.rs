//! Resolves `host:port` and opens listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 1_024;

/// Resolves `host:port` or `[v6]:port` to the first address of the host. Blocks for a name lookup.
///
/// # Errors
/// `io::Error` if `address` is not `host:port`, or the host has no address.
pub fn resolve(address: &str) -> io::Result<SocketAddr> {
    address
        .to_socket_addrs()
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address}: the host has no address")))
}

/// Binds and listens, non-blocking, with `SO_REUSEADDR` so that a restart does not wait for old connections. An IPv6 wildcard takes
/// IPv4 as well.
///
/// # Errors
/// `io::Error` with the address in its text if the socket cannot be created, bound or set to listen.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    try_bind(address).map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

fn try_bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Listening sockets that stay open between two servers of the same addresses. Connections that come in between wait for the next one, up to the kernel's
/// backlog.
#[derive(Debug, Default)]
pub struct OpenSockets(Mutex<Vec<(SocketAddr, TcpListener)>>);

impl OpenSockets {
    /// A socket for each address: the one that is open, or a new one.
    ///
    /// # Errors
    /// As [`bind`].
    pub fn at(&self, addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
        let mut open = self.0.lock();
        let one = |address: &SocketAddr| {
            if let Some((_, socket)) = open.iter().find(|(known, _)| known == address) {
                return socket.try_clone();
            }
            let socket = bind(*address)?;
            open.push((*address, socket.try_clone()?));
            Ok(socket)
        };
        addresses.iter().map(one).collect()
    }

    /// Closes them: the last server stops.
    pub fn close(&self) {
        self.0.lock().clear();
    }
}

/// Converts the IPv6 form of an IPv4 address to IPv4, because addresses go into messages and client ids.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_port_in_use_is_an_error_with_the_address() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()));
    }

    #[test]
    fn a_connection_waits_for_the_next_server_of_an_open_socket() {
        let open = OpenSockets::default();
        let asked = ["127.0.0.1:0".parse().unwrap()];
        let first = open.at(&asked).unwrap().remove(0);
        let address = first.local_addr().unwrap();
        drop(first);
        let client = TcpStream::connect(address).unwrap();
        let second = open.at(&asked).unwrap().remove(0);
        second.set_nonblocking(false).unwrap();
        assert_eq!(second.accept().unwrap().1, client.local_addr().unwrap());
        open.close();
        drop(second);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn addresses_resolve_with_v4_v6_and_names() {
        assert_eq!(resolve("127.0.0.1:9876").unwrap(), "127.0.0.1:9876".parse().unwrap());
        assert_eq!(resolve("[::1]:9876").unwrap(), "[::1]:9876".parse().unwrap());
        assert!(resolve("localhost:1").unwrap().ip().is_loopback());
        assert!(resolve("nonsense").is_err());
    }

    #[test]
    fn a_mapped_v4_address_becomes_v4() {
        assert_eq!(canonical("[::ffff:10.0.0.1]:7".parse().unwrap()), "10.0.0.1:7".parse().unwrap());
    }
}
