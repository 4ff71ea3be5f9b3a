//! Settings of the proxy: every key with its meaning.
//!
//! Names, defaults and units are those of Apache's proxy where it has the key; keys that begin with `apogee` are ours. What concerns
//! messages of all protocols, such as `maxMessageSize`, is a setting of the broker.

use config::Settings;
use config::shape::{address, bytes, flag, milliseconds, seconds, whole};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const HOUR_MS: u32 = 60 * 60 * 1_000;

config::declare! {
    /// Settings of the proxy.
    pub struct ProxySettings;

    section "gRPC: port and threads" {
        /// Whether clients of the gRPC protocol are served.
        enable: bool { name: "apogeeGrpcEnable", default: true, allowed: flag(), change: AtStart }
        /// Port for clients of the gRPC protocol. 0: any free port.
        port: u16 { name: "grpcServerPort", default: 8_081, allowed: whole(0..=65_535).strict(), change: AtStart }
        /// Address to listen on.
        bind_address: IpAddr { name: "bindAddress", default: IpAddr::V4(Ipv4Addr::UNSPECIFIED), allowed: address(), change: AtStart }
        /// Threads that serve them. 0: one for every two processors.
        threads: usize { name: "apogeeGrpcThreads", default: 0, allowed: whole(0..=256).strict(), change: AtStart }
    }

    section "gRPC: administration" {
        /// Whether the service Admin is served.
        admin_enable: bool { name: "apogeeGrpcAdminEnable", default: true, allowed: flag(), change: AtStart }
        /// Whether clients of other machines may use it. It needs no password: whoever reaches the port resets offsets and reads all messages.
        admin_remote: bool { name: "apogeeGrpcAdminRemote", default: false, allowed: flag(), change: AtStart }
        /// Requests of Admin that are served at the same time. One more is refused.
        admin_max_requests: usize { name: "apogeeGrpcAdminMaxRequests", default: 8, allowed: whole(1..=1_000), change: AtStart }
        /// Time in which one is served.
        admin_timeout: Duration { name: "apogeeGrpcAdminTimeoutMillis", default: Duration::from_secs(30), allowed: milliseconds(100..=HOUR_MS), change: AtStart }
    }

    section "gRPC: limits" {
        /// Maximum number of connections. One more is closed.
        max_connections: usize { name: "apogeeGrpcMaxConnections", default: 20_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// Maximum number of requests of one connection that are served at the same time. A client sends no more.
        max_calls_per_connection: u32 {
            name: "grpcMaxConcurrentCallsPerConnection", default: 1_000, allowed: whole(1..=i32::MAX as u32).clamped(), change: AtStart,
        }
        /// Maximum number of clients that are online. One more is refused.
        max_clients: usize { name: "apogeeGrpcMaxClients", default: 20_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// Largest request.
        max_request_bytes: usize { name: "grpcMaxInboundMessageSize", default: 130 << 20, allowed: bytes(1_024..=1 << 30), change: AtStart }
        /// Memory for requests that have not arrived completely, or are being served. Beyond it a request is refused.
        max_inbound_bytes: usize { name: "apogeeGrpcInboundTotalBytes", default: 256 << 20, allowed: bytes(1 << 20..=64 << 30), change: AtStart }
        /// Largest header of a request.
        max_header_bytes: u32 { name: "apogeeGrpcMaxHeaderBytes", default: 16 << 10, allowed: bytes(1_024..=1 << 20), change: AtStart }
        /// Time in which a request must have arrived.
        request_timeout: Duration { name: "apogeeGrpcRequestTimeoutMillis", default: Duration::from_secs(30), allowed: milliseconds(100..=HOUR_MS), change: AtStart }
        /// Messages of one connection that its client has not read. Beyond it further receives and pulls of the connection are refused.
        max_unread_bytes: usize { name: "apogeeGrpcUnreadBytes", default: 16 << 20, allowed: bytes(1_024..=1 << 30), change: AtStart }
        /// The same for all connections. Beyond it receives and pulls of connections with unread messages are refused.
        max_unread_total_bytes: usize { name: "apogeeGrpcUnreadTotalBytes", default: 512 << 20, allowed: bytes(1 << 20..=64 << 30), change: AtStart }
        /// A connection whose client reads nothing of its messages for this long is closed.
        stall_timeout: Duration { name: "apogeeGrpcStallTimeoutMillis", default: Duration::from_secs(60), allowed: milliseconds(100..=HOUR_MS), change: AtStart }
        /// A connection without a request for this long is closed. Clients send heartbeats.
        idle_timeout: Duration { name: "grpcClientIdleTimeMills", default: Duration::from_secs(120), allowed: milliseconds(100..=24 * HOUR_MS), change: AtStart }
        /// Messages whose invisible time the proxy renews, because their broker does not hold them (Apache's). Beyond it a message is not renewed.
        max_renewals: usize { name: "apogeeGrpcMaxRenewals", default: 200_000, allowed: whole(0..=100_000_000), change: AtStart }
    }

    section "gRPC: messages" {
        /// Whether a message without a body is refused.
        enable_message_body_empty_check: bool { name: "enableMessageBodyEmptyCheck", default: true, allowed: flag(), change: AtStart }
        /// Maximum number of properties that a message has from its sender.
        user_property_max_num: usize { name: "userPropertyMaxNum", default: 128, allowed: whole(0..=10_000), change: AtStart }
        /// Maximum size of names and values of these properties, the tag and the keys.
        max_user_property_size: usize { name: "maxUserPropertySize", default: 16 << 10, allowed: bytes(0..=32 << 10), change: AtStart }
        /// A message group must be shorter. 0: no limit.
        max_message_group_size: usize { name: "maxMessageGroupSize", default: 64, allowed: bytes(0..=16 << 10), change: AtStart }
        /// Maximum size of the name of a lite topic.
        max_lite_topic_size: usize { name: "maxLiteTopicSize", default: 64, allowed: bytes(1..=200), change: AtStart }
        /// Maximum time until the delivery of a message that waits. 0: only timerMaxDelaySec of the broker counts.
        max_delay_time: Duration {
            name: "maxDelayTimeMills", default: Duration::from_secs(24 * 3_600), allowed: milliseconds(0..=u32::MAX), change: AtStart,
        }
        /// Maximum time that a producer may ask for before its transaction is checked. 0: no limit.
        max_transaction_recovery: Duration {
            name: "maxTransactionRecoverySecond", default: Duration::from_secs(3_600), allowed: seconds(0..=365 * 24 * 3_600), change: AtStart,
        }
        /// Whether the type of a message has to be that of its topic (message.type).
        enable_topic_message_type_check: bool { name: "enableTopicMessageTypeCheck", default: true, allowed: flag(), change: AtStart }
    }

    section "gRPC: producers" {
        /// How often a producer tries to send a message.
        producer_max_attempts: i32 { name: "grpcClientProducerMaxAttempts", default: 3, allowed: whole(1..=1_000), change: AtStart }
        /// Its delay before the second attempt.
        producer_backoff_initial: Duration {
            name: "grpcClientProducerBackoffInitialMillis", default: Duration::from_millis(10), allowed: milliseconds(0..=HOUR_MS), change: AtStart,
        }
        /// Its longest delay.
        producer_backoff_max: Duration {
            name: "grpcClientProducerBackoffMaxMillis", default: Duration::from_secs(1), allowed: milliseconds(0..=HOUR_MS), change: AtStart,
        }
        /// Factor between two delays.
        producer_backoff_multiplier: u32 { name: "grpcClientProducerBackoffMultiplier", default: 2, allowed: whole(1..=100), change: AtStart }
    }

    section "gRPC: consumers" {
        /// Shortest time that a receive waits for messages.
        min_polling: Duration {
            name: "grpcClientConsumerMinLongPollingTimeoutMillis", default: Duration::from_secs(5), allowed: milliseconds(0..=120_000), change: AtStart,
        }
        /// Longest time that a receive waits for messages.
        max_polling: Duration {
            name: "grpcClientConsumerMaxLongPollingTimeoutMillis", default: Duration::from_secs(20), allowed: milliseconds(0..=120_000), change: AtStart,
        }
        /// How many messages a push consumer asks for at once.
        receive_batch_size: i32 { name: "grpcClientConsumerLongPollingBatchSize", default: 32, allowed: whole(1..=32), change: AtStart }
        /// Whether messages that a push consumer processes stay invisible as long as it is online.
        enable_auto_renew: bool { name: "enableProxyAutoRenew", default: true, allowed: flag(), change: AtStart }
        /// Invisible time of such messages.
        default_invisible: Duration {
            name: "defaultInvisibleTimeMills", default: Duration::from_secs(60), allowed: milliseconds(1_000..=12 * HOUR_MS), change: AtStart,
        }
        /// Before Apache's brokers: so long before it has passed it is renewed.
        renew_ahead: Duration { name: "renewAheadTimeMillis", default: Duration::from_secs(10), allowed: milliseconds(100..=12 * HOUR_MS), change: AtStart }
        /// They stay invisible for so long at most after they were received.
        renew_max: Duration { name: "renewMaxTimeMillis", default: Duration::from_secs(3 * 3_600), allowed: milliseconds(0..=24 * HOUR_MS), change: AtStart }
        /// When a consumer ends, what it has not acknowledged is delivered again after this time.
        invisible_when_clear: Duration {
            name: "invisibleTimeMillisWhenClear", default: Duration::from_secs(1), allowed: milliseconds(0..=HOUR_MS), change: AtStart,
        }
        /// Shortest invisible time of a receive.
        min_invisible: Duration {
            name: "minInvisibleTimeMillsForRecv", default: Duration::from_secs(10), allowed: milliseconds(0..=12 * HOUR_MS), change: AtStart,
        }
        /// Longest invisible time. 0: no limit.
        max_invisible: Duration {
            name: "maxInvisibleTimeMills", default: Duration::from_secs(12 * 3_600), allowed: milliseconds(0..=24 * HOUR_MS), change: AtStart,
        }
    }
}

impl Settings for ProxySettings {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed_values() {
        let settings = ProxySettings::default();
        assert!(settings.enable && settings.port == 8_081);
        assert!(settings.min_polling <= settings.max_polling && settings.renew_ahead < settings.default_invisible);
    }
}
