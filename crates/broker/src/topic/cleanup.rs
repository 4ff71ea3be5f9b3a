//! What topics ask of the store beside the retention of the log, from their attributes: compaction, and limits of time and bytes.
//!
//! One log is shared by all topics, and its files are deleted as a whole after `fileReservedTime`. So a topic can have its messages
//! hidden earlier, but none can keep them longer, unless it is compacted.

use super::{Spec, Topics};
use crate::attributes::{self, Changes, RESERVE_TIME, RETENTION_BYTES};
use crate::errors::Refusal;
use crate::settings::BrokerSettings;
use std::sync::Arc;
use store::{TopicRule, TopicRules};

const HOUR_MS: i64 = 3_600_000;

/// What all topics ask for.
pub(crate) struct Rules(pub(crate) Arc<Topics>);

impl TopicRules for Rules {
    fn topics(&self) -> Vec<(String, TopicRule)> {
        let (_, topics) = self.0.all();
        let rules = topics.iter().filter(|topic| !topic.attributes.is_empty());
        rules.filter_map(|topic| Some((topic.name.to_string(), rule_of(topic)?))).collect()
    }
}

/// What a topic asks for; `None` if nothing.
fn rule_of(topic: &Spec) -> Option<TopicRule> {
    let rule = TopicRule {
        is_compacted: topic.is_compacted(),
        reserved_ms: attributes::limit(&topic.attributes, RESERVE_TIME).map(|hours| hours.saturating_mul(HOUR_MS)),
        max_bytes: attributes::limit(&topic.attributes, RETENTION_BYTES),
    };
    (rule != TopicRule::default()).then_some(rule)
}

/// Refuses a limit that cannot be kept: a time longer than the log's, or any limit of a compacted topic.
pub(super) fn refuse_impossible(changes: &Changes, topic: &str, is_compacted: bool, settings: &BrokerSettings) -> Result<(), Refusal> {
    let set = |name: &str| {
        changes
            .get(&format!("+{name}"))
            .and_then(|value| value.parse().ok())
            .filter(|limit: &i64| *limit > 0)
    };
    let (hours, bytes) = (set(RESERVE_TIME), set(RETENTION_BYTES));
    if is_compacted && (hours.is_some() || bytes.is_some()) {
        return Err(Refusal::invalid(format!(
            "topic[{topic}] is compacted (cleanup.policy=COMPACTION), so it cannot have {RESERVE_TIME} or {RETENTION_BYTES}: the last \
             message of each key is kept, whatever its age"
        )));
    }
    let kept_hours = (settings.file_reserved_time.as_secs() / 3_600) as i64;
    match hours {
        Some(hours) if hours > kept_hours => Err(Refusal::invalid(format!(
            "topic[{topic}] cannot have {RESERVE_TIME}={hours}: all topics share one log, which is kept for {kept_hours} hours \
             (fileReservedTime); choose fewer hours, or a larger fileReservedTime"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;

    fn spec(attributes: &[(&str, &str)]) -> Spec {
        let attributes: Attributes = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Spec {
            attributes,
            ..Spec::new("t", 1)
        }
    }

    #[test]
    fn rule_is_what_the_attributes_say() {
        assert_eq!(rule_of(&spec(&[])), None);
        assert_eq!(
            rule_of(&spec(&[
                ("message.type", "FIFO"),
                ("reserve.time", "-1"),
                ("cleanup.policy", "DELETE")
            ])),
            None
        );
        let rule = rule_of(&spec(&[("reserve.time", "2"), ("retention.bytes", "1000")])).unwrap();
        assert_eq!(
            (rule.reserved_ms, rule.max_bytes, rule.is_compacted),
            (Some(7_200_000), Some(1_000), false)
        );
        assert!(rule_of(&spec(&[("cleanup.policy", "COMPACTION")])).unwrap().is_compacted);
    }

    #[test]
    fn limits_that_cannot_be_kept_are_refused_with_the_reason() {
        let settings = BrokerSettings::default();
        let refused = |text: &str, is_compacted| {
            let changes = attributes::parse(text).unwrap();
            refuse_impossible(&changes, "t", is_compacted, &settings)
                .err()
                .map(|refusal| refusal.text)
        };
        assert_eq!(refused("+reserve.time=72,+retention.bytes=1", false), None);
        assert_eq!(refused("+reserve.time=-1", true), None);
        let longer = refused("+reserve.time=73", false).unwrap();
        assert!(longer.contains("kept for 72 hours (fileReservedTime)"), "{longer}");
        let compacted = refused("+retention.bytes=1", true).unwrap();
        assert!(compacted.contains("cleanup.policy=COMPACTION"), "{compacted}");
    }
}
