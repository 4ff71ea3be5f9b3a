//! Settings of a proxy in a process of its own: which brokers it serves, and what it keeps of them.
//!
//! Names, defaults and units are those of Apache's proxy where it has the key. What concerns its clients is in [`crate::settings`].

use config::Settings;
use config::shape::{bytes, host_and_port, list, milliseconds, seconds, whole};
use std::time::Duration;

config::declare! {
    /// Settings of a proxy in front of a cluster.
    pub struct ClusterSettings;

    section "Proxy: brokers" {
        /// Name servers that know the brokers.
        namesrv_addr: Vec<String> { name: "namesrvAddr", default: Vec::new(), allowed: list(host_and_port(), ';', 64), change: AtStart }
        /// Largest body of a message that the proxy passes on. Brokers have a limit of their own.
        max_message_bytes: usize { name: "maxMessageSize", default: 4 << 20, allowed: bytes(1_024..=128 << 20), change: AtStart }
        /// How long a broker or name server may take to answer, beside the time for which a receive waits.
        request_timeout: Duration {
            name: "apogeeProxyRequestTimeoutMillis", default: Duration::from_secs(3), allowed: milliseconds(100..=600_000), change: AtStart,
        }
        /// Maximum number of requests, with receives that wait, in flight to one broker. One more is refused.
        max_pending_requests: usize {
            name: "apogeeProxyMaxPendingRequests", default: 100_000, allowed: whole(1..=10_000_000), change: AtStart,
        }
    }

    section "Proxy: what it keeps" {
        /// After so long the route and the attributes of a topic are looked up again.
        route_age: Duration {
            name: "topicRouteServiceCacheRefreshSeconds", default: Duration::from_secs(20), allowed: seconds(1..=3_600), change: AtStart,
        }
        /// Maximum number of topics whose routes are kept. For one more another one is forgotten.
        max_routes: usize { name: "topicRouteServiceCacheMaxNum", default: 20_000, allowed: whole(1..=10_000_000), change: AtStart }
        /// After so long the configuration of a group is looked up again.
        group_age: Duration {
            name: "subscriptionGroupConfigCacheRefreshSeconds", default: Duration::from_secs(20), allowed: seconds(1..=3_600), change: AtStart,
        }
        /// Maximum number of groups whose configuration is kept. For one more another one is forgotten.
        max_groups: usize { name: "subscriptionGroupConfigCacheMaxNum", default: 20_000, allowed: whole(1..=10_000_000), change: AtStart }
        /// Maximum number of memberships of clients in groups; a producer has one for each of its topics. A client with more is refused.
        max_memberships: usize { name: "apogeeProxyMaxMemberships", default: 200_000, allowed: whole(1..=100_000_000), change: AtStart }
        /// How often the proxy tells the brokers which clients there are, and Apache's brokers which groups have clients. News are told at once.
        heartbeat_period: Duration {
            name: "transactionHeartbeatPeriodSecond", default: Duration::from_secs(20), allowed: seconds(1..=60), change: AtStart,
        }
        /// Groups in one such heartbeat to Apache's brokers. With more there are several.
        heartbeat_groups: usize { name: "transactionHeartbeatBatchNum", default: 100, allowed: whole(1..=10_000), change: AtStart }
    }
}

impl Settings for ClusterSettings {}
