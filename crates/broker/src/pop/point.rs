//! One check point: messages that were popped from one queue at once. Pure state.

/// Queue of a group, as an index into the table of [`super::in_flight::InFlight`].
pub(super) type QueueIndex = u32;
/// A check point, as an index into the same table. Reused after it is removed.
pub(super) type PointId = u32;

/// No check point.
pub(super) const NO_POINT: PointId = u32::MAX;
/// No time or offset.
pub(super) const NONE: i64 = i64::MIN;

/// What tells check points apart, for clients too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) queue: QueueIndex,
    pub(super) start: i64,
    pub(super) pop_time: i64,
}

/// A check point. Small: there may be a million of them.
#[derive(Debug)]
pub(super) struct Point {
    pub(super) key: Key,
    /// When its messages are visible again, by the monotonic clock in ms.
    pub(super) due: i64,
    /// When the thread has to look at it, by the monotonic clock; [`NONE`] while the thread does.
    pub(super) at: i64,
    /// End of the span of queue offsets that it holds back from being committed; [`NONE`] if it does not.
    pub(super) span: i64,
    /// Its record's offset in the revive topic; [`NONE`] while it is in memory only.
    pub(super) record: i64,
    /// Distances of the messages from the start; `None` for consecutive ones.
    distances: Option<Box<[u32]>>,
    /// Bit n: message n was acknowledged.
    pub(super) acked: u32,
    /// Bit n: message n has a check point of its own, which is in memory only. Until that is written, this one stands for it.
    pub(super) moved: u32,
    /// The acknowledgements that the log has.
    pub(super) saved: u32,
    pub(super) invisible_ms: u32,
    /// Of the queue, when it was popped.
    pub(super) epoch: u32,
    /// Next check point whose key has the same hash.
    pub(super) chain: PointId,
    pub(super) revive_queue: u16,
    count: u8,
    /// The next delivery does not count as a retry.
    pub(super) suspend: bool,
    pub(super) is_used: bool,
}

impl Point {
    /// A check point with these ascending offsets, at least one and at most 32, the first of them not before the start.
    pub(super) fn new(key: Key, offsets: &[i64]) -> Self {
        assert!(!offsets.is_empty() && offsets.len() <= 32, "a check point has 1 to 32 messages");
        let is_consecutive = offsets.iter().zip(key.start..).all(|(offset, expected)| *offset == expected);
        let distances = (!is_consecutive).then(|| {
            let distance = |offset: &i64| u32::try_from(offset - key.start).unwrap_or(u32::MAX);
            offsets.iter().map(distance).collect()
        });
        Self {
            key,
            due: NONE,
            at: NONE,
            span: NONE,
            record: NONE,
            distances,
            acked: 0,
            moved: 0,
            saved: 0,
            invisible_ms: 0,
            epoch: 0,
            chain: NO_POINT,
            revive_queue: 0,
            count: offsets.len() as u8,
            suspend: false,
            is_used: true,
        }
    }

    /// The bits of all messages.
    pub(super) fn all(&self) -> u32 {
        u32::MAX >> (32 - u32::from(self.count))
    }

    pub(super) fn is_complete(&self) -> bool {
        self.acked == self.all()
    }

    /// How many messages are in flight under this check point.
    pub(super) fn left(&self) -> u32 {
        u32::from(self.count) - (self.acked | self.moved).count_ones()
    }

    pub(super) fn is_written(&self) -> bool {
        self.record != NONE
    }

    /// The bit of the message at this queue offset.
    pub(super) fn bit_of(&self, offset: i64) -> Option<u32> {
        let distance = u32::try_from(offset.checked_sub(self.key.start)?).ok()?;
        let at = match &self.distances {
            None => distance,
            Some(distances) => distances.binary_search(&distance).ok()? as u32,
        };
        (at < u32::from(self.count)).then(|| 1 << at)
    }

    /// The messages' queue offsets.
    pub(super) fn offsets(&self) -> impl Iterator<Item = i64> + '_ {
        (0..i64::from(self.count)).map(|n| match &self.distances {
            None => self.key.start + n,
            Some(distances) => self.key.start + i64::from(distances[n as usize]),
        })
    }

    #[cfg(test)]
    pub(super) fn has_distances(&self) -> bool {
        self.distances.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key {
        queue: 0,
        start: 100,
        pop_time: 5,
    };

    #[test]
    fn consecutive_messages_need_no_distances() {
        let all: Vec<i64> = (100..132).collect();
        let point = Point::new(KEY, &all);
        assert!(!point.has_distances() && point.all() == u32::MAX && point.left() == 32);
        assert!(point.offsets().eq(100..132));
        assert_eq!((point.bit_of(100), point.bit_of(131)), (Some(1), Some(1 << 31)));
        assert_eq!((point.bit_of(132), point.bit_of(99), point.bit_of(i64::MIN)), (None, None, None));
    }

    #[test]
    fn filtered_messages_are_found_by_their_distances() {
        let mut point = Point::new(KEY, &[101, 105, 120]);
        assert_eq!((point.all(), point.bit_of(105), point.bit_of(102)), (7, Some(2), None));
        assert!(point.offsets().eq([101, 105, 120]));
        point.acked = 0b101;
        assert!(!point.is_complete() && point.left() == 1);
        assert!(size_of::<Point>() <= 104, "{}", size_of::<Point>());
    }
}
