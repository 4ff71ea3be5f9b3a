//! Settings that may change while running: what requests 25, 26, 318 and 319 work on.
//!
//! Invariants: an update is applied completely or not at all; a key declared `AtStart` is never changed; readers see one consistent set
//! and never wait for an update that is being written.
//! Not here: permissions of the caller, and response codes.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::apache;
use crate::kept::Kept;
use crate::key::{Change, Note, Settings, given, properties_text};
use crate::nearest::nearest;
use crate::properties::{self, ParseError};
use crate::sources::{Origin, Refusal, explain, take};

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

/// Why an update was refused; nothing of it was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateRefused {
    /// The text is not valid properties text.
    #[error("{0}")]
    Unreadable(#[from] ParseError),
    /// A key that is read at the start only: answered with "no permission".
    #[error("{0} cannot be changed while running: set it in the configuration file and restart")]
    AtStart(String),
    /// An unknown name.
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
    /// The change could not be saved, so it was not made. The text says so if it may be there after a restart nevertheless.
    #[error("the change cannot be saved: {0}")]
    NotKept(String),
}

/// Keys of Apache's that no client may change, whether they have an effect here or not. They name files, classes
/// to load, programs or hosts; clients took over servers with such keys (CVE-2023-33246, CVE-2023-37582). Those of TLS are among them,
/// because they decide who may connect.
pub const NEVER_OVER_THE_WIRE: [&str; 45] = [
    "abortFile",
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
    "storeCheckpoint",
    "storePathBrokerIdentity",
    "storePathConsumeQueue",
    "storePathDLedgerCommitLog",
    "storePathEpochFile",
    "storePathIndex",
    "tieredBackendServiceProvider",
    "tieredMetadataServiceProvider",
    "tieredStoreFilePath",
    "tls.ciphers",
    "tls.client.authServer",
    "tls.client.certPath",
    "tls.client.keyPassword",
    "tls.client.keyPath",
    "tls.client.trustCertPath",
    "tls.config.file",
    "tls.enable",
    "tls.protocols",
    "tls.server.authClient",
    "tls.server.certPath",
    "tls.server.keyPassword",
    "tls.server.keyPath",
    "tls.server.mode",
    "tls.server.need.client.auth",
    "tls.server.trustCertPath",
    "tls.test.mode.enable",
    "useTLS",
];

/// The result of an update.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Updated {
    /// Values that changed.
    pub changed: Vec<Changed>,
    /// Values that count as another value, keys without effect here, and keys that contradict each other.
    pub notes: Vec<Note>,
}

impl Updated {
    /// The notes as one text for the answer; empty when there are none.
    pub fn remark(&self) -> String {
        let texts: Vec<_> = self.notes.iter().map(|note| note.text.as_str()).collect();
        texts.join("; ")
    }
}

/// Settings that many threads read and few change.
///
/// Invariant: no reader waits for a file. An update holds `changing` while the change is written, and `current` only to
/// swap in the new settings.
#[derive(Debug)]
pub struct Live<S> {
    current: RwLock<Arc<S>>,
    changing: Mutex<()>,
    kept: Option<Kept>,
}

impl<S: Settings> Live<S> {
    /// Starts from settled settings. Changes last until the process ends.
    pub fn new(settings: S) -> Self {
        Self {
            current: RwLock::new(Arc::new(settings)),
            changing: Mutex::default(),
            kept: None,
        }
    }

    /// Starts from settled settings. Changes are saved in `kept`, or refused if that fails.
    pub fn keeping(settings: S, kept: Kept) -> Self {
        Self {
            kept: Some(kept),
            ..Self::new(settings)
        }
    }

    /// The current settings. Take them once per request and read all values from them.
    pub fn current(&self) -> Arc<S> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All values as properties text.
    pub fn text(&self) -> String {
        properties_text(&*self.current())
    }

    /// Applies properties text and returns what changed. Apache's keys without effect here are stored, so that they can be read back, with a note.
    ///
    /// Blocks on the disk while the change is saved, and on other updates. Do not call it on a thread that serves connections.
    ///
    /// # Errors
    /// [`UpdateRefused`]; nothing was applied.
    pub fn update(&self, text: &[u8]) -> Result<Updated, UpdateRefused> {
        let entries = properties::parse_bytes(text)?;
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        let mut candidate = S::clone(&current);
        let mut notes = Vec::new();
        for entry in &entries {
            notes.extend(apply(&mut candidate, entry.key.trim(), entry.value.trim())?);
        }
        candidate
            .settle(&mut notes)
            .map_err(|why| UpdateRefused::Value(refusal("", "", why)))?;
        let changed = differences(&*current, &candidate);
        // A contradiction that existed before was not caused by this update.
        let asked = |key: &String| entries.iter().any(|entry| entry.key.trim() == key);
        notes.retain(|note| note.keys.iter().any(asked));
        if let Some(kept) = self.kept.as_ref().filter(|_| !changed.is_empty()) {
            kept.keep(&changed)
                .map_err(|error| UpdateRefused::NotKept(format!("{}: {error}", kept.path().display())))?;
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(candidate);
        Ok(Updated { changed, notes })
    }
}

fn apply<S: Settings>(settings: &mut S, name: &str, value: &str) -> Result<Option<Note>, UpdateRefused> {
    if NEVER_OVER_THE_WIRE.contains(&name) {
        return Err(UpdateRefused::AtStart(name.to_owned()));
    }
    let Some(key) = S::key(name) else {
        return apply_unclaimed(settings, name, value);
    };
    if key.change == Change::AtStart {
        // The same value is no change: tools send whole files.
        if (key.print)(settings) == value {
            return Ok(None);
        }
        return Err(UpdateRefused::AtStart(name.to_owned()));
    }
    let refused = |refused| UpdateRefused::Value(refusal(name, value, explain(refused, &(key.allowed)())));
    let counts = take(key, settings, value).map_err(refused)?;
    Ok(counts.map(|counts| Note::new(&[name], format!("{name}={value} {counts}"))))
}

fn apply_unclaimed<S: Settings>(settings: &mut S, name: &str, value: &str) -> Result<Option<Note>, UpdateRefused> {
    if let Some(feature) = apache::missing_features()
        .iter()
        .find(|feature| feature.name == name && feature.asks(value))
    {
        return Err(UpdateRefused::Value(refusal(name, value, feature.reason.to_owned())));
    }
    let given = given::<S>().find(|(key, _)| *key == name).map(|(_, value)| value);
    if settings.others().of(name).or(given) == Some(value) {
        return Ok(None);
    }
    if settings.others_mut().set(name, value) {
        let reason = apache::without_effect(name).map(|reason| format!(": {reason}")).unwrap_or_default();
        return Ok(Some(Note::new(&[name], format!("{name} has no effect here{reason}"))));
    }
    if apache::is_known_to_apache(name) {
        return Err(UpdateRefused::Value(refusal(name, "...", "the value is too long".to_owned())));
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
    let keys = S::keys().iter().map(|key| Changed {
        key: key.name,
        from: (key.print)(before),
        to: (key.print)(after),
    });
    let others = after.others().iter().map(|(key, value)| Changed {
        key,
        from: before.others().of(key).unwrap_or_default().to_owned(),
        to: value.to_owned(),
    });
    keys.chain(others).filter(|changed| changed.from != changed.to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{flag, whole};
    use std::sync::mpsc;
    use std::time::Duration;

    crate::declare! {
        /// Example.
        struct Example;
        section "All" {
            /// A port.
            listen_port: u16 { name: "listenPort", default: 10_911, allowed: whole(1..=65_535).strict(), change: AtStart }
            /// A switch.
            auto: bool { name: "autoCreateTopicEnable", default: true, allowed: flag(), change: Live }
            /// A count.
            queues: u32 { name: "defaultTopicQueueNums", default: 8, allowed: whole(1..=128), change: Live }
        }
    }
    impl Settings for Example {
        const GIVEN: &'static str = "transientStorePoolEnable=false\nwaitTimeMillsInSendQueue=200\n";

        fn settle(&mut self, notes: &mut Vec<Note>) -> Result<(), String> {
            if self.auto && self.queues > 100 {
                notes.push(Note::new(
                    &["autoCreateTopicEnable", "defaultTopicQueueNums"],
                    "many queues of many topics",
                ));
            }
            Ok(())
        }
    }

    fn changed(live: &Live<Example>, text: &str) -> Result<Vec<Changed>, UpdateRefused> {
        live.update(text.as_bytes()).map(|updated| updated.changed)
    }

    fn remark(live: &Live<Example>, text: &str) -> String {
        live.update(text.as_bytes()).unwrap().remark()
    }

    #[test]
    fn an_update_is_seen_by_the_next_reader() {
        let live = Live::new(Example::default());
        let before = live.current();
        assert_eq!(
            changed(&live, "autoCreateTopicEnable=false\ndefaultTopicQueueNums = 8").unwrap(),
            [Changed {
                key: "autoCreateTopicEnable",
                from: "true".to_owned(),
                to: "false".to_owned()
            }]
        );
        assert!(before.auto && !live.current().auto);
    }

    #[test]
    fn a_key_that_is_read_at_the_start_is_not_changed() {
        let live = Live::new(Example::default());
        let refused = live.update(b"autoCreateTopicEnable=false\nlistenPort=1").unwrap_err();
        assert_eq!(refused, UpdateRefused::AtStart("listenPort".to_owned()));
        assert!(live.current().auto, "an update is applied completely or not at all");
        assert_eq!(
            changed(&live, "listenPort=10911"),
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
        assert_eq!(changed(&live, "autoCreateTopicEnable=false").map(|changed| changed.len()), Ok(1));
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
        assert!(live.update(b"aclEnable=true").is_err());
    }

    #[test]
    fn a_number_beyond_a_bound_counts_as_the_bound_and_the_answer_says_so() {
        let live = Live::new(Example::default());
        assert_eq!(
            remark(&live, "defaultTopicQueueNums=500"),
            "defaultTopicQueueNums=500 counts as 128, allowed is 1 to 128; many queues of many topics"
        );
        assert_eq!(live.current().queues, 128);
        assert_eq!(
            remark(&live, "listenPort=10911"),
            "",
            "a note on an older contradiction is not repeated"
        );
        assert_eq!(remark(&live, "autoCreateTopicEnable=true"), "many queues of many topics");
    }

    #[test]
    fn a_key_without_effect_gets_a_note_and_can_be_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(dir.path().join("live.properties"));
        let live = Live::keeping(Example::default(), kept.clone());
        assert_eq!(remark(&live, "waitTimeMillsInSendQueue=200"), "", "the reported value is no change");
        assert_eq!(
            remark(
                &live,
                "sendMessageThreadPoolNums=4\nwaitTimeMillsInSendQueue=300\ntransientStorePoolEnable=true"
            ),
            "sendMessageThreadPoolNums has no effect here; waitTimeMillsInSendQueue has no effect here; \
             transientStorePoolEnable has no effect here: messages are written to the page cache at once; there is no pool whose content a crash \
             would lose"
        );
        assert_eq!(
            remark(&live, "sendMessageThreadPoolNums=4"),
            "",
            "the same value again is no change"
        );
        let expected = "transientStorePoolEnable=true\nwaitTimeMillsInSendQueue=300\nsendMessageThreadPoolNums=4\n";
        assert!(live.text().ends_with(expected), "{}", live.text());
        let mut sources = crate::Sources::new();
        kept.add_to(&mut sources).unwrap();
        let again = sources.fill::<Example>().unwrap();
        let keys = ["transientStorePoolEnable", "waitTimeMillsInSendQueue", "sendMessageThreadPoolNums"];
        assert_eq!(keys.map(|key| again.others.of(key)), [Some("true"), Some("300"), Some("4")]);
    }

    #[test]
    fn readers_do_not_wait_for_an_update_that_is_being_written() {
        let dir = tempfile::tempdir().unwrap();
        // Opening a pipe for writing blocks until it is opened for reading: a slow disk.
        let pipe = dir.path().join("live.properties.tmp");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let live = Arc::new(Live::keeping(Example::default(), Kept::at(dir.path().join("live.properties"))));
        let updating = {
            let live = Arc::clone(&live);
            std::thread::spawn(move || live.update(b"autoCreateTopicEnable=false"))
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while live.changing.try_lock().is_ok() && !updating.is_finished() {
            assert!(std::time::Instant::now() < deadline, "the update never began");
            std::thread::yield_now();
        }
        let (answer, answered) = mpsc::channel();
        let reader = Arc::clone(&live);
        std::thread::spawn(move || answer.send(reader.current().auto));
        assert_eq!(answered.recv_timeout(Duration::from_secs(20)), Ok(true));
        assert!(!updating.is_finished(), "the pipe was not read yet");
        drop(std::fs::File::open(&pipe).unwrap());
        let _ = updating.join().unwrap();
    }

    #[test]
    fn the_text_of_all_values_can_be_applied() {
        let live = Live::new(Example::default());
        assert_eq!(
            live.text(),
            "listenPort=10911\nautoCreateTopicEnable=true\ndefaultTopicQueueNums=8\ntransientStorePoolEnable=false\nwaitTimeMillsInSendQueue=200\n"
        );
        assert_eq!(live.update(live.text().as_bytes()), Ok(Updated::default()));
    }
}
