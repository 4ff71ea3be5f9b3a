//! The connection of a client: a remoting connection, or a client of another protocol in the same process.

use super::table::{Channel, ClientCallError, OnResponse};
use net::Connection;
use parking_lot::Mutex;
use protocol::Frame;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A client of another protocol than remoting. It receives the same requests and translates them.
///
/// Such a client takes its connection id from [`Connection::take_id`]; its protocol reports when it disconnects.
pub trait ProtocolClient: Send + Sync {
    /// Connection id, unique among the connections of all protocols.
    fn id(&self) -> u64;
    /// The connection whose limits count.
    fn owner(&self) -> u64 {
        self.id()
    }
    /// Address of the client.
    fn peer(&self) -> SocketAddr;
    /// Sends a one-way request. Must not block. A request that its protocol cannot express is dropped.
    fn send_oneway(&self, request: &Frame);
    /// Sends a request and calls `done` once. Must not block. A request that its protocol cannot express fails.
    fn call(&self, request: Frame, timeout: Duration, done: OnResponse);
    /// Closes the connection.
    fn close(&self);
    /// Whether the connection is closed.
    fn is_closed(&self) -> bool;
}

/// The connection of a client, as the tables of clients store it.
#[derive(Clone)]
pub enum ClientChannel {
    /// A connection of the remoting protocol.
    Remoting(Arc<Connection>),
    /// A client of another protocol.
    Protocol(Arc<dyn ProtocolClient>),
}

impl fmt::Debug for ClientChannel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "client {} at {}", self.id(), self.peer())
    }
}

impl Channel for ClientChannel {
    fn id(&self) -> u64 {
        match self {
            Self::Remoting(connection) => connection.id(),
            Self::Protocol(client) => client.id(),
        }
    }

    fn owner(&self) -> u64 {
        match self {
            Self::Remoting(connection) => connection.id(),
            Self::Protocol(client) => client.owner(),
        }
    }

    fn peer(&self) -> SocketAddr {
        match self {
            Self::Remoting(connection) => connection.peer(),
            Self::Protocol(client) => client.peer(),
        }
    }

    fn send_oneway(&self, request: &Frame) {
        match self {
            // After the replies of the current batch: a client is notified of its own join after its heartbeat is answered.
            Self::Remoting(connection) => {
                connection.send_later(|out| request.encode(out.head()));
            }
            Self::Protocol(client) => client.send_oneway(request),
        }
    }

    fn call_unchecked(&self, request: Frame, timeout: Duration, done: OnResponse) {
        match self {
            Self::Remoting(connection) => call(connection, request, timeout, done),
            Self::Protocol(client) => client.call(request, timeout, done),
        }
    }

    fn close(&self) {
        match self {
            Self::Remoting(connection) => connection.close(),
            Self::Protocol(client) => client.close(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Remoting(connection) => connection.is_closed(),
            Self::Protocol(client) => client.is_closed(),
        }
    }
}

pub(super) fn call(connection: &Arc<Connection>, request: Frame, timeout: Duration, done: OnResponse) {
    if connection.congested() {
        return done(Err(ClientCallError::Congested));
    }
    // Called with the response, or here if nothing was sent.
    let done = Arc::new(Mutex::new(Some(done)));
    let run = |done: &Mutex<Option<OnResponse>>, result| {
        let taken = done.lock().take();
        if let Some(done) = taken {
            done(result);
        }
    };
    let answered = Arc::clone(&done);
    if let Err(error) = connection.request(request, timeout, move |result| {
        run(&answered, result.map_err(ClientCallError::from))
    }) {
        run(&done, Err(error.into()));
    }
}
