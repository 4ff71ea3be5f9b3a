//! One declared key, and the traits of a declaration.
//!
//! A [`Key`] is plain data and function pointers, so a declaration is a static table: iterating over it allocates nothing, and the order
//! of the table is the order of the declaration. Not here: where values come from (see `sources`) and their text form (see `shape`).

use std::collections::BTreeMap;

use crate::apache;
use crate::properties;
use crate::shape::Refused;

/// Prefix of every environment variable that sets a key.
pub(crate) const ENVIRONMENT_PREFIX: &str = "APOGEEMQ_";
/// Prefix of the keys that Apache does not have; the name of the variable omits it.
const OWN_PREFIX: &str = "APOGEE_";

/// When a key may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// At the start only: paths, ports, identities, and everything that is sized once.
    AtStart,
    /// Also while running, by a request.
    Live,
}

/// One declared key of the settings `S`.
#[derive(Debug)]
pub struct Key<S: 'static> {
    /// Name as in Apache's files.
    pub name: &'static str,
    /// Heading under which the table shows it.
    pub section: &'static str,
    /// Its meaning, in one or two sentences.
    pub doc: &'static str,
    /// Whether it may change while running.
    pub change: Change,
    /// Name of the type in the table.
    pub kind: fn() -> String,
    /// The allowed values, as text.
    pub allowed: fn() -> String,
    /// Parses and stores a value; leaves the settings unchanged if it is refused.
    pub set: fn(&mut S, &str) -> Result<(), Refused>,
    /// Stores the value that a text refused by `set` counts as. `false`: it has none, and the settings are unchanged.
    pub fit: fn(&mut S, &str) -> bool,
    /// Text of the current value, in a form that `set` accepts.
    pub print: fn(&S) -> String,
}

/// Something that the author of the settings should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The keys it is about.
    pub keys: Vec<String>,
    /// What a value counts as, or which keys contradict each other and the consequence.
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

/// Values of Apache's keys that have no effect here, by name. They are stored so that clients can read them back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others(BTreeMap<&'static str, String>);

impl Others {
    /// Maximum length of a stored value in bytes. This and the number of Apache's names limit the table.
    const MAX_VALUE_BYTES: usize = 4096;

    /// Stores a value. Returns `false` and stores nothing if Apache does not know the name or the value is too long.
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
    /// The doc sentences in one line, without the leading blanks of doc comments.
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

    /// The values of Apache's keys that have no effect here.
    fn others(&self) -> &Others;

    /// Mutable access to [`Declared::others`].
    fn others_mut(&mut self) -> &mut Others;
}

/// Declared settings, with the rules that involve several keys.
pub trait Settings: Declared {
    /// Keys of Apache's that clients get beside the declared ones when they ask for the settings of this role: one line `key=value`
    /// each, with the value that is true here. A value that was set replaces it.
    const GIVEN: &'static str = "";

    /// Computes defaults that depend on other keys, adjusts keys that contradict each other, and adds notes about adjustments and
    /// consequences.
    ///
    /// Called once after all sources were applied and again on the candidate of every update; must be idempotent.
    ///
    /// # Errors
    /// One sentence that names the keys, if no adjustment is possible.
    fn settle(&mut self, notes: &mut Vec<Note>) -> Result<(), String> {
        let _ = notes;
        Ok(())
    }
}

/// `brokerClusterName` becomes `APOGEEMQ_BROKER_CLUSTER_NAME`, `brokerIP1` `APOGEEMQ_BROKER_IP1`.
///
/// Words end before an upper-case letter that follows a lower-case letter or a digit; dots become underscores. The prefix `apogee`
/// of our own keys is dropped: `apogeeMaxTopics` becomes `APOGEEMQ_MAX_TOPICS`.
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

/// All values as properties text, one line per key: the answer to a request for the configuration. The declared keys first, then
/// [`Settings::GIVEN`] and the other keys that were set.
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
