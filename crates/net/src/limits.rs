//! Every bound of this crate, by name, with its default.

use std::time::Duration;

/// Bounds of a server, or of one client connection. All are checked before memory is spent.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once over all listeners of a server. One more is accepted and closed at once. Default 20,000.
    pub max_connections: usize,
    /// Largest frame in bytes, its 4-byte length field included. A longer one closes the connection. Default 16,777,216,
    /// as in Apache's `com.rocketmq.remoting.frameMaxLength`.
    pub max_frame_bytes: usize,
    /// Memory for frames that are not complete yet, over all connections of a server; the first 4 KiB of each are not counted. A frame
    /// takes it as it arrives, an eighth of what is left at once at most. A connection whose frame has no room is not read. Room for
    /// one largest frame is kept for one of those at a time. Default 512 MiB.
    pub inbound_total_bytes: usize,
    /// A connection with a frame that is not complete this long after its first byte is closed, checked about every 15 s (or a
    /// quarter of this, if that is less). Time in which it is not read because its peer does not read does not count. Default 60 s.
    /// Zero means never.
    pub frame_timeout: Duration,
    /// An accepted stream whose TLS handshake is not complete this long after its first byte is closed. Default 10 s. A client has
    /// [`connect_timeout`](crate::client::PeerOptions::connect_timeout) instead.
    pub handshake_timeout: Duration,
    /// While more than this many bytes wait to be written, or are expected of answers to come, a connection's requests are not
    /// read. Default 4 MiB.
    pub outbox_pause_bytes: usize,
    /// A connection with more than this many bytes waiting is closed. Default 64 MiB.
    pub outbox_close_bytes: usize,
    /// Bytes waiting over all connections of a server for peers that do not read. A connection is paused above an eighth of what is
    /// left of it, too; over it the connection with the most is closed. Default 256 MiB.
    pub outbox_total_bytes: usize,
    /// Requests of ours without an answer yet, per connection. One more is refused. Default 1,024.
    pub max_pending_requests: usize,
    /// A connection from which nothing was read for this long is closed, checked about every 30 s (or a quarter of this, if that
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
