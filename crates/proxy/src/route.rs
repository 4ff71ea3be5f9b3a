//! Routes and assignments: which queues a topic has, and which of them a consumer reads.
//!
//! Clients get the endpoints back that they told: the address under which they reach this proxy, through whatever is in between.

use crate::backend::{Queues, Topic};
use crate::codes::{self, Refused};
use crate::lite::bound_topic;
use crate::message::{UNSPECIFIED, accepted};
use crate::service::Messaging;
use crate::v2::{
    Assignment, Broker, Code, Endpoints, MessageQueue, Permission, QueryAssignmentRequest, QueryAssignmentResponse, QueryRouteRequest,
    QueryRouteResponse, Resource,
};
use ::message::names;
use broker::topic::{is_readable, is_writable};

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
    pub(crate) async fn route(&self, request: &QueryRouteRequest) -> QueryRouteResponse {
        match self.routed(request).await {
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

    async fn routed(&self, request: &QueryRouteRequest) -> Result<Vec<MessageQueue>, Refused> {
        let name = name_of(request.topic.as_ref());
        check_topic(name)?;
        let endpoints = check_endpoints(request.endpoints.as_ref())?;
        let (known, types) = match self.backend.topic(name).await? {
            Some(topic) => (self.backend.queues(&topic), accepted(topic.message_type())),
            // The first message creates it, with its type.
            None => (self.backend.queues_of_new_topic(name).await?, accepted(Some("MIXED"))),
        };
        let types: Vec<i32> = types.iter().map(|kind| (*kind).into()).collect();
        let mut all = Vec::new();
        for queues in &known {
            let broker = broker_at(&queues.broker, endpoints);
            all.extend((0..).zip(permissions(queues)).map(|(id, permission)| MessageQueue {
                topic: request.topic.clone(),
                id,
                permission: permission.into(),
                broker: Some(broker.clone()),
                accept_message_types: types.clone(),
            }));
        }
        Ok(all)
    }

    pub(crate) async fn assignment(&self, request: &QueryAssignmentRequest) -> QueryAssignmentResponse {
        match self.assigned(request).await {
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
    async fn assigned(&self, request: &QueryAssignmentRequest) -> Result<Vec<Assignment>, Refused> {
        let (name, group) = (name_of(request.topic.as_ref()), name_of(request.group.as_ref()));
        check_topic(name)?;
        check_group(group)?;
        let endpoints = check_endpoints(request.endpoints.as_ref())?;
        let topic = self.topic_to_read(name).await?;
        let known = self.backend.queues(&topic);
        let rule = self.backend.group(group).await?.unwrap_or_default();
        let in_order = rule.consume_message_orderly && bound_topic(&rule).is_none();
        let mut all = Vec::new();
        for queues in known.iter().filter(|queues| is_readable(queues.perm) && queues.read > 0) {
            let broker = broker_at(&queues.broker, endpoints);
            let ids = if in_order { 0..queues.read } else { -1..0 };
            all.extend(ids.map(|id| Assignment {
                message_queue: Some(MessageQueue {
                    topic: request.topic.clone(),
                    id,
                    permission: permission(queues.perm).into(),
                    broker: Some(broker.clone()),
                    accept_message_types: Vec::new(),
                }),
            }));
        }
        if all.is_empty() {
            let of = |queues: &Queues| format!("{} queues to read and permission {} on {}", queues.read, queues.perm, queues.broker);
            let known: Vec<String> = known.iter().map(of).collect();
            let text = format!("no readable queue: topic {name} has {}", known.join(", "));
            return Err(Refused::new(Code::Forbidden, text));
        }
        Ok(all)
    }

    /// The topic that a consumer reads, created if that is allowed.
    pub(crate) async fn topic_to_read(&self, name: &str) -> Result<Topic, Refused> {
        self.backend.topic_or_create(name, Some(UNSPECIFIED)).await
    }
}

/// The broker under the address that the client told.
fn broker_at(name: &str, endpoints: &Endpoints) -> Broker {
    Broker {
        name: name.to_owned(),
        id: 0,
        endpoints: Some(endpoints.clone()),
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
fn permissions(queues: &Queues) -> Vec<Permission> {
    let (readers, writers) = (queues.read.max(0), queues.write.max(0));
    let of = |id| match permission(queues.perm) {
        Permission::ReadWrite if id >= writers => Permission::Read,
        Permission::ReadWrite if id >= readers => Permission::Write,
        Permission::Read if id >= readers => Permission::None,
        Permission::Write if id >= writers => Permission::None,
        both => both,
    };
    (0..readers.max(writers)).map(of).collect()
}
