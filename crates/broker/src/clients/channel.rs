//! The connection of a client: of the remoting protocol, or of another face in the same process.

use super::table::{AskError, Channel, Done};
use net::Connection;
use parking_lot::Mutex;
use protocol::Frame;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A client of another face than the remoting protocol. It is told and asked the same things, and translates them.
///
/// Such a client has a connection id of its own ([`Connection::next_id`]); the face says when it is gone.
pub trait FaceClient: Send + Sync {
    /// Tells connections apart, those of all faces.
    fn id(&self) -> u64;
    /// Address of the client.
    fn peer(&self) -> SocketAddr;
    /// Tells the client something that wants no answer. Must not block; what its protocol has no word for is dropped.
    fn tell(&self, request: &Frame);
    /// Asks the client, and calls `done` once. Must not block; what its protocol has no word for is refused.
    fn ask(&self, request: Frame, timeout: Duration, done: Done);
    /// Closes the connection.
    fn close(&self);
    /// Whether the connection is closed.
    fn is_closed(&self) -> bool;
}

/// The connection of a client, as the broker's tables of clients have it.
#[derive(Clone)]
pub enum ClientChannel {
    /// A connection of the remoting protocol.
    Remoting(Arc<Connection>),
    /// A client of another face.
    Face(Arc<dyn FaceClient>),
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
            Self::Face(client) => client.id(),
        }
    }

    fn peer(&self) -> SocketAddr {
        match self {
            Self::Remoting(connection) => connection.peer(),
            Self::Face(client) => client.peer(),
        }
    }

    fn tell(&self, request: &Frame) {
        match self {
            // After the replies of the batch that is being served: a client hears of itself when it knows that it is in.
            Self::Remoting(connection) => {
                connection.send_later(|out| request.encode(out.head()));
            }
            Self::Face(client) => client.tell(request),
        }
    }

    fn ask_unchecked(&self, request: Frame, timeout: Duration, done: Done) {
        match self {
            Self::Remoting(connection) => ask(connection, request, timeout, done),
            Self::Face(client) => client.ask(request, timeout, done),
        }
    }

    fn close(&self) {
        match self {
            Self::Remoting(connection) => connection.close(),
            Self::Face(client) => client.close(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Remoting(connection) => connection.is_closed(),
            Self::Face(client) => client.is_closed(),
        }
    }
}

fn ask(connection: &Arc<Connection>, request: Frame, timeout: Duration, done: Done) {
    if connection.congested() {
        return done(Err(AskError::Congested));
    }
    // Called by the answer, or here when nothing was sent.
    let done = Arc::new(Mutex::new(Some(done)));
    let call = |done: &Mutex<Option<Done>>, result| {
        let taken = done.lock().take();
        if let Some(done) = taken {
            done(result);
        }
    };
    let answered = Arc::clone(&done);
    if let Err(error) = connection.request(request, timeout, move |result| call(&answered, result.map_err(AskError::from))) {
        call(&done, Err(error.into()));
    }
}
