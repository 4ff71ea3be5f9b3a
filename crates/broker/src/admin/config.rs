//! Codes 25 and 26: the broker's settings, as properties text.
//!
//! An update is taken whole or not at all, and kept beside the store for the next start; the operator's file is never written. A value
//! that counts as another, and a key that changes nothing here, are answered with success and a remark that says so.

use crate::errors::Refusal;
use crate::reply::{Answer, Outcome};
use crate::settings::BrokerSettings;
use crate::topic::Topics;
use config::{Changed, Live, UpdateRefused};
use protocol::{DataVersion, Frame, ResponseCode, json};

impl From<UpdateRefused> for Refusal {
    fn from(error: UpdateRefused) -> Self {
        match error {
            UpdateRefused::AtStart(_) => Self::new(ResponseCode::NoPermission, format!("Can not update config in black list. {error}")),
            UpdateRefused::Unreadable(_) | UpdateRefused::NotKept(_) => Self::system(error.to_string()),
            UpdateRefused::Unknown { .. } | UpdateRefused::Value(_) => Self::invalid(error.to_string()),
        }
    }
}

/// Code 25: changes settings. `apply` is told what changed, to pass on what others keep a copy of. Waits for the disk.
///
/// # Errors
/// A key is unknown or may not change while running (16), a value is not allowed, or the text is none.
pub fn update(
    request: &Frame,
    settings: &Live<BrokerSettings>,
    topics: &Topics,
    now_ms: i64,
    apply: impl FnOnce(&BrokerSettings, &[Changed]),
) -> Outcome {
    let updated = settings.update(&request.body)?;
    for change in &updated.changed {
        tracing::warn!(key = change.key, from = change.from, to = change.to, "setting changed");
    }
    for note in &updated.notes {
        tracing::warn!("{}", note.text);
    }
    if updated.changed.iter().any(|change| change.key == "brokerPermission") {
        topics.touch(now_ms);
    }
    apply(&settings.current(), &updated.changed);
    let remark = updated.remark();
    Ok(if remark.is_empty() {
        Answer::ok()
    } else {
        Answer::ok().remark(remark)
    })
}

/// Keys of Apache's whose defaults follow from the machine. They change nothing here, as those of `given.txt`.
fn of_the_machine(settings: &BrokerSettings) -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let keys = [
        ("clientCallbackExecutorThreads", processors),
        ("endTransactionThreadPoolNums", 8 + processors * 2),
        ("heartbeatThreadPoolNums", processors.min(32)),
        ("litePullMessageThreadPoolNums", 16 + processors * 2),
        ("processReplyMessageThreadPoolNums", 16 + processors * 2),
        ("pullMessageThreadPoolNums", 16 + processors * 2),
        ("putMessageFutureThreadPoolNums", processors.min(4)),
        ("queryMessageThreadPoolNums", 8 + processors),
        ("sendMessageThreadPoolNums", processors.min(4)),
    ];
    let unset = keys.iter().filter(|(key, _)| settings.others.of(key).is_none());
    unset.map(|(key, value)| format!("{key}={value}\n")).collect()
}

/// Code 26: all settings, with the keys that Apache's broker gives: ours with their values, others with what was set or is true here.
///
/// # Errors
/// None.
pub fn all(settings: &Live<BrokerSettings>) -> Outcome {
    let version = String::from_utf8(json::write(&DataVersion::default())).unwrap_or_default();
    let text = settings.text() + &of_the_machine(&settings.current());
    Ok(Answer::body(text).with("version", &version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::BrokerStats;
    use crate::topic::TopicLimits;
    use config::{Change, Declared};
    use protocol::RequestCode;
    use std::sync::Arc;

    fn topics() -> Topics {
        let limits = TopicLimits { topics: 10, queues: 64 };
        Topics::new(vec![], limits, Arc::new(BrokerStats::new("c", 100)), Arc::default(), 0)
    }

    fn settings() -> Live<BrokerSettings> {
        Live::new(BrokerSettings {
            broker_name: "b".to_owned(),
            ..BrokerSettings::default()
        })
    }

    fn changed(settings: &Live<BrokerSettings>, topics: &Topics, text: &str) -> Result<Vec<&'static str>, Refusal> {
        let mut frame = Frame::request(RequestCode::UpdateBrokerConfig);
        frame.body = text.as_bytes().to_vec().into();
        let mut keys = Vec::new();
        update(&frame, settings, topics, 1, |_, changes| {
            keys.extend(changes.iter().map(|change| change.key))
        })?;
        Ok(keys)
    }

    #[test]
    fn settings_change_and_are_told() {
        let (settings, topics) = (settings(), topics());
        assert_eq!(
            changed(&settings, &topics, "maxMessageSize=1024\nbrokerPermission=4\n"),
            Ok(vec!["brokerPermission", "maxMessageSize"])
        );
        assert_eq!(settings.current().max_message_size, 1024);
        assert_eq!(topics.version().counter, 1, "what the broker permits is registered");
        let text = String::from_utf8(all(&settings).unwrap().body.to_vec()).unwrap();
        assert!(text.contains("maxMessageSize=1024"), "{text}");
    }

    #[test]
    fn every_key_that_apaches_broker_gives_is_given() {
        let settings = settings();
        let text = String::from_utf8(all(&settings).unwrap().body.to_vec()).unwrap();
        let pairs: std::collections::BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
        assert_eq!(pairs.len(), text.lines().count(), "each once, a line each");
        for key in ["sendMessageThreadPoolNums", "clientCallbackExecutorThreads", "messageIndexSafe"] {
            assert!(pairs.contains_key(key), "{key}");
        }
        for (key, value) in [
            ("aclEnable", "false"),
            ("slaveReadEnable", "false"),
            ("useTLS", "false"),
            ("timerWheelEnable", "false"),
            ("storeType", "default"),
            ("maxMessageSize", "4194304"),
        ] {
            assert_eq!(pairs[key], value, "{key}");
        }
    }

    #[test]
    fn what_changes_nothing_is_told_and_read_back() {
        let (settings, topics) = (settings(), topics());
        let mut frame = Frame::request(RequestCode::UpdateBrokerConfig);
        frame.body = "sendMessageThreadPoolNums=64\ndiskMaxUsedSpaceRatio=99\n".into();
        let answer = update(&frame, &settings, &topics, 1, |_, _| {}).unwrap();
        let remark = answer.remark.unwrap();
        assert!(remark.contains("sendMessageThreadPoolNums has no effect here"), "{remark}");
        assert!(remark.contains("diskMaxUsedSpaceRatio=99 counts as 95"), "{remark}");
        let text = String::from_utf8(all(&settings).unwrap().body.to_vec()).unwrap();
        for line in ["sendMessageThreadPoolNums=64\n", "diskMaxUsedSpaceRatio=95\n"] {
            assert_eq!(text.matches(line).count(), 1, "{line}");
        }
        frame.body = "maxMessageSize=1024\n".into();
        assert_eq!(update(&frame, &settings, &topics, 1, |_, _| {}).unwrap().remark, None);
    }

    #[test]
    fn what_names_files_programs_or_hosts_is_never_changed_over_the_wire() {
        let (settings, topics) = (settings(), topics());
        let before = settings.text();
        let refused = |key: &str, value: &str| {
            let refusal = changed(&settings, &topics, &format!("maxMessageSize=1\n{key}={value}\n")).unwrap_err();
            assert_eq!(refusal.code, ResponseCode::NoPermission, "{key}: {}", refusal.text);
        };
        for key in config::NEVER_OVER_THE_WIRE {
            refused(key, "/tmp/x");
        }
        for key in BrokerSettings::keys() {
            let kind = (key.kind)();
            if ["path", "address", "host"].iter().any(|place| kind.contains(place)) || key.name.ends_with("Port") {
                assert_eq!(key.change, Change::AtStart, "{}", key.name);
                refused(key.name, "1.2.3.4");
            }
        }
        for key in [
            "storePathRootDir",
            "storePathCommitLog",
            "namesrvAddr",
            "brokerIP1",
            "listenPort",
            "brokerName",
        ] {
            refused(key, "127.0.0.1:1");
        }
        assert_eq!(settings.text(), before);
    }

    #[test]
    fn what_may_not_change_is_refused_with_its_code() {
        let (settings, topics) = (settings(), topics());
        let refusal = changed(&settings, &topics, "maxMessageSize=1\nlistenPort=1234\n").unwrap_err();
        assert_eq!(refusal.code, ResponseCode::NoPermission);
        assert!(
            refusal.text.starts_with("Can not update config in black list. listenPort"),
            "{}",
            refusal.text
        );
        assert_eq!(settings.current().max_message_size, 4 << 20);
        let refusal = changed(&settings, &topics, "brokerConfigPath=/tmp/x").unwrap_err();
        assert_eq!(refusal.code, ResponseCode::NoPermission);
        let refusal = changed(&settings, &topics, "maxMessageSise=1\n").unwrap_err();
        assert!(refusal.text.contains("did you mean maxMessageSize"), "{}", refusal.text);
        assert_eq!(
            changed(&settings, &topics, "maxMessageSize=x\n").unwrap_err().code,
            ResponseCode::InvalidParameter
        );
    }
}
