//! Distribution of descriptors: the store's files come first, connections get the rest.
//!
//! Connections cost a client nothing. Without reserved descriptors the store could not open the next file of its log if idle connections
//! had all descriptors, and would refuse messages.

use std::fmt;

use broker::settings::BrokerSettings;
use nameserver::settings::NamesrvSettings;
use proxy::remoting_settings::RemotingSettings;
use proxy::settings::ProxySettings;

/// For listeners, pollers, the log, and connections to name servers.
const OWN: u64 = 64;

/// A maximum of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bound {
    role: &'static str,
    key: &'static str,
}

/// The limits that were reduced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    limit: u64,
    reserved: u64,
    /// Configured and reduced maximum of connections.
    roles: Vec<(Bound, usize, usize)>,
}

impl fmt::Display for Cut {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, reserved, roles } = self;
        let asked: usize = roles.iter().map(|(_, asked, _)| asked).sum();
        write!(
            out,
            "the limit of open descriptors is {limit} (ulimit -n) and {reserved} of them are reserved for files of the store:"
        )?;
        for (Bound { role, key }, asked, given) in roles {
            write!(out, " the {role} {given} connections instead of {asked} ({key});")?;
        }
        write!(out, " raise the limit to {}", asked as u64 + reserved + OWN)
    }
}

/// Reduces the settings to `limit` descriptors; returns what was reduced.
pub(super) fn fit(
    limit: u64,
    mut broker: Option<&mut BrokerSettings>,
    mut name_server: Option<&mut NamesrvSettings>,
    mut proxy: Option<&mut ProxySettings>,
    remoting: Option<&mut RemotingSettings>,
) -> Option<Cut> {
    let reserved = broker
        .as_ref()
        .map_or(0, |broker| broker.reserved_descriptors as u64)
        .min(limit / 2);
    let left = limit - reserved;
    let room = left - OWN.min(left / 2);
    if let Some(broker) = &mut broker {
        // The other half is for files of the log and the index.
        broker.max_open_queue_files = broker.max_open_queue_files.min(to_usize(reserved / 2)).max(16);
    }
    let bound = |role, key| Bound { role, key };
    let broker = broker.map(|broker| (bound("broker accepts", "apogeeMaxConnections"), &mut broker.max_connections));
    let name_server = name_server.as_mut().map(|name_server| {
        (
            bound("name server accepts", "apogeeMaxConnections"),
            &mut name_server.max_connections,
        )
    });
    let proxy = proxy.as_mut().filter(|proxy| proxy.enable);
    let proxy = proxy.map(|proxy| (bound("gRPC proxy accepts", "apogeeGrpcMaxConnections"), &mut proxy.max_connections));
    let remoting = remoting.map(|remoting| {
        let accepts = bound("remoting proxy accepts", "apogeeProxyRemotingMaxConnections");
        let opens = bound("remoting proxy opens", "apogeeProxyRemotingMaxBrokerConnections");
        [
            (accepts, &mut remoting.max_connections),
            (opens, &mut remoting.max_broker_connections),
        ]
    });
    let roles = broker.into_iter().chain(name_server).chain(proxy);
    let roles: Vec<_> = roles.chain(remoting.into_iter().flatten()).collect();
    let asked: u64 = roles.iter().map(|(_, connections)| **connections as u64).sum();
    if asked <= room {
        return None;
    }
    let cut = roles.into_iter().map(|(role, connections)| {
        let (before, part) = (*connections, u128::from(room) * *connections as u128 / u128::from(asked));
        *connections = usize::try_from(part).unwrap_or(usize::MAX).max(1);
        (role, before, *connections)
    });
    Some(Cut {
        limit,
        reserved,
        roles: cut.collect(),
    })
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_high_limit_changes_nothing() {
        let (mut broker, mut name_server) = (BrokerSettings::default(), NamesrvSettings::default());
        let cut = fit(1_048_576, Some(&mut broker), Some(&mut name_server), None, None);
        assert_eq!(cut, None);
        assert_eq!(broker, BrokerSettings::default());
        assert_eq!(name_server.max_connections, NamesrvSettings::default().max_connections);
    }

    #[test]
    fn a_low_limit_reserves_half_of_it_for_the_store_and_divides_the_rest() {
        let (mut broker, mut name_server) = (BrokerSettings::default(), NamesrvSettings::default());
        let cut = fit(1_024, Some(&mut broker), Some(&mut name_server), None, None)
            .unwrap()
            .to_string();
        assert_eq!((broker.max_connections, name_server.max_connections), (224, 224));
        assert_eq!(broker.max_open_queue_files, 256);
        for part in [
            "is 1024 ",
            " 512 of them",
            "broker accepts 224 connections instead of 20000",
            "raise the limit to 40576",
        ] {
            assert!(cut.contains(part), "{part} in {cut}");
        }
    }

    #[test]
    fn connections_of_the_proxy_to_brokers_count() {
        let mut remoting = RemotingSettings::default();
        let cut = fit(8_064, None, None, None, Some(&mut remoting)).unwrap().to_string();
        assert_eq!((remoting.max_connections, remoting.max_broker_connections), (2_000, 6_000));
        assert!(
            cut.contains("remoting proxy opens 6000 connections instead of 60000 (apogeeProxyRemotingMaxBrokerConnections)"),
            "{cut}"
        );
    }

    #[test]
    fn a_single_role_gets_all_descriptors() {
        let mut name_server = NamesrvSettings::default();
        let cut = fit(1_024, None, Some(&mut name_server), None, None).unwrap();
        assert_eq!((name_server.max_connections, cut.reserved), (960, 0));
        let mut broker = BrokerSettings::default();
        fit(16, Some(&mut broker), None, None, None).unwrap();
        assert_eq!((broker.max_connections, broker.max_open_queue_files), (4, 16));
    }
}
