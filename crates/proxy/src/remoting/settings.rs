//! Settings of the proxy's port for clients of the remoting protocol.
//!
//! Names and defaults are those of Apache's proxy where it has the key; keys that begin with `apogee` are ours.

use config::Settings;
use config::shape::{address, bytes, flag, milliseconds, optional, seconds, text_that, whole};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

config::declare! {
    /// Settings of the remoting port of a proxy.
    pub struct RemotingSettings;

    section "Remoting: port and threads" {
        /// Whether clients of the remoting protocol are served on a port of the proxy. Without a value: by `apogeemq proxy` yes, in the process
        /// of a broker no, because they reach the broker itself.
        enable: Option<bool> { name: "apogeeProxyRemotingEnable", default: None, allowed: optional(flag()), change: AtStart }
        /// Port for them: what they use as the address of their name server. 0: any free port.
        port: u16 { name: "remotingListenPort", default: 8_080, allowed: whole(0..=65_535).strict(), change: AtStart }
        /// Address to listen on.
        bind_address: IpAddr { name: "bindAddress", default: IpAddr::V4(Ipv4Addr::UNSPECIFIED), allowed: address(), change: AtStart }
        /// What routes tell clients as the address of all brokers: a host, or host:port. Without a value each client is told the address under which
        /// it reached the proxy, which is wrong behind a load balancer or a mapped port.
        access_address: Option<String> {
            name: "remotingAccessAddr", default: None, allowed: optional(text_that("a host, or host:port", is_access_address)), change: AtStart,
        }
        /// Threads that serve them. 0: one for every two processors.
        threads: usize { name: "apogeeProxyRemotingThreads", default: 0, allowed: whole(0..=256).strict(), change: AtStart }
    }

    section "Remoting: clients" {
        /// Maximum number of connections of clients. One more is closed.
        max_connections: usize { name: "apogeeProxyRemotingMaxConnections", default: 20_000, allowed: whole(1..=1_000_000), change: AtStart }
        /// A connection is closed when nothing was read from it for so long. Clients send a heartbeat every 30 s.
        idle_timeout: Duration {
            name: "apogeeProxyRemotingIdleSeconds", default: Duration::from_secs(120), allowed: seconds(1..=24 * 3_600), change: AtStart,
        }
        /// Maximum size of a frame of a client or broker. A larger one closes the connection.
        max_frame_bytes: usize {
            name: "com.rocketmq.remoting.frameMaxLength", default: 16 << 20, allowed: bytes(64 << 10..=256 << 20), change: AtStart,
        }
        /// Memory for incomplete frames of all clients. A connection without room is not read.
        inbound_total_bytes: usize {
            name: "apogeeProxyRemotingInboundTotalBytes", default: 512 << 20, allowed: bytes(4 << 20..=64 << 30), change: AtStart,
        }
        /// Maximum number of requests of one connection that brokers have not answered, with pulls and pops that wait. One more is refused.
        max_pending_requests: usize {
            name: "apogeeProxyRemotingMaxPendingRequests", default: 20_000, allowed: whole(1..=10_000_000), change: AtStart,
        }
        /// Above so many bytes that a client has not read its brokers are not read either; above so many that a broker has not read, its client is
        /// not read. Each connection may go beyond it by what one read brings.
        unread_bytes: usize { name: "apogeeProxyRemotingUnreadBytes", default: 4 << 20, allowed: bytes(64 << 10..=1 << 30), change: AtStart }
        /// A client with more unread bytes is closed.
        close_bytes: usize { name: "apogeeProxyRemotingCloseBytes", default: 64 << 20, allowed: bytes(1 << 20..=4 << 30), change: AtStart }
        /// Unread bytes of all clients, and as many of all brokers. Each connection is paused above an eighth of what is left.
        unread_total_bytes: usize {
            name: "apogeeProxyRemotingUnreadTotalBytes", default: 256 << 20, allowed: bytes(1 << 20..=64 << 30), change: AtStart,
        }
    }

    section "Remoting: brokers" {
        /// Maximum number of connections to brokers: each client has one to each broker that it uses. A request that needs one more is refused.
        max_broker_connections: usize {
            name: "apogeeProxyRemotingMaxBrokerConnections", default: 60_000, allowed: whole(1..=10_000_000), change: AtStart,
        }
        /// Maximum number of brokers that one client uses. A request to one more is refused.
        max_brokers_per_client: usize {
            name: "apogeeProxyRemotingMaxBrokersPerClient", default: 256, allowed: whole(1..=100_000), change: AtStart,
        }
        /// How long opening a connection to a broker may take, with its TLS handshake.
        connect_timeout: Duration {
            name: "apogeeProxyRemotingConnectTimeoutMillis", default: Duration::from_secs(3), allowed: milliseconds(10..=600_000), change: AtStart,
        }
        /// A request that its broker has not answered for so long, and a request of a broker that its client has not answered, ends with an error.
        /// It has to be longer than a pull or a pop may wait.
        request_timeout: Duration {
            name: "apogeeProxyRemotingRequestTimeoutMillis", default: Duration::from_secs(150), allowed: milliseconds(100..=3_600_000), change: AtStart,
        }
        /// A broker that does not read holds its client up for so long; then the client's requests to this broker are refused while it does not read,
        /// and those to others are served.
        stall_time: Duration {
            name: "apogeeProxyRemotingStallMillis", default: Duration::from_secs(1), allowed: milliseconds(0..=600_000), change: AtStart,
        }
    }
}

impl Settings for RemotingSettings {}

impl RemotingSettings {
    /// The address of all brokers for a client that reached the proxy at `local`.
    pub(super) fn address_for(&self, local: SocketAddr) -> String {
        match self.access_address.as_deref() {
            None | Some("") => local.to_string(),
            Some(host) if port_of(host).is_some() => host.to_owned(),
            Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{host}]:{}", local.port()),
            Some(host) => format!("{host}:{}", local.port()),
        }
    }
}

/// The port of `host:port`; an IPv6 address without brackets has none.
fn port_of(text: &str) -> Option<u16> {
    let (host, port) = text.rsplit_once(':')?;
    let is_host = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    port.parse().ok().filter(|port| is_host && *port > 0)
}

fn is_access_address(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let host = match port_of(text) {
        Some(_) => text.rsplit_once(':').map_or(text, |(host, _)| host),
        None => text,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_address = bare.parse::<IpAddr>().is_ok() || !bare.contains([':', '[', ']']);
    (1..=253).contains(&host.len()) && is_address && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_the_address_that_they_reached_or_the_one_that_is_set() {
        let local: SocketAddr = "10.0.0.1:8080".parse().unwrap();
        for (set, told) in [
            (None, "10.0.0.1:8080"),
            (Some("mq.example"), "mq.example:8080"),
            (Some("mq.example:18080"), "mq.example:18080"),
            (Some("::1"), "[::1]:8080"),
            (Some("[::1]"), "[::1]:8080"),
            (Some("[::1]:7"), "[::1]:7"),
        ] {
            assert!(set.is_none_or(is_access_address), "{set:?}");
            let settings = RemotingSettings {
                access_address: set.map(str::to_owned),
                ..RemotingSettings::default()
            };
            assert_eq!(settings.address_for(local), told);
        }
        let settings = RemotingSettings::default();
        assert_eq!(settings.address_for("[fe80::1]:9".parse().unwrap()), "[fe80::1]:9");
        for wrong in ["", "a b", "a:b", "a:0", "x/y", "1:2:3:x"] {
            assert!(!is_access_address(wrong), "{wrong}");
        }
    }
}
