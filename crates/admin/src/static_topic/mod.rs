//! Static topics: creating them, adding queues, and moving queues between brokers while they are used.
//!
//! The plan of a change is written to a file before it is carried out (`plan.rs`). A change that failed half-way is completed by
//! repeating it from that file: every step may be repeated.

pub mod plan;
pub(crate) mod stats;

use plan::{Configs, Plan};
use protocol::ResponseCode;
use protocol::route::{MASTER_ID, TopicRoute};
use protocol::static_topic::{InvalidMapping, QueueMappingDetail, QueueMappingItem};
use protocol::topic::{TopicConfig, TopicConfigAndMapping};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Changes, Cluster, Error, Steps, time};

impl From<InvalidMapping> for Error {
    fn from(error: InvalidMapping) -> Self {
        Self::Invalid(error.0)
    }
}

/// The brokers that lead the queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// The brokers of these names.
    Brokers(Vec<String>),
    /// All brokers of these clusters.
    Clusters(Vec<String>),
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StaticTopicChange {
    /// File with the configuration before; absent if the change was read from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<PathBuf>,
    /// File with the plan, which can be carried out again.
    pub after: PathBuf,
    /// The steps.
    #[serde(flatten)]
    pub changes: Changes,
}

impl Steps for StaticTopicChange {
    fn failed_of(&self) -> (usize, usize) {
        self.changes.failed_of()
    }
}

/// Addresses of masters by broker name.
type Masters = BTreeMap<String, String>;

/// Creates a static topic, or adds queues to it: `total` altogether. Files are written to `dir`.
///
/// # Errors
/// [`Error::Invalid`] if the brokers' configurations contradict each other or the change, [`Error::File`], or as in
/// [`Cluster::masters`]. Failures at brokers are in the result.
pub async fn update(cluster: &Cluster, topic: &str, total: i32, targets: &Targets, dir: &Path) -> Result<StaticTopicChange, Error> {
    let masters = masters(cluster).await?;
    let mut targets = names(cluster, targets).await?;
    let configs = configs(cluster, &masters, topic).await?;
    let before = write_before(dir, topic, &configs)?;
    targets.extend(configs.keys().cloned());
    let plan = plan::create(topic, total, &targets, configs, time::now_ms())?;
    write_and_carry_out(cluster, plan, before, dir).await
}

/// Moves the queues of a static topic to these brokers, evenly.
///
/// # Errors
/// As [`update`].
pub async fn remap(cluster: &Cluster, topic: &str, targets: &Targets, dir: &Path) -> Result<StaticTopicChange, Error> {
    let masters = masters(cluster).await?;
    let targets = names(cluster, targets).await?;
    let configs = configs(cluster, &masters, topic).await?;
    let before = write_before(dir, topic, &configs)?;
    let plan = plan::remap(topic, &targets, configs, time::now_ms())?;
    write_and_carry_out(cluster, plan, before, dir).await
}

/// Carries out a plan from a file. With `force` brokers accept it although it contradicts what they have.
///
/// # Errors
/// [`Error::File`], [`Error::Invalid`] if the plan is malformed or not of this topic, or as in [`Cluster::masters`].
pub async fn from_file(cluster: &Cluster, topic: &str, file: &Path, force: bool) -> Result<StaticTopicChange, Error> {
    let unreadable = |error| Error::File {
        path: file.to_owned(),
        error,
    };
    let content = fs::read(file).map_err(unreadable)?;
    let plan: Plan = protocol::json::read(&content).map_err(|error| Error::Invalid(format!("{}: {error}", file.display())))?;
    plan::agreed(topic, &plan.broker_config_map)?.ok_or_else(|| Error::Invalid(format!("{}: there is no broker in it", file.display())))?;
    plan::logical_queues(&plan.broker_config_map)?;
    let changes = carry_out(cluster, plan, force).await?;
    Ok(StaticTopicChange {
        before: None,
        after: file.to_owned(),
        changes,
    })
}

/// Writes the plan before it is carried out, so that it can be repeated from its file.
async fn write_and_carry_out(cluster: &Cluster, plan: Plan, before: PathBuf, dir: &Path) -> Result<StaticTopicChange, Error> {
    let after = write(dir, &plan, "after")?;
    let changes = carry_out(cluster, plan, false).await?;
    Ok(StaticTopicChange {
        before: Some(before),
        after,
        changes,
    })
}

async fn masters(cluster: &Cluster) -> Result<Masters, Error> {
    let masters = cluster.masters(None).await?;
    Ok(masters.into_iter().map(|broker| (broker.name, broker.address)).collect())
}

async fn names(cluster: &Cluster, targets: &Targets) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    match targets {
        Targets::Brokers(brokers) => {
            for broker in brokers {
                cluster.master_named(broker).await?;
                names.insert(broker.clone());
            }
        }
        Targets::Clusters(clusters) => {
            for of in clusters {
                names.extend(cluster.masters(Some(of)).await?.into_iter().map(|broker| broker.name));
            }
        }
    }
    Ok(names)
}

/// The configuration of the topic at all brokers that have it.
async fn configs(cluster: &Cluster, masters: &Masters, topic: &str) -> Result<Configs, Error> {
    let mut configs = Configs::new();
    for (broker, address) in masters {
        match cluster.client().topic_config_and_mapping(address, topic).await {
            Ok(config) => drop(configs.insert(broker.clone(), config)),
            Err(error) if error.code() == Some(ResponseCode::TopicNotExist.into()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(configs)
}

/// Whether the topic of this route is static.
fn is_static(route: &TopicRoute) -> bool {
    route
        .topic_queue_mapping_by_broker
        .as_ref()
        .is_some_and(|mappings| !mappings.is_empty())
}

/// The configuration of a topic at the brokers of its route.
async fn configs_of(cluster: &Cluster, topic: &str, route: &TopicRoute) -> Result<Configs, Error> {
    let addresses = route
        .broker_datas
        .iter()
        .filter_map(|data| Some((data.broker_name.clone(), data.broker_addrs.values().next()?.clone())));
    configs(cluster, &addresses.collect(), topic).await
}

fn write_before(dir: &Path, topic: &str, configs: &Configs) -> Result<PathBuf, Error> {
    let epoch = plan::agreed(topic, configs)?.map_or_else(time::now_ms, |(epoch, _)| epoch);
    let before = Plan {
        broker_config_map: configs.clone(),
        epoch,
        topic: topic.to_owned(),
        kind: plan::CREATE.to_owned(),
        ..Plan::default()
    };
    write(dir, &before, "before")
}

/// Writes `TOPIC-EPOCH.SUFFIX`. Nothing that exists under another name is written to, also if a link has the file's name.
fn write(dir: &Path, plan: &Plan, suffix: &str) -> Result<PathBuf, Error> {
    let path = dir.join(format!("{}-{}.{suffix}", plan.topic, plan.epoch));
    let unwritten = path.with_extension(format!("{suffix}.{}", std::process::id()));
    let write = || {
        let mut file = fs::File::create_new(&unwritten)?;
        std::io::Write::write_all(&mut file, &protocol::json::write_standard(plan))?;
        fs::rename(&unwritten, &path)
    };
    write().map_err(|error| Error::File { path: path.clone(), error })?;
    Ok(path)
}

/// The steps in which a topic changes, at the addresses of its brokers.
struct Steppers<'c> {
    cluster: &'c Cluster,
    masters: Masters,
    force: bool,
    changes: Changes,
}

impl Steppers<'_> {
    /// Writes the configuration of these brokers. Returns whether each accepted it.
    async fn put(&mut self, plan: &Plan, brokers: &BTreeSet<String>, step: &str) -> bool {
        for broker in brokers {
            let (Some(config), Some(address)) = (plan.broker_config_map.get(broker), self.masters.get(broker)) else {
                continue;
            };
            let outcome = self.cluster.client().create_static_topic(address, config, self.force).await;
            if !self
                .changes
                .note(address, format!("{step} of topic {} at {broker}", plan.topic), outcome)
            {
                return false;
            }
        }
        true
    }
}

/// Ends at the first failure: a later step must not be taken without an earlier one.
async fn carry_out(cluster: &Cluster, mut plan: Plan, force: bool) -> Result<Changes, Error> {
    add_other_brokers(cluster, &mut plan).await?;
    let masters = masters(cluster).await?;
    if let Some(broker) = plan.broker_config_map.keys().find(|broker| !masters.contains_key(*broker)) {
        return Err(Error::NoBroker {
            name: broker.clone(),
            known: masters.into_keys().collect(),
        });
    }
    let mut steps = Steppers {
        cluster,
        masters,
        force,
        changes: Changes::default(),
    };
    let (gaining, losing) = (plan.broker_to_map_in.clone(), plan.broker_to_map_out.clone());
    let others = plan
        .broker_config_map
        .keys()
        .filter(|broker| !gaining.contains(*broker) && !losing.contains(*broker));
    let others: BTreeSet<String> = others.cloned().collect();
    let moved = steps.put(&plan, &gaining, "gained queues, to be written to").await
        && steps.put(&plan, &losing, "lost queues, not to be written to any more").await;
    if moved {
        decide(cluster, &steps.masters, &mut plan).await?;
        if steps.put(&plan, &gaining, "gained queues, with their offsets").await {
            steps.put(&plan, &others, "queues").await;
        }
    }
    Ok(steps.changes)
}

/// Every broker of the clusters gets the topic, so that its creation on the first message finds the number of queues fixed.
async fn add_other_brokers(cluster: &Cluster, plan: &mut Plan) -> Result<(), Error> {
    let brokers = cluster.brokers().await?;
    let clusters: BTreeSet<&str> = brokers
        .iter()
        .filter(|broker| plan.broker_config_map.contains_key(&broker.name))
        .map(|broker| &*broker.cluster)
        .collect();
    let total = plan
        .broker_config_map
        .values()
        .find_map(|config| Some(config.mapping_detail.as_ref()?.total_queues));
    let members = brokers
        .iter()
        .filter(|broker| broker.id == MASTER_ID && clusters.contains(&*broker.cluster));
    for broker in members {
        let without_queues = || TopicConfigAndMapping {
            config: TopicConfig::new(&*plan.topic, 0),
            mapping_detail: Some(QueueMappingDetail::new(&plan.topic, total.unwrap_or(0), &broker.name, plan.epoch)),
        };
        plan.broker_config_map.entry(broker.name.clone()).or_insert_with(without_queues);
    }
    Ok(())
}

/// Gives the new items their logical offsets: those of their predecessors' ends, which are final now.
async fn decide(cluster: &Cluster, masters: &Masters, plan: &mut Plan) -> Result<(), Error> {
    for broker in plan.broker_to_map_out.clone() {
        let (Some(address), Some(config)) = (masters.get(&broker), plan.broker_config_map.get(&broker)) else {
            continue;
        };
        let stats = cluster.client().topic_stats(address, &plan.topic).await?;
        let mut queues = config.mapping_detail.clone().unwrap_or_default().hosted_queues;
        queues.retain(|_, items| items.len() > 1 && items.last().is_some_and(|item| !item.is_decided()));
        for (id, mut items) in queues {
            let [.., old, new] = &mut *items else { continue };
            if old.bname != broker {
                continue;
            }
            let end = stats.offset_table.iter().find(|(queue, _)| queue.queue_id == old.queue_id);
            let end = end.map(|(_, offset)| offset.max_offset).filter(|end| *end >= old.start_offset);
            let end = end.ok_or_else(|| Error::NotFound(format!("broker {broker} did not tell the end of queue {}", old.queue_id)))?;
            let leader = new.bname.clone();
            // From an earlier try of the same change.
            let known = known_offset(cluster, masters, &plan.topic, new, id).await?;
            new.logic_offset = known.unwrap_or_else(|| plan::round_up(old.logical(end)));
            for broker in [&leader, &broker] {
                let mapping = plan
                    .broker_config_map
                    .get_mut(broker)
                    .and_then(|config| config.mapping_detail.as_mut());
                mapping
                    .into_iter()
                    .for_each(|mapping| drop(mapping.hosted_queues.insert(id, items.clone())));
            }
        }
    }
    Ok(())
}

/// The logical offset that the new leader has for its item, if it is decided.
async fn known_offset(cluster: &Cluster, masters: &Masters, topic: &str, new: &QueueMappingItem, id: i32) -> Result<Option<i64>, Error> {
    let Some(address) = masters.get(&new.bname) else { return Ok(None) };
    let config = cluster.client().topic_config_and_mapping(address, topic).await?;
    let items = config
        .mapping_detail
        .and_then(|mut mapping| mapping.hosted_queues.remove(&id))
        .unwrap_or_default();
    let item = items
        .into_iter()
        .find(|item| item.generation == new.generation && item.is_decided());
    Ok(item.map(|item| item.logic_offset))
}
