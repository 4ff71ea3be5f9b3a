//! The sources of values in order of precedence, and the assignments that no role claims.
//!
//! Life: collect assignments (file, then environment, then flags), [`Sources::fill`] one or several settings from them, then read
//! the [`Sources::leftovers`], which are keys of Apache's without effect here and unknown names. One process may fill two roles
//! from the same sources; a key counts as claimed if one of them declares it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::apache;
use crate::key::{ENVIRONMENT_PREFIX, Key, Note, Settings, environment_name};
use crate::nearest::nearest;
use crate::properties::{self, ParseError};
use crate::shape::Refused;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Line from 1.
        line: usize,
    },
    /// An environment variable of this name.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
    /// An update over the wire.
    Wire,
    /// Two or more keys together.
    Together,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Wire => f.write_str("update"),
            Self::Together => f.write_str("configuration"),
        }
    }
}

/// One refused value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Key, or empty when it is about several.
    pub key: String,
    /// The value that was given.
    pub value: String,
    /// What is wrong and what is allowed.
    pub why: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.origin, self.why);
        }
        write!(f, "{}: {}={} is refused: {}", self.origin, self.key, self.value, self.why)
    }
}

/// All refused values, so that a file can be corrected at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Refusal::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Refusals(pub Vec<Refusal>);

/// A configuration file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It does not exist or may not be read.
    #[error("cannot read configuration file {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
    /// A file that this program wrote has content that it never writes.
    #[error("{path} is damaged: it is empty or has NUL bytes")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It begins as JSON, and is not a JSON object.
    #[error("configuration file {path} is no JSON object: {error}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// It is not valid properties text.
    #[error("configuration file {path}: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ParseError,
    },
}

/// A name that no settings claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A key of Apache's that has no effect here.
    WithoutMeaning {
        /// Name as Apache has it.
        name: String,
        /// Why it has no effect, if the name does not say enough.
        reason: Option<&'static str>,
    },
    /// A name that neither Apache nor ApogeeMQ knows.
    Unknown {
        /// Name as it was written.
        name: String,
        /// Where it comes from.
        origin: Origin,
        /// The nearest known name.
        nearest: Option<String>,
    },
}

/// Precedence of a source, independent of the order in which sources are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Weakest,
    File,
    Environment,
    Flag,
}

#[derive(Debug)]
struct Assignment {
    rank: Rank,
    name: String,
    value: String,
    origin: Origin,
    claimed: bool,
}

impl Assignment {
    /// Our variables are stored under their own name, all other assignments under the key's.
    fn is_for(&self, key: &str) -> bool {
        self.name == key
            || matches!(&self.origin, Origin::Environment(variable) if self.name == *variable && *variable == environment_name(key))
    }
}

/// Assignments from all sources, weakest first.
#[derive(Debug, Default)]
pub struct Sources {
    assignments: Vec<Assignment>,
    notes: Vec<Note>,
}

impl Sources {
    /// No source: every key has its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Inserts the assignment above all of its rank and below all of a higher rank.
    fn push(&mut self, rank: Rank, name: &str, value: &str, origin: Origin) {
        let at = self.assignments.partition_point(|assignment| assignment.rank <= rank);
        let assignment = Assignment {
            rank,
            name: name.to_owned(),
            value: value.trim().to_owned(),
            origin,
            claimed: false,
        };
        self.assignments.insert(at, assignment);
    }

    /// Adds a properties file, above those added before.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read or is not properties text.
    pub fn file(&mut self, path: &Path) -> Result<(), FileError> {
        let bytes = std::fs::read(path).map_err(|error| FileError::Io {
            path: path.to_owned(),
            error,
        })?;
        self.text(path, &bytes)
    }

    /// Adds a properties file, or one that is a JSON object with a value for each key, as Apache's `rmq-proxy.json`.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read, or is neither.
    pub fn file_or_json(&mut self, path: &Path) -> Result<(), FileError> {
        let bytes = std::fs::read(path).map_err(|error| FileError::Io {
            path: path.to_owned(),
            error,
        })?;
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return self.text(path, &bytes);
        }
        let read: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes).map_err(|error| FileError::Json {
            path: path.to_owned(),
            error,
        })?;
        let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').map(String::from_utf8_lossy).collect();
        for (key, value) in read {
            let quoted = format!("\"{key}\"");
            let line = lines.iter().position(|line| line.contains(&quoted)).map_or(1, |at| at + 1);
            let value = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Null => String::new(),
                other => other.to_string(),
            };
            let path = path.to_owned();
            self.push(Rank::File, &key, &value, Origin::File { path, line });
        }
        Ok(())
    }

    /// Adds the keys of a properties file for which `wanted` is true, above the files added before. Returns the other keys, each once.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read or is not properties text.
    pub fn file_only(&mut self, path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, FileError> {
        let mut all = Self::new();
        all.file(path)?;
        let mut others = Vec::new();
        for assignment in all.assignments {
            if wanted(&assignment.name) {
                self.push(Rank::File, &assignment.name, &assignment.value, assignment.origin);
            } else if !others.contains(&assignment.name) {
                others.push(assignment.name);
            }
        }
        Ok(others)
    }

    /// Adds a note to those of [`Self::take_notes`].
    pub fn note(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Adds the content of a properties file, above those added before.
    pub(crate) fn text(&mut self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let entries = properties::parse_bytes(bytes).map_err(|error| FileError::Parse {
            path: path.to_owned(),
            error,
        })?;
        for entry in entries {
            self.push(
                Rank::File,
                &entry.key,
                &entry.value,
                Origin::File {
                    path: path.to_owned(),
                    line: entry.line,
                },
            );
        }
        Ok(())
    }

    /// Adds the `APOGEEMQ_…` variables among these, except those in `taken`, which belong to flags.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>, taken: &[&str]) {
        let mut ours: Vec<_> = variables
            .into_iter()
            .filter(|(variable, _)| variable.starts_with(ENVIRONMENT_PREFIX) && !taken.contains(&variable.as_str()))
            .collect();
        ours.sort();
        for (variable, value) in ours {
            self.push(Rank::Environment, &variable, &value, Origin::Environment(variable.clone()));
        }
    }

    /// Adds the value that a flag gives a key.
    pub fn flag(&mut self, flag: &str, key: &str, value: &str) {
        self.push(Rank::Flag, key, value, Origin::Flag(flag.to_owned()));
    }

    /// Adds a value that is weaker than all files.
    pub fn weakest(&mut self, origin: Origin, key: &str, value: &str) {
        self.push(Rank::Weakest, key, value, origin);
    }

    /// Settings from their defaults and all sources.
    ///
    /// # Errors
    /// [`Refusals`] with every value that has no sensible meaning and every contradiction between keys.
    pub fn fill<S: Settings>(&mut self) -> Result<S, Refusals> {
        self.fill_except(&[])
    }

    /// Like [`Sources::fill`], without these keys, which another role reads from the same sources.
    ///
    /// # Errors
    /// As [`Sources::fill`].
    pub fn fill_except<S: Settings>(&mut self, others: &[&str]) -> Result<S, Refusals> {
        let mut settings = S::default();
        let mut refusals = Vec::new();
        let mut notes = Vec::new();
        for assignment in &mut self.assignments {
            let key = S::keys()
                .iter()
                .find(|key| assignment.is_for(key.name) && !others.contains(&key.name));
            let Some(key) = key else {
                set_other(&mut settings, assignment);
                continue;
            };
            assignment.claimed = true;
            match assign(key, &mut settings, assignment) {
                Ok(note) => notes.extend(note),
                Err(refusal) => refusals.push(refusal),
            }
        }
        refusals.extend(self.assignments.iter().filter_map(refusal_of_missing_feature));
        if refusals.is_empty()
            && let Err(why) = settings.settle(&mut notes)
        {
            refusals.push(Refusal {
                key: String::new(),
                value: String::new(),
                why,
                origin: Origin::Together,
            });
        }
        if !refusals.is_empty() {
            return Err(Refusals(refusals));
        }
        for note in notes {
            self.note(note);
        }
        Ok(settings)
    }

    /// The notes made while settings were filled: values that count as another value, and keys that contradict each other.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// The assignments that no role claimed, each name once, in the order of the sources. `known` are the keys of all roles, for the nearest name.
    pub fn leftovers(&self, known: &[&str]) -> Vec<Leftover> {
        let mut seen: Vec<&str> = Vec::new();
        let mut leftovers = Vec::new();
        for assignment in self.assignments.iter().filter(|assignment| !assignment.claimed) {
            if !seen.contains(&assignment.name.as_str()) {
                seen.push(&assignment.name);
                leftovers.push(leftover(assignment, known));
            }
        }
        leftovers
    }
}

/// Stores the value of a key of Apache's that the role reports to clients. The keys `tls.*` are no part of what Apache's servers report,
/// and some are passwords.
fn set_other<S: Settings>(settings: &mut S, assignment: &Assignment) {
    let is_reported = |name: &str| !name.starts_with("tls.") && !S::keys().iter().any(|key| assignment.is_for(key.name));
    if let Some(name) = apache::names_of_apache().find(|name| assignment.is_for(name) && is_reported(name)) {
        settings.others_mut().set(name, &assignment.value);
    }
}

/// Sets a key to the value of an assignment; returns a note if it counts as another value.
fn assign<S: Settings>(key: &Key<S>, settings: &mut S, assignment: &Assignment) -> Result<Option<Note>, Refusal> {
    let (value, origin) = (assignment.value.as_str(), &assignment.origin);
    let noted = |counts: String| Some(Note::new(&[key.name], format!("{origin}: {}={value} {counts}", key.name)));
    let refused = match take(key, settings, value) {
        Ok(counts) => return Ok(counts.and_then(noted)),
        Err(refused) => refused,
    };
    // A template whose variable was not set; a flag is typed by hand.
    if value.is_empty() && !matches!(origin, Origin::Flag(_)) {
        return Ok(Some(Note::new(
            &[key.name],
            format!("{origin}: {} is empty and has no effect", key.name),
        )));
    }
    let before_comment = value.split_once('#').map(|(before, _)| before);
    if let Some(before) = before_comment.filter(|before| before.ends_with(char::is_whitespace))
        && take(key, settings, before.trim_end()).is_ok()
    {
        return Ok(noted(format!(
            "counts as {}; a comment needs a line of its own",
            (key.print)(settings)
        )));
    }
    Err(Refusal {
        key: key.name.to_owned(),
        value: value.to_owned(),
        why: explain(refused, &(key.allowed)()),
        origin: origin.clone(),
    })
}

/// Sets a key to a value; returns what it counts as, if that is another value.
pub(crate) fn take<S>(key: &Key<S>, settings: &mut S, text: &str) -> Result<Option<String>, Refused> {
    match (key.set)(settings, text) {
        Ok(()) => Ok(None),
        Err(_) if (key.fit)(settings, text) => Ok(Some(format!("counts as {}, allowed is {}", (key.print)(settings), (key.allowed)()))),
        Err(refused) => Err(refused),
    }
}

pub(crate) fn explain(refused: Refused, allowed: &str) -> String {
    match refused {
        Refused::NotAllowed => format!("allowed is {allowed}"),
        Refused::Because(reason) => format!("{reason}; allowed is {allowed}"),
    }
}

fn refusal_of_missing_feature(assignment: &Assignment) -> Option<Refusal> {
    if assignment.claimed {
        return None;
    }
    let (name, reason) = apache::missing_features()
        .iter()
        .find(|feature| assignment.is_for(feature.name) && feature.asks(&assignment.value))
        .map(|feature| (feature.name, feature.reason))?;
    let why = format!("{reason}; remove the key to start without it");
    Some(Refusal {
        key: name.to_owned(),
        value: assignment.value.clone(),
        why,
        origin: assignment.origin.clone(),
    })
}

fn leftover(assignment: &Assignment, known: &[&str]) -> Leftover {
    let of_apache = apache::names_of_apache().find(|key| assignment.is_for(key));
    if let Some(name) = of_apache.or_else(|| known.iter().copied().find(|key| assignment.is_for(key))) {
        return Leftover::WithoutMeaning {
            name: name.to_owned(),
            reason: apache::without_effect(name),
        };
    }
    let name = assignment.name.clone();
    let nearest = match &assignment.origin {
        Origin::Environment(variable) => nearest_variable(variable, known),
        _ => nearest(&name, known.iter().copied().chain(apache::names())).map(str::to_owned),
    };
    Leftover::Unknown {
        name,
        origin: assignment.origin.clone(),
        nearest,
    }
}

fn nearest_variable(variable: &str, known: &[&str]) -> Option<String> {
    let variables: Vec<_> = known.iter().map(|key| environment_name(key)).collect();
    nearest(variable, variables.iter().map(String::as_str)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Declared;
    use crate::shape::{flag, optional, path, text, whole};

    crate::declare! {
        /// Example.
        struct Example;
        section "All" {
            /// A port.
            listen_port: u16 { name: "listenPort", default: 10_911, allowed: whole(1..=65_535).strict(), change: AtStart }
            /// A count.
            queues: u32 { name: "defaultTopicQueueNums", default: 8, allowed: whole(1..=128), change: Live }
            /// A name.
            broker_name: String { name: "brokerName", default: "a".to_owned(), allowed: text(), change: AtStart }
            /// A switch.
            force: bool { name: "forceRegister", default: true, allowed: flag(), change: Live }
            /// A path that follows the port.
            home: Option<std::path::PathBuf> { name: "apogeeHome", default: None, allowed: optional(path()), change: AtStart }
        }
    }

    impl Settings for Example {
        fn settle(&mut self, notes: &mut Vec<Note>) -> Result<(), String> {
            if self.broker_name == "odd" {
                notes.push(Note::new(&["brokerName", "listenPort"], "an odd name for this port"));
            }
            if self.broker_name == "bad" && self.listen_port == 1 {
                return Err("brokerName bad and listenPort 1 cannot be".to_owned());
            }
            Ok(())
        }
    }

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.conf");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn variable(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file_which_beats_defaults() {
        let (_dir, path) = written("listenPort=1111\nbrokerName = from file \nforceRegister: false\n");
        let mut sources = Sources::new();
        sources.file(&path).unwrap();
        sources.environment(
            [
                variable("APOGEEMQ_LISTEN_PORT", "2222"),
                variable("APOGEEMQ_BROKER_NAME", "from environment"),
            ],
            &[],
        );
        sources.flag("--broker-port", "listenPort", "3333");
        let settings: Example = sources.fill().unwrap();
        assert_eq!(
            (settings.listen_port, settings.broker_name.as_str(), settings.force),
            (3333, "from environment", false)
        );
        assert_eq!(sources.leftovers(&[]), []);
    }

    #[test]
    fn a_refusal_names_file_line_key_value_and_what_is_allowed() {
        let (_dir, path) = written("# c\nlistenPort=banana\nforceRegister=ja\n");
        let mut sources = Sources::new();
        sources.file(&path).unwrap();
        let refusals = sources.fill::<Example>().unwrap_err();
        let expected = format!(
            "{0}:2: listenPort=banana is refused: allowed is 1 to 65535\n{0}:3: forceRegister=ja is refused: allowed is true, false",
            path.display()
        );
        assert_eq!(refusals.to_string(), expected);
    }

    #[test]
    fn a_variable_and_a_flag_are_named_in_their_refusals() {
        let mut sources = Sources::new();
        sources.environment([variable("APOGEEMQ_LISTEN_PORT", "x")], &[]);
        sources.flag("--broker-port", "listenPort", "0");
        let text = sources.fill::<Example>().unwrap_err().to_string();
        assert!(text.contains("environment APOGEEMQ_LISTEN_PORT: listenPort=x"), "{text}");
        assert!(text.contains("flag --broker-port: listenPort=0"), "{text}");
    }

    #[test]
    fn keys_that_contradict_each_other_are_refused() {
        let mut sources = Sources::new();
        sources.flag("--x", "brokerName", "bad");
        sources.flag("--y", "listenPort", "1");
        assert_eq!(
            sources.fill::<Example>().unwrap_err().to_string(),
            "configuration: brokerName bad and listenPort 1 cannot be"
        );
    }

    #[test]
    fn a_clear_meaning_counts_and_is_noted_with_its_origin() {
        let text = "defaultTopicQueueNums=500\nlistenPort=\nforceRegister=false  # for now\nbrokerName=odd\n";
        let (_dir, path) = written(text);
        let mut sources = Sources::new();
        sources.file(&path).unwrap();
        sources.environment([variable("APOGEEMQ_FORCE_REGISTER", "")], &[]);
        let settings: Example = sources.fill().unwrap();
        assert_eq!((settings.queues, settings.listen_port, settings.force), (128, 10_911, false));
        let place = path.display();
        let expected = [
            format!("{place}:1: defaultTopicQueueNums=500 counts as 128, allowed is 1 to 128"),
            format!("{place}:2: listenPort is empty and has no effect"),
            format!("{place}:3: forceRegister=false  # for now counts as false; a comment needs a line of its own"),
            "environment APOGEEMQ_FORCE_REGISTER: forceRegister is empty and has no effect".to_owned(),
            "an odd name for this port".to_owned(),
        ];
        assert_eq!(sources.take_notes().into_iter().map(|note| note.text).collect::<Vec<_>>(), expected);
        assert_eq!(sources.take_notes(), []);
    }

    #[test]
    fn a_value_without_sensible_meaning_is_refused() {
        for (flag, value) in [
            ("listenPort", "65536"),
            ("listenPort", "-1"),
            ("defaultTopicQueueNums", "0"),
            ("forceRegister", "#true"),
            ("listenPort", ""),
            ("listenPort", "x # 1"),
        ] {
            let mut sources = Sources::new();
            sources.flag("--x", flag, value);
            assert!(sources.fill::<Example>().is_err(), "{flag}={value}");
        }
    }

    #[test]
    fn keys_of_apache_without_effect_can_be_asked_for() {
        let (_dir, path) = written("waitTimeMillsInSendQueue=10000\n");
        let mut sources = Sources::new();
        sources.file(&path).unwrap();
        sources.environment([variable("APOGEEMQ_SLAVE_READ_ENABLE", "true")], &[]);
        let settings: Example = sources.fill().unwrap();
        let set: Vec<_> = settings.others.iter().collect();
        assert_eq!(set, [("slaveReadEnable", "true"), ("waitTimeMillsInSendQueue", "10000")]);
    }

    #[test]
    fn keys_of_apache_are_reported_once_and_unknown_ones_with_the_nearest() {
        let (_dir, path) = written("sendMessageThreadPoolNums=16\nsendMessageThreadPoolNums=17\nlistenPrt=1\nqwertyuiop=1\n");
        let mut sources = Sources::new();
        sources.file(&path).unwrap();
        sources.environment(
            [
                variable("APOGEEMQ_LISTEN_PROT", "1"),
                variable("APOGEEMQ_LOG", "x"),
                variable("OTHER", "y"),
            ],
            &["APOGEEMQ_LOG"],
        );
        sources.fill::<Example>().unwrap();
        let known: Vec<_> = Example::keys().iter().map(|key| key.name).collect();
        let at = |line| Origin::File { path: path.clone(), line };
        let unknown = |name: &str, origin, nearest: Option<&str>| Leftover::Unknown {
            name: name.to_owned(),
            origin,
            nearest: nearest.map(str::to_owned),
        };
        assert_eq!(
            sources.leftovers(&known),
            [
                Leftover::WithoutMeaning {
                    name: "sendMessageThreadPoolNums".to_owned(),
                    reason: None,
                },
                unknown("listenPrt", at(3), Some("listenPort")),
                unknown("qwertyuiop", at(4), None),
                unknown(
                    "APOGEEMQ_LISTEN_PROT",
                    Origin::Environment("APOGEEMQ_LISTEN_PROT".to_owned()),
                    Some("APOGEEMQ_LISTEN_PORT")
                ),
            ]
        );
    }

    #[test]
    fn a_key_that_asks_for_missing_protection_is_refused() {
        let (_dir, path) = written("aclEnable=true\n");
        let mut sources = Sources::new();
        sources.file(&path).unwrap();
        let text = sources.fill::<Example>().unwrap_err().to_string();
        assert!(
            text.contains("broker.conf:1: aclEnable=true is refused: access control is not implemented yet"),
            "{text}"
        );
    }

    #[test]
    fn a_role_leaves_a_shared_key_to_the_other() {
        let mut sources = Sources::new();
        sources.flag("--x", "listenPort", "7");
        let settings: Example = sources.fill_except(&["listenPort"]).unwrap();
        assert_eq!(settings.listen_port, 10_911);
    }

    #[test]
    fn the_weakest_value_loses_to_the_file() {
        let (_dir, path) = written("listenPort=1111\n");
        let mut sources = Sources::new();
        sources.file(&path).unwrap();
        sources.weakest(Origin::Environment("X".to_owned()), "brokerName", "weak");
        sources.weakest(Origin::Flag("x".to_owned()), "listenPort", "5");
        assert_eq!(sources.fill::<Example>().unwrap().listen_port, 1111);
    }

    #[test]
    fn a_missing_file_is_named() {
        let text = Sources::new().file(Path::new("/no/such.conf")).unwrap_err().to_string();
        assert!(text.starts_with("cannot read configuration file /no/such.conf: "), "{text}");
    }
}
