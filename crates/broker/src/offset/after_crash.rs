//! Corrects committed offsets after a crash that lost messages.
//!
//! With ASYNC_FLUSH a power failure loses the newest messages, and `consumerOffset.json` may hold offsets after them. New messages
//! get the offsets from the new end of the queue, so a group with such an offset would miss the messages before it.

use super::Offsets;
use store::Store;

/// Moves offsets that are after the end of their queue back to it, and logs one warning. Returns their number.
pub fn fit(offsets: &Offsets, store: &Store) -> usize {
    let mut count = 0;
    let mut first = None;
    let end = |topic: &str, queue_id: i32| store.max_offset(topic, queue_id).0;
    offsets.limit(end, |topic, group, queue_id, offset, end| {
        count += 1;
        first.get_or_insert_with(|| format!("{group} on {topic}/{queue_id} from {offset} to {end}"));
    });
    if let Some(first) = first {
        tracing::warn!(
            count,
            first,
            "messages that groups had consumed were lost in a crash; the committed offsets were moved back to the end of the queues"
        );
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::record::Draft;
    use std::sync::Arc;
    use std::time::Duration;
    use store::disk::simulated::SimulatedDisk;
    use store::{FlushMode, StoreOptions};

    fn options() -> StoreOptions {
        let mut options = StoreOptions::small("/s", FlushMode::Async);
        // Nothing is flushed before the power failure.
        options.log.flush_interval = Duration::from_secs(3600);
        options.index = None;
        options
    }

    fn send(store: &Store, count: usize) {
        for _ in 0..count {
            let draft = Draft::new("t", 0, b"body");
            let ticket = store
                .append(&[draft], &[store.queue("t", 0)], 1_700_000_000_000, &mut Vec::new())
                .unwrap();
            let (done, outcome) = std::sync::mpsc::channel();
            // Another thread may write this message.
            store.complete_then(ticket, true, move |o| done.send(o).unwrap());
            assert_eq!(outcome.recv().unwrap(), Ok(()));
        }
    }

    #[test]
    fn an_offset_of_lost_messages_moves_back_to_the_end_of_the_queue() {
        let disk = SimulatedDisk::new(1);
        let (store, _) = Store::open(Arc::new(disk.clone()), options()).unwrap();
        send(&store, 10);
        let mut lost = 0;
        for seed in 0..40 {
            let (after, _) = Store::open(Arc::new(disk.power_cut(seed)), options()).unwrap();
            let end = after.max_offset("t", 0).0;
            let offsets = Offsets::new(Default::default());
            for (group, offset) in [("all", 10), ("some", end.min(1)), ("end", end)] {
                offsets.commit("t", group, 0, offset).unwrap();
            }
            offsets.commit("gone", "all", 3, 7).unwrap();
            offsets.take_dirty();
            let moved = fit(&offsets, &after);
            assert_eq!(offsets.committed("t", "all", 0), Some(end));
            assert_eq!(offsets.committed("t", "some", 0), Some(end.min(1)));
            assert_eq!(offsets.committed("gone", "all", 3), Some(0));
            assert_eq!(moved, 1 + usize::from(end < 10));
            assert!(offsets.take_dirty());
            lost += usize::from(end < 10);
            // The group has not consumed the next message.
            send(&after, 1);
            assert_eq!(after.max_offset("t", 0).0, end + 1);
            after.close().unwrap();
        }
        assert!(lost > 10, "{lost} of 40 power failures lost messages");
        store.close().unwrap();
    }
}
