//! Traffic of topics and their consumers.

use message::names;
use protocol::route::MASTER_ID;
use protocol::stats::BrokerStatsData;
use serde::Serialize;

use crate::{Cluster, Error, offset};

/// Messages stored, by topic.
const TOPIC_PUT_NUMS: &str = "TOPIC_PUT_NUMS";
/// Messages delivered, by `topic@group`.
const GROUP_GET_NUMS: &str = "GROUP_GET_NUMS";

/// Traffic of topics.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traffic {
    /// One per topic and group; a topic without groups has one, too.
    pub topics: Vec<TopicTraffic>,
}

/// Traffic between a topic and one of its groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicTraffic {
    /// The topic.
    pub topic: String,
    /// The group; absent if the topic has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Messages the group has not consumed yet.
    pub accumulation: i64,
    /// Messages stored per second, over the last minute.
    pub in_tps: f64,
    /// Messages delivered per second, over the last minute.
    pub out_tps: f64,
    /// Messages stored in 24 hours.
    pub in_24_hours: i64,
    /// Messages delivered in 24 hours.
    pub out_24_hours: i64,
}

/// Traffic of one topic, or of all topics except retry and dead letter topics.
///
/// # Errors
/// [`Error::Call`] if the topic is unknown or a server does not answer.
pub async fn traffic(cluster: &Cluster, topic: Option<&str>, active_only: bool) -> Result<Traffic, Error> {
    let topics = match topic {
        Some(topic) => vec![topic.to_owned()],
        None => {
            let mut all = cluster.client().topics().await?;
            all.retain(|topic| !names::is_retry(topic) && !names::is_dlq(topic));
            all
        }
    };
    let mut rows = Vec::new();
    for name in &topics {
        match of_topic(cluster, name).await {
            Ok(found) => rows.extend(found),
            // Deleted meanwhile.
            Err(Error::Call(client::Error::NoRoute { .. })) if topic.is_none() => {}
            Err(error) => return Err(error),
        }
    }
    rows.retain(|row| !active_only || row.in_24_hours > 0 || row.out_24_hours > 0);
    Ok(Traffic { topics: rows })
}

async fn of_topic(cluster: &Cluster, topic: &str) -> Result<Vec<TopicTraffic>, Error> {
    let brokers = cluster.brokers_with(topic, None).await?;
    let masters: Vec<_> = brokers.iter().filter(|broker| broker.id == MASTER_ID).collect();
    let (mut in_tps, mut in_24_hours, mut groups) = (0.0, 0, Vec::new());
    for master in &masters {
        let counted = cluster.client().counter(&master.address, TOPIC_PUT_NUMS, topic).await?;
        let counted = counted.unwrap_or_default();
        in_tps += counted.stats_minute.tps;
        in_24_hours = day(&counted).saturating_add(in_24_hours);
        groups.extend(cluster.client().groups_of_topic(&master.address, topic).await?.group_list);
    }
    groups.sort();
    groups.dedup();
    let mut rows = Vec::new();
    for group in groups {
        let mut row = row(topic, Some(&group), in_tps, in_24_hours);
        for master in &masters {
            let key = format!("{topic}@{group}");
            let counted = cluster.client().counter(&master.address, GROUP_GET_NUMS, &key).await?;
            let counted = counted.unwrap_or_default();
            row.out_tps += counted.stats_minute.tps;
            row.out_24_hours = row.out_24_hours.saturating_add(day(&counted));
        }
        let progress = offset::stats(cluster, &group, Some(topic), None).await?;
        row.accumulation = offset::diff(&progress.offset_table).max(0);
        rows.push(row);
    }
    if rows.is_empty() {
        rows.push(row(topic, None, in_tps, in_24_hours));
    }
    Ok(rows)
}

fn row(topic: &str, group: Option<&str>, in_tps: f64, in_24_hours: i64) -> TopicTraffic {
    TopicTraffic {
        topic: topic.to_owned(),
        group: group.map(str::to_owned),
        accumulation: 0,
        in_tps,
        out_tps: 0.0,
        in_24_hours,
        out_24_hours: 0,
    }
}

/// The count of a day. A broker that runs for less than a day has only counts of shorter periods.
pub(crate) fn day(counted: &BrokerStatsData) -> i64 {
    let sums = [counted.stats_day.sum, counted.stats_hour.sum, counted.stats_minute.sum];
    sums.into_iter().find(|sum| *sum != 0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_started_today_counts_by_the_hour_or_the_minute() {
        let mut counted = BrokerStatsData::default();
        assert_eq!(day(&counted), 0);
        counted.stats_minute.sum = 3;
        assert_eq!(day(&counted), 3);
        counted.stats_day.sum = 100;
        assert_eq!(day(&counted), 100);
    }
}
