//! One declared key, and what can be asked of a whole declaration.
//!
//! A [`Key`] is plain data and function pointers, so a declaration is a static table: walking it costs no allocation and the order
//! of the table is the order of the declaration. What is not here: where values come from (see `sources`) and how they look as
//! text (see `shape`).

use std::collections::BTreeMap;

use crate::apache;
use crate::properties;
use crate::shape::Refused;

/// Prefix of every environment variable that sets a key.
pub(crate) const ENVIRONMENT_PREFIX: &str = "APOGEEMQ_";
/// Prefix of the keys Apache does not have; left out of the variable's name.
const OWN_PREFIX: &str = "APOGEE_";

/// When a key may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only before the start: paths, ports, identities, and everything sized once.
    AtStart,
    /// Also while running, by an update over the wire.
    Live,
}

/// One declared key of the settings `S`.
#[derive(Debug)]
pub struct Key<S: 'static> {
    /// Name as in Apache's files.
    pub name: &'static str,
    /// Heading under which the table shows it.
    pub section: &'static str,
    /// What it means, in a sentence or two.
    pub doc: &'static str,
    /// Whether it may change while running.
    pub change: Change,
    /// Type, in a word or two for the reader of the table.
    pub kind: fn() -> String,
    /// What is allowed, in words.
    pub allowed: fn() -> String,
    /// Parses and stores a value, or leaves the settings as they are.
    pub set: fn(&mut S, &str) -> Result<(), Refused>,
    /// Stores what a text counts as that `set` refuses, or says `false` and leaves the settings as they are.
    pub fit: fn(&mut S, &str) -> bool,
    /// Text of the present value, such that `set` takes it.
    pub print: fn(&S) -> String,
}

/// Something about the settings that whoever wrote them should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The keys it is about.
    pub keys: Vec<String>,
    /// What a value counts as, or what does not fit together and what follows.
    pub text: String,
}

impl Note {
    /// A note about these keys.
    pub fn new(keys: &[&str], text: impl Into<String>) -> Self {
        Self {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            text: text.into(),
        }
    }
}

/// Values of keys that Apache has and that change nothing here, by name: kept so that they can be read back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others(BTreeMap<&'static str, String>);

impl Others {
    /// Longest value that is kept, in bytes; the table is bounded by it and by the names that Apache knows.
    const MAX_VALUE_BYTES: usize = 4096;

    /// Keeps a value. `false`, and nothing is kept, when Apache does not know the name or the value is too long.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let Some(known) = apache::known(name).filter(|_| value.len() <= Self::MAX_VALUE_BYTES) else {
            return false;
        };
        self.0.insert(known, value.to_owned());
        true
    }

    /// The value that was set.
    pub fn of(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

impl<S> Key<S> {
    /// The doc sentences as one line without the leading blanks of doc comments.
    pub fn meaning(&self) -> String {
        self.doc.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// A struct made by [`crate::declare!`].
pub trait Declared: Sized + Default + Clone + 'static {
    /// All keys in the order of their declaration.
    fn keys() -> &'static [Key<Self>];

    /// The key of this exact name.
    fn key(name: &str) -> Option<&'static Key<Self>> {
        Self::keys().iter().find(|key| key.name == name)
    }

    /// What was set of Apache's keys that change nothing here.
    fn others(&self) -> &Others;

    /// As [`Declared::others`], to set more.
    fn others_mut(&mut self) -> &mut Others;
}

/// Declared settings and what can only be said about several keys together.
pub trait Settings: Declared {
    /// Keys of Apache's that whoever asks for this role's settings is given beside the declared ones: a line `key=value` each, with
    /// the value that is true here. What was set of them is given instead.
    const GIVEN: &'static str = "";

    /// Fills in defaults that depend on other keys, fits together what cannot be true together, and notes what was fitted and what is
    /// worth knowing.
    ///
    /// Called once after all sources were applied and again on the candidate of every update; must be idempotent.
    ///
    /// # Errors
    /// One plain sentence that names the keys, where there is no value that would do.
    fn settle(&mut self, notes: &mut Vec<Note>) -> Result<(), String> {
        let _ = notes;
        Ok(())
    }
}

/// `brokerClusterName` becomes `APOGEEMQ_BROKER_CLUSTER_NAME`, `brokerIP1` `APOGEEMQ_BROKER_IP1`.
///
/// Words end before an upper-case letter that follows a lower-case letter or a digit; dots become underscores. Our own keys begin
/// with `apogee`, which is not said twice: `apogeeMaxTopics` becomes `APOGEEMQ_MAX_TOPICS`.
pub fn environment_name(key: &str) -> String {
    let mut words = String::with_capacity(key.len() + 8);
    let mut before = '_';
    for c in key.chars() {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            words.push('_');
        }
        words.push(if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        before = c;
    }
    format!("{ENVIRONMENT_PREFIX}{}", words.strip_prefix(OWN_PREFIX).unwrap_or(&words))
}

/// All values as properties text, one line a key: what a client gets who asks for the configuration. The declared keys first, then
/// [`Settings::GIVEN`] and what else was set.
pub fn properties_text<S: Settings>(settings: &S) -> String {
    let mut out = String::new();
    for key in S::keys() {
        properties::write_line(&mut out, key.name, &(key.print)(settings));
    }
    let given: BTreeMap<&str, &str> = given::<S>().collect();
    let set: BTreeMap<&str, &str> = settings.others().iter().collect();
    for (name, value) in &given {
        properties::write_line(&mut out, name, set.get(name).unwrap_or(value));
    }
    for (name, value) in set.iter().filter(|(name, _)| !given.contains_key(**name)) {
        properties::write_line(&mut out, name, value);
    }
    out
}

/// Names and values of [`Settings::GIVEN`].
pub fn given<S: Settings>() -> impl Iterator<Item = (&'static str, &'static str)> {
    S::GIVEN.lines().filter_map(|line| line.split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_variables_word_by_word() {
        assert_eq!(environment_name("brokerClusterName"), "APOGEEMQ_BROKER_CLUSTER_NAME");
        assert_eq!(environment_name("brokerIP1"), "APOGEEMQ_BROKER_IP1");
        assert_eq!(environment_name("namesrvAddr"), "APOGEEMQ_NAMESRV_ADDR");
        assert_eq!(environment_name("apogeeMaxTopics"), "APOGEEMQ_MAX_TOPICS");
        assert_eq!(
            environment_name("com.rocketmq.remoting.frameMaxLength"),
            "APOGEEMQ_COM_ROCKETMQ_REMOTING_FRAME_MAX_LENGTH"
        );
    }
}
