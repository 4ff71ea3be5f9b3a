//! A counter with short histories, from which its rates are computed.
//!
//! | History | sample interval | samples | span |
//! |---|---|---|---|
//! | minute | 10 s | 7 | 60 s |
//! | hour | 10 min | 7 | 60 min |
//! | day | 1 h | 25 | 24 h |

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// Sample interval of each history, in ms.
const PERIODS_MS: [i64; 3] = [10_000, 600_000, 3_600_000];
/// Number of samples in each history.
const KEPT: [usize; 3] = [7, 7, 25];

/// Counters per chunk of [`ByQueue`], and number of chunks: 1,024 queues of a topic have a counter of their own.
const CHUNK: usize = 64;
const CHUNKS: usize = 16;

/// Time span of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The last 60 s.
    Minute,
    /// The last hour.
    Hour,
    /// The last day.
    Day,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ms: i64,
    times: i64,
    value: i64,
}

/// Rates of a counter over a span.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Sum of the values added during the span.
    pub sum: i64,
    /// Sum per second.
    pub tps: f64,
    /// Sum per call.
    pub avgpt: f64,
    /// Number of calls during the span.
    pub times: i64,
}

/// A counter: the sum of the added values and the number of calls.
#[derive(Debug, Default)]
pub struct Item {
    value: AtomicI64,
    times: AtomicI64,
    histories: Mutex<[VecDeque<Sample>; 3]>,
}

impl Item {
    /// Adds a value in one call.
    pub fn add(&self, value: i64) {
        self.add_times(value, 1);
    }

    /// Adds the sum of the values of `times` calls.
    pub fn add_times(&self, value: i64, times: i64) {
        self.value.fetch_add(value, Relaxed);
        self.times.fetch_add(times, Relaxed);
    }

    /// Sum of all values since the start.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.value.load(Relaxed)
    }

    /// Takes the sample of a span if it is due.
    pub(super) fn sample(&self, span: Span, now_ms: i64) {
        let kind = span as usize;
        let (times, value) = (self.times.load(Relaxed), self.value.load(Relaxed));
        let mut histories = self.histories.lock();
        let history = &mut histories[kind];
        if history.is_empty() {
            // Values added before the first sample count for the period before it.
            let at_ms = now_ms - PERIODS_MS[kind];
            history.push_back(Sample { at_ms, times: 0, value: 0 });
        }
        history.push_back(Sample {
            at_ms: now_ms,
            times,
            value,
        });
        while history.len() > KEPT[kind] {
            history.pop_front();
        }
    }

    /// Sum and rates over a span, as of its last sample.
    #[must_use]
    pub fn over(&self, span: Span) -> Snapshot {
        let histories = self.histories.lock();
        let history = &histories[span as usize];
        let (Some(first), Some(last)) = (history.front(), history.back()) else {
            return Snapshot::default();
        };
        let (sum, times) = (last.value - first.value, last.times - first.times);
        let elapsed_ms = last.at_ms - first.at_ms;
        Snapshot {
            sum,
            tps: if elapsed_ms > 0 {
                sum as f64 * 1000.0 / elapsed_ms as f64
            } else {
                0.0
            },
            avgpt: if times > 0 { sum as f64 / times as f64 } else { 0.0 },
            times,
        }
    }
}

type Chunk = [OnceLock<Arc<Item>>; CHUNK];

/// A counter for each queue of a topic, created on first use; lookups take no lock.
#[derive(Debug, Default)]
pub(super) struct ByQueue {
    chunks: [OnceLock<Box<Chunk>>; CHUNKS],
}

impl ByQueue {
    /// The queue's counter; `None` if the queue id is over the limit.
    pub(super) fn of(&self, queue_id: i32, make: impl FnOnce() -> Arc<Item>) -> Option<&Arc<Item>> {
        let queue_id = usize::try_from(queue_id).ok()?;
        let chunk = self.chunks.get(queue_id / CHUNK)?;
        let chunk = chunk.get_or_init(|| Box::new([const { OnceLock::new() }; CHUNK]));
        Some(chunk[queue_id % CHUNK].get_or_init(make))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_its_own_counter_up_to_the_limit() {
        let by_queue = ByQueue::default();
        for queue_id in [0, 63, 64, 1_023] {
            by_queue.of(queue_id, Arc::default).unwrap().add(i64::from(queue_id));
        }
        let known = |queue_id| by_queue.of(queue_id, || panic!("already created")).unwrap().total();
        assert_eq!([known(63), known(64), known(1_023)], [63, 64, 1_023]);
        assert!(by_queue.of(1_024, Arc::default).is_none() && by_queue.of(-1, Arc::default).is_none());
    }

    #[test]
    fn a_minute_spans_the_last_seven_samples() {
        let item = Item::default();
        assert_eq!(item.over(Span::Minute), Snapshot::default());
        item.add_times(600, 60);
        item.sample(Span::Minute, 100_000);
        assert_eq!(
            item.over(Span::Minute),
            Snapshot {
                sum: 600,
                tps: 60.0,
                avgpt: 10.0,
                times: 60
            }
        );
        for tick in 1..=6 {
            item.add(10);
            item.sample(Span::Minute, 100_000 + tick * 10_000);
        }
        let minute = item.over(Span::Minute);
        assert_eq!((minute.sum, minute.tps), (60, 1.0));
        assert_eq!(item.total(), 660);
        assert_eq!(item.over(Span::Day).sum, 0);
    }
}
