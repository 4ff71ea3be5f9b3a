//! The interface that a server calls with the frames that it has read.

use std::sync::Arc;

use protocol::frame::Frame;

use crate::Connection;

/// Serves requests. One value serves all connections of a server, on all worker threads at the same time.
pub trait Service: Send + Sync {
    /// Serves all requests of one read, in the order in which they arrived.
    ///
    /// Runs on the connection's worker thread and must not block, because all connections of that thread wait. Responses queued for `conn`
    /// here are written together after this returns. Responses to our own requests (`flag` bit 0) are not passed to this.
    ///
    /// The service removes frames from the front (usually all: `drain(..)`). It stops early when [`Connection::must_yield`] is true. Frames
    /// that it leaves are passed again, before newer ones, when the peer has read enough and the other connections of this thread had
    /// their turn. Leaving all frames while `must_yield` is false closes the connection; a service that serves one frame before it asks
    /// always makes progress.
    ///
    /// A request that another thread will answer is announced with [`Connection::owe`], so that the responses of a connection are limited
    /// before they exist.
    ///
    /// Frames are slices of the thread's read buffer and keep all of it alive. Copy what is kept for long (a parked request).
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>);

    /// Called on the worker thread when a connection is ready: its peer has sent its first bytes, or the handshake is complete. A stream
    /// that sends nothing, or whose handshake fails, never gets here.
    fn opened(&self, conn: &Arc<Connection>) {
        let _ = conn;
    }

    /// Called once on the worker thread when the connection has closed, after the last `serve`.
    fn closed(&self, conn: &Arc<Connection>) {
        let _ = conn;
    }
}
