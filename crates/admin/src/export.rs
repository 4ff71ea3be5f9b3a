//! Export of a cluster's settings, topics, groups and metrics to files in mqadmin's format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use message::names;
use protocol::group::{GroupConfig, GroupConfigs};
use protocol::route::MASTER_ID;
use protocol::topic::{TopicConfig, TopicConfigs};
use protocol::version;
use serde::Serialize;
use serde_json::json;

use crate::broker::{first_number, parsed};
use crate::stats::day;
use crate::{Cluster, Error, Target, clients, time};

/// Settings that characterise a broker.
const DESCRIPTIVE_KEYS: [&str; 16] = [
    "brokerClusterName",
    "brokerId",
    "brokerName",
    "brokerRole",
    "fileReservedTime",
    "filterServerNums",
    "flushDiskType",
    "maxMessageSize",
    "messageDelayLevel",
    "msgTraceTopicName",
    "slaveReadEnable",
    "traceOn",
    "traceTopicEnable",
    "useTLS",
    "autoCreateTopicEnable",
    "autoCreateSubscriptionGroup",
];

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Path of the file.
    pub path: PathBuf,
}

/// Part of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Topics.
    Topics,
    /// Groups.
    Groups,
    /// Both.
    All,
}

impl Part {
    fn file(self) -> &'static str {
        match self {
            Self::Topics => "topic.json",
            Self::Groups => "subscriptionGroup.json",
            Self::All => "metadata.json",
        }
    }
}

/// Writes `configs.json`: the size of the cluster and the main settings of its masters.
///
/// # Errors
/// [`Error::NoCluster`], [`Error::Call`] if a broker does not answer, [`Error::File`] if the file cannot be written.
pub async fn configs(cluster: &Cluster, name: &str, dir: &Path) -> Result<Exported, Error> {
    let members = cluster.members(name).await?;
    let mut brokers = BTreeMap::new();
    for master in members.iter().filter(|broker| broker.id == MASTER_ID) {
        let all = parsed(&cluster.client().broker_config(&master.address).await?);
        let descriptive: BTreeMap<_, _> = DESCRIPTIVE_KEYS
            .iter()
            .filter_map(|key| Some((*key, all.get(*key)?.clone())))
            .collect();
        brokers.insert(master.name.clone(), descriptive);
    }
    let masters = brokers.len();
    let content = json!({
        "brokerConfigs": brokers,
        "clusterScale": {
            "masterBrokerSize": masters,
            "namesrvSize": cluster.name_servers().len(),
            "slaveBrokerSize": members.len() - masters,
        },
    });
    write(dir, "configs.json", &content)
}

/// Writes `topic.json`, `subscriptionGroup.json` or `metadata.json`: for a broker its own topics and groups, for a cluster those of all masters,
/// with the sum of their queues.
///
/// # Errors
/// [`Error`] as in [`configs`].
pub async fn metadata(cluster: &Cluster, target: &Target, part: Part, special_topics: bool, dir: &Path) -> Result<Exported, Error> {
    let file = part.file();
    match (target, part) {
        (Target::Broker(address), Part::Topics) => write(dir, file, &user_topics(cluster, address, special_topics).await?),
        (Target::Broker(address), Part::Groups) => write(dir, file, &user_groups(cluster, address).await?),
        (Target::Broker(address), Part::All) => {
            let topics = user_topics(cluster, address, special_topics).await?.topic_config_table;
            let groups = user_groups(cluster, address).await?.subscription_group_table;
            write(dir, file, &together(part, topics, groups))
        }
        (Target::Cluster(name), part) => {
            let (mut topics, mut groups) = (BTreeMap::new(), BTreeMap::new());
            for master in cluster.masters(Some(name)).await? {
                add_topics(&mut topics, user_topics(cluster, &master.address, special_topics).await?);
                add_groups(&mut groups, user_groups(cluster, &master.address).await?);
            }
            write(dir, file, &together(part, topics, groups))
        }
    }
}

fn together(part: Part, topics: BTreeMap<String, TopicConfig>, groups: BTreeMap<String, GroupConfig>) -> serde_json::Value {
    let mut content = json!({ "exportTime": time::now_ms() });
    if part != Part::Groups {
        content["topicConfigTable"] = json!(topics);
    }
    if part != Part::Topics {
        content["subscriptionGroupTable"] = json!(groups);
    }
    content
}

fn add_topics(all: &mut BTreeMap<String, TopicConfig>, more: TopicConfigs) {
    for (name, mut config) in more.topic_config_table {
        if let Some(known) = all.get(&name) {
            config.read_queue_nums = config.read_queue_nums.saturating_add(known.read_queue_nums);
            config.write_queue_nums = config.write_queue_nums.saturating_add(known.write_queue_nums);
        }
        all.insert(name, config);
    }
}

fn add_groups(all: &mut BTreeMap<String, GroupConfig>, more: GroupConfigs) {
    for (name, mut config) in more.subscription_group_table {
        if let Some(known) = all.get(&name) {
            config.retry_queue_nums = config.retry_queue_nums.saturating_add(known.retry_queue_nums);
        }
        all.insert(name, config);
    }
}

/// A broker's topics without system topics and, unless `special`, without retry and dead letter topics.
async fn user_topics(cluster: &Cluster, address: &str, special: bool) -> Result<TopicConfigs, Error> {
    let mut all = cluster.client().topic_configs(address).await?;
    let system = cluster.client().system_topics(address).await?.topic_list;
    all.topic_config_table.retain(|name, _| {
        let own = !system.contains(name) && !names::is_system_topic(name);
        own && (special || !(names::is_retry(name) || names::is_dlq(name)))
    });
    Ok(all)
}

async fn user_groups(cluster: &Cluster, address: &str) -> Result<GroupConfigs, Error> {
    let mut all = cluster.client().group_configs(address).await?;
    all.subscription_group_table
        .retain(|name, _| !names::is_system_group(name) && !names::is_built_in_group(name));
    Ok(all)
}

/// Writes `metrics.json`: environment, content and traffic of the masters.
///
/// # Errors
/// [`Error`] as in [`configs`].
pub async fn metrics(cluster: &Cluster, name: &str, dir: &Path) -> Result<Exported, Error> {
    let mut reports = BTreeMap::new();
    let mut total = Load::default();
    for master in cluster.masters(Some(name)).await? {
        let (report, load) = report(cluster, &master.address).await?;
        total.add(load);
        reports.insert(master.name, report);
    }
    let content = json!({
        "evaluateReport": reports,
        "totalData": {
            "totalTps": {
                "totalNormalInTps": total.in_tps,
                "totalNormalOutTps": total.out_tps,
                "totalTransInTps": total.trans_in_tps,
                "totalScheduleInTps": total.schedule_in_tps,
            },
            "totalOneDayNum": total.one_day(),
        },
    });
    write(dir, "metrics.json", &content)
}

/// Traffic of a broker.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    in_tps: f64,
    out_tps: f64,
    trans_in_tps: f64,
    schedule_in_tps: f64,
    in_day: i64,
    out_day: i64,
    trans_in_day: i64,
    schedule_in_day: i64,
}

impl Load {
    fn add(&mut self, other: Self) {
        self.in_tps += other.in_tps;
        self.out_tps += other.out_tps;
        self.trans_in_tps += other.trans_in_tps;
        self.schedule_in_tps += other.schedule_in_tps;
        self.in_day = self.in_day.saturating_add(other.in_day);
        self.out_day = self.out_day.saturating_add(other.out_day);
        self.trans_in_day = self.trans_in_day.saturating_add(other.trans_in_day);
        self.schedule_in_day = self.schedule_in_day.saturating_add(other.schedule_in_day);
    }

    fn one_day(&self) -> serde_json::Value {
        json!({
            "normalOneDayInNum": self.in_day,
            "normalOneDayOutNum": self.out_day,
            "transOneDayInNum": self.trans_in_day,
            "scheduleOneDayInNum": self.schedule_in_day,
        })
    }
}

async fn report(cluster: &Cluster, address: &str) -> Result<(serde_json::Value, Load), Error> {
    let state = cluster.client().broker_state(address).await?.table;
    let settings = parsed(&cluster.client().broker_config(address).await?);
    let topics = user_topics(cluster, address, false).await?.topic_config_table;
    let groups = user_groups(cluster, address).await?.subscription_group_table;
    let load = load(cluster, address, &state).await?;
    let report = json!({
        "runtimeEnv": {
            "cpuNum": settings.get("clientCallbackExecutorThreads"),
            "totalMemKBytes": state.get("totalMemKBytes"),
        },
        "runtimeQuota": {
            "diskRatio": {
                "commitLogDiskRatio": state.get("commitLogDiskRatio"),
                "consumeQueueDiskRatio": state.get("consumeQueueDiskRatio"),
            },
            "tps": {
                "normalInTps": load.in_tps,
                "normalOutTps": load.out_tps,
                "transInTps": load.trans_in_tps,
                "scheduleInTps": load.schedule_in_tps,
            },
            "oneDayNum": load.one_day(),
            "messageAverageSize": state.get("putMessageAverageSize"),
            "topicSize": topics.len(),
            "groupSize": groups.len(),
        },
        "runtimeVersion": {
            "rocketmqVersion": state.get("brokerVersionDesc"),
            "clientInfo": client_versions(cluster, address, groups.keys()).await,
        },
    });
    Ok((report, load))
}

async fn load(cluster: &Cluster, address: &str, state: &BTreeMap<String, String>) -> Result<Load, Error> {
    let tps = |name: &str| state.get(name).and_then(|text| first_number(text)).unwrap_or(0.0);
    let number = |name: &str| state.get(name).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let put = |topic| cluster.client().counter(address, "TOPIC_PUT_NUMS", topic);
    let trans = put(names::TRANS_HALF_TOPIC).await?.unwrap_or_default();
    let schedule = put(names::SCHEDULE_TOPIC).await?.unwrap_or_default();
    Ok(Load {
        in_tps: tps("putTps"),
        out_tps: tps("getTransferredTps"),
        trans_in_tps: trans.stats_minute.tps,
        schedule_in_tps: schedule.stats_minute.tps,
        in_day: number("msgPutTotalTodayMorning") - number("msgPutTotalYesterdayMorning"),
        out_day: number("msgGetTotalTodayMorning") - number("msgGetTotalYesterdayMorning"),
        trans_in_day: day(&trans),
        schedule_in_day: day(&schedule),
    })
}

/// `LANGUAGE%VERSION` of connected consumers; a group without any adds nothing.
async fn client_versions(cluster: &Cluster, address: &str, groups: impl Iterator<Item = &String>) -> BTreeSet<String> {
    let mut versions = BTreeSet::new();
    for group in groups {
        if let Ok(found) = clients::consumers(cluster, group, Some(address)).await {
            let info = found.connection_set.into_iter();
            versions.extend(info.map(|one| format!("{}%{}", one.language, version::name(one.version))));
        }
    }
    versions
}

fn write<T: Serialize>(dir: &Path, name: &str, content: &T) -> Result<Exported, Error> {
    let path = dir.join(name);
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| serde_json::to_vec_pretty(content).map_err(Into::into))
        .and_then(|bytes| std::fs::write(&path, bytes));
    match written {
        Ok(()) => Ok(Exported { path }),
        Err(error) => Err(Error::File { path, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_of_brokers_are_summed() {
        let one = || TopicConfigs {
            topic_config_table: [("t".to_owned(), TopicConfig::new("t", 4))].into(),
            ..TopicConfigs::default()
        };
        let mut all = BTreeMap::new();
        add_topics(&mut all, one());
        add_topics(&mut all, one());
        assert_eq!((all["t"].read_queue_nums, all["t"].write_queue_nums), (8, 8));
        let exported = together(Part::Topics, all, BTreeMap::new());
        assert!(exported.get("subscriptionGroupTable").is_none());
        assert_eq!(exported["topicConfigTable"]["t"]["readQueueNums"], 8);
    }
}
