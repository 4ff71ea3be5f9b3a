//! Handlers of assignments and request modes: codes 400, 401 and 402.
//!
//! The caller should send the response to 401 after the change is settled, see [`crate::signal::Signal::when_settled`].

use super::share::Strategy;
use super::{ModeError, Modes, TopicQueues};
use crate::clients::Consumers;
use crate::clients::table::Channel;
use crate::errors::Refusal;
use crate::group::{GroupError, Rule};
use crate::reply::{Answer, Outcome};
use crate::settings::{BrokerSettings, DefaultMode};
use crate::topic::Topics;
use message::names;
use protocol::assignment::{AssignedQueue, Assignment, AssignmentRequest, GroupRequestMode, RequestMode};
use protocol::heartbeat::MessageModel;
use protocol::{Frame, ResponseCode, json};
use std::sync::Arc;

impl From<ModeError> for Refusal {
    fn from(error: ModeError) -> Self {
        Self::system(error.to_string())
    }
}

/// Code 401: sets the request mode of a group on a topic.
///
/// # Errors
/// `SystemError` if the body is malformed, `TopicNotExist`, `SubscriptionGroupNotExist` if the group may not be created either,
/// `NoPermission` for a retry topic.
pub fn set(request: &Frame, modes: &Modes, topics: &Topics, find_group: impl FnOnce(&str) -> Result<Arc<Rule>, GroupError>) -> Outcome {
    let mode: GroupRequestMode = json::read(&request.body)?;
    if mode.topic.starts_with(names::RETRY_PREFIX) {
        let text = "retry topic is not allowed to set mode";
        return Err(Refusal::new(ResponseCode::NoPermission, text));
    }
    if !topics.contains(&mode.topic) {
        let text = format!("topic[{}] not exist", mode.topic);
        return Err(Refusal::new(ResponseCode::TopicNotExist, text));
    }
    // Compat: as in Apache, setting a mode creates the group if groups may be created by their first consumer.
    find_group(&mode.consumer_group).map_err(|error| error.into_refusal(|_| "subscription group does not exist".to_owned()))?;
    tracing::info!(
        topic = mode.topic,
        group = mode.consumer_group,
        mode = mode.mode.name(),
        "request mode set"
    );
    modes.set(mode)?;
    Ok(Answer::ok())
}

/// What assigning queues needs.
pub struct Assigner<'a, C> {
    /// The request modes.
    pub modes: &'a Modes,
    /// The queues of topics.
    pub queues: &'a TopicQueues,
    /// The members of groups.
    pub consumers: &'a Consumers<C>,
    /// For the defaults.
    pub settings: &'a BrokerSettings,
}

/// Code 400: the queues of a member. May block.
///
/// # Errors
/// `SystemError` if the body is malformed.
pub fn assign<C: Channel>(request: &Frame, with: &Assigner<'_, C>) -> Outcome {
    let asked: AssignmentRequest = json::read(&request.body)?;
    let queues = assigned(&asked, with);
    Ok(Answer::body(json::write(&Assignment {
        message_queue_assignments: queues,
    })))
}

/// [`None`] if the member keeps what it has. Compat: as Apache, for a topic that nobody has, a group without members and an unknown strategy.
fn assigned<C: Channel>(asked: &AssignmentRequest, with: &Assigner<'_, C>) -> Option<Vec<AssignedQueue>> {
    let AssignmentRequest { topic, consumer_group, .. } = asked;
    let default = || {
        // Compat: a retry topic is pulled.
        let mode = if names::is_retry(topic) {
            DefaultMode::Pull
        } else {
            with.settings.default_message_request_mode
        };
        match mode {
            DefaultMode::Pull => (RequestMode::Pull, 0),
            DefaultMode::Pop => (RequestMode::Pop, with.settings.default_pop_share_queue_num),
        }
    };
    let set = with.modes.of(topic, consumer_group);
    let (mode, share) = set.map_or_else(default, |set| (set.mode, set.pop_share_queue_num));
    let logical = if mode == RequestMode::Pull {
        with.queues.logical(topic)
    } else {
        None
    };
    let queues = logical.or_else(|| with.queues.of(topic, &with.settings.broker_name))?;
    let queues = if asked.message_model == MessageModel::Broadcasting || !with.settings.server_load_balancer_enable {
        queues
    } else {
        let members = with.consumers.members(consumer_group)?;
        let mut members: Vec<String> = members.iter().map(|member| member.client_id.to_string()).collect();
        members.sort();
        members.dedup();
        let strategy = Strategy::named(&asked.strategy_name)?;
        match mode {
            RequestMode::Pull => strategy.for_pull(&asked.client_id, &members, &queues),
            RequestMode::Pop => strategy.for_pop(&asked.client_id, &members, &queues, share),
        }
    };
    let queue = |message_queue| AssignedQueue { message_queue, mode };
    Some(queues.into_iter().map(queue).collect())
}

/// Code 402: all request modes. Never fails.
pub fn all(modes: &Modes) -> Outcome {
    Ok(Answer::body(json::write(&modes.all().0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Groups;
    use crate::stats::BrokerStats;
    use crate::topic::{Spec, TopicLimits};
    use protocol::RequestCode;

    fn request(topic: &str, group: &str, mode: &str) -> Frame {
        let body = format!(r#"{{"topic":"{topic}","consumerGroup":"{group}","mode":"{mode}","popShareQueueNum":0}}"#);
        Frame::request(RequestCode::SetMessageRequestMode).with_body(body)
    }

    #[test]
    fn a_mode_is_set_for_an_existing_group_and_topic() {
        let limits = TopicLimits { topics: 10, queues: 64 };
        let stats = Arc::new(BrokerStats::new("c", 100));
        let topics = Topics::new(vec![Spec::new("t", 1)], limits, stats, Arc::default(), 0);
        let groups = Groups::new(Default::default(), Arc::default(), 0);
        groups.find_or_create("g", true, 0).unwrap();
        let modes = Modes::new(Arc::default());
        let find = |group: &str| groups.find_or_create(group, false, 1);
        let make = |group: &str| groups.find_or_create(group, true, 1);
        let refused = |topic, group, mode| set(&request(topic, group, mode), &modes, &topics, find).unwrap_err().code;
        assert_eq!(refused("x", "g", "PULL"), ResponseCode::TopicNotExist);
        assert_eq!(refused("t", "x", "PULL"), ResponseCode::SubscriptionGroupNotExist);
        assert_eq!(refused("%RETRY%g", "g", "PULL"), ResponseCode::NoPermission);
        assert_eq!(&all(&modes).unwrap().body[..], br#"{"messageRequestModeMap":{}}"#);
        set(&request("t", "g", "PULL"), &modes, &topics, find).unwrap();
        let expected = br#"{"messageRequestModeMap":{"t":{"g":{"consumerGroup":"g","mode":"PULL","popShareQueueNum":0,"topic":"t"}}}}"#;
        assert_eq!(&all(&modes).unwrap().body[..], expected);
        set(&request("t", "g", "POP"), &modes, &topics, find).unwrap();
        assert_eq!(modes.of("t", "g").unwrap().mode, RequestMode::Pop);
        set(&request("t", "fresh", "PULL"), &modes, &topics, make).unwrap();
        assert!(groups.contains("fresh"), "setting a mode creates the group if that is allowed");
        let refusal = set(&request("t", "bad name", "PULL"), &modes, &topics, make).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::SubscriptionGroupNotExist);
    }
}
