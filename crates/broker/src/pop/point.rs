//! One check point: messages that were popped from one queue at once. Pure state.

/// Queue of a group, as an index into the table of [`super::in_flight::InFlight`].
pub(super) type QueueIndex = u32;
/// A check point, as an index into the same table. Reused after it is removed.
pub(super) type PointId = u32;

/// Most messages of a check point.
const MOST: usize = 32;
/// No time.
pub(super) const NONE: i64 = i64::MIN;

/// What tells check points apart, for clients too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) queue: QueueIndex,
    pub(super) start: i64,
    pub(super) pop_time: i64,
}

/// What [`Point::place`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nothing,
    Span,
    Record,
}

/// A check point. Small: there may be a million of them.
#[derive(Debug)]
pub(super) struct Point {
    start: i64,
    pop_time: i64,
    /// When its messages are visible again, by the monotonic clock in ms.
    pub(super) due: i64,
    /// When the thread has to look at it, by the monotonic clock; [`NONE`] while the thread does.
    pub(super) at: i64,
    place: i64,
    /// Distances of the messages from the start; `None` for consecutive ones.
    distances: Option<Box<[u32; MOST]>>,
    queue: QueueIndex,
    /// Bit n: message n was acknowledged.
    pub(super) acked: u32,
    /// Bit n: message n has a check point of its own, which is in memory only. Until that is written, this one stands for it.
    pub(super) moved: u32,
    /// The acknowledgements that the log has.
    pub(super) saved: u32,
    pub(super) invisible_ms: u32,
    /// Of the queue, when it was popped.
    pub(super) epoch: u32,
    pub(super) revive_queue: u16,
    count: u8,
    has: Place,
    /// The next delivery does not count as a retry.
    pub(super) suspend: bool,
    pub(super) is_used: bool,
    /// Its messages are held for a consumer, see [`super::in_flight`].
    pub(super) is_held: bool,
    /// The thread stores its messages again.
    pub(super) is_reviving: bool,
}

impl Point {
    /// A check point with these ascending offsets, at least one and at most 32, the first of them not before the start.
    pub(super) fn new(key: Key, offsets: &[i64]) -> Self {
        assert!(!offsets.is_empty() && offsets.len() <= MOST, "a check point has 1 to 32 messages");
        let is_consecutive = offsets.iter().zip(key.start..).all(|(offset, expected)| *offset == expected);
        let distances = (!is_consecutive).then(|| {
            let mut distances = Box::new([0; MOST]);
            for (distance, offset) in distances.iter_mut().zip(offsets) {
                *distance = u32::try_from(offset - key.start).unwrap_or(u32::MAX);
            }
            distances
        });
        Self {
            start: key.start,
            pop_time: key.pop_time,
            due: NONE,
            at: NONE,
            place: NONE,
            distances,
            queue: key.queue,
            acked: 0,
            moved: 0,
            saved: 0,
            invisible_ms: 0,
            epoch: 0,
            revive_queue: 0,
            count: offsets.len() as u8,
            has: Place::Nothing,
            suspend: false,
            is_used: true,
            is_held: false,
            is_reviving: false,
        }
    }

    pub(super) fn key(&self) -> Key {
        Key {
            queue: self.queue,
            start: self.start,
            pop_time: self.pop_time,
        }
    }

    /// End of the span of queue offsets that it holds back from being committed, if it does.
    pub(super) fn span(&self) -> Option<i64> {
        (self.has == Place::Span).then_some(self.place)
    }

    pub(super) fn hold(&mut self, span: i64) {
        (self.has, self.place) = (Place::Span, span);
    }

    /// Its record's offset in the revive topic; `None` while it is in memory only.
    pub(super) fn record(&self) -> Option<i64> {
        (self.has == Place::Record).then_some(self.place)
    }

    /// It is written, and holds nothing back any more.
    pub(super) fn write(&mut self, record: i64) {
        (self.has, self.place) = (Place::Record, record);
    }

    pub(super) fn is_written(&self) -> bool {
        self.has == Place::Record
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

    /// The bit of the message at this queue offset.
    pub(super) fn bit_of(&self, offset: i64) -> Option<u32> {
        let distance = u32::try_from(offset.checked_sub(self.start)?).ok()?;
        let at = match &self.distances {
            None => distance,
            Some(distances) => distances[..self.count.into()].binary_search(&distance).ok()? as u32,
        };
        (at < u32::from(self.count)).then(|| 1 << at)
    }

    /// The messages' queue offsets.
    pub(super) fn offsets(&self) -> impl Iterator<Item = i64> + '_ {
        (0..i64::from(self.count)).map(|n| match &self.distances {
            None => self.start + n,
            Some(distances) => self.start + i64::from(distances[n as usize]),
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
        assert!(size_of::<Point>() <= 80, "{}", size_of::<Point>());
    }
}
