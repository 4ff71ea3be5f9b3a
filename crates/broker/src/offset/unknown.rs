//! The response to a query for an offset (14) that the group has not committed.
//!
//! On code 22 the client decides by its own "consume from where", after a second request for the queue's end; a group that starts
//! at the end loses messages stored between the two requests. So the response is 0 whenever the group can read the whole queue from
//! its start without disk reads:
//!
//! | `setZeroIfNotFound` | min offset | queue | answer |
//! |---|---|---|---|
//! | `false` | any | any | 22 |
//! | else | > 0 (old messages were deleted) | any | 22 |
//! | else | 0 | empty | 0 |
//! | else | 0 | first message is in the page cache | 0 |
//! | else | 0 | first message is only on disk | 22 |
//!
//! Compat: Apache also answers 22 for the empty queue, which loses messages. Like Apache's `isLoaded`, "in the page cache" asks the
//! kernel about the pages of the first record.

/// Offsets of a queue in which the group never committed.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Offset of the first message that is kept.
    pub min: i64,
    /// One after the offset of the last message.
    pub max: i64,
}

/// The offset to answer, or `None` for code 22. `first_is_cached` is called only if the answer depends on it.
pub fn start(set_zero_if_not_found: Option<bool>, queue: Queue, first_is_cached: impl FnOnce() -> bool) -> Option<i64> {
    if set_zero_if_not_found == Some(false) || queue.min > 0 {
        return None;
    }
    (queue.max <= 0 || first_is_cached()).then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_group_starts_at_zero_of_an_empty_or_cached_queue() {
        let never = || unreachable!("the page cache is not checked for an empty queue");
        assert_eq!(start(None, Queue { min: 0, max: 0 }, never), Some(0));
        assert_eq!(start(Some(true), Queue { min: -1, max: 0 }, never), Some(0));
        assert_eq!(start(None, Queue { min: 0, max: 9 }, || true), Some(0));
    }

    #[test]
    fn a_new_group_on_an_old_queue_chooses_its_start() {
        assert_eq!(start(None, Queue { min: 0, max: 9 }, || false), None);
        assert_eq!(start(None, Queue { min: 5, max: 9 }, || true), None);
        assert_eq!(start(Some(false), Queue { min: 0, max: 0 }, || true), None);
    }
}
