//! Code 28: runtime information from the store, the file systems and the counters. Code 907: state of the replicas.

use crate::acting::Acting;
use crate::clients::Online;
use crate::core::Core;
use crate::dedup::Dedup;
use crate::delay::DelayOffsets;
use crate::errors::Refusal;
use crate::registration::Standings;
use crate::replication::Replication;
use crate::reply::{Answer, Outcome};
use crate::schedule;
use crate::stats::{Runtime, handler};
use crate::timer::Timers;
use message::{Record, names};
use protocol::controller::{EpochCache, EpochEntry};
use protocol::{json, version};
use std::path::Path;
use store::Store;
use store::disk::Disk;

/// Features that say how they are: those whose messages wait, and the keys of repeated sends.
#[derive(Clone, Copy)]
pub(crate) struct Reporting<'a> {
    pub(crate) delays: &'a DelayOffsets,
    pub(crate) timers: &'a Timers,
    pub(crate) dedup: &'a Dedup,
    pub(crate) acting: &'a Acting,
}

/// Code 28: the runtime information. May read from disk. Never fails.
pub(crate) fn state(core: &Core, online: &Online, reporting: Reporting<'_>, standings: &Standings, now_ms: i64) -> Outcome {
    let Reporting {
        delays,
        timers,
        dedup,
        acting,
    } = reporting;
    let Core { store, stats, .. } = core;
    let (disk, settings) = (&*core.disk, core.settings.current());
    let (consumers, producers) = (online.consumers.hazards(), online.producers.hazards());
    let (first, end) = store.log_range();
    let log_dir = settings.commit_log_dir();
    let space = disk.space(&settings.store_path_root_dir).ok();
    let runtime = Runtime {
        version: version::name(version::CURRENT),
        boot_ms: core.started_ms,
        now_ms,
        commit_log: (log_dir.display().to_string(), used(disk, &log_dir)),
        consume_queue_ratio: used(disk, &settings.store_path_root_dir),
        space: space.map_or((0, 0), |space| (space.total, space.free)),
        log_offsets: (first.0, end.0),
        dispatch_behind_bytes: 0,
        unflushed_bytes: (end.0 - store.flushed().0).max(0),
        earliest_ms: earliest(store).unwrap_or(-1),
        today: (stats.put_total_without_system(), stats.get_total_without_system()),
        start_accept_ms: settings.start_accept_send_request_timestamp,
        delays: progress(store, delays),
        registrations: standings
            .all()
            .into_iter()
            .map(|(at, standing)| (at, standing.to_string()))
            .collect(),
        timers: timers.runtime(now_ms),
        acting: acting.runtime(),
        counters: vec![
            ("apogeeSameClientIds", consumers.same_client_ids() + producers.same_client_ids()),
            ("apogeeDifferingSubscriptions", consumers.differing_subscriptions()),
            ("apogeeDedupKeys", dedup.entries() as u64),
            ("apogeeDedupRepeats", dedup.repeats()),
            ("apogeeDedupEvicted", dedup.evicted()),
        ],
    };
    handler::runtime(stats, &runtime)
}

/// Code 907. Never fails.
pub fn replication(replication: &Replication, master_flushed: i64) -> Outcome {
    Ok(Answer::body(json::write(&replication.status(master_flushed))))
}

/// Delay levels in use: level, delivered offset, max offset of the queue.
fn progress(store: &Store, delays: &DelayOffsets) -> Vec<(i32, i64, i64)> {
    let (_, offsets) = delays.all();
    let end = |level| store.max_offset(names::SCHEDULE_TOPIC, schedule::queue_of(level)).0;
    offsets.into_iter().map(|(level, offset)| (level, offset, end(level))).collect()
}

fn used(disk: &dyn Disk, path: &Path) -> f64 {
    disk.space(path).map_or(-1.0, |space| space.used_ratio())
}

fn earliest(store: &Store) -> Option<i64> {
    let (first, end) = store.log_range();
    let record = (first < end).then(|| store.record_at(first).ok()).flatten()?;
    Record::parse(&record).ok().map(|record| record.store_timestamp)
}

/// Code 1007: the epochs of this broker's log.
///
/// # Errors
/// `SystemError` without a controller. Compat: as Apache's broker.
pub fn epochs(core: &Core) -> Outcome {
    let Some(place) = &core.place else {
        return Err(Refusal::system(
            "this broker has no epochs: it is not under a controller (enableControllerMode)".to_owned(),
        ));
    };
    let settings = core.settings.current();
    let epochs = place.member.epochs.epochs();
    let all = epochs.all();
    let ends = all.iter().skip(1).map(|next| next.begin).chain([i64::MAX]);
    let cache = EpochCache {
        broker_id: place.member.id,
        broker_name: settings.broker_name.clone(),
        cluster_name: settings.broker_cluster_name.clone(),
        epoch_list: all
            .iter()
            .zip(ends)
            .map(|(epoch, end_offset)| EpochEntry {
                end_offset,
                epoch: epoch.number,
                start_offset: epoch.begin,
            })
            .collect(),
        max_offset: core.store.written().0,
    };
    Ok(Answer::body(json::write(&cache)))
}

/// Code 1008: a controller says that there is another master. The controllers are asked: nobody changes its role because of one request.
///
/// # Errors
/// `SystemError` without a controller.
pub fn role_changed(core: &Core) -> Outcome {
    let Some(place) = &core.place else {
        return Err(Refusal::system(
            "this broker is not under a controller (enableControllerMode)".to_owned(),
        ));
    };
    (place.poke)();
    Ok(Answer::ok())
}
