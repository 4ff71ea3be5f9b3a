//! Messages of an Apache broker's store directory that this version does not deliver.
//!
//! A broker that takes over such a directory keeps these messages. Their number is an upper bound from the queue offsets: it
//! includes messages that Apache's broker handled after it last saved its progress.

use message::names;
use store::Store;

use crate::offset::Offsets;

/// A kind of such messages.
struct Kind {
    /// Whether a topic contains them.
    is_kept_in: fn(&str) -> bool,
    /// The group whose offsets are Apache's progress; `None` if there is none.
    group: Option<&'static str>,
    /// Description for the log.
    what: &'static str,
}

const KINDS: [Kind; 1] = [Kind {
    is_kept_in: |topic| topic.starts_with(names::REVIVE_TOPIC_PREFIX),
    group: Some("CID_RMQ_SYS_REVIVE_GROUP"),
    what: "POP checkpoints: messages that were delivered by POP and not acknowledged are not delivered again",
}];

/// A queue: topic, queue id, min and max offset.
pub(crate) type Queue<'a> = (&'a str, i32, i64, i64);

/// The undelivered messages of these queues by kind, with their number. `committed` returns the committed offset of topic, group
/// and queue id.
pub(crate) fn find<'a>(
    queues: impl Iterator<Item = Queue<'a>>,
    committed: impl Fn(&str, &str, i32) -> Option<i64>,
) -> Vec<(&'static str, i64)> {
    let mut messages = [0; KINDS.len()];
    for (topic, queue_id, min, max) in queues {
        let kinds = KINDS.iter().zip(&mut messages);
        for (kind, messages) in kinds.filter(|(kind, _)| (kind.is_kept_in)(topic)) {
            let done = kind.group.and_then(|group| committed(topic, group, queue_id));
            *messages += (max - done.unwrap_or(min).max(min)).max(0);
        }
    }
    let found = KINDS.iter().zip(messages).filter(|(_, messages)| *messages > 0);
    found.map(|(kind, messages)| (kind.what, messages)).collect()
}

/// Logs one warning for each kind in the store.
pub(crate) fn report(store: &Store, offsets: &Offsets) {
    let topics = store.topics();
    let queues: Vec<_> = topics.iter().flat_map(|topic| store.queues_of(topic)).collect();
    let queues = queues
        .iter()
        .map(|queue| (queue.topic(), queue.queue_id(), queue.min().0, queue.max().0));
    for (what, messages) in find(queues, |topic, group, queue_id| offsets.committed(topic, group, queue_id)) {
        tracing::warn!(
            at_most = messages,
            "the store has messages of Apache's broker that this version does not deliver: {what} (docs/moving.md)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_from_the_progress_of_apaches_broker() {
        let queues: [Queue<'_>; 5] = [
            ("orders", 0, 0, 1_000),
            ("rmq_sys_REVIVE_LOG_DefaultCluster", 0, 0, 8),
            ("rmq_sys_REVIVE_LOG_DefaultCluster", 1, 3, 9),
            ("rmq_sys_REVIVE_LOG_DefaultCluster", 2, 3, 9),
            ("rmq_sys_REVIVE_LOG_DefaultCluster", 3, 0, 0),
        ];
        let committed = |topic: &str, group: &str, queue_id: i32| match (topic, group, queue_id) {
            ("rmq_sys_REVIVE_LOG_DefaultCluster", "CID_RMQ_SYS_REVIVE_GROUP", 1) => Some(1),
            ("rmq_sys_REVIVE_LOG_DefaultCluster", "CID_RMQ_SYS_REVIVE_GROUP", 2) => Some(12),
            _ => None,
        };
        let counted: Vec<i64> = find(queues.into_iter(), committed).into_iter().map(|(_, n)| n).collect();
        assert_eq!(counted, [14]);
        assert_eq!(find([("orders", 0, 0, 5)].into_iter(), |_, _, _| None), []);
    }
}
