//! Decides which log segments to delete, and whether the store takes messages: Apache's rules as one function of what was observed.
//!
//! Segments are deleted from the oldest on, never the newest. In a deletion hour, over `diskMaxUsedSpaceRatio`, or in a round that
//! an operator requested, those are deleted that were last written longer ago than `fileReservedTime`. Over
//! `diskSpaceCleanForciblyRatio` age does not count. Over `diskSpaceWarningLevelRatio` the store also stops taking messages.
//!
//! Not here: measuring, deleting, clocks and time zones. Queues and index follow the log's first offset.

use message::LogOffset;
use std::fmt::Write as _;
use std::time::Duration;

/// Retention settings.
#[derive(Clone, Debug, PartialEq)]
pub struct RetentionOptions {
    /// Time between two rounds (`cleanResourceInterval`).
    pub interval: Duration,
    /// How long a segment is kept after its last change (`fileReservedTime`), in ms.
    pub reserved_ms: i64,
    /// Hours of the day in which expired segments are deleted (`deleteWhen`), 0 to 23.
    pub delete_hours: Vec<u8>,
    /// Disk usage over which expired segments are deleted at any hour (`diskMaxUsedSpaceRatio` / 100); 0.10 to 0.95.
    pub max_used: f64,
    /// Disk usage over which segments are deleted whatever their age (`diskSpaceCleanForciblyRatio` / 100); 0.30 to 0.85.
    pub forcible_used: f64,
    /// Disk usage over which the store takes no messages (`diskSpaceWarningLevelRatio` / 100); 0.35 to 0.90.
    pub warning_used: f64,
    /// Whether segments may be deleted before they expire (`cleanFileForciblyEnable`).
    pub clean_forcibly: bool,
    /// Maximum segments deleted in one round (`deleteFileBatchMax`); at least 1.
    pub batch_max: usize,
}

impl Default for RetentionOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            reserved_ms: 72 * 3_600_000,
            delete_hours: vec![4],
            max_used: 0.75,
            forcible_used: 0.85,
            warning_used: 0.90,
            clean_forcibly: true,
            batch_max: 10,
        }
    }
}

/// Someone who needs old messages of the log beside the readers of queues. Retention asks before it deletes.
pub trait LogNeed: Send + Sync {
    /// The log is about to be deleted below `wanted`: what is needed there has to be written again. Returns the log offset below which
    /// nothing is needed now; the next round deletes more. Must not block.
    fn needed_from(&self, wanted: LogOffset) -> LogOffset;
}

/// Rounds of deletion that an operator's request starts.
pub(crate) const MANUAL_ROUNDS: u32 = 20;

/// Age of a log segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentAge {
    /// Time of its last change, epoch ms.
    pub modified_ms: i64,
}

/// What retention decides on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed<'a> {
    /// Current time, epoch ms.
    pub now_ms: i64,
    /// Hour of the day in the broker's time zone, 0 to 23.
    pub hour: u8,
    /// All segments, oldest first.
    pub segments: &'a [SegmentAge],
    /// Usage of the disk with the log (of the emptiest one, if there are several); `None` if it cannot be measured.
    pub log_used: Option<f64>,
    /// Usage of the disk with the queues; `None` if it cannot be measured.
    pub queue_used: Option<f64>,
    /// Rounds left of an operator's request.
    pub manual_rounds: u32,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Number of segments to delete, from the oldest on.
    pub delete: usize,
    /// Whether the store takes messages.
    pub is_writable: bool,
    /// Rounds left of an operator's request.
    pub manual_rounds: u32,
    /// The reason, with numbers; empty if there is nothing to report.
    pub reason: String,
}

/// The strongest reason to delete.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cause {
    Forced(&'static str, f64),
    Used(&'static str, f64),
    Unmeasured(&'static str),
    Hour,
    Requested,
}

/// Decides what to delete, and whether messages are taken.
#[must_use]
pub(crate) fn decide(options: &RetentionOptions, observed: &Observed<'_>) -> Decision {
    let disks = [("the log", observed.log_used), ("the queues", observed.queue_used)];
    let full = fullest(&disks, options.warning_used.clamp(0.35, 0.90));
    let Some(cause) = cause(options, observed, &disks) else {
        return Decision {
            delete: 0,
            is_writable: true,
            manual_rounds: observed.manual_rounds,
            reason: String::new(),
        };
    };
    let any_age = matches!(cause, Cause::Forced(..)) && options.clean_forcibly;
    let deletable = observed.segments.len().saturating_sub(1).min(options.batch_max.max(1));
    let is_due = |segment: &&SegmentAge| any_age || observed.now_ms.saturating_sub(segment.modified_ms) >= options.reserved_ms;
    let delete = observed.segments[..deletable].iter().take_while(is_due).count();
    Decision {
        delete,
        is_writable: full.is_none(),
        manual_rounds: observed.manual_rounds.saturating_sub(1),
        reason: reason(options, observed, cause, delete, any_age, full),
    }
}

/// The disk with the highest usage over `limit`.
fn fullest(disks: &[(&'static str, Option<f64>)], limit: f64) -> Option<(&'static str, f64)> {
    let over = disks
        .iter()
        .filter_map(|(name, used)| used.filter(|used| *used > limit).map(|used| (*name, used)));
    over.max_by(|a, b| a.1.total_cmp(&b.1))
}

fn cause(options: &RetentionOptions, observed: &Observed<'_>, disks: &[(&'static str, Option<f64>)]) -> Option<Cause> {
    if let Some((name, used)) = fullest(disks, options.forcible_used.clamp(0.30, 0.85)) {
        return Some(Cause::Forced(name, used));
    }
    if let Some((name, used)) = fullest(disks, options.max_used.clamp(0.10, 0.95)) {
        return Some(Cause::Used(name, used));
    }
    if let Some((name, _)) = disks.iter().find(|(_, used)| used.is_none()) {
        return Some(Cause::Unmeasured(name));
    }
    if options.delete_hours.contains(&observed.hour) {
        return Some(Cause::Hour);
    }
    (observed.manual_rounds > 0).then_some(Cause::Requested)
}

fn reason(
    options: &RetentionOptions,
    observed: &Observed<'_>,
    cause: Cause,
    delete: usize,
    any_age: bool,
    full: Option<(&str, f64)>,
) -> String {
    let count = observed.segments.len();
    let hours = options.reserved_ms / 3_600_000;
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match cause {
        Cause::Forced(name, used) => write!(
            text,
            "the disk of {name} is {:.1} % used, over diskSpaceCleanForciblyRatio {:.0} %",
            used * 100.0,
            options.forcible_used.clamp(0.30, 0.85) * 100.0
        ),
        Cause::Used(name, used) => {
            write!(
                text,
                "the disk of {name} is {:.1} % used, over diskMaxUsedSpaceRatio {:.0} %",
                used * 100.0,
                options.max_used.clamp(0.10, 0.95) * 100.0
            )
        }
        Cause::Unmeasured(name) => write!(text, "the space on the disk of {name} cannot be measured"),
        Cause::Hour => write!(text, "it is {:02} o'clock, an hour of deleteWhen", observed.hour),
        Cause::Requested => write!(text, "deletion was requested, {} rounds left", observed.manual_rounds - 1),
    };
    let is_quiet = matches!(cause, Cause::Hour | Cause::Requested) && delete == 0;
    let _ = match (delete, any_age) {
        _ if is_quiet => {
            text.clear();
            Ok(())
        }
        (0, true) => write!(text, "; the only segment is being written ({count} in all), nothing can be deleted"),
        (0, false) => write!(
            text,
            "; none of {count} segments was last written over {hours} h ago (fileReservedTime), nothing is deleted"
        ),
        (_, true) => write!(text, "; the oldest {delete} of {count} segments are deleted whatever their age"),
        (_, false) => write!(
            text,
            "; {delete} of {count} segments, last written over {hours} h ago (fileReservedTime), are deleted"
        ),
    };
    if let Some((name, used)) = full {
        let _ = write!(
            text,
            "; the disk of {name} is {:.1} % used, over diskSpaceWarningLevelRatio {:.0} %: no messages are taken",
            used * 100.0,
            options.warning_used.clamp(0.35, 0.90) * 100.0
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const NOW: i64 = 1_000 * HOUR;

    /// Segments last written this many hours ago.
    fn ages(hours: &[i64]) -> Vec<SegmentAge> {
        hours
            .iter()
            .map(|hours| SegmentAge {
                modified_ms: NOW - hours * HOUR,
            })
            .collect()
    }

    fn observed(segments: &[SegmentAge]) -> Observed<'_> {
        Observed {
            now_ms: NOW,
            hour: 12,
            segments,
            log_used: Some(0.5),
            queue_used: Some(0.5),
            manual_rounds: 0,
        }
    }

    fn decision(observed: &Observed<'_>) -> Decision {
        decide(&RetentionOptions::default(), observed)
    }

    #[test]
    fn nothing_happens_outside_the_hour_with_room_on_the_disk() {
        let segments = ages(&[500, 400, 300]);
        let found = decision(&observed(&segments));
        assert_eq!(
            found,
            Decision {
                delete: 0,
                is_writable: true,
                manual_rounds: 0,
                reason: String::new()
            }
        );
    }

    #[test]
    fn in_the_hour_old_segments_go_and_none_behind_a_young_one() {
        let segments = ages(&[100, 72, 71, 90, 0]);
        let found = decision(&Observed {
            hour: 4,
            ..observed(&segments)
        });
        assert_eq!((found.delete, found.is_writable), (2, true));
        assert_eq!(
            found.reason,
            "it is 04 o'clock, an hour of deleteWhen; 2 of 5 segments, last written over 72 h ago (fileReservedTime), are deleted"
        );
        let young = ages(&[1, 0]);
        assert_eq!(
            decision(&Observed {
                hour: 4,
                ..observed(&young)
            })
            .reason,
            ""
        );
    }

    #[test]
    fn newest_segment_stays_and_a_round_has_a_bound() {
        let segments = ages(&[500; 30]);
        assert_eq!(
            decision(&Observed {
                hour: 4,
                ..observed(&segments)
            })
            .delete,
            10
        );
        assert_eq!(
            decision(&Observed {
                hour: 4,
                ..observed(&segments[..4])
            })
            .delete,
            3
        );
        assert_eq!(
            decision(&Observed {
                hour: 4,
                ..observed(&segments[..1])
            })
            .delete,
            0
        );
        assert_eq!(
            decision(&Observed {
                log_used: Some(0.99),
                ..observed(&[])
            })
            .delete,
            0
        );
    }

    #[test]
    fn over_three_quarters_age_counts_over_85_percent_it_does_not() {
        let segments = ages(&[100, 1, 0]);
        let used = |log, queue| {
            decision(&Observed {
                log_used: Some(log),
                queue_used: Some(queue),
                ..observed(&segments)
            })
        };
        assert_eq!(used(0.75, 0.75).delete, 0);
        assert_eq!(used(0.76, 0.5).delete, 1);
        assert_eq!(used(0.5, 0.76).delete, 1);
        assert_eq!(used(0.85, 0.1).delete, 1);
        assert_eq!(used(0.86, 0.1).delete, 2);
        assert_eq!(used(0.1, 0.86).delete, 2);
        assert!(used(0.90, 0.90).is_writable);
        assert!(!used(0.91, 0.1).is_writable);
        assert!(!used(0.1, 0.91).is_writable);
        assert_eq!(
            used(0.5, 0.912).reason,
            "the disk of the queues is 91.2 % used, over diskSpaceCleanForciblyRatio 85 %; the oldest 2 of 3 segments are deleted whatever \
             their age; the disk of the queues is 91.2 % used, over diskSpaceWarningLevelRatio 90 %: no messages are taken"
        );
    }

    #[test]
    fn forced_deletion_can_be_switched_off_and_the_store_stops_all_the_same() {
        let segments = ages(&[100, 1, 0]);
        let options = RetentionOptions {
            clean_forcibly: false,
            ..RetentionOptions::default()
        };
        let found = decide(
            &options,
            &Observed {
                log_used: Some(0.95),
                ..observed(&segments)
            },
        );
        assert_eq!((found.delete, found.is_writable), (1, false));
    }

    #[test]
    fn full_disk_without_old_segments_is_said() {
        let segments = ages(&[1, 0]);
        let found = decision(&Observed {
            log_used: Some(0.8),
            ..observed(&segments)
        });
        assert_eq!(
            found.reason,
            "the disk of the log is 80.0 % used, over diskMaxUsedSpaceRatio 75 %; none of 2 segments was last written over 72 h ago \
             (fileReservedTime), nothing is deleted"
        );
    }

    #[test]
    fn requested_rounds_are_used_up_one_by_one() {
        let segments = ages(&[100, 0]);
        let found = decision(&Observed {
            manual_rounds: MANUAL_ROUNDS,
            ..observed(&segments)
        });
        assert_eq!((found.delete, found.manual_rounds), (1, 19));
        assert!(found.reason.starts_with("deletion was requested, 19 rounds left; 1 of 2 segments"));
    }

    #[test]
    fn disk_that_cannot_be_measured_does_not_stop_the_store_and_old_segments_go() {
        let segments = ages(&[100, 1, 0]);
        let found = decision(&Observed {
            log_used: None,
            ..observed(&segments)
        });
        assert_eq!((found.delete, found.is_writable), (1, true));
    }

    #[test]
    fn settings_out_of_their_bounds_count_as_the_bound() {
        let segments = ages(&[1, 0]);
        let options = RetentionOptions {
            forcible_used: 0.99,
            warning_used: 1.5,
            ..RetentionOptions::default()
        };
        let found = decide(
            &options,
            &Observed {
                log_used: Some(0.93),
                ..observed(&segments)
            },
        );
        assert_eq!((found.delete, found.is_writable), (1, false));
    }
}
