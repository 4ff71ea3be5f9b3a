//! A broker in the same process that was told no address: clients are told the address under which they reached us.
//!
//! Such a broker registers with some address of its machine, which may mean nothing to a client behind a bridge, in a container or on the
//! same machine. What a client has reached once it can reach again: our end of its own connection. Only the IP is replaced; the port
//! is the broker's.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use protocol::route::BrokerData;

/// Under which `ip:port` the broker of this process has registered, while its address is to follow the client; else nothing.
pub type LocalBroker = Arc<dyn Fn() -> Option<Arc<str>> + Send + Sync>;

/// What to write instead of what.
pub(crate) struct Rewrite {
    registered: Arc<str>,
    seen: String,
}

impl Rewrite {
    /// `None` when there is nothing to rewrite for this client.
    pub(crate) fn new(broker: Option<&LocalBroker>, local: IpAddr) -> Option<Self> {
        let registered = broker?()?;
        let port = registered.rsplit_once(':')?.1.parse().ok()?;
        let seen = SocketAddr::new(local, port).to_string();
        (*registered != *seen).then_some(Self { registered, seen })
    }

    /// What the client is told.
    pub(crate) fn seen(&self) -> &str {
        &self.seen
    }

    pub(crate) fn broker(&self, data: &mut BrokerData) {
        data.broker_addrs.values_mut().for_each(|address| self.address(address));
    }

    pub(crate) fn address(&self, address: &mut String) {
        if **address == *self.registered {
            address.clone_from(&self.seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_embedded_broker_follows_the_client() {
        let broker: LocalBroker = Arc::new(|| Some("172.17.0.2:10911".into()));
        let rewrite = Rewrite::new(Some(&broker), "127.0.0.1".parse().unwrap()).unwrap();
        let mut data = BrokerData::default();
        data.broker_addrs.insert(0, "172.17.0.2:10911".into());
        data.broker_addrs.insert(1, "172.17.0.2:10921".into());
        rewrite.broker(&mut data);
        assert_eq!(data.broker_addrs[&0], "127.0.0.1:10911");
        assert_eq!(data.broker_addrs[&1], "172.17.0.2:10921");
        assert!(Rewrite::new(Some(&broker), "172.17.0.2".parse().unwrap()).is_none());
        let none: LocalBroker = Arc::new(|| None);
        assert!(Rewrite::new(Some(&none), "127.0.0.1".parse().unwrap()).is_none());
        assert!(Rewrite::new(None, "127.0.0.1".parse().unwrap()).is_none());
    }
}
