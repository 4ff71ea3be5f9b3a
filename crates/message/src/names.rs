//! Names of topics and groups: which are allowed, which are reserved, and the names of retry and dead letter topics.

/// Template topic: an auto-created topic inherits its queues and permission.
pub const AUTO_CREATE_TOPIC: &str = "TBW102";
/// Stores delayed messages, one queue per level.
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// Topic of Apache's benchmark.
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";
/// Prepared transactional messages.
pub const TRANS_HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// Markers of finished transactions (op messages).
pub const TRANS_OP_HALF_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Half messages that were checked too often.
pub const TRANS_CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// Stores messages with an exact delivery time.
pub const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";
/// Prefix of the topics that store checkpoints and acknowledgements of POP; the cluster name follows.
pub const REVIVE_TOPIC_PREFIX: &str = "rmq_sys_REVIVE_LOG_";
/// Message trace.
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
/// Topic of Apache's self test.
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
/// Events of offsets that were out of range.
pub const OFFSET_MOVED_EVENT_TOPIC: &str = "OFFSET_MOVED_EVENT";
/// Topic of Apache's RocksDB offset store.
pub const CHECKPOINT_TOPIC: &str = "CHECKPOINT_TOPIC";
/// Prefix of further system topics.
pub const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
/// Prefix of retry topics; the group follows.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// Prefix of dead letter topics; the group follows.
pub const DLQ_PREFIX: &str = "%DLQ%";
/// Prefix of light queues.
pub const LIGHT_PREFIX: &str = "%LMQ%";
/// Prefix of system groups.
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// Maximum length of a topic name, in characters.
pub const MAX_TOPIC_LEN: usize = 127;
/// Maximum length of a retry or dead letter topic name, in characters.
pub const MAX_RETRY_TOPIC_LEN: usize = 255;
/// Maximum length of a group name, in characters.
pub const MAX_GROUP_LEN: usize = 120;
/// Maximum length of a light queue's name, in bytes.
pub const MAX_LIGHT_LEN: usize = 255;

/// Topics whose messages wait to be delivered to another one.
const WAITING_TOPICS: [&str; 3] = [SCHEDULE_TOPIC, TRANS_HALF_TOPIC, TRANS_OP_HALF_TOPIC];

/// System topics of every broker; a broker adds those named after itself and its cluster.
pub const SYSTEM_TOPICS: [&str; 10] = [
    AUTO_CREATE_TOPIC,
    SCHEDULE_TOPIC,
    BENCHMARK_TOPIC,
    TRANS_HALF_TOPIC,
    TRACE_TOPIC,
    TRANS_OP_HALF_TOPIC,
    TRANS_CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_EVENT_TOPIC,
    CHECKPOINT_TOPIC,
];

/// Compat: Apache's brokers store what is sent to the timer topic, and a message without a time stops their timers.
const NOT_SENDABLE: [&str; 7] = [
    TIMER_TOPIC,
    SCHEDULE_TOPIC,
    TRANS_HALF_TOPIC,
    TRANS_OP_HALF_TOPIC,
    TRANS_CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_EVENT_TOPIC,
];

/// System groups that exist from the start.
pub const BUILT_IN_GROUPS: [&str; 8] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
];

/// Why a name is invalid. The text is for the client and uses Apache's words, which users search for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or blank.
    #[error("The specified {kind} is blank.")]
    Blank {
        /// `topic` or `group`.
        kind: &'static str,
    },
    /// A character outside letters, digits and `%|_-`.
    #[error("The specified {kind}: {name}, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")]
    IllegalCharacter {
        /// `topic` or `group`.
        kind: &'static str,
        /// The name as given.
        name: String,
    },
    /// Longer than a topic or group name may be.
    #[error("The specified {kind}: {name}, is longer than {kind} max length: {max}")]
    TooLong {
        /// `topic` or `group`.
        kind: &'static str,
        /// The name as given.
        name: String,
        /// Most characters allowed.
        max: usize,
    },
}

/// Checks a topic's name.
///
/// # Errors
/// [`NameError`] if the name is blank, has an illegal character, or is too long.
pub fn check_topic(name: &str) -> Result<(), NameError> {
    let max = if is_retry(name) || is_dlq(name) {
        MAX_RETRY_TOPIC_LEN
    } else {
        MAX_TOPIC_LEN
    };
    check("topic", name, max)
}

/// Checks a group's name.
///
/// # Errors
/// [`NameError`] if the name is blank, has an illegal character, or is too long.
pub fn check_group(name: &str) -> Result<(), NameError> {
    check("group", name, MAX_GROUP_LEN)
}

fn check(kind: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Blank { kind });
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'%' | b'|' | b'_' | b'-'))
    {
        return Err(NameError::IllegalCharacter {
            kind,
            name: name.chars().take(max).collect(),
        });
    }
    if name.len() > max {
        return Err(NameError::TooLong {
            kind,
            name: name.to_owned(),
            max,
        });
    }
    Ok(())
}

/// Whether a topic is a system topic.
#[must_use]
pub fn is_system_topic(name: &str) -> bool {
    name.starts_with(SYSTEM_TOPIC_PREFIX) || SYSTEM_TOPICS.contains(&name)
}

/// Whether clients may send to a topic. The broker itself may write to every topic.
#[must_use]
pub fn is_sendable(name: &str) -> bool {
    !NOT_SENDABLE.contains(&name)
}

/// Whether a group is a system group.
#[must_use]
pub fn is_system_group(name: &str) -> bool {
    name.starts_with(SYSTEM_GROUP_PREFIX)
}

/// Whether a group exists from the start.
#[must_use]
pub fn is_built_in_group(name: &str) -> bool {
    BUILT_IN_GROUPS.contains(&name)
}

/// Whether a name is that of a light queue (`%LMQ%…`): a queue of messages of other topics.
#[must_use]
pub fn is_light_queue(name: &str) -> bool {
    name.starts_with(LIGHT_PREFIX)
}

/// Whether a light queue may have this name: a Java broker uses it as the name of a directory.
#[must_use]
pub fn can_be_light_queue(name: &str) -> bool {
    is_light_queue(name)
        && (LIGHT_PREFIX.len() + 1..=MAX_LIGHT_LEN).contains(&name.len())
        && !name.contains(|c: char| c == '/' || c.is_control())
}

/// The light queue of a lite topic.
#[must_use]
pub fn lite_queue(parent: &str, lite: &str) -> String {
    format!("{LIGHT_PREFIX}${parent}${lite}")
}

/// The parent topic and the lite topic that a light queue is of; `None` if it is not one of a lite topic.
#[must_use]
pub fn lite_topic_of(queue: &str) -> Option<(&str, &str)> {
    let (parent, lite) = queue.strip_prefix(LIGHT_PREFIX)?.strip_prefix('$')?.split_once('$')?;
    (!parent.is_empty() && !lite.is_empty() && !lite.contains('$')).then_some((parent, lite))
}

/// Whether messages of a topic may be in light queues, too. Not those that wait to be delivered to another topic: they are put there
/// when they are delivered. Not those that are retried or dead, as in Apache's broker.
#[must_use]
pub fn allows_light_queues(topic: &str) -> bool {
    !is_retry(topic) && !is_dlq(topic) && !topic.starts_with(SYSTEM_TOPIC_PREFIX) && !WAITING_TOPICS.contains(&topic)
}

/// Whether a topic is a retry topic.
#[must_use]
pub fn is_retry(topic: &str) -> bool {
    topic.starts_with(RETRY_PREFIX)
}

/// Whether a topic is a dead letter topic.
#[must_use]
pub fn is_dlq(topic: &str) -> bool {
    topic.starts_with(DLQ_PREFIX)
}

/// A group's retry topic.
#[must_use]
pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// A group's retry topic for messages of a topic that were popped.
#[must_use]
pub fn pop_retry_topic(topic: &str, group: &str) -> String {
    format!("{RETRY_PREFIX}{group}_{topic}")
}

/// The same of version 2, from whose name topic and group can be told.
#[must_use]
pub fn pop_retry_topic_v2(topic: &str, group: &str) -> String {
    format!("{RETRY_PREFIX}{group}+{topic}")
}

/// The topic that a group popped its messages from first: `topic` itself, or that of the retry topic of either version.
#[must_use]
pub fn popped_topic<'a>(topic: &'a str, group: &str) -> &'a str {
    let rest = topic.strip_prefix(RETRY_PREFIX).and_then(|rest| rest.strip_prefix(group));
    let of_version = |separator| rest.and_then(|rest| rest.strip_prefix(separator));
    of_version('+').or_else(|| of_version('_')).unwrap_or(topic)
}

/// A group's dead letter topic.
#[must_use]
pub fn dlq_topic(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_apache_does() {
        assert_eq!(check_topic("orders-EU_1|a%b"), Ok(()));
        assert!(matches!(check_topic("  "), Err(NameError::Blank { .. })));
        assert!(matches!(check_topic("a.b"), Err(NameError::IllegalCharacter { .. })));
        assert!(matches!(check_topic(&"t".repeat(128)), Err(NameError::TooLong { .. })));
        assert_eq!(check_topic(&retry_topic(&"g".repeat(120))), Ok(()));
        assert!(matches!(check_group(&"g".repeat(121)), Err(NameError::TooLong { .. })));
    }

    #[test]
    fn a_pop_retry_topic_tells_its_topic_to_its_group() {
        let (v1, v2) = (pop_retry_topic("a_b", "g_h"), pop_retry_topic_v2("a_b", "g_h"));
        assert_eq!((&*v1, &*v2), ("%RETRY%g_h_a_b", "%RETRY%g_h+a_b"));
        for topic in [&v1, &v2, "a_b"] {
            assert_eq!(popped_topic(topic, "g_h"), "a_b");
        }
        assert_eq!(popped_topic("%RETRY%g_h", "g_h"), "%RETRY%g_h");
    }

    #[test]
    fn a_light_queue_of_a_lite_topic_names_it() {
        assert_eq!(lite_topic_of(&lite_queue("p", "l")), Some(("p", "l")));
        for other in ["%LMQ%", "%LMQ%a", "%LMQ%$p", "%LMQ%$p$", "%LMQ%$$l", "%LMQ%$p$l$m", "p"] {
            assert_eq!(lite_topic_of(other), None, "{other}");
        }
    }

    #[test]
    fn light_queues_have_names_that_a_directory_can_have() {
        assert!(can_be_light_queue("%LMQ%$parent$lite") && can_be_light_queue("%LMQ%设备/".trim_end_matches('/')));
        for bad in ["%LMQ%", "LMQ", "%LMQ%a/b", "%LMQ%a\n", &format!("%LMQ%{}", "x".repeat(251))] {
            assert!(!can_be_light_queue(bad), "{bad}");
        }
        assert!(allows_light_queues("orders") && allows_light_queues("%LMQ%x"));
        for waiting in ["%RETRY%g", "%DLQ%g", SCHEDULE_TOPIC, TRANS_HALF_TOPIC, TIMER_TOPIC] {
            assert!(!allows_light_queues(waiting), "{waiting}");
        }
    }

    #[test]
    fn system_topics_are_known() {
        assert!(is_system_topic("rmq_sys_anything"));
        assert!(is_system_topic("TBW102"));
        assert!(is_sendable("TBW102"));
        assert!(!is_sendable("SELF_TEST_TOPIC") && !is_sendable(TIMER_TOPIC));
    }
}
