//! Settings that may change while running: what requests 25, 26, 318 and 319 work on.
//!
//! Invariants: an update is taken whole or not at all; a key declared `AtStart` is never changed; readers see one consistent set.
//! What is not here: whether the caller may ask at all, and the codes of the answers.

use std::sync::{Arc, PoisonError, RwLock};

use crate::apache;
use crate::kept::Kept;
use crate::key::{Change, Settings, properties_text};
use crate::nearest::nearest;
use crate::properties::{self, ParseError};
use crate::sources::{Origin, Refusal, explain};

/// One value that an update changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Key.
    pub key: &'static str,
    /// Value before.
    pub from: String,
    /// Value now.
    pub to: String,
}

/// Why an update was not taken; nothing of it was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateRefused {
    /// The text is no properties text.
    #[error("{0}")]
    Unreadable(#[from] ParseError),
    /// A key that only counts at the start: answer "no permission".
    #[error("{0} cannot be changed while running: put it into the configuration file and start again")]
    AtStart(String),
    /// A name nobody knows.
    #[error("no key is named {name}{}", .nearest.as_ref().map(|name| format!(", did you mean {name}?")).unwrap_or_default())]
    Unknown {
        /// Name as it was written.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// A value that is not allowed.
    #[error("{0}")]
    Value(Refusal),
    /// The change could not be written where it would outlive a restart.
    #[error("the change cannot be kept: {0}")]
    NotKept(String),
}

/// Keys of Apache's that nobody may ever change over the wire, whether they mean something here or not: they name files, classes
/// to load, programs or hosts, and with the like of them clients took over servers (CVE-2023-33246, CVE-2023-37582).
pub const NEVER_OVER_THE_WIRE: [&str; 29] = [
    "authConfigPath",
    "authenticationMetadataProvider",
    "authenticationProvider",
    "authenticationStrategy",
    "authorizationMetadataProvider",
    "authorizationProvider",
    "authorizationStrategy",
    "brokerConfigPath",
    "configBlackList",
    "configStorePath",
    "controllerStorePath",
    "filterServerNums",
    "kvConfigPath",
    "messageStorePlugIn",
    "metricsGrpcExporterTarget",
    "readOnlyCommitLogStorePaths",
    "rocketmqHome",
    "storePathBrokerIdentity",
    "storePathDLedgerCommitLog",
    "storePathEpochFile",
    "tieredBackendServiceProvider",
    "tieredMetadataServiceProvider",
    "tieredStoreFilePath",
    "tls.client.certPath",
    "tls.client.keyPath",
    "tls.config.file",
    "tls.server.certPath",
    "tls.server.keyPath",
    "tls.server.trustCertPath",
];

/// Settings shared by those who read them and the few who change them.
#[derive(Debug)]
pub struct Live<S> {
    current: RwLock<Arc<S>>,
    kept: Option<Kept>,
}

impl<S: Settings> Live<S> {
    /// Starts from settled settings; changes hold until the process ends.
    pub fn new(settings: S) -> Self {
        Self {
            current: RwLock::new(Arc::new(settings)),
            kept: None,
        }
    }

    /// Starts from settled settings; changes are kept, or not made.
    pub fn keeping(settings: S, kept: Kept) -> Self {
        Self {
            kept: Some(kept),
            ..Self::new(settings)
        }
    }

    /// The settings of now. Take it once per request and read all from it.
    pub fn current(&self) -> Arc<S> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All values as properties text.
    pub fn text(&self) -> String {
        properties_text(&*self.current())
    }

    /// Applies properties text and says what changed. Keys of Apache's without meaning here are passed over.
    ///
    /// # Errors
    /// [`UpdateRefused`]; nothing was applied.
    pub fn update(&self, text: &[u8]) -> Result<Vec<Changed>, UpdateRefused> {
        let entries = properties::parse_bytes(text)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut candidate = S::clone(&current);
        for entry in &entries {
            apply(&mut candidate, entry.key.trim(), entry.value.trim())?;
        }
        candidate.settle().map_err(|why| UpdateRefused::Value(refusal("", "", why)))?;
        let changed = differences(&**current, &candidate);
        if let Some(kept) = self.kept.as_ref().filter(|_| !changed.is_empty()) {
            kept.keep(&changed)
                .map_err(|error| UpdateRefused::NotKept(format!("{}: {error}", kept.path().display())))?;
        }
        *current = Arc::new(candidate);
        Ok(changed)
    }
}

fn apply<S: Settings>(settings: &mut S, name: &str, value: &str) -> Result<(), UpdateRefused> {
    if NEVER_OVER_THE_WIRE.contains(&name) {
        return Err(UpdateRefused::AtStart(name.to_owned()));
    }
    let Some(key) = S::key(name) else {
        return apply_unclaimed::<S>(name, value);
    };
    if key.change == Change::AtStart {
        // The same value again is no change: tools send whole files back.
        if (key.print)(settings) == value {
            return Ok(());
        }
        return Err(UpdateRefused::AtStart(name.to_owned()));
    }
    (key.set)(settings, value).map_err(|refused| UpdateRefused::Value(refusal(name, value, explain(refused, &(key.allowed)()))))
}

fn apply_unclaimed<S: Settings>(name: &str, value: &str) -> Result<(), UpdateRefused> {
    if let Some(wish) = apache::not_there_yet().iter().find(|wish| wish.name == name && wish.asks(value)) {
        return Err(UpdateRefused::Value(refusal(name, value, wish.reason.to_owned())));
    }
    if apache::is_known_to_apache(name) {
        return Ok(());
    }
    let nearest = nearest(name, S::keys().iter().map(|key| key.name)).map(str::to_owned);
    Err(UpdateRefused::Unknown {
        name: name.to_owned(),
        nearest,
    })
}

fn refusal(key: &str, value: &str, why: String) -> Refusal {
    Refusal {
        key: key.to_owned(),
        value: value.to_owned(),
        why,
        origin: Origin::Wire,
    }
}

fn differences<S: Settings>(before: &S, after: &S) -> Vec<Changed> {
    S::keys()
        .iter()
        .map(|key| Changed {
            key: key.name,
            from: (key.print)(before),
            to: (key.print)(after),
        })
        .filter(|changed| changed.from != changed.to)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{flag, whole};

    crate::declare! {
        /// Example.
        struct Example;
        section "All" {
            /// A port.
            listen_port: u16 { name: "listenPort", default: 10_911, allowed: whole(1..=65_535), change: AtStart }
            /// A switch.
            auto: bool { name: "autoCreateTopicEnable", default: true, allowed: flag(), change: Live }
            /// A count.
            queues: u32 { name: "defaultTopicQueueNums", default: 8, allowed: whole(1..=128), change: Live }
        }
    }
    impl Settings for Example {}

    #[test]
    fn an_update_is_seen_by_the_next_reader() {
        let live = Live::new(Example::default());
        let before = live.current();
        let changed = live.update(b"autoCreateTopicEnable=false\ndefaultTopicQueueNums = 8").unwrap();
        assert_eq!(
            changed,
            [Changed {
                key: "autoCreateTopicEnable",
                from: "true".to_owned(),
                to: "false".to_owned()
            }]
        );
        assert!(before.auto && !live.current().auto);
    }

    #[test]
    fn what_counts_only_at_the_start_is_not_changed() {
        let live = Live::new(Example::default());
        let refused = live.update(b"autoCreateTopicEnable=false\nlistenPort=1").unwrap_err();
        assert_eq!(refused, UpdateRefused::AtStart("listenPort".to_owned()));
        assert!(live.current().auto, "an update is taken whole or not at all");
        assert_eq!(
            live.update(b"listenPort=10911"),
            Ok(Vec::new()),
            "the same value again is no change"
        );
    }

    #[test]
    fn a_change_that_cannot_be_kept_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let live = Live::keeping(Example::default(), Kept::at(dir.path().join("file/live.properties")));
        assert!(matches!(
            live.update(b"autoCreateTopicEnable=false"),
            Err(UpdateRefused::NotKept(_))
        ));
        assert!(live.current().auto);
        let live = Live::keeping(Example::default(), Kept::at(dir.path().join("live.properties")));
        assert_eq!(live.update(b"autoCreateTopicEnable=false").map(|changed| changed.len()), Ok(1));
        assert!(
            std::fs::read_to_string(dir.path().join("live.properties"))
                .unwrap()
                .ends_with("autoCreateTopicEnable=false\n")
        );
    }

    #[test]
    fn keys_that_would_let_a_client_write_files_are_never_changed() {
        let live = Live::new(Example::default());
        for key in NEVER_OVER_THE_WIRE {
            assert_eq!(
                live.update(format!("{key}=/tmp/x").as_bytes()),
                Err(UpdateRefused::AtStart(key.to_owned()))
            );
        }
    }

    #[test]
    fn unknown_names_and_wrong_values_are_refused_over_the_wire() {
        let live = Live::new(Example::default());
        assert_eq!(
            live.update(b"autoCreateTopicEnabel=true").unwrap_err().to_string(),
            "no key is named autoCreateTopicEnabel, did you mean autoCreateTopicEnable?"
        );
        assert_eq!(
            live.update(b"defaultTopicQueueNums=0").unwrap_err().to_string(),
            "update: defaultTopicQueueNums=0 is refused: allowed is 1 to 128"
        );
        assert_eq!(live.update(b"sendMessageThreadPoolNums=4"), Ok(Vec::new()));
        assert!(live.update(b"aclEnable=true").is_err());
    }

    #[test]
    fn the_text_of_all_values_is_taken_back() {
        let live = Live::new(Example::default());
        assert_eq!(
            live.text(),
            "listenPort=10911\nautoCreateTopicEnable=true\ndefaultTopicQueueNums=8\n"
        );
        assert_eq!(live.update(live.text().as_bytes()), Ok(Vec::new()));
    }
}
