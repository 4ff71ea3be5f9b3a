//! Codes 25 and 26: the broker's settings in properties format.
//!
//! An update is applied completely or not at all, and saved in the store for the next start; the operator's file is never written.
//! If a value counts as another one, or a key has no effect here, the response is success with a remark.

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

/// Code 25: changes settings. `apply` gets the changes, to update copies elsewhere. Blocks on disk I/O.
///
/// # Errors
/// `NoPermission` (16) if a key is unknown or fixed while running, `InvalidParameter` or `SystemError` if a value or the text is
/// invalid.
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

/// Keys of Apache's broker whose defaults depend on the machine. They have no effect here, like those in `given.txt`.
fn machine_dependent_keys(settings: &BrokerSettings) -> String {
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

/// Code 26: all settings, with the keys of Apache's broker. Keys without effect have the value that was set, or one that matches
/// this broker. Never fails.
pub fn all(settings: &Live<BrokerSettings>) -> Outcome {
    let version = String::from_utf8(json::write(&DataVersion::default())).unwrap_or_default();
    let text = settings.text() + &machine_dependent_keys(&settings.current());
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
    fn settings_are_changed_and_returned() {
        let (settings, topics) = (settings(), topics());
        assert_eq!(
            changed(&settings, &topics, "maxMessageSize=1024\nbrokerPermission=4\n"),
            Ok(vec!["brokerPermission", "maxMessageSize"])
        );
        assert_eq!(settings.current().max_message_size, 1024);
        assert_eq!(topics.version().counter, 1, "the broker's permission is registered");
        let text = String::from_utf8(all(&settings).unwrap().body.to_vec()).unwrap();
        assert!(text.contains("maxMessageSize=1024"), "{text}");
    }

    #[test]
    fn every_key_of_apaches_broker_is_returned() {
        let settings = settings();
        let text = String::from_utf8(all(&settings).unwrap().body.to_vec()).unwrap();
        let pairs: std::collections::BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
        assert_eq!(pairs.len(), text.lines().count(), "each key on one line");
        for key in ["sendMessageThreadPoolNums", "clientCallbackExecutorThreads", "messageIndexSafe"] {
            assert!(pairs.contains_key(key), "{key}");
        }
        for (key, value) in [
            ("aclEnable", "false"),
            ("slaveReadEnable", "false"),
            ("useTLS", "false"),
            ("timerWheelEnable", "true"),
            ("storeType", "default"),
            ("maxMessageSize", "4194304"),
        ] {
            assert_eq!(pairs[key], value, "{key}");
        }
    }

    #[test]
    fn keys_without_effect_are_reported_and_returned() {
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
    fn keys_of_files_programs_and_hosts_are_never_changed_by_requests() {
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
    fn keys_that_are_fixed_while_running_are_refused() {
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
