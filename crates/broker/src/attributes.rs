//! Attributes of topics and groups. Requests contain changes: `+message.type=FIFO,-reserve.time`.
//!
//! All attributes of Apache 5.5.0 are known. A value that would have an effect in Apache's broker and has none here is refused by
//! name. Attributes of features whose requests are refused anyway (tiered storage) are stored without effect.
//!
//! | Attribute of topics | Values | May change |
//! |---|---|---|
//! | `queue.type` | `SimpleCQ`; refused: `BatchCQ` | no |
//! | `cleanup.policy` | `DELETE`, `COMPACTION` | no |
//! | `message.type` | `UNSPECIFIED`, `NORMAL`, `FIFO`, `DELAY`, `TRANSACTION`, `PRIORITY` (pops read its queues by priority), `LITE` (has lite topics); `MIXED` if `enableMixedMessageType` | yes |
//! | `reserve.time` | hours that messages are visible, at most fileReservedTime; -1 and 0 are no limit. Apache's means tiered storage | yes |
//! | `retention.bytes` | bytes of each queue that are visible, the newest first; -1 and 0 are no limit. Ours | yes |
//! | `lite.topic.expiration` | -1 to 43200: minutes without a message after which a lite topic is deleted; -1 and 0 for never | yes |
//! | `dedup.window.seconds` | 0 (off) to 604800; ours, see [`DedupRule`] | yes |
//! | `dedup.by` | `UNIQ_KEY`, `KEYS`; ours | yes |
//!
//! | Attribute of groups | Values | May change |
//! |---|---|---|
//! | `priority.factor` | 0 to 100 (100): percentage of pops of a `PRIORITY` topic that read its queues by priority | yes |
//! | `lite.bind.topic` | the topic whose lite topics the group subscribes to | yes |
//! | `lite.sub.wildcard` | any text: the group's clients get messages of all lite topics | yes |
//! | `lite.sub.model` | `Shared`, `Exclusive` (one client subscribes to a lite topic: the last) | yes |
//! | `lite.sub.reset.offset.exclusive`, `lite.sub.reset.offset.unsubscribe` | `true`, `false` | yes |
//! | `lite.sub.client.quota` | -1 and more (2000): lite topics of one client | yes |
//! | `lite.sub.client.max.event.cnt` | 10 and more; stored only: no client holds events here | yes |

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Attributes by name.
pub type Attributes = BTreeMap<String, String>;

/// Why attributes cannot be changed. The text is the response's remark, in Apache's words where there are any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// `name=value` without a plus.
    #[error("add/alter attribute format is wrong: {0}")]
    Add(String),
    /// A name without a value and without a minus.
    #[error("delete attribute format is wrong: {0}")]
    Delete(String),
    /// A name occurs twice.
    #[error("key duplication: {0}")]
    Twice(String),
    /// A sign within the name, or an empty name.
    #[error("kv string format wrong.")]
    Name,
    /// A deletion for a new topic or group.
    #[error("only add attribute is supported while creating topic. key: {0}")]
    CreateOnlyAdds(String),
    /// Deletion of an attribute that is not set.
    #[error("attempt to delete a nonexistent key: {0}")]
    Absent(String),
    /// Unknown attribute.
    #[error("unsupported key: {0}")]
    Unknown(String),
    /// The attribute can only be set on creation.
    #[error("attempt to update an unchangeable attribute. key: {0}")]
    Fixed(String),
    /// The value is not one of the allowed ones.
    #[error("value is not in set: {allowed}")]
    Value {
        /// The allowed values.
        allowed: String,
    },
    /// The value is not a number, or out of range.
    #[error("value is not in range({min}, {max})")]
    Range {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// The value is neither true nor false.
    #[error("boolean attribute format is wrong.")]
    Boolean,
    /// The attribute makes no sense for this topic.
    #[error("{attribute} cannot be set on topic[{topic}]: {why}")]
    NotOfTopic {
        /// The attribute.
        attribute: &'static str,
        /// The topic.
        topic: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// Apache supports the value, this broker does not.
    #[error("{0} is not supported by this broker")]
    NotSupported(String),
}

/// A known attribute.
#[derive(Debug)]
pub struct Attribute {
    name: &'static str,
    changeable: bool,
    value_type: ValueType,
}

#[derive(Debug)]
enum ValueType {
    /// One of `values`; those in `unsupported` need a feature that this broker does not have.
    OneOf {
        values: &'static [&'static str],
        unsupported: &'static [&'static str],
    },
    Number(RangeInclusive<i64>),
    Boolean,
    Text,
}

/// Attribute with the type of a topic's messages.
pub const MESSAGE_TYPE: &str = "message.type";
/// Value of [`MESSAGE_TYPE`]: the priority of a message names its queue, and pops read the queues by priority.
pub const PRIORITY: &str = "PRIORITY";
/// Value of [`MESSAGE_TYPE`]: the topic has lite topics.
pub const LITE: &str = "LITE";
/// Value of [`MESSAGE_TYPE`]: any type.
pub const MIXED: &str = "MIXED";

/// Attribute with what becomes of a topic's old messages.
pub const CLEANUP_POLICY: &str = "cleanup.policy";
/// Value of [`CLEANUP_POLICY`]: the last message of each key is kept.
pub const COMPACTION: &str = "COMPACTION";
/// Attribute with the hours that a topic's messages are visible.
pub const RESERVE_TIME: &str = "reserve.time";
/// Attribute with the bytes of each of a topic's queues that are visible.
pub const RETENTION_BYTES: &str = "retention.bytes";

/// The limit that an attribute sets; `None` if it is not set, or is no limit.
#[must_use]
pub fn limit(attributes: &Attributes, name: &str) -> Option<i64> {
    attributes.get(name)?.parse().ok().filter(|limit| *limit > 0)
}

/// Attribute with the time in which a topic recognises repeated sends, in seconds; 0 for off. Not Apache's.
pub const DEDUP_WINDOW: &str = "dedup.window.seconds";
/// Attribute with the property by which they are recognised. Not Apache's.
pub const DEDUP_BY: &str = "dedup.by";
const BY_KEYS: &str = "KEYS";
/// A week: the keys of the window are in memory, and a start reads the topic that far back.
const MAX_DEDUP_WINDOW_SECONDS: i64 = 7 * 24 * 60 * 60;

/// How a topic recognises repeated sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupRule {
    /// For so long after the first send, in milliseconds.
    pub window_ms: i64,
    /// By the whole of KEYS, where a message has it; otherwise by UNIQ_KEY.
    pub by_keys: bool,
}

impl DedupRule {
    /// The rule of a topic with these attributes; `None` if it stores every send.
    #[must_use]
    pub fn of(attributes: &Attributes) -> Option<Self> {
        let seconds: i64 = attributes.get(DEDUP_WINDOW)?.parse().ok()?;
        (1..=MAX_DEDUP_WINDOW_SECONDS).contains(&seconds).then(|| Self {
            window_ms: seconds * 1_000,
            by_keys: attributes.get(DEDUP_BY).is_some_and(|by| by == BY_KEYS),
        })
    }
}

/// Attributes of topics.
pub const OF_TOPICS: &[Attribute] = &[
    Attribute {
        name: "queue.type",
        changeable: false,
        value_type: ValueType::OneOf {
            values: &["SimpleCQ"],
            unsupported: &["BatchCQ"],
        },
    },
    Attribute {
        name: CLEANUP_POLICY,
        changeable: false,
        value_type: ValueType::OneOf {
            values: &["DELETE", COMPACTION],
            unsupported: &[],
        },
    },
    Attribute {
        name: MESSAGE_TYPE,
        changeable: true,
        value_type: ValueType::OneOf {
            values: &["UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", PRIORITY, LITE, MIXED],
            unsupported: &[],
        },
    },
    number(RESERVE_TIME, -1..=i64::MAX),
    number(RETENTION_BYTES, -1..=i64::MAX),
    number(LITE_EXPIRATION, -1..=30 * 24 * 60),
    number(DEDUP_WINDOW, 0..=MAX_DEDUP_WINDOW_SECONDS),
    Attribute {
        name: DEDUP_BY,
        changeable: true,
        value_type: ValueType::OneOf {
            values: &["UNIQ_KEY", BY_KEYS],
            unsupported: &[],
        },
    },
];

/// Attribute of groups with the percentage of their pops of a topic with priorities that read it by priority.
pub const PRIORITY_FACTOR: &str = "priority.factor";
/// Value of [`PRIORITY_FACTOR`] where it is not set.
pub const USUAL_PRIORITY_FACTOR: u32 = 100;

/// Attribute of topics with lite topics: minutes without a message after which one is deleted.
pub const LITE_EXPIRATION: &str = "lite.topic.expiration";
/// Attribute of groups: the topic whose lite topics they subscribe to.
pub const LITE_BIND_TOPIC: &str = "lite.bind.topic";
/// Attribute of groups whose clients get messages of all lite topics; any value.
pub const LITE_WILDCARD: &str = "lite.sub.wildcard";
/// Attribute of groups: how many clients subscribe to one lite topic.
pub const LITE_MODEL: &str = "lite.sub.model";
/// Value of [`LITE_MODEL`]: one, the last.
pub const EXCLUSIVE: &str = "Exclusive";
/// Attribute of exclusive groups: whether the new subscriber begins with the first message.
pub const LITE_RESET_EXCLUSIVE: &str = "lite.sub.reset.offset.exclusive";
/// Attribute of groups: whether who subscribes again begins with the first message.
pub const LITE_RESET_UNSUBSCRIBE: &str = "lite.sub.reset.offset.unsubscribe";
/// Attribute of groups: lite topics of one client; -1 for no limit.
pub const LITE_QUOTA: &str = "lite.sub.client.quota";

/// Value of [`LITE_QUOTA`] where it is not set.
pub const LITE_USUAL_QUOTA: i32 = 2_000;

/// Attributes of groups.
pub const OF_GROUPS: &[Attribute] = &[
    number(PRIORITY_FACTOR, 0..=100),
    text(LITE_BIND_TOPIC),
    text(LITE_WILDCARD),
    Attribute {
        name: LITE_MODEL,
        changeable: true,
        value_type: ValueType::OneOf {
            values: &["Shared", EXCLUSIVE],
            unsupported: &[],
        },
    },
    boolean(LITE_RESET_EXCLUSIVE),
    boolean(LITE_RESET_UNSUBSCRIBE),
    number(LITE_QUOTA, -1..=i64::MAX),
    number("lite.sub.client.max.event.cnt", 10..=i64::MAX),
];

const fn number(name: &'static str, range: RangeInclusive<i64>) -> Attribute {
    Attribute {
        name,
        changeable: true,
        value_type: ValueType::Number(range),
    }
}

const fn boolean(name: &'static str) -> Attribute {
    Attribute {
        name,
        changeable: true,
        value_type: ValueType::Boolean,
    }
}

const fn text(name: &'static str) -> Attribute {
    Attribute {
        name,
        changeable: true,
        value_type: ValueType::Text,
    }
}

/// Requested changes: the name with its sign, and the value; empty for a deletion.
pub type Changes = BTreeMap<String, String>;

/// Parses the text of a request; an empty text has no changes.
///
/// # Errors
/// [`AttributeError`] if a sign is missing or a name occurs twice.
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

/// Applies changes to the `current` attributes, which are `None` for a new topic or group. `all` are the known attributes.
///
/// # Errors
/// [`AttributeError`] for the first change that is not allowed; nothing is changed then.
pub fn apply(all: &[Attribute], current: Option<&Attributes>, changes: &Changes) -> Result<Attributes, AttributeError> {
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
                changeable(find(all, name)?, false)?;
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

fn find<'k>(all: &'k [Attribute], name: &str) -> Result<&'k Attribute, AttributeError> {
    let found = all.iter().find(|attribute| attribute.name == name);
    found.ok_or_else(|| AttributeError::Unknown(name.to_owned()))
}

fn changeable(attribute: &Attribute, create: bool) -> Result<(), AttributeError> {
    if create || attribute.changeable {
        return Ok(());
    }
    Err(AttributeError::Fixed(attribute.name.to_owned()))
}

fn checked<'v>(all: &[Attribute], name: &str, value: &'v str, create: bool) -> Result<&'v str, AttributeError> {
    let attribute = find(all, name)?;
    changeable(attribute, create)?;
    attribute.value_type.check(name, value).map(|()| value)
}

impl ValueType {
    fn check(&self, name: &str, value: &str) -> Result<(), AttributeError> {
        match self {
            Self::OneOf { values, .. } if values.contains(&value) => Ok(()),
            Self::OneOf { unsupported, .. } if unsupported.contains(&value) => Err(AttributeError::NotSupported(format!("{name}={value}"))),
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
    fn a_new_topic_accepts_additions_only() {
        let made = changed(None, "+message.type=FIFO,+queue.type=SimpleCQ").unwrap();
        assert_eq!(made["message.type"], "FIFO");
        assert_eq!(
            changed(None, "-message.type"),
            Err(AttributeError::CreateOnlyAdds("message.type".to_owned()))
        );
        assert_eq!(changed(None, ""), Ok(Attributes::new()));
    }

    #[test]
    fn attributes_are_changed_and_deleted_if_allowed() {
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
    fn error_texts_name_the_attribute() {
        for (text, expected) in [
            ("message.type=FIFO", "add/alter attribute format is wrong: message.type"),
            ("message", "delete attribute format is wrong: message"),
            ("+message.type=FIFO,+message.type=DELAY", "key duplication: +message.type"),
            ("+a=b", "unsupported key: a"),
            (
                "+message.type=X",
                "value is not in set: [UNSPECIFIED, NORMAL, FIFO, DELAY, TRANSACTION, PRIORITY, LITE, MIXED]",
            ),
            ("+queue.type=BatchCQ", "queue.type=BatchCQ is not supported by this broker"),
            ("+cleanup.policy=NONE", "value is not in set: [DELETE, COMPACTION]"),
            ("+retention.bytes=-2", "value is not in range(-1, 9223372036854775807)"),
            ("+reserve.time=x", "value is not in range(-1, 9223372036854775807)"),
            ("+lite.topic.expiration=43201", "value is not in range(-1, 43200)"),
            ("+dedup.window.seconds=604801", "value is not in range(0, 604800)"),
            ("+dedup.window.seconds=-1", "value is not in range(0, 604800)"),
            ("+dedup.by=TAGS", "value is not in set: [UNIQ_KEY, KEYS]"),
            ("+=b", "kv string format wrong."),
        ] {
            assert_eq!(changed(None, text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn limit_is_a_number_above_zero() {
        for (text, expected) in [("72", Some(72)), ("0", None), ("-1", None), ("x", None)] {
            let attributes = Attributes::from([(RESERVE_TIME.to_owned(), text.to_owned())]);
            assert_eq!(limit(&attributes, RESERVE_TIME), expected, "{text}");
        }
        assert_eq!(limit(&Attributes::new(), RESERVE_TIME), None);
    }

    #[test]
    fn a_topic_recognises_repeats_in_a_window_above_zero() {
        let rule = |text: &str| DedupRule::of(&changed(None, text).unwrap());
        assert_eq!(rule(""), None);
        assert_eq!(rule("+dedup.by=KEYS"), None, "without a window it is off");
        assert_eq!(rule("+dedup.window.seconds=0,+dedup.by=KEYS"), None);
        let (window_ms, by_keys) = (60_000, false);
        assert_eq!(rule("+dedup.window.seconds=60"), Some(DedupRule { window_ms, by_keys }));
        let by_keys = true;
        assert_eq!(
            rule("+dedup.window.seconds=60,+dedup.by=KEYS"),
            Some(DedupRule { window_ms, by_keys })
        );
        let edited = Attributes::from([(DEDUP_WINDOW.to_owned(), "many".to_owned())]);
        assert_eq!(DedupRule::of(&edited), None, "a file that somebody edited stops no topic");
    }

    #[test]
    fn every_attribute_of_apache_is_known() {
        for text in [
            "+reserve.time=72",
            "+reserve.time=-1",
            "+retention.bytes=1048576",
            "+cleanup.policy=COMPACTION",
            "+lite.topic.expiration=60",
            "+message.type=MIXED",
            "+message.type=PRIORITY",
            "+message.type=LITE",
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
