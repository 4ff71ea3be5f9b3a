//! Messages that were popped in order: a queue hands out no further ones before these are acknowledged or visible again. Pure state.
//!
//! The offset of such a queue moves on with the acknowledgements only, so messages that nobody acknowledged are read again from the same
//! queue, in order, and nothing of them goes to the retry topic.
//!
//! Messages that are held for a consumer stay invisible when their time has passed, as long as it is online.
//!
//! Times are those of the wall clock, since the file has them; only leases know the monotonic clock. If that clock is set back behind a pop, its messages are visible at once.

use crate::clients::{Holder, Lease};
use crate::delay::clock::Moment;
use protocol::pop::handle::{Origin, push_order_count};
use protocol::pop::order::{OrderInfo, OrderInfos};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet};

/// Compat: Apache's broker forgets a queue that was not popped for as long.
const FORGET_AFTER_MS: i64 = 24 * 3_600_000;
/// Messages of one pop: bits of `cm`.
const MAX_MESSAGES: usize = 64;

/// Result of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The offset to commit.
    Commit(i64),
    /// The message is not of the last pop: nothing to do.
    Old,
    /// The message was not popped.
    Unknown,
}

/// A queue of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    pub(super) topic: &'a str,
    pub(super) group: &'a str,
    pub(super) queue_id: i32,
}

/// Messages that are popped in order.
#[derive(Clone, Debug)]
pub(super) struct InOrder<'a> {
    pub(super) attempt: Option<&'a str>,
    pub(super) offsets: &'a [i64],
    pub(super) pop_time: i64,
    pub(super) invisible_ms: i64,
    /// For whom they are held, and until when at most, epoch ms.
    pub(super) lease: Option<(Lease, i64)>,
}

#[derive(Debug, Default)]
struct Entry {
    info: OrderInfo,
    /// For whom the messages are held that `info` says are.
    lease: Option<Lease>,
    /// When the queue is free again, as it is planned.
    wake_at: Option<i64>,
}

impl Entry {
    /// Of messages that are held, and whose own time has passed: when to look again whether they stay invisible.
    fn look_again(&self, now: i64) -> Option<i64> {
        let lease = self.lease.as_ref().filter(|_| has_held(&self.info))?;
        lease.look_again(self.info.invisible_time.unwrap_or(0), now)
    }
}

/// A queue, by `topic@group` and number.
type QueueKey = (Box<str>, i32);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// By `topic@group`, then by queue.
    table: FxHashMap<Box<str>, BTreeMap<i32, Entry>>,
    /// When which queue is free again.
    wakes: BTreeSet<(i64, Box<str>, i32)>,
    /// The queues whose messages are held for a holder.
    held: FxHashMap<u64, FxHashSet<QueueKey>>,
    /// Queues in the table.
    count: usize,
    is_dirty: bool,
}

impl Orders {
    fn entry(&self, of: Of<'_>) -> Option<&Entry> {
        self.table.get(&*key(of.topic, of.group))?.get(&of.queue_id)
    }

    /// Whether any queue was popped in order. Cheap.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Number of queues.
    pub(super) fn queues(&self) -> usize {
        self.count
    }

    /// Whether there is room for this queue among `most`.
    pub(super) fn has_room(&self, of: Of<'_>, most: usize) -> bool {
        self.count < most || self.entry(of).is_some()
    }

    fn recount(&mut self) {
        self.count = self.table.values().map(BTreeMap::len).sum();
        let table = &self.table;
        self.held.retain(|_, queues| {
            queues.retain(|(key, queue_id)| table.get(key).is_some_and(|queues| queues.contains_key(queue_id)));
            !queues.is_empty()
        });
    }

    /// Changes for whom messages of a queue are held.
    fn set_lease(&mut self, of: Of<'_>, lease: Option<Lease>) {
        let key = key(of.topic, of.group);
        let entry = self.table.get_mut(&*key).and_then(|queues| queues.get_mut(&of.queue_id));
        let Some(entry) = entry else { return };
        let new = lease.as_ref().map(|lease| lease.holder.id());
        let before = std::mem::replace(&mut entry.lease, lease).map(|lease| lease.holder.id());
        if before == new {
            return;
        }
        let place = (key, of.queue_id);
        if let Some(before) = before
            && let Some(queues) = self.held.get_mut(&before)
        {
            queues.remove(&place);
            if queues.is_empty() {
                self.held.remove(&before);
            }
        }
        if let Some(new) = new {
            self.held.entry(new).or_default().insert(place);
        }
    }

    /// Messages of the file that were held are held again. `lease` is called with group, client, until when, and the pop time.
    pub(super) fn restore_leases(&mut self, lease: impl Fn(&str, &str, i64, i64) -> Lease, now_ms: i64) {
        let mut held = Vec::new();
        for (key, queues) in &self.table {
            for (queue_id, entry) in queues {
                if let (Some(client), Some(until)) = (&entry.info.holder, entry.info.held_until)
                    && let Some((topic, group)) = key.split_once('@')
                {
                    let lease = lease(group, client, until, entry.info.pop_time);
                    held.push((topic.to_owned(), group.to_owned(), *queue_id, lease));
                }
            }
        }
        for (topic, group, queue_id, lease) in held {
            let of = Of {
                topic: &topic,
                group: &group,
                queue_id,
            };
            self.set_lease(of, Some(lease));
            self.plan(of, now_ms);
        }
    }

    /// The holder said goodbye: what is held for it is visible at `visible_at`, epoch ms.
    pub(super) fn give_back(&mut self, holder: &Holder, visible_at: i64, now_ms: i64) {
        let queues = self.held.get(&holder.id()).cloned().unwrap_or_default();
        for (key, queue_id) in queues {
            let Some((topic, group)) = key.split_once('@') else { continue };
            let of = Of { topic, group, queue_id };
            if let Some(entry) = self.table.get_mut(&key).and_then(|queues| queues.get_mut(&queue_id)) {
                let held: Vec<i64> = held_offsets(&entry.info).collect();
                let times = entry.info.visible_at.get_or_insert_default();
                times.extend(held.into_iter().map(|offset| (offset, visible_at)));
                forget_lease(&mut entry.info);
            }
            self.set_lease(of, None);
            self.plan(of, now_ms);
        }
    }

    /// Whether the queue hands out nothing now. A request that is repeated with the same id is not blocked by itself. Messages below `committed` are
    /// done: after an election, acknowledgements with handles of the last master may pass over what was handed out since.
    pub(super) fn is_blocked(&self, of: Of<'_>, attempt: Option<&str>, committed: i64, now: Moment) -> bool {
        let Some(entry) = self.entry(of) else { return false };
        if offsets(&entry.info).last().is_some_and(|last| last < committed) {
            return false;
        }
        let is_repeated = entry.info.attempt_id.is_some() && entry.info.attempt_id.as_deref() == attempt;
        !is_repeated && (free_at(&entry.info, now.wall_ms).is_some() || entry.look_again(now.steady_ms).is_some())
    }

    /// The messages were handed out. Adds to `counts` how often each was before.
    pub(super) fn popped(&mut self, of: Of<'_>, origin: Origin, popped: &InOrder<'_>, counts: &mut String) {
        debug_assert!(!popped.offsets.is_empty() && popped.offsets.len() <= MAX_MESSAGES);
        let mut info = OrderInfo {
            attempt_id: popped.attempt.map(str::to_owned),
            acked: 0,
            invisible_time: Some(popped.invisible_ms),
            last_consumed: popped.pop_time,
            offsets: popped
                .offsets
                .iter()
                .enumerate()
                .map(|(n, offset)| if n == 0 { *offset } else { offset - popped.offsets[0] })
                .collect(),
            counts: None,
            visible_at: None,
            pop_time: popped.pop_time,
            holder: popped.lease.as_ref().map(|(lease, _)| lease.holder.client().to_owned()),
            held_until: popped.lease.as_ref().map(|(_, until)| *until),
            held: popped.lease.as_ref().map(|_| u64::MAX >> (MAX_MESSAGES - popped.offsets.len())),
        };
        if let Some(before) = self.entry(of) {
            info.counts = Some(counts_after(&before.info, &info));
        }
        let known = info.counts.as_ref();
        let mut least = i32::MAX;
        for (offset, count) in known.into_iter().flatten() {
            push_order_count(counts, origin, of.queue_id, Some(*offset), *count);
            least = least.min(*count);
        }
        // Compat: some messages are new, or all: the least is 0.
        let all_known = known.is_some_and(|known| known.len() == info.offsets.len());
        push_order_count(counts, origin, of.queue_id, None, if all_known { least } else { 0 });
        let queues = self.table.entry(key(of.topic, of.group)).or_default();
        let before = queues.len();
        queues.entry(of.queue_id).or_default().info = info;
        self.count += queues.len() - before;
        self.set_lease(of, popped.lease.as_ref().map(|(lease, _)| lease.clone()));
        self.plan(of, popped.pop_time);
    }

    /// A message was acknowledged.
    pub(super) fn ack(&mut self, of: Of<'_>, offset: i64, pop_time: i64, now_ms: i64) -> Next {
        let entry = self
            .table
            .get_mut(&*key(of.topic, of.group))
            .and_then(|queues| queues.get_mut(&of.queue_id));
        // Compat: without knowledge of the pop the client is trusted.
        let Some(entry) = entry else {
            return Next::Commit(offset.saturating_add(1));
        };
        let info = &mut entry.info;
        if info.offsets.is_empty() {
            return Next::Unknown;
        }
        if info.pop_time != pop_time {
            return Next::Old;
        }
        let Some(at) = offsets(info).position(|popped| popped == offset).filter(|at| *at < MAX_MESSAGES) else {
            return Next::Unknown;
        };
        info.acked |= 1 << at;
        let first_left = offsets(info)
            .enumerate()
            .find(|(n, _)| info.acked & (1 << n) == 0)
            .map(|(_, offset)| offset);
        let next = first_left.or_else(|| offsets(info).last().map(|last| last + 1));
        self.plan(of, now_ms);
        next.map_or(Next::Unknown, Next::Commit)
    }

    /// A message stays invisible until `visible_at`, epoch ms, and is not held any more. False if it is not of the last pop.
    pub(super) fn renew(&mut self, of: Of<'_>, offset: i64, pop_time: i64, visible_at: i64, now_ms: i64) -> bool {
        let entry = self
            .table
            .get_mut(&*key(of.topic, of.group))
            .and_then(|queues| queues.get_mut(&of.queue_id));
        let Some(entry) = entry.filter(|entry| entry.info.pop_time == pop_time && offsets(&entry.info).any(|popped| popped == offset))
        else {
            return false;
        };
        let at = offsets(&entry.info).position(|popped| popped == offset);
        if let (Some(held), Some(at)) = (&mut entry.info.held, at) {
            *held &= !(1 << (at % MAX_MESSAGES));
        }
        entry.info.visible_at.get_or_insert_default().insert(offset, visible_at);
        self.plan(of, now_ms);
        true
    }

    /// The queue is free.
    pub(super) fn clear(&mut self, of: Of<'_>) {
        self.set_lease(of, None);
        let key = key(of.topic, of.group);
        if let Some(queues) = self.table.get_mut(&*key)
            && let Some(entry) = queues.remove(&of.queue_id)
        {
            self.is_dirty = true;
            self.count -= 1;
            if queues.is_empty() {
                self.table.remove(&*key);
            }
            if let Some(at) = entry.wake_at {
                self.wakes.remove(&(at, key, of.queue_id));
            }
        }
    }

    /// A topic or group was deleted.
    pub(super) fn forget(&mut self, is_deleted: impl Fn(&str, &str) -> bool) {
        let deleted = |key: &str| key.split_once('@').is_some_and(|(topic, group)| is_deleted(topic, group));
        let before = self.table.len();
        self.table.retain(|key, _| !deleted(key));
        self.wakes.retain(|(_, key, _)| !deleted(key));
        self.is_dirty |= before != self.table.len();
        self.recount();
    }

    /// Plans when the queue is free again.
    fn plan(&mut self, of: Of<'_>, now_ms: i64) {
        self.is_dirty = true;
        let key = key(of.topic, of.group);
        let Some(entry) = self.table.get_mut(&*key).and_then(|queues| queues.get_mut(&of.queue_id)) else {
            return;
        };
        if let Some(at) = entry.wake_at.take() {
            self.wakes.remove(&(at, key.clone(), of.queue_id));
        }
        let is_held = entry.lease.is_some() && has_held(&entry.info);
        // The look at it says until when what is held stays invisible.
        entry.wake_at = free_at(&entry.info, now_ms).or(is_held.then_some(now_ms));
        if let Some(at) = entry.wake_at {
            self.wakes.insert((at, key, of.queue_id));
        }
    }

    /// When the next queue is free again, epoch ms.
    pub(super) fn next_wake(&self) -> Option<i64> {
        self.wakes.first().map(|(at, _, _)| *at)
    }

    /// Removes a queue that is free again: topic, group and queue.
    pub(super) fn take_free(&mut self, now: Moment) -> Option<(String, String, i32)> {
        loop {
            let (_, key, queue_id) = self.wakes.first().filter(|(at, _, _)| *at <= now.wall_ms)?.clone();
            self.wakes.pop_first();
            let (topic, group) = key.split_once('@')?;
            let of = Of { topic, group, queue_id };
            let Some(entry) = self.table.get_mut(&*key).and_then(|queues| queues.get_mut(&queue_id)) else {
                return Some((topic.to_owned(), group.to_owned(), queue_id));
            };
            entry.wake_at = entry.look_again(now.steady_ms).map(|at| at - now.steady_ms + now.wall_ms);
            match entry.wake_at {
                Some(at) => drop(self.wakes.insert((at, key, queue_id))),
                None => {
                    self.set_lease(of, None);
                    return Some((topic.to_owned(), group.to_owned(), queue_id));
                }
            }
        }
    }

    /// Adds what the file says. Without `holds`, messages that were held are visible when their own time has passed: after a crash the file lacks
    /// acknowledgements, and their consumer, which has forgotten them, would block the queue as long as it is online.
    pub(super) fn restore(&mut self, saved: OrderInfos, holds: bool, now_ms: i64) {
        for (key, queues) in saved.table {
            let Some((topic, group)) = key.split_once('@') else { continue };
            for (queue_id, mut info) in queues {
                if !holds {
                    forget_lease(&mut info);
                }
                if info.offsets.is_empty() || info.offsets.len() > MAX_MESSAGES || queue_id < 0 {
                    continue;
                }
                let of = Of { topic, group, queue_id };
                self.table.entry(key.as_str().into()).or_default().entry(queue_id).or_default().info = info;
                self.plan(of, now_ms);
            }
        }
        self.is_dirty = false;
        self.recount();
    }

    /// What is to be saved, if it changed. Queues that were not popped for a day are forgotten.
    pub(super) fn take_changed(&mut self, now_ms: i64) -> Option<OrderInfos> {
        if !std::mem::take(&mut self.is_dirty) {
            return None;
        }
        self.table.retain(|_, queues| {
            queues.retain(|_, entry| entry.wake_at.is_some() || now_ms - entry.info.last_consumed < FORGET_AFTER_MS);
            !queues.is_empty()
        });
        self.recount();
        let saved = |queues: &BTreeMap<i32, Entry>| queues.iter().map(|(id, entry)| (*id, entry.info.clone())).collect();
        let table = self.table.iter().map(|(key, queues)| (key.to_string(), saved(queues))).collect();
        Some(OrderInfos { table })
    }

    /// The change could not be saved.
    pub(super) fn mark_changed(&mut self) {
        self.is_dirty = true;
    }
}

fn key(topic: &str, group: &str) -> Box<str> {
    format!("{topic}@{group}").into()
}

/// The queue offsets of the messages.
fn offsets(info: &OrderInfo) -> impl Iterator<Item = i64> + '_ {
    let first = info.offsets.first().copied().unwrap_or(0);
    let offset = move |(n, offset): (usize, &i64)| if n == 0 { first } else { first.saturating_add(*offset) };
    info.offsets.iter().enumerate().map(offset)
}

/// The offsets of the messages that are held and not acknowledged.
fn held_offsets(info: &OrderInfo) -> impl Iterator<Item = i64> + '_ {
    let bits = info.held.unwrap_or(0) & !info.acked;
    let numbered = offsets(info).enumerate();
    numbered
        .filter(move |(n, _)| bits & (1 << (n % MAX_MESSAGES)) != 0)
        .map(|(_, offset)| offset)
}

fn has_held(info: &OrderInfo) -> bool {
    held_offsets(info).next().is_some()
}

fn forget_lease(info: &mut OrderInfo) {
    (info.holder, info.held_until, info.held) = (None, None, None);
}

/// When all messages that are not acknowledged are visible again, but for those that are held longer; `None` if they are now.
fn free_at(info: &OrderInfo, now_ms: i64) -> Option<i64> {
    let left = offsets(info)
        .enumerate()
        .filter(|(n, _)| info.acked & (1 << (n % MAX_MESSAGES)) == 0);
    let visible_at = |(_, offset): (usize, i64)| {
        let changed = info.visible_at.as_ref().and_then(|times| times.get(&offset).copied());
        changed.unwrap_or_else(|| info.pop_time.saturating_add(info.invisible_time.unwrap_or(0)))
    };
    let latest = left.map(visible_at).max()?;
    (info.pop_time <= now_ms && now_ms < latest).then_some(latest)
}

/// How often each message of this pop was handed out before. A repeated request does not count.
fn counts_after(before: &OrderInfo, info: &OrderInfo) -> BTreeMap<i64, i32> {
    if before.attempt_id.is_some() && before.attempt_id == info.attempt_id {
        return before.counts.clone().unwrap_or_default();
    }
    let known: BTreeSet<i64> = offsets(before).collect();
    let count = |offset: &i64| before.counts.as_ref().and_then(|counts| counts.get(offset).copied()).unwrap_or(0);
    offsets(info)
        .filter(|offset| known.contains(offset))
        .map(|offset| (offset, count(&offset).saturating_add(1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Departure;
    use std::sync::Arc;

    const OF: Of<'_> = Of {
        topic: "t",
        group: "g",
        queue_id: 2,
    };

    fn at(wall_ms: i64) -> Moment {
        Moment {
            wall_ms,
            steady_ms: wall_ms,
        }
    }

    fn pop(orders: &mut Orders, offsets: &[i64], attempt: Option<&str>, now_ms: i64) -> String {
        let mut counts = String::new();
        let popped = InOrder {
            attempt,
            offsets,
            pop_time: now_ms,
            invisible_ms: 1_000,
            lease: None,
        };
        orders.popped(OF, Origin::Topic, &popped, &mut counts);
        counts
    }

    /// A pop whose messages are held for a client.
    fn pop_held(orders: &mut Orders, offsets: &[i64], now_ms: i64, lease: (Lease, i64)) {
        let popped = InOrder {
            attempt: None,
            offsets,
            pop_time: now_ms,
            invisible_ms: 1_000,
            lease: Some(lease),
        };
        orders.popped(OF, Origin::Topic, &popped, &mut String::new());
    }

    #[test]
    fn a_queue_is_blocked_until_all_messages_are_acknowledged() {
        let mut orders = Orders::default();
        assert!(!orders.is_blocked(OF, None, 0, at(0)));
        assert_eq!(pop(&mut orders, &[5, 6, 9], Some("a"), 100), "0 2 0");
        assert!(orders.is_blocked(OF, None, 0, at(101)) && orders.is_blocked(OF, Some("b"), 0, at(101)));
        assert!(!orders.is_blocked(OF, Some("a"), 0, at(101)), "the same request again");
        assert_eq!(orders.ack(OF, 6, 100, 102), Next::Commit(5));
        assert_eq!(orders.ack(OF, 5, 100, 102), Next::Commit(9));
        assert_eq!(
            (orders.ack(OF, 7, 100, 102), orders.ack(OF, 9, 99, 102)),
            (Next::Unknown, Next::Old)
        );
        assert_eq!(
            (orders.ack(OF, 9, 100, 102), orders.is_blocked(OF, None, 0, at(103))),
            (Next::Commit(10), false)
        );
        assert_eq!(orders.next_wake(), None);
    }

    #[test]
    fn messages_that_are_visible_again_are_counted() {
        let mut orders = Orders::default();
        pop(&mut orders, &[5, 6], None, 0);
        orders.ack(OF, 5, 0, 1);
        assert!(orders.renew(OF, 6, 0, 5_000, 2) && !orders.renew(OF, 6, 9, 5_000, 2));
        assert!(orders.is_blocked(OF, None, 0, at(4_999)) && !orders.is_blocked(OF, None, 0, at(5_000)));
        assert_eq!((orders.next_wake(), orders.take_free(at(4_999))), (Some(5_000), None));
        assert_eq!(orders.take_free(at(5_000)), Some(("t".to_owned(), "g".to_owned(), 2)));
        assert_eq!(pop(&mut orders, &[6, 7], Some("x"), 6_000), "0 qo2%6 1;0 2 0");
        assert_eq!(pop(&mut orders, &[6, 7], Some("x"), 6_001), "0 qo2%6 1;0 2 0", "repeated");
        assert_eq!(pop(&mut orders, &[6, 7], Some("y"), 6_002), "0 qo2%6 2;0 qo2%7 1;0 2 1");
    }

    #[test]
    fn a_clock_that_was_set_back_blocks_nothing() {
        let mut orders = Orders::default();
        pop(&mut orders, &[5], None, 1_000_000);
        assert!(orders.is_blocked(OF, None, 0, at(1_000_500)) && !orders.is_blocked(OF, None, 0, at(500_000)));
    }

    #[test]
    fn the_table_survives_a_restart_and_forgets_what_is_old() {
        let mut before = Orders::default();
        pop(&mut before, &[5, 8], Some("a"), 100);
        let saved = before.take_changed(200).unwrap();
        assert!(before.take_changed(200).is_none());
        let mut after = Orders::default();
        after.restore(saved, true, 200);
        assert!(after.is_blocked(OF, None, 0, at(300)) && after.take_changed(300).is_none());
        assert_eq!(after.ack(OF, 5, 100, 300), Next::Commit(8));
        assert_eq!(after.take_free(at(1_100)).map(|free| free.2), Some(2));
        assert!(after.take_changed(FORGET_AFTER_MS + 100).unwrap().table.is_empty());
        pop(&mut after, &[5], None, 0);
        after.forget(|_, group| group == "g");
        assert!(after.is_empty() && after.next_wake().is_none() && after.count == 0);
    }

    #[test]
    fn held_messages_block_their_queue_while_their_holder_is_online() {
        let holder = Arc::new(Holder::new("g", "c", 500, 0));
        holder.come();
        let lease = |until| {
            (
                Lease {
                    holder: Arc::clone(&holder),
                    until,
                },
                until,
            )
        };
        let pop = |orders: &mut Orders, offsets: &[i64], now_ms: i64| pop_held(orders, offsets, now_ms, lease(100_000));
        let free = || Some(("t".to_owned(), "g".to_owned(), 2));
        let mut orders = Orders::default();
        pop(&mut orders, &[5, 6], 0);
        assert_eq!(
            (orders.next_wake(), orders.take_free(at(1_000)), orders.next_wake()),
            (Some(1_000), None, Some(2_000))
        );
        assert!(orders.is_blocked(OF, None, 0, at(1_500)));
        assert_eq!(orders.ack(OF, 5, 0, 1_600), Next::Commit(6), "by its first handle");
        assert_eq!((orders.take_free(at(1_600)), orders.next_wake()), (None, Some(2_600)));
        // The consumer wants the other one again later: it is not held any more.
        assert!(orders.renew(OF, 6, 0, 1_800, 1_700));
        assert!(orders.is_blocked(OF, None, 0, at(1_799)) && !orders.is_blocked(OF, None, 0, at(1_800)));

        pop(&mut orders, &[6], 2_000);
        holder.go(Departure::Lost, 2_900);
        assert_eq!(
            (orders.take_free(at(3_000)), orders.next_wake()),
            (None, Some(3_400)),
            "it may come back"
        );
        assert_eq!(
            (orders.take_free(at(3_400)), orders.is_blocked(OF, None, 0, at(3_400))),
            (free(), false)
        );
        holder.come();
        assert!(!orders.is_blocked(OF, None, 0, at(3_500)), "too late");

        pop(&mut orders, &[6], 4_000);
        holder.go(Departure::Goodbye(10), 4_100);
        orders.give_back(&holder, 4_110, 4_100);
        assert!(orders.is_blocked(OF, None, 0, at(4_109)));
        assert_eq!(orders.take_free(at(4_110)), free());
        assert!(orders.held.is_empty() && !orders.is_blocked(OF, None, 0, at(4_110)));
    }

    #[test]
    fn held_messages_are_held_after_a_restart() {
        let holder = Arc::new(Holder::new("g", "c", 500, 0));
        let lease = |until| Lease {
            holder: Arc::clone(&holder),
            until,
        };
        let mut before = Orders::default();
        pop_held(&mut before, &[5], 100, (lease(9_000), 9_100));
        let saved = before.take_changed(200).unwrap();
        let mut after = Orders::default();
        after.restore(saved, true, 2_000);
        after.restore_leases(
            |group, client, until, pop_time| {
                assert_eq!((group, client, until, pop_time), ("g", "c", 9_100, 100));
                lease(9_000)
            },
            2_000,
        );
        assert_eq!(after.next_wake(), Some(2_000));
        let now = |steady_ms| Moment {
            wall_ms: 2_000 + steady_ms,
            steady_ms,
        };
        assert_eq!(
            (after.take_free(now(0)), after.next_wake()),
            (None, Some(2_500)),
            "for the grace time"
        );
        assert!(after.is_blocked(OF, None, 0, now(499)) && !after.is_blocked(OF, None, 0, now(500)));
        after.clear(OF);
        assert!(after.held.is_empty());
    }

    #[test]
    fn what_is_committed_blocks_nothing() {
        let mut orders = Orders::default();
        pop(&mut orders, &[5, 6], None, 100);
        assert!(orders.is_blocked(OF, None, 6, at(200)) && !orders.is_blocked(OF, None, 7, at(200)));
    }

    #[test]
    fn after_a_crash_held_messages_are_visible_when_their_own_time_has_passed() {
        let holder = Arc::new(Holder::new("g", "c", 500, 0));
        holder.come();
        let lease = Lease { holder, until: 9_000 };
        let mut before = Orders::default();
        pop_held(&mut before, &[5], 100, (lease.clone(), 9_100));
        let saved = before.take_changed(200).unwrap();
        let mut after = Orders::default();
        // The message was acknowledged after that, which is not in the file.
        after.restore(saved, false, 300);
        after.restore_leases(|_, _, _, _| lease.clone(), 300);
        assert!(after.held.is_empty() && after.is_blocked(OF, None, 0, at(1_099)) && !after.is_blocked(OF, None, 0, at(1_100)));
        assert_eq!(after.take_free(at(1_100)), Some(("t".to_owned(), "g".to_owned(), 2)));
    }
}
