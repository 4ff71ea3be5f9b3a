//! Telemetry, heartbeats and the end of clients.
//!
//! A client opens a telemetry stream and sends its settings: what it publishes or subscribes to. The answer says how it should behave.
//! With the settings it joins its groups; with the end of the stream it leaves them.

use crate::caller::Caller;
use crate::clients::{COMMANDS, Client, Telemetry, Told};
use crate::codes::{self, Refused};
use crate::lite::{bound_topic, is_lite};
use crate::route::{check_group, check_topic, name_of};
use crate::service::Messaging;
use crate::time::{now_ms, to_duration};
use crate::v2::retry_policy::Strategy;
use crate::v2::settings::PubSub;
use crate::v2::telemetry_command::Command;
use crate::v2::{
    ClientType, Code, CustomizedBackoff, ExponentialBackoff, FilterExpression, FilterType, HeartbeatRequest, HeartbeatResponse, Metric,
    NotifyClientTerminationRequest, NotifyClientTerminationResponse, RetryPolicy, Settings, Subscription, TelemetryCommand,
};
use broker::attributes::{LITE_BIND_TOPIC, LITE_QUOTA, LITE_USUAL_QUOTA};
use broker::clients::Departure;
use broker::filter;
use broker::group::Rule;
use protocol::group::RetryPolicyType;
use protocol::heartbeat::{ConsumeFromWhere, ConsumeType, ConsumerData, HeartbeatData, MessageModel, ProducerData, SQL92, TAG};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// Topics that one client publishes or subscribes to.
const MAX_TOPICS: usize = 1_000;

/// What a client's filter is in the remoting protocol: type and expression.
pub(crate) fn expression(filter: Option<&FilterExpression>) -> (&'static str, &str) {
    let kind = match filter.map(FilterExpression::r#type) {
        Some(FilterType::Sql) => SQL92,
        _ => TAG,
    };
    let text = filter.map_or("", |filter| filter.expression.as_str());
    (kind, if text.is_empty() { "*" } else { text })
}

impl Messaging {
    /// Serves a telemetry stream; a task reads it until its end.
    pub(crate) fn telemetry(self: &Arc<Self>, caller: &Caller, incoming: Streaming<TelemetryCommand>) -> Result<Telemetry, Status> {
        let (commands, out) = mpsc::channel(COMMANDS);
        let (client, before) = self
            .clients
            .connect(caller, commands.clone())
            .map_err(|refused| Status::resource_exhausted(refused.text))?;
        let messaging = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(before) = before {
                messaging.leave(&before, Departure::Lost).await;
            }
            let outcome = messaging.read(&client, incoming).await;
            messaging.clients.disconnect(&client);
            messaging.leave(&client, *outcome.as_ref().unwrap_or(&Departure::Lost)).await;
            if let Err(status) = outcome {
                let _ = commands.try_send(Box::new(Err(status)));
            }
        });
        Ok(Telemetry(out))
    }

    /// Reads what a client tells, until its stream ends, it does not read commands, or the server stops. A client that ends its stream says
    /// goodbye; one whose connection breaks may come back, to another server, too.
    async fn read(&self, client: &Arc<Client>, mut incoming: Streaming<TelemetryCommand>) -> Result<Departure, Status> {
        loop {
            let told = tokio::select! {
                told = incoming.message() => told?,
                () = client.closed() => return Ok(Departure::Lost),
                () = self.stopping() => return Err(Status::unavailable("the server is shutting down")),
            };
            let Some(told) = told else {
                return Ok(self.goodbye());
            };
            // In a box: a stream waits nearly always, and there are many.
            Box::pin(self.take(client, told)).await?;
        }
    }

    async fn take(&self, client: &Arc<Client>, told: TelemetryCommand) -> Result<(), Status> {
        let TelemetryCommand { status, command } = told;
        match command {
            Some(Command::Settings(settings)) => self.set(client, settings).await.map_err(invalid)?,
            Some(Command::ThreadStackTrace(trace)) => client.stack_trace(status.as_ref(), trace),
            Some(Command::VerifyMessageResult(result)) => client.verified(status.as_ref(), &result),
            // What only a server says.
            Some(_) | None => {}
        }
        Ok(())
    }

    async fn set(&self, client: &Arc<Client>, settings: Settings) -> Result<(), Refused> {
        let told = Told {
            settings: Arc::new(settings),
            at_ms: now_ms(),
        };
        self.join(client, &told).await?;
        let answer = self.settings_for(Settings::clone(&told.settings)).await?;
        client.set_settings(told);
        client.command(Command::Settings(answer));
        Ok(())
    }

    /// Adds a client to the groups of its settings.
    async fn join(&self, client: &Arc<Client>, told: &Told) -> Result<(), Refused> {
        let data = self.as_heartbeat(client, told).await?;
        self.backend.join(client, data).await
    }

    async fn as_heartbeat(&self, client: &Client, told: &Told) -> Result<HeartbeatData, Refused> {
        let settings = &told.settings;
        let mut data = HeartbeatData {
            client_id: client.client_id.to_string(),
            ..HeartbeatData::default()
        };
        let many = |count: usize| match count <= MAX_TOPICS {
            true => Ok(()),
            false => {
                let text = format!("a client has {count} topics, the limit is {MAX_TOPICS}");
                Err(Refused::new(Code::BadRequest, text))
            }
        };
        match &settings.pub_sub {
            None => {
                let text = "there is no publishing or subscription data in settings";
                return Err(Refused::new(Code::InvalidClientProperties, text));
            }
            Some(PubSub::Publishing(publishing)) => {
                many(publishing.topics.len())?;
                for topic in &publishing.topics {
                    check_topic(&topic.name)?;
                    // Compat: the topic stands for the producer group, which this protocol does not have.
                    data.producers.push(ProducerData {
                        group_name: topic.name.clone(),
                    });
                }
            }
            Some(PubSub::Subscription(subscription)) => {
                many(subscription.subscriptions.len())?;
                let consumer = self.consumer_data(settings.client_type(), subscription, told.at_ms).await?;
                data.consumers.push(consumer);
            }
        }
        Ok(data)
    }

    async fn consumer_data(&self, kind: ClientType, subscription: &Subscription, at_ms: i64) -> Result<ConsumerData, Refused> {
        let group = name_of(subscription.group.as_ref());
        check_group(group)?;
        let rule = self.backend.group(group).await?;
        if is_lite(kind) && rule.as_deref().and_then(bound_topic).is_none() {
            let text = format!(
                "group {group} is not bound to a topic of lite topics: bind it (mqadmin updateSubGroup -g {group} -a +{LITE_BIND_TOPIC}=TOPIC)"
            );
            return Err(Refused::new(Code::IllegalConsumerGroup, text));
        }
        if let (Some(wanted), Some(rule)) = (subscription.fifo, &rule)
            && wanted
            && !rule.consume_message_orderly
        {
            let text = format!(
                "the consumer asks for messages in order, and group {group} is not one in order: \
                 make it one (mqadmin updateSubGroup -g {group} -o true), or consume with a consumer that does not"
            );
            return Err(Refused::new(Code::IllegalConsumerGroup, text));
        }
        let subscriptions = subscription.subscriptions.iter().map(|entry| {
            let (kind, text) = expression(entry.expression.as_ref());
            filter::subscription(name_of(entry.topic.as_ref()), Some(kind), text, at_ms)
        });
        Ok(ConsumerData {
            consume_from_where: ConsumeFromWhere::LastOffset,
            // Compat: as Apache's proxy shows them.
            consume_type: match kind {
                ClientType::SimpleConsumer | ClientType::PullConsumer => ConsumeType::Actively,
                _ => ConsumeType::Passively,
            },
            group_name: group.to_owned(),
            message_model: if is_lite(kind) {
                MessageModel::LiteSelective
            } else {
                MessageModel::Clustering
            },
            subscriptions: subscriptions.collect(),
            unit_mode: false,
        })
    }

    /// The client's settings with what this server says.
    async fn settings_for(&self, mut settings: Settings) -> Result<Settings, Refused> {
        let own = &self.settings;
        match &mut settings.pub_sub {
            Some(PubSub::Publishing(publishing)) => {
                publishing.max_body_size = i32::try_from(self.backend.max_body_bytes()).unwrap_or(i32::MAX);
                publishing.validate_message_type = own.enable_topic_message_type_check;
                settings.backoff_policy = Some(RetryPolicy {
                    max_attempts: own.producer_max_attempts,
                    strategy: Some(Strategy::ExponentialBackoff(ExponentialBackoff {
                        initial: Some(to_duration(own.producer_backoff_initial.as_millis() as i64)),
                        max: Some(to_duration(own.producer_backoff_max.as_millis() as i64)),
                        multiplier: own.producer_backoff_multiplier as f32,
                    })),
                });
            }
            Some(PubSub::Subscription(subscription)) => {
                let rule = self.backend.group(name_of(subscription.group.as_ref())).await?.unwrap_or_default();
                subscription.receive_batch_size = Some(own.receive_batch_size);
                subscription.long_polling_timeout = Some(to_duration(own.max_polling.as_millis() as i64));
                subscription.fifo = Some(rule.consume_message_orderly);
                if bound_topic(&rule).is_some() {
                    let quota = rule.attributes.get(LITE_QUOTA).and_then(|quota| quota.parse().ok());
                    subscription.lite_subscription_quota = Some(quota.unwrap_or(LITE_USUAL_QUOTA));
                    subscription.max_lite_topic_size = Some(i32::try_from(own.max_lite_topic_size).unwrap_or(i32::MAX));
                }
                settings.backoff_policy = Some(backoff(&rule));
            }
            None => {}
        }
        settings.metric = Some(Metric {
            on: false,
            endpoints: None,
        });
        Ok(settings)
    }

    /// What is held for a client that ends is visible again soon.
    fn goodbye(&self) -> Departure {
        Departure::Goodbye(self.settings.invisible_when_clear.as_millis() as i64)
    }

    /// A client leaves its groups.
    async fn leave(&self, client: &Client, departure: Departure) {
        client.end();
        self.backend.leave(client, departure).await;
    }

    pub(crate) async fn heartbeat(&self, caller: &Caller, request: HeartbeatRequest) -> HeartbeatResponse {
        let outcome = self.beat(caller, &request).await;
        HeartbeatResponse {
            status: Some(outcome.map_or_else(Into::into, |()| codes::ok())),
        }
    }

    async fn beat(&self, caller: &Caller, request: &HeartbeatRequest) -> Result<(), Refused> {
        let (client, told) = self.known(caller)?;
        if let Some(PubSub::Subscription(subscription)) = &told.settings.pub_sub
            && let Some(group) = &request.group
        {
            check_group(&group.name)?;
            let own = name_of(subscription.group.as_ref());
            if group.name != own {
                let text = format!(
                    "the heartbeat is for group {}, the settings of the client are for group {own}",
                    group.name
                );
                return Err(Refused::new(Code::IllegalConsumerGroup, text));
            }
        }
        self.join(&client, &told).await
    }

    /// The client with its settings.
    pub(crate) fn known(&self, caller: &Caller) -> Result<(Arc<Client>, Told), Refused> {
        let client = self.clients.find(&caller.client_id);
        let known = client.and_then(|client| client.settings().map(|told| (client, told)));
        known.ok_or_else(|| {
            let text = format!(
                "cannot find client settings for client {}: it sends them first, by its telemetry stream to this server",
                caller.client_id
            );
            Refused::new(Code::UnrecognizedClientType, text)
        })
    }

    /// The client ends. Compat: the Rust SDK 5.0.0 ends its telemetry stream first, and so the client is gone already.
    pub(crate) async fn terminate(&self, caller: &Caller, request: &NotifyClientTerminationRequest) -> NotifyClientTerminationResponse {
        let outcome = request.group.as_ref().map_or(Ok(()), |group| check_group(&group.name));
        if outcome.is_ok()
            && let Ok((client, _)) = self.known(caller)
        {
            let after_ms = self.settings.invisible_when_clear.as_millis() as i64;
            self.give_back(self.renewals.take_all(&client.client_id).into_iter(), after_ms)
                .await;
            self.clients.disconnect(&client);
            self.leave(&client, self.goodbye()).await;
        } else if let (Ok(()), Some(group)) = (&outcome, &request.group) {
            // Its stream broke before, at this server or another one.
            self.backend.goodbye(&group.name, &caller.client_id, self.goodbye()).await;
        }
        if let (Ok(()), Some(group)) = (&outcome, &request.group) {
            // Those of a client whose stream broke are kept for a while, since it may come back.
            if let Err(refused) = self.backend.remove_lite_client(&group.name, &caller.client_id).await {
                tracing::debug!(
                    reason = refused.text,
                    "the lite subscriptions of a client that ended stay for a while"
                );
            }
        }
        NotifyClientTerminationResponse {
            status: Some(outcome.map_or_else(Into::into, |()| codes::ok())),
        }
    }
}

/// How often and when a consumer of the group tries again.
fn backoff(rule: &Rule) -> RetryPolicy {
    let policy = &rule.group_retry_policy;
    let strategy = match policy.kind {
        RetryPolicyType::Exponential => {
            let exponential = policy.exponential.clone().unwrap_or_default();
            Strategy::ExponentialBackoff(ExponentialBackoff {
                initial: Some(to_duration(exponential.initial)),
                max: Some(to_duration(exponential.max)),
                multiplier: exponential.multiplier as f32,
            })
        }
        _ => {
            let customized = policy.customized.clone().unwrap_or_default();
            Strategy::CustomizedBackoff(CustomizedBackoff {
                next: customized.next.iter().map(|ms| to_duration(*ms)).collect(),
            })
        }
    };
    RetryPolicy {
        max_attempts: rule.retry_max_times.saturating_add(1),
        strategy: Some(strategy),
    }
}

/// A client cannot go on with settings that are refused.
fn invalid(refused: Refused) -> Status {
    let text = format!(
        "process client telemetryCommand failed. {}: {}",
        refused.code.as_str_name(),
        refused.text
    );
    match refused.code as i32 {
        40_000..50_000 => Status::invalid_argument(text),
        _ => Status::internal(text),
    }
}
