//! Addresses of a broker in the same process without `brokerIP1`: each client gets the IP through which it reached the name server.
//!
//! Such a broker registers with some address of its machine, which a client behind a bridge or outside a container may not reach. The
//! client can reach the local IP of its own connection. Only the IP is replaced; the port is the broker's.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use protocol::route::BrokerData;

/// Returns the `ip:port` with which the broker of this process registered, or `None` if its address must not be replaced.
pub type LocalBroker = Arc<dyn Fn() -> Option<Arc<str>> + Send + Sync>;

/// Replaces the registered address of the broker in this process.
pub(crate) struct AddressRewrite {
    registered: Arc<str>,
    shown: String,
}

impl AddressRewrite {
    /// For a client whose connection has this local IP. `None` if nothing has to be replaced.
    pub(crate) fn new(broker: Option<&LocalBroker>, local: IpAddr) -> Option<Self> {
        let registered = broker?()?;
        let port = registered.rsplit_once(':')?.1.parse().ok()?;
        let shown = SocketAddr::new(local, port).to_string();
        (*registered != *shown).then_some(Self { registered, shown })
    }

    /// The address that the client gets.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    pub(crate) fn broker(&self, data: &mut BrokerData) {
        data.broker_addrs.values_mut().for_each(|address| self.address(address));
    }

    pub(crate) fn address(&self, address: &mut String) {
        if **address == *self.registered {
            address.clone_from(&self.shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_embedded_broker_follows_the_client() {
        let broker: LocalBroker = Arc::new(|| Some("172.17.0.2:10911".into()));
        let rewrite = AddressRewrite::new(Some(&broker), "127.0.0.1".parse().unwrap()).unwrap();
        let mut data = BrokerData::default();
        data.broker_addrs.insert(0, "172.17.0.2:10911".into());
        data.broker_addrs.insert(1, "172.17.0.2:10921".into());
        rewrite.broker(&mut data);
        assert_eq!(data.broker_addrs[&0], "127.0.0.1:10911");
        assert_eq!(data.broker_addrs[&1], "172.17.0.2:10921");
        assert!(AddressRewrite::new(Some(&broker), "172.17.0.2".parse().unwrap()).is_none());
        let none: LocalBroker = Arc::new(|| None);
        assert!(AddressRewrite::new(Some(&none), "127.0.0.1".parse().unwrap()).is_none());
        assert!(AddressRewrite::new(None, "127.0.0.1".parse().unwrap()).is_none());
    }
}
