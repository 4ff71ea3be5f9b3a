//! Offsets of logical queues, from those of the physical queues that brokers tell.

use super::plan::{Configs, leading};
use super::{configs_of, is_static};
use protocol::MessageQueue;
use protocol::static_topic::{QueueMappingItem, item_of, logical_broker};
use protocol::stats::{ConsumeStats, OffsetWrapper, TopicOffset};
use std::collections::{BTreeMap, BTreeSet};

use crate::{Cluster, Error};

/// The logical queues of a topic with their items.
fn queues<'c>(topic: &'c str, configs: &'c Configs) -> impl Iterator<Item = (MessageQueue, &'c [QueueMappingItem])> {
    leading(configs).map(move |(mapping, id, items)| (MessageQueue::new(topic, logical_broker(mapping.scope()), id), items))
}

fn physical(topic: &str, item: &QueueMappingItem) -> MessageQueue {
    MessageQueue::new(topic, &*item.bname, item.queue_id)
}

/// Adds the logical queues of a static topic to the physical ones.
///
/// # Errors
/// [`Error`] as in [`Cluster::route`]; or if a broker does not answer.
pub(crate) async fn add_logical(cluster: &Cluster, topic: &str, table: &mut BTreeMap<MessageQueue, TopicOffset>) -> Result<(), Error> {
    let route = cluster.route(topic, None).await?;
    if is_static(&route) {
        let configs = configs_of(cluster, topic, &route).await?;
        table.append(&mut bounds(topic, &configs, table));
    }
    Ok(())
}

fn bounds(topic: &str, configs: &Configs, known: &BTreeMap<MessageQueue, TopicOffset>) -> BTreeMap<MessageQueue, TopicOffset> {
    let bounds = |(queue, items): (MessageQueue, &[QueueMappingItem])| {
        let (oldest, newest) = (item_of(items, 0)?, item_of(items, i64::MAX)?);
        let (first, last) = (known.get(&physical(topic, oldest))?, known.get(&physical(topic, newest))?);
        let offset = TopicOffset {
            min_offset: oldest.logical_or_unknown(first.min_offset).max(0),
            max_offset: newest.logical(last.max_offset).max(0),
            last_update_timestamp: last.last_update_timestamp,
        };
        Some((queue, offset))
    };
    queues(topic, configs).filter_map(bounds).collect()
}

/// Puts the logical queues of static topics in the place of the physical ones.
///
/// # Errors
/// [`Error`] if a broker does not answer.
pub(crate) async fn translate(cluster: &Cluster, stats: &mut ConsumeStats) -> Result<(), Error> {
    let topics: BTreeSet<String> = stats.offset_table.keys().map(|queue| queue.topic.clone()).collect();
    for topic in topics {
        // Deleted meanwhile, or a light queue.
        let Ok(route) = cluster.route(&topic, None).await else { continue };
        if is_static(&route) {
            let configs = configs_of(cluster, &topic, &route).await?;
            let mut logical = progress(&topic, &configs, &stats.offset_table);
            stats.offset_table.retain(|queue, _| queue.topic != topic);
            stats.offset_table.append(&mut logical);
        }
    }
    Ok(())
}

/// A group is where its offset in the newest item that has one says. Compat: mqadmin shows that offset without translating it.
fn progress(topic: &str, configs: &Configs, known: &BTreeMap<MessageQueue, OffsetWrapper>) -> BTreeMap<MessageQueue, OffsetWrapper> {
    let progress = |(queue, items): (MessageQueue, &[QueueMappingItem])| {
        let of = |item: &QueueMappingItem| known.get(&physical(topic, item));
        let newest = item_of(items, i64::MAX)?;
        let broker_offset = newest.logical(of(newest)?.broker_offset);
        let mut decided = items.iter().rev().filter(|item| item.is_decided());
        let (item, at) = decided.find_map(|item| Some((item, of(item).filter(|at| at.consumer_offset >= 0)?)))?;
        let offset = OffsetWrapper {
            broker_offset,
            consumer_offset: item.logical(at.consumer_offset),
            pull_offset: item.logical(at.pull_offset),
            ..*at
        };
        Some((queue, offset))
    };
    queues(topic, configs).filter_map(progress).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::static_topic::QueueMappingDetail;
    use protocol::topic::{TopicConfig, TopicConfigAndMapping};

    fn configs() -> Configs {
        let mut detail = QueueMappingDetail::new("t", 1, "b", 1);
        detail
            .hosted_queues
            .insert(0, vec![QueueMappingItem::new(0, "a", 0), QueueMappingItem::new(1, "b", 10_000)]);
        let config = TopicConfigAndMapping {
            config: TopicConfig::new("t", 1),
            mapping_detail: Some(detail),
        };
        Configs::from([("b".to_owned(), config)])
    }

    #[test]
    fn a_logical_queue_reaches_from_its_oldest_to_its_newest_item() {
        let offset = |min_offset, max_offset| TopicOffset {
            min_offset,
            max_offset,
            last_update_timestamp: max_offset,
        };
        let known = BTreeMap::from([
            (MessageQueue::new("t", "a", 0), offset(5, 100)),
            (MessageQueue::new("t", "b", 0), offset(0, 7)),
        ]);
        let logical = bounds("t", &configs(), &known);
        let queue = MessageQueue::new("t", "__syslo__global__", 0);
        assert_eq!(
            logical,
            BTreeMap::from([(
                queue,
                TopicOffset {
                    last_update_timestamp: 7,
                    ..offset(5, 10_007)
                }
            )])
        );
    }

    #[test]
    fn a_group_is_where_the_newest_item_with_an_offset_says() {
        let at = |broker_offset, consumer_offset| OffsetWrapper {
            broker_offset,
            consumer_offset,
            pull_offset: consumer_offset,
            ..OffsetWrapper::default()
        };
        let of = |here| {
            let known = BTreeMap::from([
                (MessageQueue::new("t", "a", 0), at(100, 90)),
                (MessageQueue::new("t", "b", 0), here),
            ]);
            progress("t", &configs(), &known).into_values().next()
        };
        assert_eq!(of(at(7, -1)), Some(at(10_007, 90)));
        assert_eq!(of(at(7, 2)), Some(at(10_007, 10_002)));
    }
}
