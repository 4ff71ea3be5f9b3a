//! The topics that a broker creates at its start, with Apache's queue counts and permissions.

use super::{DEFAULT_QUEUES, PERM_INHERIT, PERM_READ, PERM_WRITE, Spec};
use crate::settings::BrokerSettings;
use message::names;

/// Queues of the topic for delayed messages: one per delay level.
const SCHEDULE_QUEUES: i32 = 18;
/// Queues of the topic of Apache's benchmark.
const BENCHMARK_QUEUES: i32 = 1024;
/// Topic of Apache's timer messages.
const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";

/// All built-in topics for these settings.
#[must_use]
pub fn topics(settings: &BrokerSettings) -> Vec<Spec> {
    let (cluster, broker) = (&settings.broker_cluster_name, &settings.broker_name);
    let inherit = |name: &str, queues, open: bool| Spec {
        perm: PERM_INHERIT | if open { PERM_READ | PERM_WRITE } else { 0 },
        ..Spec::new(name, queues)
    };
    let mut specs = vec![
        Spec::new(names::SELF_TEST_TOPIC, 1),
        Spec::new(names::BENCHMARK_TOPIC, BENCHMARK_QUEUES),
        inherit(cluster, DEFAULT_QUEUES, settings.cluster_topic_enable),
        inherit(broker, 1, settings.broker_topic_enable),
        Spec::new(names::OFFSET_MOVED_EVENT_TOPIC, 1),
        Spec::new(names::SCHEDULE_TOPIC, SCHEDULE_QUEUES),
        Spec::new(&format!("{cluster}_REPLY_TOPIC"), 1),
        Spec::new(&format!("rmq_sys_REVIVE_LOG_{cluster}"), settings.revive_queue_num as i32),
        inherit(&format!("rmq_sys_SYNC_BROKER_MEMBER_{broker}"), 1, false),
        Spec::new(names::TRANS_HALF_TOPIC, 1),
        Spec::new(names::TRANS_OP_HALF_TOPIC, 1),
        Spec::new(TIMER_TOPIC, 1),
    ];
    if settings.auto_create_topic_enable {
        let queues = i32::try_from(settings.default_topic_queue_nums).unwrap_or(i32::MAX);
        specs.push(inherit(names::AUTO_CREATE_TOPIC, queues, true));
    }
    if settings.trace_topic_enable {
        specs.push(Spec::new(&settings.msg_trace_topic_name, 1));
    }
    specs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_topics_are_those_of_apaches_broker() {
        let settings = BrokerSettings {
            broker_name: "broker-a".to_owned(),
            trace_topic_enable: true,
            ..BrokerSettings::default()
        };
        let mut made: Vec<_> = topics(&settings)
            .iter()
            .map(|spec| format!("{} {} {}", spec.name, spec.write_queues, spec.perm))
            .collect();
        made.sort();
        let expected = [
            "BenchmarkTest 1024 6",
            "DefaultCluster 16 7",
            "DefaultCluster_REPLY_TOPIC 1 6",
            "OFFSET_MOVED_EVENT 1 6",
            "RMQ_SYS_TRACE_TOPIC 1 6",
            "RMQ_SYS_TRANS_HALF_TOPIC 1 6",
            "RMQ_SYS_TRANS_OP_HALF_TOPIC 1 6",
            "SCHEDULE_TOPIC_XXXX 18 6",
            "SELF_TEST_TOPIC 1 6",
            "TBW102 8 7",
            "broker-a 1 7",
            "rmq_sys_REVIVE_LOG_DefaultCluster 8 6",
            "rmq_sys_SYNC_BROKER_MEMBER_broker-a 1 1",
            "rmq_sys_wheel_timer 1 6",
        ];
        assert_eq!(made, expected);
    }
}
