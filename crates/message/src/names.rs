//! Names of topics and groups: which are allowed, which belong to the system, how retry topics are called.

/// Template whose queues and permission an auto-created topic inherits.
pub const AUTO_CREATE_TOPIC: &str = "TBW102";
/// Keeps delayed messages, one queue a level.
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// Of Apache's benchmark.
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";
/// Prepared transactional messages.
pub const TRANS_HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// Marks of finished transactional messages.
pub const TRANS_OP_HALF_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Transactions that were checked too often.
pub const TRANS_CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// Keeps messages with an exact time of delivery.
pub const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";
/// Topics begin so that keep what becomes of deliveries by POP; the name of the cluster follows.
pub const REVIVE_TOPIC_PREFIX: &str = "rmq_sys_REVIVE_LOG_";
/// Message trace.
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
/// Of Apache's self test.
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
/// Notes of moved offsets.
pub const OFFSET_MOVED_EVENT_TOPIC: &str = "OFFSET_MOVED_EVENT";
/// Of Apache's RocksDB offset store.
pub const CHECKPOINT_TOPIC: &str = "CHECKPOINT_TOPIC";
/// System topics may also begin so.
pub const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
/// A group's retry topic begins so.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// A group's dead letter topic begins so.
pub const DLQ_PREFIX: &str = "%DLQ%";
/// System groups begin so.
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// Most characters of a topic.
pub const MAX_TOPIC_LEN: usize = 127;
/// Most characters of a retry or dead letter topic.
pub const MAX_RETRY_TOPIC_LEN: usize = 255;
/// Most characters of a group.
pub const MAX_GROUP_LEN: usize = 120;

/// Topics that are the system's on every broker; a broker adds those named after itself and its cluster.
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

const NOT_SENDABLE: [&str; 6] = [
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

/// Why a name is refused; the text is for the client, in Apache's words where users search for them.
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
    /// Longer than its kind may be.
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
/// Blank, an illegal character, or too long.
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
/// Blank, an illegal character, or too long.
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

/// Whether a topic is the system's.
#[must_use]
pub fn is_system_topic(name: &str) -> bool {
    name.starts_with(SYSTEM_TOPIC_PREFIX) || SYSTEM_TOPICS.contains(&name)
}

/// Whether users may send to a topic; the system's own writers may always.
#[must_use]
pub fn is_sendable(name: &str) -> bool {
    !NOT_SENDABLE.contains(&name)
}

/// Whether a group is the system's.
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
    name.starts_with("%LMQ%")
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
    fn system_topics_are_known() {
        assert!(is_system_topic("rmq_sys_anything"));
        assert!(is_system_topic("TBW102"));
        assert!(is_sendable("TBW102"));
        assert!(!is_sendable("SELF_TEST_TOPIC"));
    }
}
