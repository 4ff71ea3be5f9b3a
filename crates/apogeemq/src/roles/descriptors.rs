//! How the descriptors of this process are shared: the store's files come first, connections get what is left.
//!
//! A connection costs its peer nothing. Without a share of its own the store would find that the next file of its log cannot be
//! opened, because idle connections have all descriptors, and take no more messages.

use std::fmt;

use broker::settings::BrokerSettings;
use nameserver::settings::NamesrvSettings;

/// For listeners, pollers, the log, and connections to name servers.
const OWN: u64 = 64;

/// What had to be made smaller.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    limit: u64,
    reserved: u64,
    /// Role, connections as configured, connections as there is room for.
    roles: Vec<(&'static str, usize, usize)>,
}

impl fmt::Display for Cut {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, reserved, roles } = self;
        let asked: usize = roles.iter().map(|(_, asked, _)| asked).sum();
        write!(
            out,
            "the limit of open descriptors is {limit} (ulimit -n) and {reserved} of them are kept for files of the store:"
        )?;
        for (role, asked, given) in roles {
            write!(
                out,
                " the {role} takes {given} connections instead of {asked} (apogeeMaxConnections);"
            )?;
        }
        write!(out, " raise the limit to {}", asked as u64 + reserved + OWN)
    }
}

/// Makes the settings fit into `limit` descriptors; says what had to be made smaller.
pub(super) fn fit(limit: u64, mut broker: Option<&mut BrokerSettings>, mut name_server: Option<&mut NamesrvSettings>) -> Option<Cut> {
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
    let broker = broker.map(|broker| ("broker", &mut broker.max_connections));
    let name_server = name_server
        .as_mut()
        .map(|name_server| ("name server", &mut name_server.max_connections));
    let roles: Vec<_> = broker.into_iter().chain(name_server).collect();
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
        let cut = fit(1_048_576, Some(&mut broker), Some(&mut name_server));
        assert_eq!(cut, None);
        assert_eq!(broker, BrokerSettings::default());
        assert_eq!(name_server.max_connections, NamesrvSettings::default().max_connections);
    }

    #[test]
    fn a_low_limit_leaves_half_of_it_to_the_store_and_shares_out_the_rest() {
        let (mut broker, mut name_server) = (BrokerSettings::default(), NamesrvSettings::default());
        let cut = fit(1_024, Some(&mut broker), Some(&mut name_server)).unwrap().to_string();
        assert_eq!((broker.max_connections, name_server.max_connections), (224, 224));
        assert_eq!(broker.max_open_queue_files, 256);
        for part in [
            "is 1024 ",
            " 512 of them",
            "broker takes 224 connections instead of 20000",
            "raise the limit to 40576",
        ] {
            assert!(cut.contains(part), "{part} in {cut}");
        }
    }

    #[test]
    fn a_role_alone_gets_all_there_is() {
        let mut name_server = NamesrvSettings::default();
        let cut = fit(1_024, None, Some(&mut name_server)).unwrap();
        assert_eq!((name_server.max_connections, cut.reserved), (960, 0));
        let mut broker = BrokerSettings::default();
        fit(16, Some(&mut broker), None).unwrap();
        assert_eq!((broker.max_connections, broker.max_open_queue_files), (4, 16));
    }
}
