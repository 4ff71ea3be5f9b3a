//! Attributes of topics, given as changes: `+message.type=FIFO,-reserve.time`.
//!
//! | Attribute | Values | May change |
//! |---|---|---|
//! | `queue.type` | `SimpleCQ` | no |
//! | `cleanup.policy` | `DELETE` | no |
//! | `message.type` | `UNSPECIFIED`, `NORMAL`, `FIFO`, `DELAY`, `TRANSACTION`, `MIXED` | yes |
//!
//! Apache also has `BatchCQ` and `COMPACTION`, which need a store we do not have, and `reserve.time` for tiered storage:
//! they are refused by name.

use std::collections::BTreeMap;

/// Attributes by name.
pub type Attributes = BTreeMap<String, String>;

/// Why attributes are not changed; the text is the answer's. Apache's words where users search for them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// `name=value` without a plus.
    #[error("add/alter attribute format is wrong: {0}")]
    Add(String),
    /// A name without a value and without a minus.
    #[error("delete attribute format is wrong: {0}")]
    Delete(String),
    /// Twice the same name.
    #[error("key duplication: {0}")]
    Twice(String),
    /// A sign within the name, or no name.
    #[error("kv string format wrong.")]
    Name,
    /// Only additions make sense for a new topic.
    #[error("only add attribute is supported while creating topic. key: {0}")]
    CreateOnlyAdds(String),
    /// Not there to be deleted.
    #[error("attempt to delete a nonexistent key: {0}")]
    Absent(String),
    /// Nobody knows it.
    #[error("unsupported key: {0}")]
    Unknown(String),
    /// Fixed when the topic is made.
    #[error("attempt to update an unchangeable attribute. key: {0}")]
    Fixed(String),
    /// A value that is not allowed.
    #[error("value is not in set: {allowed}")]
    Value {
        /// What is.
        allowed: String,
    },
    /// Apache has it, we do not yet.
    #[error("{0} is not supported by this broker")]
    NotSupported(String),
}

struct Known {
    name: &'static str,
    changeable: bool,
    values: &'static [&'static str],
    elsewhere: &'static [&'static str],
}

const KNOWN: [Known; 3] = [
    Known {
        name: "queue.type",
        changeable: false,
        values: &["SimpleCQ"],
        elsewhere: &["BatchCQ"],
    },
    Known {
        name: "cleanup.policy",
        changeable: false,
        values: &["DELETE"],
        elsewhere: &["COMPACTION"],
    },
    Known {
        name: "message.type",
        changeable: true,
        values: &["UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "MIXED"],
        elsewhere: &[],
    },
];

/// One asked change: a name with its sign, and a value unless it is a deletion.
pub type Changes = BTreeMap<String, String>;

/// Reads the text of a request; empty text is no change.
///
/// # Errors
/// A sign is missing, or a name comes twice.
pub fn parse(text: &str) -> Result<Changes, AttributeError> {
    let mut changes = Changes::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (key, value) = match part.split_once('=') {
            Some((key, _)) if !key.contains('+') => return Err(AttributeError::Add(key.to_owned())),
            Some((key, value)) => (key, value),
            None if !part.contains('-') => return Err(AttributeError::Delete(part.to_owned())),
            None => (part, ""),
        };
        if changes.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(AttributeError::Twice(key.to_owned()));
        }
    }
    Ok(changes)
}

/// The attributes after the changes; `current` is `None` for a topic that is being made.
///
/// # Errors
/// A change is not possible; nothing is changed then.
pub fn apply(current: Option<&Attributes>, changes: &Changes) -> Result<Attributes, AttributeError> {
    let mut result = current.cloned().unwrap_or_default();
    let mut seen = Vec::new();
    for (key, value) in changes {
        let (sign, name) = split(key)?;
        if seen.contains(&name) {
            return Err(AttributeError::Twice(name.to_owned()));
        }
        seen.push(name);
        match (sign, current) {
            ('+', None) => {
                result.insert(name.to_owned(), checked(name, value, true)?.to_owned());
            }
            (_, None) => return Err(AttributeError::CreateOnlyAdds(name.to_owned())),
            ('+', Some(_)) => {
                result.insert(name.to_owned(), checked(name, value, false)?.to_owned());
            }
            (_, Some(current)) if !current.contains_key(name) => return Err(AttributeError::Absent(name.to_owned())),
            (_, Some(_)) => {
                changeable(known(name)?, false)?;
                result.remove(name);
            }
        }
    }
    Ok(result)
}

fn split(key: &str) -> Result<(char, &str), AttributeError> {
    let sign = key.chars().next().filter(|sign| matches!(sign, '+' | '-'));
    let sign = sign.ok_or(AttributeError::Name)?;
    let name = &key[1..];
    if name.is_empty() || name.contains(['+', '-']) {
        return Err(AttributeError::Name);
    }
    Ok((sign, name))
}

fn known(name: &str) -> Result<&'static Known, AttributeError> {
    if name == "reserve.time" {
        return Err(AttributeError::NotSupported("reserve.time (tiered storage)".to_owned()));
    }
    let known = KNOWN.iter().find(|known| known.name == name);
    known.ok_or_else(|| AttributeError::Unknown(name.to_owned()))
}

fn changeable(known: &Known, create: bool) -> Result<(), AttributeError> {
    if create || known.changeable {
        return Ok(());
    }
    Err(AttributeError::Fixed(known.name.to_owned()))
}

fn checked<'v>(name: &str, value: &'v str, create: bool) -> Result<&'v str, AttributeError> {
    let known = known(name)?;
    changeable(known, create)?;
    if known.values.contains(&value) {
        return Ok(value);
    }
    if known.elsewhere.contains(&value) {
        return Err(AttributeError::NotSupported(format!("{name}={value}")));
    }
    let allowed = format!("[{}]", known.values.join(", "));
    Err(AttributeError::Value { allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(current: Option<&Attributes>, text: &str) -> Result<Attributes, AttributeError> {
        apply(current, &parse(text)?)
    }

    #[test]
    fn a_new_topic_takes_additions_only() {
        let made = changed(None, "+message.type=FIFO,+queue.type=SimpleCQ").unwrap();
        assert_eq!(made["message.type"], "FIFO");
        assert_eq!(
            changed(None, "-message.type"),
            Err(AttributeError::CreateOnlyAdds("message.type".to_owned()))
        );
        assert_eq!(changed(None, ""), Ok(Attributes::new()));
    }

    #[test]
    fn attributes_change_and_go_if_they_may() {
        let current = changed(None, "+message.type=FIFO,+queue.type=SimpleCQ").unwrap();
        assert_eq!(changed(Some(&current), "+message.type=DELAY").unwrap()["message.type"], "DELAY");
        assert!(!changed(Some(&current), "-message.type").unwrap().contains_key("message.type"));
        assert_eq!(
            changed(Some(&current), "-queue.type"),
            Err(AttributeError::Fixed("queue.type".to_owned()))
        );
        assert_eq!(
            changed(Some(&current), "-cleanup.policy"),
            Err(AttributeError::Absent("cleanup.policy".to_owned()))
        );
        assert_eq!(changed(Some(&current), ""), Ok(current));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("message.type=FIFO", "add/alter attribute format is wrong: message.type"),
            ("message", "delete attribute format is wrong: message"),
            ("+message.type=FIFO,+message.type=DELAY", "key duplication: +message.type"),
            ("+a=b", "unsupported key: a"),
            (
                "+message.type=X",
                "value is not in set: [UNSPECIFIED, NORMAL, FIFO, DELAY, TRANSACTION, MIXED]",
            ),
            ("+queue.type=BatchCQ", "queue.type=BatchCQ is not supported by this broker"),
            ("+reserve.time=5", "reserve.time (tiered storage) is not supported by this broker"),
            ("+=b", "kv string format wrong."),
        ] {
            assert_eq!(changed(None, text).unwrap_err().to_string(), expected);
        }
    }
}
