//! Attributes of topics and groups, given as changes: `+message.type=FIFO,-reserve.time`.
//!
//! Known are Apache's of 5.5.0. A value that would have an effect in Apache's broker and has none here is refused with its name; what
//! needs a feature whose requests are refused anyway (light topics, priorities, tiered storage) is kept for that day.
//!
//! | Attribute of topics | Values | May change |
//! |---|---|---|
//! | `queue.type` | `SimpleCQ`; not here: `BatchCQ` | no |
//! | `cleanup.policy` | `DELETE`; not here: `COMPACTION` | no |
//! | `message.type` | `UNSPECIFIED`, `NORMAL`, `FIFO`, `DELAY`, `TRANSACTION`; `MIXED` if `enableMixedMessageType`; not here: `PRIORITY`, `LITE` | yes |
//! | `reserve.time` | -1 and more; kept, of tiered storage | yes |
//! | `lite.topic.expiration` | -1 to 43200; kept, of light topics | yes |
//!
//! | Attribute of groups, all kept without effect | Values | May change |
//! |---|---|---|
//! | `priority.factor` | 0 to 100 | yes |
//! | `lite.bind.topic`, `lite.sub.wildcard` | any text | yes |
//! | `lite.sub.model` | `Shared`, `Exclusive` | yes |
//! | `lite.sub.reset.offset.exclusive`, `lite.sub.reset.offset.unsubscribe` | `true`, `false` | yes |
//! | `lite.sub.client.quota` | -1 and more | yes |
//! | `lite.sub.client.max.event.cnt` | 10 and more | yes |

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

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
    /// A value that is not one of those.
    #[error("value is not in set: {allowed}")]
    Value {
        /// What is.
        allowed: String,
    },
    /// A number that is none, or not between the bounds.
    #[error("value is not in range({min}, {max})")]
    Range {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
    },
    /// Neither true nor false.
    #[error("boolean attribute format is wrong.")]
    Boolean,
    /// Apache has it, we do not yet.
    #[error("{0} is not supported by this broker")]
    NotSupported(String),
}

/// One known attribute.
#[derive(Debug)]
pub struct Known {
    name: &'static str,
    changeable: bool,
    takes: Takes,
}

#[derive(Debug)]
enum Takes {
    /// Some values; others need what is not here.
    OneOf {
        values: &'static [&'static str],
        elsewhere: &'static [&'static str],
    },
    Number(RangeInclusive<i64>),
    Boolean,
    Text,
}

/// Name of the attribute that says which kind of messages a topic has.
pub const MESSAGE_TYPE: &str = "message.type";
/// Value of [`MESSAGE_TYPE`]: any kind.
pub const MIXED: &str = "MIXED";

/// Those of topics.
pub const OF_TOPICS: &[Known] = &[
    Known {
        name: "queue.type",
        changeable: false,
        takes: Takes::OneOf {
            values: &["SimpleCQ"],
            elsewhere: &["BatchCQ"],
        },
    },
    Known {
        name: "cleanup.policy",
        changeable: false,
        takes: Takes::OneOf {
            values: &["DELETE"],
            elsewhere: &["COMPACTION"],
        },
    },
    Known {
        name: MESSAGE_TYPE,
        changeable: true,
        takes: Takes::OneOf {
            values: &["UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", MIXED],
            elsewhere: &["PRIORITY", "LITE"],
        },
    },
    number("reserve.time", -1..=i64::MAX),
    number("lite.topic.expiration", -1..=30 * 24 * 60),
];

/// Those of groups.
pub const OF_GROUPS: &[Known] = &[
    number("priority.factor", 0..=100),
    text("lite.bind.topic"),
    text("lite.sub.wildcard"),
    Known {
        name: "lite.sub.model",
        changeable: true,
        takes: Takes::OneOf {
            values: &["Shared", "Exclusive"],
            elsewhere: &[],
        },
    },
    boolean("lite.sub.reset.offset.exclusive"),
    boolean("lite.sub.reset.offset.unsubscribe"),
    number("lite.sub.client.quota", -1..=i64::MAX),
    number("lite.sub.client.max.event.cnt", 10..=i64::MAX),
];

const fn number(name: &'static str, range: RangeInclusive<i64>) -> Known {
    Known {
        name,
        changeable: true,
        takes: Takes::Number(range),
    }
}

const fn boolean(name: &'static str) -> Known {
    Known {
        name,
        changeable: true,
        takes: Takes::Boolean,
    }
}

const fn text(name: &'static str) -> Known {
    Known {
        name,
        changeable: true,
        takes: Takes::Text,
    }
}

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

/// The attributes after the changes, of those that are known; `current` is `None` for a topic or group that is being made.
///
/// # Errors
/// A change is not possible; nothing is changed then.
pub fn apply(all: &[Known], current: Option<&Attributes>, changes: &Changes) -> Result<Attributes, AttributeError> {
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
                result.insert(name.to_owned(), checked(all, name, value, true)?.to_owned());
            }
            (_, None) => return Err(AttributeError::CreateOnlyAdds(name.to_owned())),
            ('+', Some(_)) => {
                result.insert(name.to_owned(), checked(all, name, value, false)?.to_owned());
            }
            (_, Some(current)) if !current.contains_key(name) => return Err(AttributeError::Absent(name.to_owned())),
            (_, Some(_)) => {
                changeable(known(all, name)?, false)?;
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

fn known<'k>(all: &'k [Known], name: &str) -> Result<&'k Known, AttributeError> {
    let known = all.iter().find(|known| known.name == name);
    known.ok_or_else(|| AttributeError::Unknown(name.to_owned()))
}

fn changeable(known: &Known, create: bool) -> Result<(), AttributeError> {
    if create || known.changeable {
        return Ok(());
    }
    Err(AttributeError::Fixed(known.name.to_owned()))
}

fn checked<'v>(all: &[Known], name: &str, value: &'v str, create: bool) -> Result<&'v str, AttributeError> {
    let known = known(all, name)?;
    changeable(known, create)?;
    known.takes.check(name, value).map(|()| value)
}

impl Takes {
    fn check(&self, name: &str, value: &str) -> Result<(), AttributeError> {
        match self {
            Self::OneOf { values, .. } if values.contains(&value) => Ok(()),
            Self::OneOf { elsewhere, .. } if elsewhere.contains(&value) => Err(AttributeError::NotSupported(format!("{name}={value}"))),
            Self::OneOf { values, .. } => Err(AttributeError::Value {
                allowed: format!("[{}]", values.join(", ")),
            }),
            Self::Number(range) => match value.parse() {
                Ok(number) if range.contains(&number) => Ok(()),
                _ => Err(AttributeError::Range {
                    min: *range.start(),
                    max: *range.end(),
                }),
            },
            Self::Boolean if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") => Ok(()),
            Self::Boolean => Err(AttributeError::Boolean),
            Self::Text => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(current: Option<&Attributes>, text: &str) -> Result<Attributes, AttributeError> {
        apply(OF_TOPICS, current, &parse(text)?)
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
            (
                "+cleanup.policy=COMPACTION",
                "cleanup.policy=COMPACTION is not supported by this broker",
            ),
            ("+message.type=LITE", "message.type=LITE is not supported by this broker"),
            ("+message.type=PRIORITY", "message.type=PRIORITY is not supported by this broker"),
            ("+reserve.time=x", "value is not in range(-1, 9223372036854775807)"),
            ("+lite.topic.expiration=43201", "value is not in range(-1, 43200)"),
            ("+=b", "kv string format wrong."),
        ] {
            assert_eq!(changed(None, text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn every_attribute_of_apaches_is_known() {
        for text in [
            "+reserve.time=72",
            "+reserve.time=-1",
            "+lite.topic.expiration=60",
            "+message.type=MIXED",
        ] {
            assert_eq!(changed(None, text).unwrap().len(), 1, "{text}");
        }
        let of_group = |text: &str| apply(OF_GROUPS, None, &parse(text)?);
        for text in [
            "+priority.factor=50",
            "+lite.bind.topic=t",
            "+lite.sub.wildcard=*",
            "+lite.sub.model=Exclusive",
            "+lite.sub.reset.offset.exclusive=TRUE",
            "+lite.sub.reset.offset.unsubscribe=false",
            "+lite.sub.client.quota=-1",
            "+lite.sub.client.max.event.cnt=10",
        ] {
            assert_eq!(of_group(text).unwrap().len(), 1, "{text}");
        }
        for (text, expected) in [
            ("+priority.factor=101", "value is not in range(0, 100)"),
            ("+lite.sub.model=shared", "value is not in set: [Shared, Exclusive]"),
            ("+lite.sub.reset.offset.exclusive=1", "boolean attribute format is wrong."),
            ("+message.type=FIFO", "unsupported key: message.type"),
        ] {
            assert_eq!(of_group(text).unwrap_err().to_string(), expected);
        }
    }
}
