//! What a change of a static topic makes of its configuration at each broker. Pure: the caller reads and writes it.
//!
//! The rules are mqadmin's: a queue once created keeps its id; queues are spread evenly over the target brokers; a move moves as few
//! queues as possible, and no broker both gains and loses some.

use protocol::static_topic::{InvalidMapping, QueueMappingDetail, QueueMappingItem, check_items};
use protocol::topic::{TopicConfig, TopicConfigAndMapping};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Step between the logical offsets of two items: the end of the old one is rounded up to a multiple of this.
pub const BLOCK: i64 = 10_000;
/// Least step of the epoch, ms, whatever the clocks of the machines say.
const EPOCH_STEP: i64 = 1_000;

/// The configuration of a static topic by broker name.
pub type Configs = BTreeMap<String, TopicConfigAndMapping>;

/// A change, and the content of the files that mqadmin writes before and after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Plan {
    /// The configuration of the topic at each broker.
    pub broker_config_map: Configs,
    /// Brokers that gain queues.
    pub broker_to_map_in: BTreeSet<String>,
    /// Brokers that lose queues.
    pub broker_to_map_out: BTreeSet<String>,
    /// Version of the mapping.
    pub epoch: i64,
    /// The topic.
    pub topic: String,
    /// [`CREATE`] or [`REMAP`].
    #[serde(rename = "type")]
    pub kind: String,
}

/// Queues are added.
pub const CREATE: &str = "CREATE_OR_UPDATE";
/// Queues are moved.
pub const REMAP: &str = "REMAPPING";

fn invalid<T>(text: impl Into<String>) -> Result<T, InvalidMapping> {
    Err(InvalidMapping(text.into()))
}

/// Epoch and number of queues on which all brokers agree; `None` if no broker has the topic.
///
/// # Errors
/// [`InvalidMapping`] if they do not agree, or a broker has the topic as an ordinary one.
pub fn agreed(topic: &str, configs: &Configs) -> Result<Option<(i64, i32)>, InvalidMapping> {
    let mut agreed: Option<&QueueMappingDetail> = None;
    for (broker, config) in configs {
        let Some(mapping) = &config.mapping_detail else {
            return invalid(format!("topic {topic} exists at broker {broker} and is not static"));
        };
        if mapping.bname != *broker {
            return invalid(format!("The broker name is not equal {broker} != {}", mapping.bname));
        }
        if mapping.dirty {
            return invalid(format!("The mapping info is dirty in broker {broker}"));
        }
        if mapping.topic != topic || config.config.topic_name != topic {
            return invalid(format!("The topic name is not match for broker {broker}"));
        }
        let first = *agreed.get_or_insert(mapping);
        for (what, here, there) in [
            ("epoch", mapping.epoch, first.epoch),
            ("total queue number", mapping.total_queues.into(), first.total_queues.into()),
        ] {
            if here != there {
                return invalid(format!(
                    "{what} does not match {there} != {here} in {broker}: repeat the last change with -mf"
                ));
            }
        }
        if mapping.scope() != first.scope() {
            return invalid(format!("scope does not match {} != {} in {broker}", mapping.scope(), first.scope()));
        }
    }
    Ok(agreed.map(|mapping| (mapping.epoch, mapping.total_queues)))
}

/// The items of each logical queue, as its leader has them.
///
/// # Errors
/// [`InvalidMapping`] if two brokers lead a queue, one has no leader, or two queues share a physical one.
pub fn logical_queues(configs: &Configs) -> Result<BTreeMap<i32, Vec<QueueMappingItem>>, InvalidMapping> {
    let mut queues = BTreeMap::new();
    let mut total = 0;
    for mapping in configs.values().filter_map(|config| config.mapping_detail.as_ref()) {
        total = total.max(mapping.total_queues);
        for (id, items) in &mapping.hosted_queues {
            check_items(items)?;
            if items.last().is_none_or(|leader| leader.bname != mapping.bname) {
                continue;
            }
            if queues.insert(*id, items.clone()).is_some() {
                return invalid(format!("The queue id {id} is duplicated in broker {}", mapping.bname));
            }
        }
    }
    if !queues.keys().copied().eq(0..total) {
        return invalid(format!(
            "The total queue number in config does not match the real hosted queues: {total} != {}",
            queues.len()
        ));
    }
    let mut physical = BTreeMap::new();
    for (id, item) in queues.iter().flat_map(|(id, items)| items.iter().map(move |item| (id, item))) {
        if let Some(other) = physical.insert((&*item.bname, item.queue_id), id) {
            return invalid(format!(
                "global queue id {other} and {id} shared the same physical queue {}-{}",
                item.bname, item.queue_id
            ));
        }
    }
    Ok(queues)
}

/// The logical queues that brokers lead, with their items; of two leaders that with the higher epoch.
pub(super) fn leading(configs: &Configs) -> impl Iterator<Item = (&QueueMappingDetail, i32, &[QueueMappingItem])> {
    let mappings = configs.values().filter_map(|config| config.mapping_detail.as_ref());
    let mut leading: BTreeMap<i32, (&QueueMappingDetail, &[QueueMappingItem])> = BTreeMap::new();
    for mapping in mappings {
        let led = mapping
            .hosted_queues
            .iter()
            .filter(|(_, items)| items.last().is_some_and(|leader| leader.bname == mapping.bname));
        for (id, items) in led {
            if leading.get(id).is_none_or(|(other, _)| other.epoch < mapping.epoch) {
                leading.insert(*id, (mapping, items));
            }
        }
    }
    leading.into_iter().map(|(id, (mapping, items))| (mapping, id, items))
}

fn check_physical(configs: &Configs, queues: &BTreeMap<i32, Vec<QueueMappingItem>>) -> Result<(), InvalidMapping> {
    for (broker, config) in configs {
        if config.config.read_queue_nums < config.config.write_queue_nums {
            return invalid(format!("Read queues is smaller than write queues in {broker}"));
        }
    }
    for item in queues.values().flatten() {
        let Some(config) = configs.get(&item.bname) else {
            return invalid(format!("The broker {} of an item does not exist", item.bname));
        };
        if item.queue_id >= config.config.write_queue_nums {
            return invalid(format!("The physical queue {} of {} does not exist", item.queue_id, item.bname));
        }
        if item.start_offset != 0 {
            return invalid("The start offset does not begin from 0");
        }
    }
    Ok(())
}

/// The leaders of the queues, by queue.
fn leaders(queues: &BTreeMap<i32, Vec<QueueMappingItem>>) -> BTreeMap<i32, String> {
    let leader = |(id, items): (&i32, &Vec<QueueMappingItem>)| Some((*id, items.last()?.bname.clone()));
    queues.iter().filter_map(leader).collect()
}

fn config<'c>(configs: &'c mut Configs, topic: &str, broker: &str) -> &'c mut TopicConfigAndMapping {
    configs.entry(broker.to_owned()).or_insert_with(|| TopicConfigAndMapping {
        config: TopicConfig::new(topic, 0),
        mapping_detail: Some(QueueMappingDetail::new(topic, 0, broker, 0)),
    })
}

/// Gives a broker one more physical queue; returns its id.
fn add_queue(config: &mut TopicConfigAndMapping) -> i32 {
    let config = &mut config.config;
    config.write_queue_nums += 1;
    config.read_queue_nums = (config.read_queue_nums + 1).max(config.write_queue_nums);
    config.write_queue_nums - 1
}

fn stamp(configs: &mut Configs, epoch: i64, total: i32) {
    for mapping in configs.values_mut().filter_map(|config| config.mapping_detail.as_mut()) {
        (mapping.epoch, mapping.total_queues) = (epoch, total);
    }
}

fn checked(topic: &str, configs: &Configs) -> Result<(), InvalidMapping> {
    agreed(topic, configs)?;
    let queues = logical_queues(configs)?;
    check_physical(configs, &queues)
}

/// Gives a topic `total` queues, the new ones on the targets with the fewest. Creates the topic if no broker has it.
///
/// # Errors
/// [`InvalidMapping`] if it has that many or more, has queues on a broker that is no target, or the brokers do not agree.
pub fn create(topic: &str, total: i32, targets: &BTreeSet<String>, mut configs: Configs, now_ms: i64) -> Result<Plan, InvalidMapping> {
    let known = agreed(topic, &configs)?;
    let queues = logical_queues(&configs)?;
    check_physical(&configs, &queues)?;
    let existing = i32::try_from(queues.len()).unwrap_or(i32::MAX);
    if total < existing {
        return invalid(format!("Cannot decrease the queue num for static topic {total} < {existing}"));
    }
    if total == existing {
        return invalid("The topic queue num is equal the existed queue num, do nothing");
    }
    let mut counts: BTreeMap<&str, usize> = targets.iter().map(|broker| (&**broker, 0)).collect();
    let led = leaders(&queues);
    for broker in led.values() {
        let Some(count) = counts.get_mut(&**broker) else {
            return invalid(format!("The existed broker {broker} does not in target brokers"));
        };
        *count += 1;
    }
    for id in existing..total {
        let Some((broker, count)) = counts.iter_mut().min_by_key(|(_, count)| **count) else {
            return invalid("Find none brokers, do nothing");
        };
        *count += 1;
        let config = config(&mut configs, topic, broker);
        let item = QueueMappingItem {
            queue_id: add_queue(config),
            ..QueueMappingItem::new(0, broker, 0)
        };
        config
            .mapping_detail
            .iter_mut()
            .for_each(|mapping| drop(mapping.hosted_queues.insert(id, vec![item.clone()])));
    }
    let epoch = (known.map_or(now_ms, |(epoch, _)| epoch) + EPOCH_STEP).max(now_ms);
    stamp(&mut configs, epoch, total);
    checked(topic, &configs)?;
    Ok(Plan {
        broker_config_map: configs,
        epoch,
        topic: topic.to_owned(),
        kind: CREATE.to_owned(),
        ..Plan::default()
    })
}

/// Spreads the queues of a topic evenly over the targets. What moves gets a last item without a logical offset.
///
/// # Errors
/// [`InvalidMapping`] if no broker has the topic, there is no target, or the brokers do not agree.
pub fn remap(topic: &str, targets: &BTreeSet<String>, mut configs: Configs, now_ms: i64) -> Result<Plan, InvalidMapping> {
    let Some((epoch, total)) = agreed(topic, &configs)? else {
        return invalid("No topic route to do the remapping");
    };
    if targets.is_empty() {
        return invalid("Find none brokers, do nothing");
    }
    let queues = logical_queues(&configs)?;
    check_physical(&configs, &queues)?;
    let epoch = (epoch + EPOCH_STEP).max(now_ms);
    let mut plan = Plan {
        epoch,
        topic: topic.to_owned(),
        kind: REMAP.to_owned(),
        ..Plan::default()
    };
    for (id, broker) in moves(&leaders(&queues), targets) {
        let Some((items, before)) = queues.get(&id).and_then(|items| Some((items, items.last()?))) else {
            continue;
        };
        let gaining = config(&mut configs, topic, &broker);
        let mut items = items.clone();
        items.push(QueueMappingItem {
            queue_id: add_queue(gaining),
            ..QueueMappingItem::new(before.generation + 1, &broker, -1)
        });
        for broker in [&broker, &before.bname] {
            let mapping = configs.get_mut(broker).and_then(|config| config.mapping_detail.as_mut());
            mapping
                .into_iter()
                .for_each(|mapping| drop(mapping.hosted_queues.insert(id, items.clone())));
        }
        plan.broker_to_map_out.insert(before.bname.clone());
        plan.broker_to_map_in.insert(broker);
    }
    stamp(&mut configs, epoch, total);
    checked(topic, &configs)?;
    plan.broker_config_map = configs;
    Ok(plan)
}

/// Which queue goes to which broker.
fn moves(leaders: &BTreeMap<i32, String>, targets: &BTreeSet<String>) -> Vec<(i32, String)> {
    let led = |broker: &String| leaders.values().filter(|leader| *leader == broker).count();
    let mut by_count: Vec<&String> = targets.iter().collect();
    // Who has most gets the remainder: fewer queues move.
    by_count.sort_by_key(|broker| std::cmp::Reverse(led(broker)));
    let (each, more) = (leaders.len() / targets.len(), leaders.len() % targets.len());
    let share = |(n, broker): (usize, &String)| (broker.clone(), each + usize::from(n < more));
    let mut left: BTreeMap<String, usize> = by_count.into_iter().enumerate().map(share).collect();
    let mut waiting = Vec::new();
    for (id, leader) in leaders {
        match left.get_mut(leader) {
            Some(count @ 1..) => *count -= 1,
            _ => waiting.push(*id),
        }
    }
    let places = left.into_iter().flat_map(|(broker, count)| std::iter::repeat_n(broker, count));
    waiting.into_iter().zip(places).collect()
}

/// The logical offset of a new item: a multiple of the block, at least half a block behind the end of the item before.
pub fn round_up(end: i64) -> i64 {
    let blocks = end / BLOCK + if end % BLOCK < BLOCK / 2 { 1 } else { 2 };
    blocks.saturating_mul(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn counts(plan: &Plan) -> BTreeMap<String, usize> {
        let leaders = leaders(&logical_queues(&plan.broker_config_map).unwrap());
        leaders.into_values().fold(BTreeMap::new(), |mut counts, broker| {
            *counts.entry(broker).or_default() += 1;
            counts
        })
    }

    fn expected(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
        counts.iter().map(|(broker, count)| ((*broker).to_owned(), *count)).collect()
    }

    #[test]
    fn new_queues_go_to_the_brokers_with_the_fewest() {
        let first = create("t", 4, &names(&["a"]), Configs::new(), 5).unwrap();
        assert_eq!((first.epoch, counts(&first)), (1_005, expected(&[("a", 4)])));
        let more = create("t", 7, &names(&["a", "b"]), first.broker_config_map.clone(), 5).unwrap();
        assert_eq!((more.epoch, counts(&more)), (2_005, expected(&[("a", 4), ("b", 3)])));
        let refused = |total, targets: &[&str]| {
            create("t", total, &names(targets), more.broker_config_map.clone(), 5)
                .unwrap_err()
                .0
        };
        assert!(refused(7, &["a", "b"]).contains("do nothing"));
        assert!(refused(6, &["a", "b"]).contains("Cannot decrease"));
        assert!(refused(8, &["b"]).contains("The existed broker a"));
        let mut ordinary = more.broker_config_map.clone();
        ordinary.get_mut("b").unwrap().mapping_detail = None;
        assert!(
            create("t", 9, &names(&["a", "b"]), ordinary, 5)
                .unwrap_err()
                .0
                .contains("is not static")
        );
    }

    #[test]
    fn a_move_moves_as_few_queues_as_possible() {
        let first = create("t", 5, &names(&["a", "b"]), Configs::new(), 5).unwrap();
        assert_eq!(counts(&first), expected(&[("a", 3), ("b", 2)]));
        let moved = remap("t", &names(&["b", "c"]), first.broker_config_map.clone(), 5).unwrap();
        assert_eq!(counts(&moved), expected(&[("b", 3), ("c", 2)]));
        assert_eq!(
            (moved.broker_to_map_in.clone(), moved.broker_to_map_out.clone()),
            (names(&["b", "c"]), names(&["a"]))
        );
        let same = remap("t", &names(&["a", "b"]), first.broker_config_map.clone(), 5).unwrap();
        assert!(same.broker_to_map_in.is_empty());
        let at_c = &moved.broker_config_map["c"];
        assert_eq!(at_c.config.write_queue_nums, 2);
        let items = at_c.mapping_detail.as_ref().unwrap().hosted_queues.values().next().unwrap();
        assert_eq!((items.len(), items[1].logic_offset, items[1].generation), (2, -1, 1));
        assert!(remap("t", &names(&["a"]), Configs::new(), 5).is_err());
        assert!(remap("t", &names(&[]), first.broker_config_map, 5).is_err());
    }

    #[test]
    fn logical_offsets_leave_half_a_block_at_least() {
        let ends = [0, 1, 4_999, 5_000, 9_999, 10_000, 15_000];
        assert_eq!(ends.map(round_up), [10_000, 10_000, 10_000, 20_000, 20_000, 20_000, 30_000]);
    }

    #[test]
    fn a_file_of_mqadmin_is_read() {
        let text = r#"{"brokerConfigMap":{"a":{"attributes":{},"mappingDetail":{"bname":"a","currIdMap":{},"dirty":false,"epoch":7,
            "hostedQueues":{0:[{"bname":"a","endOffset":-1,"gen":0,"logicOffset":0,"queueId":0,"startOffset":0,"timeOfEnd":-1,
            "timeOfStart":-1}]},"scope":"__global__","topic":"t","totalQueues":1},"order":false,"perm":6,"readQueueNums":1,
            "topicFilterType":"SINGLE_TAG","topicName":"t","topicSysFlag":0,"writeQueueNums":1}},"brokerToMapIn":[],"brokerToMapOut":[],
            "epoch":7,"topic":"t","type":"CREATE_OR_UPDATE"}"#;
        let plan: Plan = protocol::json::read(text.as_bytes()).unwrap();
        assert_eq!(agreed("t", &plan.broker_config_map), Ok(Some((7, 1))));
        assert_eq!(protocol::json::read::<Plan>(&protocol::json::write(&plan)).unwrap(), plan);
    }
}
