//! From a message of this protocol to what the broker stores: checks with Apache's codes, and the properties.

use super::{BORN_HOST, SHARDING_KEY, TRACE_CONTEXT, is_reserved, kind_of};
use crate::codes::Refused;
use crate::lite::check_lite_topic;
use crate::settings::ProxySettings;
use crate::time::{duration_ms, timestamp_ms};
use crate::v2::{Code, Encoding, Message, MessageType, SystemProperties};
use ::message::hash::java_string_hash;
use ::message::properties::{self, Builder};
use ::message::sys_flag;

/// What messages are checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageRules<'a> {
    pub(crate) settings: &'a ProxySettings,
    /// `maxMessageSize` of the broker.
    pub(crate) max_body_bytes: usize,
    /// Address of the client.
    pub(crate) peer: &'a str,
    pub(crate) now_ms: i64,
}

/// A message that passed the checks.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) kind: MessageType,
    pub(crate) properties: Vec<u8>,
    pub(crate) sys_flag: i32,
    pub(crate) born_ms: i64,
    pub(crate) reconsume_times: i32,
    /// For messages of one group, or of one lite topic: they go to the queue of that hash.
    pub(crate) group_hash: Option<i32>,
}

impl Incoming {
    /// # Errors
    /// What is wrong with the message.
    pub(crate) fn of(message: &Message, topic: &str, rules: MessageRules<'_>) -> Result<Self, Refused> {
        let none = SystemProperties::default();
        let system = message.system_properties.as_ref().unwrap_or(&none);
        let settings = rules.settings;
        check_body(&message.body, rules)?;
        check_own(message, system, settings)?;
        if system.message_id.trim().is_empty() {
            return Err(Refused::new(Code::IllegalMessageId, "message id cannot be empty"));
        }
        let group = system.message_group.as_deref().filter(|group| !group.is_empty());
        if let Some(group) = group {
            check_group(group, settings.max_message_group_size)?;
        }
        let lite = system.lite_topic.as_deref().filter(|lite| !lite.is_empty());
        if let Some(lite) = lite {
            check_lite_topic(lite, settings.max_lite_topic_size)?;
        }
        let mut builder = Builder::new();
        for (name, value) in &message.user_properties {
            builder = builder.with(name, value);
        }
        builder = builder.with(properties::UNIQ_KEY, &system.message_id);
        if let Some(tag) = system.tag.as_deref().filter(|tag| !tag.is_empty()) {
            builder = builder.with(properties::TAGS, tag);
        }
        if !system.keys.is_empty() {
            builder = builder.with(properties::KEYS, &system.keys.join(" "));
        }
        let is_transaction = system.message_type() == MessageType::Transaction;
        if is_transaction {
            builder = builder.with(properties::TRANSACTION_PREPARED, "true");
            if let Some(wait) = &system.orphaned_transaction_recovery_duration {
                let seconds = duration_ms(wait) / 1_000;
                check_recovery(seconds, settings)?;
                builder = builder.with(properties::CHECK_IMMUNITY_SECONDS, &seconds.to_string());
            }
        }
        let due_ms = system.delivery_timestamp.as_ref().map(timestamp_ms);
        if let Some(due_ms) = due_ms {
            check_delay(due_ms.saturating_sub(rules.now_ms), settings)?;
            builder = builder.with(properties::TIMER_DELIVER_MS, &due_ms.to_string());
        }
        if let Some(priority) = system.priority {
            builder = builder.with(properties::PRIORITY, &priority.to_string());
        }
        if let Some(group) = group {
            builder = builder.with(SHARDING_KEY, group);
        }
        if let Some(lite) = lite {
            builder = builder.with(properties::LITE_TOPIC, lite);
        }
        builder = builder.with(properties::PRODUCER_GROUP, topic);
        if let Some(trace) = system.trace_context.as_deref().filter(|trace| !trace.is_empty()) {
            builder = builder.with(TRACE_CONTEXT, trace);
        }
        let host = Some(system.born_host.as_str()).filter(|host| !host.trim().is_empty());
        builder = builder.with(BORN_HOST, host.unwrap_or(rules.peer));
        let born_ms = system.born_timestamp.as_ref().map(timestamp_ms);
        if let Some(born_ms) = born_ms {
            builder = builder.with(properties::BORN_TIMESTAMP, &born_ms.to_string());
        }
        Ok(Self {
            kind: kind_of(is_transaction, due_ms.is_some(), system),
            properties: builder.build(),
            sys_flag: flags(system, is_transaction),
            born_ms: born_ms.unwrap_or(rules.now_ms),
            reconsume_times: system.delivery_attempt.unwrap_or(0).max(0),
            group_hash: group.or(lite).map(java_string_hash),
        })
    }
}

fn flags(system: &SystemProperties, is_transaction: bool) -> i32 {
    let compressed = if system.body_encoding() == Encoding::Gzip {
        sys_flag::COMPRESSED
    } else {
        0
    };
    let prepared = if is_transaction { sys_flag::TRANSACTION_PREPARED } else { 0 };
    compressed | prepared
}

fn check_body(body: &[u8], rules: MessageRules<'_>) -> Result<(), Refused> {
    if body.is_empty() && rules.settings.enable_message_body_empty_check {
        return Err(Refused::new(Code::MessageBodyEmpty, "message body cannot be empty"));
    }
    if body.len() > rules.max_body_bytes {
        let text = format!(
            "message body cannot exceed the max {} (maxMessageSize); it has {} bytes",
            rules.max_body_bytes,
            body.len()
        );
        return Err(Refused::new(Code::MessageBodyTooLarge, text));
    }
    Ok(())
}

/// Properties, tag and keys of the sender.
fn check_own(message: &Message, system: &SystemProperties, settings: &ProxySettings) -> Result<(), Refused> {
    let own = &message.user_properties;
    if own.len() > settings.user_property_max_num {
        let text = format!(
            "too many user properties, max is {} (userPropertyMaxNum)",
            settings.user_property_max_num
        );
        return Err(Refused::new(Code::MessagePropertiesTooLarge, text));
    }
    for (name, value) in own {
        let illegal = |text: String| Err(Refused::new(Code::IllegalMessagePropertyKey, text));
        if is_reserved(name) {
            return illegal(format!("property is used by system: {name}; choose another name"));
        }
        if has_control(name) {
            return illegal("the key of property cannot contain control character".to_owned());
        }
        if has_control(value) {
            return illegal(format!("the value of property {name} cannot contain control character"));
        }
    }
    let tag = system.tag.as_deref().unwrap_or("");
    check_text(tag, "tag", Code::IllegalMessageTag)?;
    if tag.contains('|') {
        return Err(Refused::new(Code::IllegalMessageTag, "tag cannot contain '|'"));
    }
    for key in &system.keys {
        check_text(key, "key", Code::IllegalMessageKey)?;
    }
    let pairs: usize = own.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bytes = pairs + tag.len() + system.keys.iter().map(String::len).sum::<usize>();
    if bytes > settings.max_user_property_size {
        let text = format!(
            "the total size of user property is too large, max is {} (maxUserPropertySize); they have {bytes} bytes",
            settings.max_user_property_size
        );
        return Err(Refused::new(Code::MessagePropertiesTooLarge, text));
    }
    Ok(())
}

/// An empty text is none.
fn check_text(text: &str, what: &str, code: Code) -> Result<(), Refused> {
    if text.is_empty() {
        return Ok(());
    }
    if text.trim().is_empty() {
        return Err(Refused::new(code, format!("{what} cannot be the char sequence of whitespace")));
    }
    if has_control(text) {
        return Err(Refused::new(code, format!("{what} cannot contain control character")));
    }
    Ok(())
}

fn check_group(group: &str, max: usize) -> Result<(), Refused> {
    check_text(group, "message group", Code::IllegalMessageGroup)?;
    if max > 0 && group.len() >= max {
        let text = format!("message group exceed the max size {max} (maxMessageGroupSize)");
        return Err(Refused::new(Code::IllegalMessageGroup, text));
    }
    Ok(())
}

fn check_recovery(seconds: i64, settings: &ProxySettings) -> Result<(), Refused> {
    let max = settings.max_transaction_recovery.as_secs() as i64;
    if max > 0 && seconds > max {
        let text = format!("the max transaction recovery time of message is too large, max is {max} s (maxTransactionRecoverySecond)");
        return Err(Refused::new(Code::BadRequest, text));
    }
    Ok(())
}

fn check_delay(left_ms: i64, settings: &ProxySettings) -> Result<(), Refused> {
    let max = settings.max_delay_time.as_millis() as i64;
    if max > 0 && left_ms > max {
        let text = format!("the max delay time of message is too large, max is {max} ms (maxDelayTimeMills)");
        return Err(Refused::new(Code::IllegalDeliveryTime, text));
    }
    Ok(())
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::to_timestamp;
    use std::collections::BTreeMap;

    fn message(change: impl FnOnce(&mut Message, &mut SystemProperties)) -> Result<Incoming, Code> {
        let mut system = SystemProperties {
            message_id: "id".to_owned(),
            born_timestamp: Some(to_timestamp(5)),
            ..SystemProperties::default()
        };
        let mut message = Message {
            body: "x".into(),
            ..Message::default()
        };
        change(&mut message, &mut system);
        message.system_properties = Some(system);
        let rules = MessageRules {
            settings: &ProxySettings::default(),
            max_body_bytes: 100,
            peer: "1.2.3.4:5",
            now_ms: 1_000,
        };
        Incoming::of(&message, "t", rules).map_err(|refused| refused.code)
    }

    fn property(incoming: &Incoming, name: &str) -> String {
        properties::text(&incoming.properties, name).unwrap_or_default().into_owned()
    }

    #[test]
    fn what_is_wrong_with_a_message_has_a_code_of_its_own() {
        let code = |change: fn(&mut Message, &mut SystemProperties)| message(change).map(|_| ()).unwrap_err();
        assert_eq!(code(|m, _| m.body = "".into()), Code::MessageBodyEmpty);
        assert_eq!(code(|m, _| m.body = vec![0; 101].into()), Code::MessageBodyTooLarge);
        assert_eq!(code(|_, s| s.message_id = " ".to_owned()), Code::IllegalMessageId);
        assert_eq!(code(|_, s| s.tag = Some("a|b".to_owned())), Code::IllegalMessageTag);
        assert_eq!(code(|_, s| s.tag = Some(" ".to_owned())), Code::IllegalMessageTag);
        assert_eq!(code(|_, s| s.keys = vec!["\u{1}".to_owned()]), Code::IllegalMessageKey);
        assert_eq!(code(|_, s| s.message_group = Some(" ".to_owned())), Code::IllegalMessageGroup);
        assert_eq!(code(|_, s| s.message_group = Some("g".repeat(64))), Code::IllegalMessageGroup);
        assert_eq!(code(|_, s| s.lite_topic = Some("a b".to_owned())), Code::IllegalLiteTopic);
        assert_eq!(
            code(|_, s| s.delivery_timestamp = Some(to_timestamp(86_401_001))),
            Code::IllegalDeliveryTime
        );
        let pair = |m: &mut Message, name: &str, value: &str| {
            m.user_properties.insert(name.to_owned(), value.to_owned());
        };
        let own = |name: &str, value: &str| message(|m, _| pair(m, name, value)).map(|_| ()).unwrap_err();
        assert_eq!(own("KEYS", "x"), Code::IllegalMessagePropertyKey);
        assert_eq!(own("a\u{2}", "x"), Code::IllegalMessagePropertyKey);
        assert_eq!(own("a", "\u{1}"), Code::IllegalMessagePropertyKey);
        assert_eq!(own("a", &"x".repeat(17_000)), Code::MessagePropertiesTooLarge);
        let many: BTreeMap<_, _> = (0..129).map(|n| (n.to_string(), String::new())).collect();
        assert_eq!(
            message(|m, _| m.user_properties = many).map(|_| ()).unwrap_err(),
            Code::MessagePropertiesTooLarge
        );
    }

    #[test]
    fn a_message_has_one_type() {
        let kind = |change: fn(&mut SystemProperties)| message(|_, s| change(s)).unwrap().kind;
        assert_eq!(kind(|_| {}), MessageType::Normal);
        assert_eq!(kind(|s| s.message_group = Some("g".to_owned())), MessageType::Fifo);
        assert_eq!(kind(|s| s.delivery_timestamp = Some(to_timestamp(9))), MessageType::Delay);
        assert_eq!(kind(|s| s.priority = Some(3)), MessageType::Priority);
        assert_eq!(kind(|s| s.set_message_type(MessageType::Transaction)), MessageType::Transaction);
    }

    #[test]
    fn properties_are_those_of_the_remoting_protocol() {
        let incoming = message(|m, s| {
            m.user_properties.insert("own".to_owned(), "v".to_owned());
            s.tag = Some("a".to_owned());
            s.keys = vec!["k".to_owned(), "l".to_owned()];
            s.message_group = Some("g".to_owned());
            s.set_body_encoding(Encoding::Gzip);
        });
        let incoming = incoming.unwrap();
        let expected = [
            ("own", "v"),
            ("UNIQ_KEY", "id"),
            ("TAGS", "a"),
            ("KEYS", "k l"),
            ("__SHARDINGKEY", "g"),
            ("PGROUP", "t"),
            ("__BORNHOST", "1.2.3.4:5"),
            ("BORN_TIMESTAMP", "5"),
        ];
        for (name, value) in expected {
            assert_eq!(property(&incoming, name), value, "{name}");
        }
        assert_eq!((incoming.sys_flag, incoming.born_ms), (sys_flag::COMPRESSED, 5));
        assert_eq!(incoming.group_hash, Some(java_string_hash("g")));
    }
}
