//! All limits of this crate, with their defaults.

use std::time::Duration;

/// Limits of a server, or of one client connection. All are checked before memory is allocated.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once over all listeners of a server. A further one is accepted and closed at once. Default 20,000.
    pub max_connections: usize,
    /// Maximum size of a frame in bytes with its 4-byte length field. A longer frame closes the connection. Default 16,777,216,
    /// as in Apache's `com.rocketmq.remoting.frameMaxLength`.
    pub max_frame_bytes: usize,
    /// Memory for incomplete frames of all connections of a server; the first 4 KiB of each are not counted. A frame takes memory as
    /// its bytes arrive, at most an eighth of what is free at once. A connection whose frame gets no memory is not read. Memory for one
    /// frame of maximum size is reserved for one such connection at a time. Default 512 MiB.
    pub inbound_total_bytes: usize,
    /// A connection is closed if a frame is incomplete this long after its first byte. Checked about every 15 s (or a quarter of this, if
    /// that is less). Time in which the connection is not read because its peer does not read does not count. Default 60 s. Zero
    /// means never.
    pub frame_timeout: Duration,
    /// An accepted stream whose TLS handshake is not complete this long after its first byte is closed. Default 10 s. A client has
    /// [`connect_timeout`](crate::client::PeerOptions::connect_timeout) instead.
    pub handshake_timeout: Duration,
    /// While more than this many bytes are queued, or announced by [`Connection::owe`](crate::Connection::owe), requests of the connection
    /// are not read. Default 4 MiB.
    pub outbox_pause_bytes: usize,
    /// A connection with more than this many bytes queued is closed. Default 64 MiB.
    pub outbox_close_bytes: usize,
    /// Unread bytes of all connections of a server: those that sockets did not take. A connection with more than an eighth of what is free
    /// is not read; over the limit the connection with the most unread bytes is closed. Default 256 MiB.
    pub outbox_total_bytes: usize,
    /// Requests of ours in flight on a connection. A further one is refused. Default 1,024.
    pub max_pending_requests: usize,
    /// A connection is closed if nothing was read from it for this long. Checked about every 30 s (or a quarter of this, if that
    /// is less). Default 120 s. Zero means never.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_frame_bytes: 16_777_216,
            inbound_total_bytes: 512 << 20,
            frame_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            outbox_pause_bytes: 4 << 20,
            outbox_close_bytes: 64 << 20,
            outbox_total_bytes: 256 << 20,
            max_pending_requests: 1_024,
            idle_timeout: Duration::from_secs(120),
        }
    }
}
