//! What has become of the registration at each name server: for operators, in the answer of 28 (GET_BROKER_RUNTIME_INFO).

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How this broker stands with its name servers. Written by their tasks.
#[derive(Clone, Debug, Default)]
pub struct Standings(Arc<Mutex<BTreeMap<String, Standing>>>);

/// How this broker stands with one name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has all our topics.
    Registered,
    /// It has none or not all of them, since this moment (epoch milliseconds) and for this reason.
    Lacking {
        /// Since when.
        since_ms: i64,
        /// Why: the text of a failure, or of its refusal.
        why: String,
    },
}

impl std::fmt::Display for Standing {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registered => out.write_str("registered"),
            Self::Lacking { since_ms, why } => write!(out, "not registered since {since_ms}: {why}"),
        }
    }
}

impl Standings {
    /// By name server, as configured; none before its first registration has been tried.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Standing> {
        self.0.lock().clone()
    }

    /// True if that is news.
    pub(super) fn registered(&self, name_server: &str) -> bool {
        self.0.lock().insert(name_server.to_owned(), Standing::Registered) != Some(Standing::Registered)
    }

    /// True if the reason is news.
    pub(super) fn lacking(&self, name_server: &str, why: &str, now_ms: i64) -> bool {
        let mut all = self.0.lock();
        let since_ms = match all.get(name_server) {
            Some(Standing::Lacking { why: before, .. }) if before == why => return false,
            Some(Standing::Lacking { since_ms, .. }) => *since_ms,
            _ => now_ms,
        };
        let why = why.to_owned();
        all.insert(name_server.to_owned(), Standing::Lacking { since_ms, why });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_news_once_for_each_reason_and_keeps_its_beginning() {
        let standings = Standings::default();
        assert!(standings.registered("ns"));
        assert!(!standings.registered("ns"));
        assert!(standings.lacking("ns", "closed", 5));
        assert!(!standings.lacking("ns", "closed", 6));
        assert!(standings.lacking("ns", "full", 7));
        assert_eq!(standings.all()["ns"].to_string(), "not registered since 5: full");
        assert!(standings.registered("ns"));
        assert_eq!(standings.all()["ns"].to_string(), "registered");
    }
}
