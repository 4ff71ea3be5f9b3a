//! How far groups are: what they have not consumed, how old it is, and where they continue.

use super::client::queue_of;
use super::{MAX_TOPICS, Work, checked, group_of, topics_of};
use crate::codes::{self, Refused};
use crate::route::{check_topic, name_of};
use crate::time::{now_ms, timestamp_ms, to_duration};
use crate::v2::describe_group_accumulation_response::GroupAccumulation;
use crate::v2::query_time_span_response::QueueTimeSpan;
use crate::v2::{
    Code, DescribeGroupAccumulationRequest, DescribeGroupAccumulationResponse, QueryTimeSpanRequest, QueryTimeSpanResponse,
    ResetGroupOffsetRequest, ResetGroupOffsetResponse,
};
use ::admin::offset::reset::{self, Reset};
use ::admin::offset::{self, QueueProgress};
use ::admin::{group, lite};
use broker::attributes::LITE_BIND_TOPIC;
use protocol::stats::OffsetWrapper;
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of lite topics of an answer: those with the most messages that are not consumed.
const MAX_LITE_TOPICS: i32 = 100;

impl Work {
    pub(super) async fn accumulation(&self, told: DescribeGroupAccumulationRequest) -> Result<DescribeGroupAccumulationResponse, Refused> {
        let (group, topics) = (group_of(told.group.as_ref())?, topics_of(&told.topics)?);
        let parent = self.bound_topic(group).await?;
        if let Some(lite) = told.lite_topic.as_deref().filter(|lite| !lite.is_empty()) {
            checked(lite, "lite topic", Code::IllegalLiteTopic)?;
            let parent = parent.ok_or_else(|| not_lite(group))?;
            return self.lite_accumulation(group, &parent, Some(lite)).await;
        }
        if let Some(parent) = parent.filter(|parent| topics.is_empty() || topics.contains(&parent.as_str())) {
            return self.lite_accumulation(group, &parent, None).await;
        }
        let rows = self.rows(group, &topics).await?;
        let mut by_topic: BTreeMap<String, GroupAccumulation> = BTreeMap::new();
        let mut all = GroupAccumulation::default();
        for row in &rows {
            add(by_topic.entry(row.topic.clone()).or_default(), row);
            add(&mut all, row);
        }
        let mut oldest_ms = 0;
        for (topic, of_topic) in by_topic
            .iter_mut()
            .filter(|(_, of_topic)| of_topic.accumulation > 0)
            .take(MAX_TOPICS)
        {
            let spans = offset::time_spans(self.cluster(), group, topic).await?;
            let delay_ms = spans.iter().map(|span| span.delay_time).max().unwrap_or(0).max(0);
            of_topic.deliver_delay_time = Some(to_duration(delay_ms));
            oldest_ms = oldest_ms.max(delay_ms);
        }
        all.deliver_delay_time = Some(to_duration(oldest_ms));
        Ok(DescribeGroupAccumulationResponse {
            status: Some(codes::ok()),
            accumulation: Some(all),
            topic_accumulation: by_topic,
            lite_topic_accumulation: BTreeMap::new(),
        })
    }

    /// The parent topic of a group of lite topics; `None` for other groups.
    ///
    /// # Errors
    /// `ConsumerGroupNotFound` if there is no such group.
    async fn bound_topic(&self, name: &str) -> Result<Option<String>, Refused> {
        let settings = match group::settings(self.cluster(), name).await {
            Err(::admin::Error::NotFound(text)) => return Err(Refused::new(Code::ConsumerGroupNotFound, text)),
            settings => settings?,
        };
        let mut configs = settings.brokers.into_iter().map(|at| at.config);
        Ok(configs.find_map(|mut config| config.attributes.remove(LITE_BIND_TOPIC)))
    }

    /// Of a group as a whole, the brokers do not tell what is in flight: it counts as ready.
    async fn lite_accumulation(&self, group: &str, parent: &str, lite: Option<&str>) -> Result<DescribeGroupAccumulationResponse, Refused> {
        let lag = lite::lag(self.cluster(), parent, group, lite, MAX_LITE_TOPICS).await?;
        if lite.is_some() && lag.brokers.iter().all(|at| at.info.total_lag_count < 0) {
            let text = format!("{parent} has no lite topic {}", lite.unwrap_or_default());
            return Err(Refused::new(Code::TopicNotFound, text));
        }
        let now_ms = now_ms();
        let age = |earliest_ms: Option<i64>| Some(to_duration(earliest_ms.map_or(0, |at| now_ms.saturating_sub(at).max(0))));
        let mut all = GroupAccumulation {
            ready_messages: lag.total,
            accumulation: lag.total,
            deliver_delay_time: age(lag.earliest_ms),
            ..GroupAccumulation::default()
        };
        let mut by_lite: BTreeMap<String, GroupAccumulation> = BTreeMap::new();
        match lite {
            Some(lite) => {
                let wrappers = lag.brokers.iter().filter_map(|at| at.info.lite_topic_offset_wrapper.as_ref());
                let in_flight = |wrapper: &OffsetWrapper| wrapper.pull_offset.saturating_sub(wrapper.consumer_offset).max(0);
                all.inflight_messages = wrappers.clone().map(in_flight).fold(0, i64::saturating_add).min(all.accumulation);
                all.ready_messages = all.accumulation - all.inflight_messages;
                all.last_consume_timestamp = wrappers.map(|wrapper| wrapper.last_timestamp).max().unwrap_or(0);
                by_lite.insert(lite.to_owned(), all);
            }
            None => {
                for of_lite in lag.by_count {
                    let sum = by_lite.entry(of_lite.lite_topic).or_default();
                    sum.accumulation = sum.accumulation.saturating_add(of_lite.lag_count.max(0));
                    sum.ready_messages = sum.accumulation;
                    sum.deliver_delay_time = age(Some(of_lite.earliest_unconsumed_timestamp).filter(|at| *at > 0));
                }
            }
        }
        Ok(DescribeGroupAccumulationResponse {
            status: Some(codes::ok()),
            accumulation: Some(all),
            topic_accumulation: [(parent.to_owned(), all)].into(),
            lite_topic_accumulation: by_lite,
        })
    }

    /// The progress of a group in these topics, or in all.
    ///
    /// # Errors
    /// `OffsetNotFound` if it has no offsets.
    pub(super) async fn rows(&self, group: &str, topics: &[&str]) -> Result<Vec<QueueProgress>, Refused> {
        if topics.is_empty() {
            return Ok(offset::progress(self.cluster(), group, None, None)
                .await
                .map_err(no_offsets)?
                .queues);
        }
        let mut rows = Vec::new();
        for topic in topics.iter().copied().collect::<BTreeSet<&str>>() {
            let progress = offset::progress(self.cluster(), group, Some(topic), None).await;
            rows.extend(progress.map_err(no_offsets)?.queues.into_iter().filter(|row| row.topic == topic));
        }
        Ok(rows)
    }

    pub(super) async fn time_spans(&self, told: QueryTimeSpanRequest) -> Result<QueryTimeSpanResponse, Refused> {
        let (group, topics) = (group_of(told.group.as_ref())?, topics_of(&told.topics)?);
        let names: BTreeSet<String> = match topics.is_empty() {
            true => self.rows(group, &[]).await?.into_iter().map(|row| row.topic).collect(),
            false => topics.into_iter().map(str::to_owned).collect(),
        };
        if names.len() > MAX_TOPICS {
            let text = format!(
                "group {group} has offsets in {} topics; name up to {MAX_TOPICS} of them",
                names.len()
            );
            return Err(Refused::new(Code::BadRequest, text));
        }
        let mut spans = Vec::new();
        for topic in names {
            let of_topic = offset::time_spans(self.cluster(), group, &topic).await?;
            spans.extend(of_topic.into_iter().map(|span| QueueTimeSpan {
                message_queue: Some(queue_of(&span.message_queue)),
                min_timestamp: span.min_time_stamp,
                max_timestamp: span.max_time_stamp,
                consume_timestamp: span.consume_time_stamp,
                delay_time_ms: span.delay_time,
            }));
        }
        Ok(QueryTimeSpanResponse {
            status: Some(codes::ok()),
            queue_time_span_list: spans,
        })
    }

    pub(super) async fn reset_offset(&self, told: ResetGroupOffsetRequest) -> Result<ResetGroupOffsetResponse, Refused> {
        let (group, topic) = (group_of(told.group.as_ref())?, name_of(told.topic.as_ref()));
        check_topic(topic)?;
        let timestamp = told.reset_timestamp.as_ref().map(timestamp_ms).filter(|at| *at >= 0);
        let Some(timestamp) = timestamp else {
            let text =
                "reset_timestamp must be a time since 1970: the group continues with the first message that was stored then or later";
            return Err(Refused::new(Code::BadRequest, text));
        };
        let request = Reset {
            group,
            topic,
            timestamp,
            force: true,
            via: None,
        };
        reset::reset(self.cluster(), &request).await?;
        Ok(ResetGroupOffsetResponse { status: Some(codes::ok()) })
    }
}

fn not_lite(group: &str) -> Refused {
    let text = format!("group {group} has no lite topics; mqadmin updateSubGroup -a +lite.bind.topic=PARENT binds it to a parent topic");
    Refused::new(Code::BadRequest, text)
}

/// The progress of a group that never consumed is not known.
fn no_offsets(error: ::admin::Error) -> Refused {
    match error {
        ::admin::Error::NotFound(text) => Refused::new(Code::OffsetNotFound, text),
        other => other.into(),
    }
}

fn add(sum: &mut GroupAccumulation, row: &QueueProgress) {
    let lag = row.diff.max(0);
    let in_flight = row.inflight.clamp(0, lag);
    sum.accumulation = sum.accumulation.saturating_add(lag);
    sum.inflight_messages = sum.inflight_messages.saturating_add(in_flight);
    sum.ready_messages = sum.ready_messages.saturating_add(lag - in_flight);
    sum.last_consume_timestamp = sum.last_consume_timestamp.max(row.last_timestamp);
}
