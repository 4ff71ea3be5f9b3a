//! State of the registration at each name server, for the runtime information (28), and the master that they name.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// State of the registration by name server. Its tasks write it.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    all: Arc<Mutex<BTreeMap<String, Standing>>>,
    master: Arc<watch::Sender<Option<MasterAddresses>>>,
    /// Who the master is comes from a controller, not from name servers.
    is_controlled: bool,
}

/// The master of this broker's name, as a name server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterAddresses {
    /// For clients; `None` while it is about to come online and serves none yet.
    pub clients: Option<String>,
    /// For slaves.
    pub slaves: String,
}

/// State of the registration at one name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// All topics are registered.
    Registered,
    /// Not all topics are registered.
    NotRegistered {
        /// Start of the outage, in ms since 1970.
        since_ms: i64,
        /// Error of the request, or remark of the response.
        why: String,
    },
}

impl std::fmt::Display for Standing {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registered => out.write_str("registered"),
            Self::NotRegistered { since_ms, why } => write!(out, "not registered since {since_ms}: {why}"),
        }
    }
}

impl Standings {
    /// State by name server, as configured; none before its first attempt.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Standing> {
        self.all.lock().clone()
    }

    /// The master that was named last, and changes of it. A master that is no longer registered stays.
    #[must_use]
    pub fn master(&self) -> watch::Receiver<Option<MasterAddresses>> {
        self.master.subscribe()
    }

    /// For a broker whose controller names the master.
    #[must_use]
    pub fn under_controller() -> Self {
        Self {
            is_controlled: true,
            ..Self::default()
        }
    }

    /// The master that a controller names has told its addresses.
    pub(crate) fn heard_of_elected(&self, clients: &str, slaves: &str) {
        self.set_master(Some(MasterAddresses {
            clients: Some(clients.to_owned()),
            slaves: slaves.to_owned(),
        }));
    }

    /// A name server has named the master in its answer to a registration, or has none.
    pub(crate) fn heard_of_master(&self, clients: Option<&str>, slaves: Option<&str>) {
        let given = |address: Option<&str>| address.filter(|address| !address.is_empty()).map(str::to_owned);
        if self.is_controlled {
            return;
        }
        if let Some((clients, slaves)) = given(clients).zip(given(slaves)) {
            self.set_master(Some(MasterAddresses {
                clients: Some(clients),
                slaves,
            }));
        }
    }

    /// The master is about to come online: it is followed, and does not tell its tables yet.
    pub(crate) fn master_comes(&self, slaves: &str) {
        self.set_master(Some(MasterAddresses {
            clients: None,
            slaves: slaves.to_owned(),
        }));
    }

    /// The master is gone.
    pub(crate) fn master_went(&self) {
        self.set_master(None);
    }

    fn set_master(&self, heard: Option<MasterAddresses>) {
        self.master.send_if_modified(|master| {
            *master != heard && {
                *master = heard;
                true
            }
        });
    }

    /// Returns whether the state changed.
    pub(super) fn registered(&self, name_server: &str) -> bool {
        self.all.lock().insert(name_server.to_owned(), Standing::Registered) != Some(Standing::Registered)
    }

    /// Returns whether the state or the reason changed.
    pub(super) fn not_registered(&self, name_server: &str, why: &str, now_ms: i64) -> bool {
        let mut all = self.all.lock();
        let since_ms = match all.get(name_server) {
            Some(Standing::NotRegistered { why: before, .. }) if before == why => return false,
            Some(Standing::NotRegistered { since_ms, .. }) => *since_ms,
            _ => now_ms,
        };
        let why = why.to_owned();
        all.insert(name_server.to_owned(), Standing::NotRegistered { since_ms, why });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_reported_once_per_reason_and_keeps_its_start() {
        let standings = Standings::default();
        assert!(standings.registered("ns"));
        assert!(!standings.registered("ns"));
        assert!(standings.not_registered("ns", "closed", 5));
        assert!(!standings.not_registered("ns", "closed", 6));
        assert!(standings.not_registered("ns", "full", 7));
        assert_eq!(standings.all()["ns"].to_string(), "not registered since 5: full");
        assert!(standings.registered("ns"));
        assert_eq!(standings.all()["ns"].to_string(), "registered");
    }
}
