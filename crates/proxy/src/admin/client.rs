//! Consumers that are connected: who they are, and what they tell of themselves.

use super::{MAX_NAME_BYTES, Work, checked, group_of, resource, topic_of};
use crate::codes::{self, Refused};
use crate::v2::settings::PubSub;
use crate::v2::{
    ClientInfo, Code, ConsumeStatus, ConsumerRunningInfo, FilterExpression, FilterType, GetConsumerRunningInfoRequest,
    GetConsumerRunningInfoResponse, ListConsumerConnectionRequest, ListConsumerConnectionResponse, MessageModel, MessageQueue,
    MessageQueueItem, PrintThreadStackTraceRequest, PrintThreadStackTraceResponse, ProcessQueueInfo, Settings, SubscriptionEntry,
};
use ::admin::clients::{self, is_no_consumer_connected};
use ::admin::lite;
use protocol::diagnose::{ConsumeSpeed, ProcessQueue, RunningInfo};
use protocol::heartbeat::{self, SQL92};
use protocol::stats::{Connection, ConsumerConnection};
use protocol::version;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

impl Work {
    /// The consumers of a group; `None` if none is connected.
    ///
    /// # Errors
    /// A broker does not answer.
    pub(super) async fn members(&self, group: &str) -> Result<Option<ConsumerConnection>, Refused> {
        match clients::consumers(self.cluster(), group, None).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_no_consumer_connected(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The settings that a client of this protocol and this process told.
    pub(super) fn settings_of(&self, client_id: &str) -> Option<Arc<Settings>> {
        self.messaging.clients.find(client_id)?.settings().map(|told| told.settings)
    }

    pub(super) fn client_info(&self, member: &Connection, model: MessageModel) -> ClientInfo {
        let settings = self.settings_of(&member.client_id);
        let agent = settings.as_ref().and_then(|settings| settings.user_agent.as_ref());
        let told = |text: fn(&crate::v2::Ua) -> &str| agent.map(text).filter(|text| !text.is_empty()).map(str::to_owned);
        ClientInfo {
            client_id: member.client_id.clone(),
            version: told(|agent| &agent.version).unwrap_or_else(|| version::name(member.version)),
            language: member.language.clone(),
            // Ids of clients begin with their host, or its address.
            hostname: told(|agent| &agent.hostname).unwrap_or_else(|| member.client_id.split('@').next().unwrap_or_default().to_owned()),
            egress_ip: ip_of(&member.client_addr),
            message_model: model.into(),
        }
    }

    /// A topic or lite topic leaves out those that do not subscribe to it.
    pub(super) async fn consumers(&self, told: ListConsumerConnectionRequest) -> Result<ListConsumerConnectionResponse, Refused> {
        let group = group_of(told.group.as_ref())?;
        let topic = told.topic.as_ref().map(|topic| topic_of(Some(topic))).transpose()?;
        let lite = told.lite_topic.as_deref().filter(|lite| !lite.is_empty());
        let subscribers = match (lite, topic) {
            (Some(lite), Some(parent)) => Some(self.lite_subscribers(parent, lite, group).await?),
            (Some(_), None) => {
                let text = "liteTopic needs topic, the parent topic that it is part of";
                return Err(Refused::new(Code::BadRequest, text));
            }
            (None, _) => None,
        };
        let Some(members) = self.members(group).await? else {
            return Err(no_member(group));
        };
        let model = model_of(&members);
        let subscribes = |member: &&Connection| match (&subscribers, topic) {
            // `*`: all members of the group.
            (Some(subscribers), _) => subscribers.contains(&member.client_id) || subscribers.contains("*"),
            (None, Some(topic)) => match self.settings_of(&member.client_id) {
                Some(settings) => entries(&settings)
                    .iter()
                    .any(|entry| entry.topic.as_ref().is_some_and(|of| of.name == topic)),
                None => members.subscription_table.contains_key(topic),
            },
            (None, None) => true,
        };
        let found = members.connection_set.iter().filter(subscribes);
        Ok(ListConsumerConnectionResponse {
            status: Some(codes::ok()),
            client_info: found.map(|member| self.client_info(member, model)).collect(),
        })
    }

    async fn lite_subscribers(&self, parent: &str, lite: &str, group: &str) -> Result<BTreeSet<String>, Refused> {
        checked(lite, "lite topic", Code::IllegalLiteTopic)?;
        let found = lite::topic(self.cluster(), parent, lite, true).await?;
        let subscribers = found.brokers.into_iter().flat_map(|at| at.info.subscriber);
        Ok(subscribers.filter(|one| one.group == group).map(|one| one.client_id).collect())
    }

    /// # Errors
    /// `NotFound` if no such client is connected, `ProxyTimeout` if it does not answer.
    async fn asked(&self, group: &str, client_id: &str, jstack: bool) -> Result<RunningInfo, Refused> {
        if client_id.is_empty() || client_id.len() > MAX_NAME_BYTES {
            let text = format!("client_id must be the id of a consumer, up to {MAX_NAME_BYTES} bytes; ListConsumerConnection has them");
            return Err(Refused::new(Code::BadRequest, text));
        }
        Ok(clients::running_info(self.cluster(), group, client_id, jstack).await?)
    }

    pub(super) async fn stack_trace(&self, told: PrintThreadStackTraceRequest) -> Result<PrintThreadStackTraceResponse, Refused> {
        let info = self.asked(group_of(told.group.as_ref())?, &told.client_id, true).await?;
        if info.jstack.is_none() {
            let text = format!("client {} told no stack trace: its SDK has none", told.client_id);
            return Err(Refused::new(Code::Unsupported, text));
        }
        Ok(PrintThreadStackTraceResponse {
            status: Some(codes::ok()),
            thread_stack_trace: info.jstack,
        })
    }

    /// Clients of this protocol tell nothing but their settings.
    pub(super) async fn running_info(&self, told: GetConsumerRunningInfoRequest) -> Result<GetConsumerRunningInfoResponse, Refused> {
        let (group, client_id) = (group_of(told.group.as_ref())?, told.client_id.as_str());
        let info = match self.settings_of(client_id) {
            Some(settings) if self.is_member(group, client_id).await? => of_settings(&settings),
            _ => of_remoting(self.asked(group, client_id, false).await?),
        };
        Ok(GetConsumerRunningInfoResponse {
            status: Some(codes::ok()),
            consumer_running_info: Some(info),
        })
    }

    async fn is_member(&self, group: &str, client_id: &str) -> Result<bool, Refused> {
        let members = self.members(group).await?.unwrap_or_default();
        Ok(members.connection_set.iter().any(|member| member.client_id == client_id))
    }
}

pub(super) fn no_member(group: &str) -> Refused {
    let text = format!("no consumer of group {group} is connected; ListSubscription shows whether the group has offsets");
    Refused::new(Code::NotFound, text)
}

/// `ip:port` without the port.
fn ip_of(address: &str) -> String {
    address
        .parse()
        .map_or_else(|_| address.to_owned(), |address: SocketAddr| address.ip().to_string())
}

pub(super) fn model_of(members: &ConsumerConnection) -> MessageModel {
    match members.message_model {
        Some(heartbeat::MessageModel::Clustering) => MessageModel::Clustering,
        Some(heartbeat::MessageModel::Broadcasting) => MessageModel::Broadcasting,
        Some(heartbeat::MessageModel::LiteSelective) => MessageModel::LiteSelective,
        None => MessageModel::Unspecified,
    }
}

/// The subscriptions in the settings of a client.
pub(super) fn entries(settings: &Settings) -> &[SubscriptionEntry] {
    match &settings.pub_sub {
        Some(PubSub::Subscription(subscription)) => &subscription.subscriptions,
        _ => &[],
    }
}

pub(super) fn expression_of(subscription: &heartbeat::Subscription) -> FilterExpression {
    let kind = if subscription.expression_type == SQL92 {
        FilterType::Sql
    } else {
        FilterType::Tag
    };
    FilterExpression {
        r#type: kind.into(),
        expression: subscription.sub_string.clone(),
    }
}

fn of_settings(settings: &Settings) -> ConsumerRunningInfo {
    let mut properties = settings.client_properties.clone();
    properties.insert("clientType".to_owned(), settings.client_type().as_str_name().to_owned());
    let subscription = |entry: &SubscriptionEntry| Some((entry.topic.as_ref()?.name.clone(), entry.expression.clone().unwrap_or_default()));
    ConsumerRunningInfo {
        properties,
        subscriptions: entries(settings).iter().filter_map(subscription).collect(),
        ..ConsumerRunningInfo::default()
    }
}

fn of_remoting(info: RunningInfo) -> ConsumerRunningInfo {
    let properties: BTreeMap<String, String> = info
        .properties
        .keys()
        .map(|name| (name.clone(), info.property(name).unwrap_or_default()))
        .chain(info.user_consumer_info.clone())
        .collect();
    let subscriptions = info.subscription_set.iter();
    let queues = info.mq_table.into_iter();
    ConsumerRunningInfo {
        properties,
        subscriptions: subscriptions.map(|one| (one.topic.clone(), expression_of(one))).collect(),
        message_queue_table: queues.map(|(queue, state)| item(&queue, &state)).collect(),
        consume_status_table: info
            .status_table
            .into_iter()
            .map(|(topic, speed)| (topic, status(&speed)))
            .collect(),
    }
}

fn item(queue: &protocol::MessageQueue, state: &ProcessQueue) -> MessageQueueItem {
    MessageQueueItem {
        message_queue: Some(queue_of(queue)),
        process_queue_info: Some(ProcessQueueInfo {
            commit_offset: state.commit_offset,
            cached_msg_min_offset: state.cached_msg_min_offset,
            cached_msg_max_offset: state.cached_msg_max_offset,
            cached_msg_count: state.cached_msg_count,
            cached_msg_size_in_mib: state.cached_msg_size_in_mib,
            transaction_msg_min_offset: state.transaction_msg_min_offset,
            transaction_msg_max_offset: state.transaction_msg_max_offset,
            transaction_msg_count: state.transaction_msg_count,
            locked: state.locked,
            try_unlock_times: state.try_unlock_times,
            last_lock_timestamp: state.last_lock_timestamp,
            dropped: state.droped,
            last_pull_timestamp: state.last_pull_timestamp,
            last_consume_timestamp: state.last_consume_timestamp,
        }),
    }
}

pub(super) fn queue_of(queue: &protocol::MessageQueue) -> MessageQueue {
    MessageQueue {
        topic: resource(&queue.topic),
        id: queue.queue_id,
        broker: Some(crate::v2::Broker {
            name: queue.broker_name.clone(),
            ..Default::default()
        }),
        ..MessageQueue::default()
    }
}

fn status(speed: &ConsumeSpeed) -> ConsumeStatus {
    ConsumeStatus {
        receive_rt: speed.pull_rt,
        receive_tps: speed.pull_tps,
        consume_rt: speed.consume_rt,
        consume_ok_tps: speed.consume_ok_tps,
        consume_failed_tps: speed.consume_failed_tps,
        consume_failed_msgs: speed.consume_failed_msgs,
    }
}
