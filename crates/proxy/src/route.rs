//! Routes and assignments: which queues a topic has, and which of them a consumer reads.
//!
//! Clients get the endpoints back that they told: the address under which they reach this proxy, through whatever is in between.

use crate::codes::{self, Refused};
use crate::lite::bound_topic;
use crate::message::{UNSPECIFIED, accepted};
use crate::service::Messaging;
use crate::time::now_ms;
use crate::v2::{
    Assignment, Broker, Code, Endpoints, MessageQueue, MessageType, Permission, QueryAssignmentRequest, QueryAssignmentResponse,
    QueryRouteRequest, QueryRouteResponse, Resource,
};
use ::message::names;
use broker::attributes::MESSAGE_TYPE;
use broker::topic::{Topic, is_readable, is_writable};
use std::sync::Arc;

/// The name of a topic or group. Compat: its namespace does not count, as in Apache's proxy.
pub(crate) fn name_of(resource: Option<&Resource>) -> &str {
    resource.map_or("", |resource| &resource.name)
}

/// # Errors
/// `IllegalTopic`: no topic can have this name, or it is RocketMQ's own.
pub(crate) fn check_topic(name: &str) -> Result<(), Refused> {
    names::check_topic(name).map_err(|error| Refused::new(Code::IllegalTopic, error.to_string()))?;
    if names::is_system_topic(name) {
        return Err(Refused::new(Code::IllegalTopic, format!("cannot access system topic {name}")));
    }
    Ok(())
}

/// # Errors
/// `IllegalConsumerGroup`: no group can have this name, or it is RocketMQ's own.
pub(crate) fn check_group(name: &str) -> Result<(), Refused> {
    names::check_group(name).map_err(|error| Refused::new(Code::IllegalConsumerGroup, error.to_string()))?;
    if names::is_system_group(name) || names::is_built_in_group(name) {
        return Err(Refused::new(
            Code::IllegalConsumerGroup,
            format!("cannot use system consumer group {name}"),
        ));
    }
    Ok(())
}

pub(crate) fn no_topic(name: &str) -> Refused {
    let text = format!("topic {name} does not exist: create it with mqadmin updateTopic, or set autoCreateTopicEnable=true");
    Refused::new(Code::TopicNotFound, text)
}

/// # Errors
/// `IllegalAccessPoint`: they have no address.
fn check_endpoints(endpoints: Option<&Endpoints>) -> Result<&Endpoints, Refused> {
    endpoints.filter(|endpoints| !endpoints.addresses.is_empty()).ok_or_else(|| {
        Refused::new(
            Code::IllegalAccessPoint,
            "the endpoints of the request are empty: set the addresses of the proxy",
        )
    })
}

impl Messaging {
    pub(crate) fn route(&self, request: &QueryRouteRequest) -> QueryRouteResponse {
        match self.routed(request) {
            Ok(message_queues) => QueryRouteResponse {
                status: Some(codes::ok()),
                message_queues,
            },
            Err(refused) => QueryRouteResponse {
                status: Some(refused.into()),
                message_queues: Vec::new(),
            },
        }
    }

    fn routed(&self, request: &QueryRouteRequest) -> Result<Vec<MessageQueue>, Refused> {
        let name = name_of(request.topic.as_ref());
        check_topic(name)?;
        let broker = self.broker_at(check_endpoints(request.endpoints.as_ref())?);
        let topic = self.broker.core.topics.find(name);
        let queue = |id, permission: Permission, types: &[MessageType]| MessageQueue {
            topic: request.topic.clone(),
            id,
            permission: permission.into(),
            broker: Some(broker.clone()),
            accept_message_types: types.iter().map(|kind| (*kind).into()).collect(),
        };
        let Some(topic) = topic else {
            // The first message creates it, with its type.
            let queues = self.queues_of_new_topic(name)?;
            let types = accepted(Some("MIXED"));
            return Ok((0..queues).map(|id| queue(id, Permission::ReadWrite, &types)).collect());
        };
        let types = accepted(topic.attributes.get(MESSAGE_TYPE).map(String::as_str));
        let permissions = permissions(&topic);
        Ok((0..)
            .zip(permissions)
            .map(|(id, permission)| queue(id, permission, &types))
            .collect())
    }

    /// The number of queues that a topic gets with its first message.
    fn queues_of_new_topic(&self, name: &str) -> Result<i32, Refused> {
        let core = &self.broker.core;
        let settings = core.settings.current();
        let template = core
            .topics
            .find(names::AUTO_CREATE_TOPIC)
            .filter(|_| settings.auto_create_topic_enable);
        let Some(template) = template else {
            return Err(no_topic(name));
        };
        Ok(i32::try_from(settings.default_topic_queue_nums)
            .unwrap_or(i32::MAX)
            .min(template.write_queues)
            .max(1))
    }

    fn broker_at(&self, endpoints: &Endpoints) -> Broker {
        Broker {
            name: self.broker.core.settings.current().broker_name.clone(),
            id: 0,
            endpoints: Some(endpoints.clone()),
        }
    }

    pub(crate) fn assignment(&self, request: &QueryAssignmentRequest) -> QueryAssignmentResponse {
        match self.assigned(request) {
            Ok(assignments) => QueryAssignmentResponse {
                status: Some(codes::ok()),
                assignments,
            },
            Err(refused) => QueryAssignmentResponse {
                status: Some(refused.into()),
                assignments: Vec::new(),
            },
        }
    }

    /// Compat: as Apache's proxy, a consumer in order gets each queue, any other one "any queue of the broker".
    fn assigned(&self, request: &QueryAssignmentRequest) -> Result<Vec<Assignment>, Refused> {
        let (name, group) = (name_of(request.topic.as_ref()), name_of(request.group.as_ref()));
        check_topic(name)?;
        check_group(group)?;
        let broker = self.broker_at(check_endpoints(request.endpoints.as_ref())?);
        let topic = self.topic_to_read(name)?;
        if !is_readable(topic.perm) || topic.read_queues <= 0 {
            let text = format!(
                "no readable queue: topic {name} has {} queues to read and permission {}",
                topic.read_queues, topic.perm
            );
            return Err(Refused::new(Code::Forbidden, text));
        }
        let rule = self.broker.core.groups.find(group).unwrap_or_default();
        let in_order = rule.consume_message_orderly && bound_topic(&rule).is_none();
        let ids = if in_order { 0..topic.read_queues } else { -1..0 };
        let assignment = |id| Assignment {
            message_queue: Some(MessageQueue {
                topic: request.topic.clone(),
                id,
                permission: permission(topic.perm).into(),
                broker: Some(broker.clone()),
                accept_message_types: Vec::new(),
            }),
        };
        Ok(ids.map(assignment).collect())
    }

    /// The topic that a consumer reads, created if that is allowed.
    pub(crate) fn topic_to_read(&self, name: &str) -> Result<Arc<Topic>, Refused> {
        self.topic_or_create(name, Some(UNSPECIFIED), now_ms())
    }
}

fn permission(perm: i32) -> Permission {
    match (is_readable(perm), is_writable(perm)) {
        (true, true) => Permission::ReadWrite,
        (true, false) => Permission::Read,
        (false, true) => Permission::Write,
        (false, false) => Permission::None,
    }
}

/// What clients may do with each queue. A queue may be one to read or to write only, if the numbers differ.
fn permissions(topic: &Topic) -> Vec<Permission> {
    let (readers, writers) = (topic.read_queues.max(0), topic.write_queues.max(0));
    let of = |id| match permission(topic.perm) {
        Permission::ReadWrite if id >= writers => Permission::Read,
        Permission::ReadWrite if id >= readers => Permission::Write,
        Permission::Read if id >= readers => Permission::None,
        Permission::Write if id >= writers => Permission::None,
        both => both,
    };
    (0..readers.max(writers)).map(of).collect()
}
