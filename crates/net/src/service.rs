//! What a server calls for the frames it has read.

use std::sync::Arc;

use protocol::frame::Frame;

use crate::Connection;

/// The meaning of requests. One value serves all connections of a server, from all worker threads at once.
pub trait Service: Send + Sync {
    /// Serves all requests that one read brought, in the order in which they came.
    ///
    /// Runs on the connection's worker thread and must not block: everything else on that thread waits. Replies queued for `conn`
    /// here are written together after this returns. Answers to our own requests (`flag` bit 0) never arrive here.
    ///
    /// The service takes frames off the front (usually all: `drain(..)`). It stops early when
    /// [`Connection::must_yield`] says so; what it leaves in `frames` is offered again, before anything newer, when the peer has read
    /// enough and the other connections of this thread had their turn. Leaving all frames without that
    /// makes no progress and closes the connection; a service that serves one before it asks always makes some.
    ///
    /// A request that is answered from another thread is announced by [`Connection::owe`], so that what a connection asks for is
    /// bounded before the answers are there.
    ///
    /// Frames are slices of the thread's read buffer and keep all of it alive. Whoever keeps a part of a frame for long (a parked
    /// request) copies that part.
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>);

    /// A connection was accepted. Called on its worker thread before the first `serve`.
    fn opened(&self, conn: &Arc<Connection>) {
        let _ = conn;
    }

    /// The connection is gone, for whatever reason; called once, on its worker thread, after the last `serve`.
    fn closed(&self, conn: &Arc<Connection>) {
        let _ = conn;
    }
}
