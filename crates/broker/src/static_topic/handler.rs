//! Handler of code 513: creates or changes a static topic on this broker.

use crate::attributes;
use crate::clock::now_ms;
use crate::errors::Refusal;
use crate::reply::{Answer, Outcome};
use crate::settings::BrokerSettings;
use crate::topic::handler::{check_name, spec_of};
use crate::topic::{StaticUpdate, TopicError, Topics};
use protocol::static_topic::QueueMappingDetail;
use protocol::topic::CreateTopicHeader;
use protocol::{Frame, ResponseCode, json};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a change waits for sends that began before it. They only wait for the log.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Creates or changes the topic and its mapping. Waits until no send of the old mapping can be appended any more: the tool reads the
/// end of a moved queue next. May block.
///
/// # Errors
/// `SystemError` if a field or the body is malformed or the mapping is not accepted; `InvalidParameter` for an invalid or system name
/// or too many queues; `SystemBusy` if sends take too long: repeat the request.
pub fn update(request: &Frame, topics: &Topics, settings: &BrokerSettings) -> Outcome {
    let header = CreateTopicHeader::decode(&request.ext)?;
    check_name(header.topic, topics, settings)?;
    let update = StaticUpdate {
        spec: spec_of(&header)?,
        changes: attributes::parse(header.attributes.unwrap_or_default()).map_err(TopicError::from)?,
        mapping: json::read::<QueueMappingDetail>(&request.body)?,
        broker: &settings.broker_name,
        force: header.force,
    };
    let replaced = topics.update_static(update, now_ms())?;
    let began = Instant::now();
    while replaced.as_ref().is_some_and(|old| old.is_sent_to()) {
        if began.elapsed() > MAX_WAIT {
            let text = format!(
                "the mapping of topic {} has changed, but sends to its former queues are not stored yet",
                header.topic
            );
            return Err(Refusal::new(ResponseCode::SystemBusy, text));
        }
        sleep(Duration::from_millis(1));
    }
    Ok(Answer::ok())
}
