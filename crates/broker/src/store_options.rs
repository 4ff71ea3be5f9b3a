//! Converts the settings to options of the store: the only place that knows both by name.

use crate::settings::{BrokerSettings, FlushDiskType};
use message::names;
use std::path::Path;
use store::timer::TimerOptions;
use store::{CompactionOptions, DueTopic, FlushMode, IndexOptions, Limits, LogOptions, ReadSource, RetentionOptions, StoreOptions};

/// Up to so many consume queues are synced file by file, at a millisecond each; for more the file system is synced, with what other programs
/// have written to it.
const QUEUES_SYNCED_ALONE: usize = 256;
/// Bytes of a file that light queues share.
const LIGHT_FILE_BYTES: u64 = 64 << 20;

/// The store options of a broker with these settings.
#[must_use]
pub fn store_options(settings: &BrokerSettings) -> StoreOptions {
    let root: &Path = &settings.store_path_root_dir;
    StoreOptions {
        root: root.to_owned(),
        log_dir: settings.commit_log_dir(),
        log: LogOptions {
            segment_bytes: settings.mapped_file_size_commit_log,
            flush_mode: match settings.flush_disk_type {
                FlushDiskType::Async => FlushMode::Async,
                FlushDiskType::Sync => FlushMode::Sync,
            },
            flush_interval: settings.flush_interval_commit_log,
            tail_bytes: settings.tail_cache_bytes,
            block_bytes: settings.read_block_bytes,
            max_unconfirmed_bytes: settings.max_unconfirmed_bytes,
            is_bounded: settings.enable_controller_mode,
        },
        due: DueTopic {
            name: names::SCHEDULE_TOPIC.into(),
            delays_ms: settings.message_delay_level.delays_ms().to_vec(),
        },
        queue_file_bytes: settings.mapped_file_size_consume_queue,
        max_open_queue_files: settings.max_open_queue_files,
        max_queues_synced_alone: QUEUES_SYNCED_ALONE,
        light_file_bytes: settings.has_light_queues().then_some(LIGHT_FILE_BYTES),
        index: settings.message_index_enable.then_some(IndexOptions {
            slots: settings.max_hash_slot_num,
            items: settings.max_index_num,
        }),
        max_index_backlog: settings.max_index_backlog,
        checkpoint_bytes: settings.checkpoint_bytes,
        checkpoint_interval: settings.checkpoint_interval,
        check_crc_on_recovery: settings.check_crc_on_recover,
        retention: retention(settings),
        compaction: settings.enable_compaction.then_some(CompactionOptions {
            log_file_bytes: settings.compaction_mapped_file_size,
            index_file_bytes: settings.compaction_cq_mapped_file_size,
            interval: settings.compaction_schedule_internal,
            key_map_bytes: settings.max_offset_map_size,
        }),
    }
}

/// Where the index of timer messages of a broker with these settings is, and its sizes.
#[must_use]
pub fn timer_options(settings: &BrokerSettings) -> TimerOptions {
    TimerOptions::new(
        &settings.store_path_root_dir,
        settings.timer_precision_ms,
        settings.mapped_file_size_timer_log,
    )
}

/// The limits of a read of at most so many messages.
pub(crate) fn read_limits(settings: &BrokerSettings, source: ReadSource, messages: usize) -> Limits {
    let (most, bytes) = match source {
        ReadSource::Disk => (
            settings.max_transfer_count_on_message_in_disk,
            settings.max_transfer_bytes_on_message_in_disk,
        ),
        ReadSource::Memory | ReadSource::PageCache => (
            settings.max_transfer_count_on_message_in_memory,
            settings.max_transfer_bytes_on_message_in_memory,
        ),
    };
    Limits {
        messages: messages.min(most as usize),
        bytes: bytes as usize,
        scan: settings.max_scanned_entries(),
    }
}

/// The options of retention.
pub(crate) fn retention(settings: &BrokerSettings) -> RetentionOptions {
    let ratio = |percent: u8| f64::from(percent) / 100.0;
    RetentionOptions {
        interval: settings.clean_resource_interval,
        reserved_ms: settings.file_reserved_time.as_millis() as i64,
        delete_hours: (0..24).filter(|hour| settings.delete_when.contains(*hour)).collect(),
        max_used: ratio(settings.disk_max_used_space_ratio),
        forcible_used: ratio(settings.disk_space_clean_forcibly_ratio),
        warning_used: ratio(settings.disk_space_warning_level_ratio),
        clean_forcibly: settings.clean_file_forcibly_enable,
        batch_max: settings.delete_file_batch_max as usize,
    }
}
