//! What to answer when a group has no offset for a queue yet (14).
//!
//! The client decides by its own "consume from where" what code 22 means, after a second look-up of the queue's end; and
//! what is stored between the two look-ups is lost to a group that starts at the end. So 0 is answered whenever the
//! group's whole queue can be given to it without going to the disk:
//!
//! | `setZeroIfNotFound` | first offset kept | queue | answer |
//! |---|---|---|---|
//! | `false` | any | any | 22 |
//! | else | > 0 (old messages were deleted) | any | 22 |
//! | else | 0 | empty | 0 |
//! | else | 0 | first message is in the page cache | 0 |
//! | else | 0 | first message is only on the disk | 22 |
//!
//! Compat: Apache answers 22 for the empty queue too; that is where messages get lost (issue 3). "In the page cache" is
//! asked of the kernel for the first record's own pages, as Apache does through `isLoaded`.

/// What is known of a queue that a group never committed in.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// First offset kept.
    pub min: i64,
    /// One past the last offset.
    pub max: i64,
}

/// The offset to answer, or `None` for code 22. `first_is_cached` is asked only when it matters.
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
    fn a_new_group_starts_at_zero_of_an_empty_or_young_queue() {
        let never = || unreachable!("an empty queue needs no look at the disk");
        assert_eq!(start(None, Queue { min: 0, max: 0 }, never), Some(0));
        assert_eq!(start(Some(true), Queue { min: -1, max: 0 }, never), Some(0));
        assert_eq!(start(None, Queue { min: 0, max: 9 }, || true), Some(0));
    }

    #[test]
    fn a_new_group_asks_where_to_start_in_an_old_queue() {
        assert_eq!(start(None, Queue { min: 0, max: 9 }, || false), None);
        assert_eq!(start(None, Queue { min: 5, max: 9 }, || true), None);
        assert_eq!(start(Some(false), Queue { min: 0, max: 0 }, || true), None);
    }
}
