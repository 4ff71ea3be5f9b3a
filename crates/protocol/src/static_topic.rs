//! Static topics: a fixed number of logical queues, each stored in one physical queue after the other, on any broker. Code 513, and
//! parts of 21, 103, 105 and 351.
//!
//! A logical queue is a list of [`QueueMappingItem`]s, oldest first. Each names a physical queue and the logical offset of its first
//! message. The last one is written to; its broker *leads* the logical queue and serves all requests of clients for it.
//!
//! ```text
//! logical offset   0 ........ 7,312        20,000 ....... 20,514 ...
//! item             broker-a, queue 2       broker-b, queue 0
//! physical offset  0 ........ 7,312        0 ............ 514 ...
//! ```
//!
//! Logical offsets between two items do not exist. A queue that is being moved has a last item with logical offset -1 until the
//! end of its predecessor is known: it is written to and not read yet.
//!
//! Not here: which broker gets a queue (admin), and what requests do with a mapping (broker).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Prefix of the broker name that clients know a logical queue by.
pub const LOGICAL_BROKER_PREFIX: &str = "__syslo__";
/// The scope that Apache's tools use.
pub const GLOBAL_SCOPE: &str = "__global__";

/// The broker name of the logical queues of a scope: what stands in message queues instead of a broker.
pub fn logical_broker(scope: &str) -> String {
    let scope = if scope == GLOBAL_SCOPE { &GLOBAL_SCOPE[2..] } else { scope };
    format!("{LOGICAL_BROKER_PREFIX}{scope}")
}

/// Which logical queues a broker leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueMapping {
    /// The broker.
    pub bname: String,
    /// Logical queue to physical queue.
    pub curr_id_map: BTreeMap<i32, i32>,
    /// Whether the mapping is being changed.
    pub dirty: bool,
    /// The mapping's version.
    pub epoch: i64,
    /// Scope; usually [`GLOBAL_SCOPE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The topic.
    pub topic: String,
    /// Total number of logical queues.
    pub total_queues: i32,
}

/// The logical queues that a broker leads or led, with their items; the body of code 513.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueMappingDetail {
    /// The broker.
    pub bname: String,
    /// Logical queue to physical queue. Always empty: the items say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curr_id_map: Option<BTreeMap<i32, i32>>,
    /// Whether the mapping is being changed.
    pub dirty: bool,
    /// The mapping's version, epoch ms.
    pub epoch: i64,
    /// Logical queue to its physical queues, oldest first.
    pub hosted_queues: BTreeMap<i32, Vec<QueueMappingItem>>,
    /// Scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The topic.
    pub topic: String,
    /// Total number of logical queues.
    pub total_queues: i32,
}

impl QueueMappingDetail {
    /// A mapping without queues.
    pub fn new(topic: &str, total_queues: i32, broker: &str, epoch: i64) -> Self {
        Self {
            bname: broker.to_owned(),
            curr_id_map: Some(BTreeMap::new()),
            epoch,
            scope: Some(GLOBAL_SCOPE.to_owned()),
            topic: topic.to_owned(),
            total_queues,
            ..Self::default()
        }
    }

    /// The scope; Apache's default if there is none.
    pub fn scope(&self) -> &str {
        self.scope.as_deref().unwrap_or(GLOBAL_SCOPE)
    }

    /// The logical queues that this broker leads, for a registration.
    pub fn led(&self) -> QueueMapping {
        let leaders = self.hosted_queues.iter().filter_map(|(id, items)| Some((*id, items.last()?)));
        QueueMapping {
            bname: self.bname.clone(),
            curr_id_map: leaders
                .filter(|(_, leader)| leader.bname == self.bname)
                .map(|(id, leader)| (id, leader.queue_id))
                .collect(),
            dirty: self.dirty,
            epoch: self.epoch,
            scope: Some(self.scope().to_owned()),
            topic: self.topic.clone(),
            total_queues: self.total_queues,
        }
    }
}

/// One physical queue of a logical queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueMappingItem {
    /// The broker.
    pub bname: String,
    /// End of the physical offsets; -1 while open. Apache's tools never set it.
    pub end_offset: i64,
    /// Generation: grows along the list.
    #[serde(rename = "gen")]
    pub generation: i32,
    /// Start of the logical offsets; -1 while the queue is being moved here.
    pub logic_offset: i64,
    /// The physical queue.
    pub queue_id: i32,
    /// Start of the physical offsets, always 0.
    pub start_offset: i64,
    /// ms; -1 when unknown.
    pub time_of_end: i64,
    /// ms; -1 when unknown.
    pub time_of_start: i64,
}

impl Default for QueueMappingItem {
    fn default() -> Self {
        Self {
            bname: String::new(),
            end_offset: -1,
            generation: 0,
            logic_offset: 0,
            queue_id: 0,
            start_offset: 0,
            time_of_end: -1,
            time_of_start: -1,
        }
    }
}

// Offsets come from the network: sums must not overflow.
impl QueueMappingItem {
    /// Queue 0 of a broker, from its first message on.
    #[must_use]
    pub fn new(generation: i32, broker: &str, logic_offset: i64) -> Self {
        Self {
            generation,
            bname: broker.to_owned(),
            logic_offset,
            ..Self::default()
        }
    }

    /// Whether it is known which logical offset its first message has.
    pub fn is_decided(&self) -> bool {
        self.logic_offset >= 0
    }

    /// Whether the end of its physical offsets is set.
    pub fn has_end(&self) -> bool {
        self.end_offset > self.start_offset
    }

    /// What to add to a physical offset.
    pub fn delta(&self) -> i64 {
        self.logic_offset.saturating_sub(self.start_offset)
    }

    /// The logical offset of a physical one; not before the item's first. Only for decided items.
    pub fn logical(&self, physical: i64) -> i64 {
        self.delta().saturating_add(physical.max(self.start_offset))
    }

    /// The logical offset of a message just stored, or of the first one: -1 if the item is undecided, and not beyond the item's end.
    pub fn logical_or_unknown(&self, physical: i64) -> i64 {
        if !self.is_decided() {
            return -1;
        }
        let beyond_end = self.end_offset >= self.start_offset && self.end_offset < physical;
        self.logical(if beyond_end { self.end_offset } else { physical })
    }

    /// The physical offset of a logical one.
    pub fn physical(&self, logical: i64) -> i64 {
        logical.saturating_sub(self.logic_offset).saturating_add(self.start_offset)
    }

    /// The highest logical offset that the item itself tells: its end if that is set, otherwise its start.
    pub fn known_max(&self) -> i64 {
        if self.end_offset >= self.start_offset {
            self.logical(self.end_offset)
        } else {
            self.logic_offset
        }
    }
}

/// The item that has a logical offset: the last decided one that begins at or before it; the first decided one for an offset before
/// all. `None` without a decided item.
pub fn item_of(items: &[QueueMappingItem], logical: i64) -> Option<&QueueMappingItem> {
    let decided = || items.iter().filter(|item| item.is_decided());
    decided().rfind(|item| item.logic_offset <= logical).or_else(|| decided().next())
}

/// The item after the one of this generation, if it is decided.
pub fn item_after(items: &[QueueMappingItem], generation: i32) -> Option<&QueueMappingItem> {
    let at = items.iter().position(|item| item.generation == generation)?;
    items.get(at + 1).filter(|next| next.is_decided())
}

/// What is wrong with a mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMapping(pub String);

/// Checks the items of one logical queue: no negative field, generations and logical offsets that grow, and only the last item
/// undecided.
///
/// # Errors
/// [`InvalidMapping`] for the first rule that is broken.
pub fn check_items(items: &[QueueMappingItem]) -> Result<(), InvalidMapping> {
    let refuse = |text: &str| Err(InvalidMapping(text.to_owned()));
    let Some((last, before)) = items.split_last() else {
        return Ok(());
    };
    for item in items {
        if item.start_offset < 0 || item.generation < 0 || item.queue_id < 0 {
            return refuse("The field is illegal, should not be negative");
        }
        if item.end_offset != -1 && item.end_offset < item.start_offset {
            return refuse("The endOffset is smaller than the start offset");
        }
    }
    if before.iter().any(|item| !item.is_decided()) {
        return refuse("The non-latest item has negative logic offset");
    }
    for (earlier, later) in items.iter().zip(items.iter().skip(1)) {
        if earlier.generation >= later.generation {
            return refuse("The gen does not increase monotonically");
        }
        if later.logic_offset == -1 {
            continue;
        }
        if earlier.logic_offset >= later.logic_offset {
            return refuse("The base logic offset does not increase monotonically");
        }
        if earlier.known_max() >= later.logic_offset {
            return refuse("The max logic offset does not increase monotonically");
        }
    }
    if last.logic_offset < -1 {
        return refuse("The field is illegal, should not be negative");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_belongs_to_the_last_item_that_begins_before_it() {
        let items = [
            QueueMappingItem::new(0, "a", 0),
            QueueMappingItem::new(1, "b", 10_000),
            QueueMappingItem::new(2, "a", -1),
        ];
        let of = |logical| item_of(&items, logical).unwrap().generation;
        assert_eq!([of(-5), of(0), of(9_999), of(10_000), of(i64::MAX)], [0, 0, 0, 1, 1]);
        assert_eq!(item_after(&items, 0).unwrap().generation, 1);
        assert_eq!(item_after(&items, 1), None, "undecided");
        assert_eq!(item_of(&items[2..], 5), None);
        assert_eq!(
            item_of(&[QueueMappingItem::new(3, "a", 500)], 5).unwrap().generation,
            3,
            "before the first"
        );
    }

    #[test]
    fn offsets_are_translated_both_ways_and_never_overflow() {
        let mut moved = QueueMappingItem::new(1, "b", 10_000);
        assert_eq!((moved.logical(7), moved.physical(10_007), moved.delta()), (10_007, 7, 10_000));
        assert_eq!(moved.logical(-1), 10_000, "not before the first");
        moved.end_offset = 5;
        assert_eq!((moved.logical_or_unknown(9), moved.known_max()), (10_005, 10_005));
        assert_eq!(QueueMappingItem::new(1, "b", -1).logical_or_unknown(9), -1);
        let extreme = QueueMappingItem::new(0, "a", i64::MAX);
        assert_eq!(extreme.logical(i64::MAX), i64::MAX);
        assert_eq!(QueueMappingItem::new(0, "a", i64::MIN).physical(i64::MAX), i64::MAX);
    }

    #[test]
    fn items_must_grow_and_only_the_last_may_be_undecided() {
        let checked = |items: &[QueueMappingItem]| check_items(items).map_err(|error| error.0);
        assert_eq!(
            checked(&[
                QueueMappingItem::new(0, "a", 0),
                QueueMappingItem::new(2, "b", 10_000),
                QueueMappingItem::new(3, "a", -1)
            ]),
            Ok(())
        );
        assert_eq!(checked(&[]), Ok(()));
        for (items, why) in [
            (
                vec![QueueMappingItem::new(1, "a", 0), QueueMappingItem::new(1, "b", 5)],
                "The gen does not increase monotonically",
            ),
            (
                vec![QueueMappingItem::new(0, "a", -1), QueueMappingItem::new(1, "b", 5)],
                "The non-latest item has negative logic offset",
            ),
            (
                vec![QueueMappingItem::new(0, "a", 5), QueueMappingItem::new(1, "b", 5)],
                "The base logic offset does not increase monotonically",
            ),
            (
                vec![QueueMappingItem::new(-1, "a", 5)],
                "The field is illegal, should not be negative",
            ),
            (
                vec![QueueMappingItem::new(0, "a", -2)],
                "The field is illegal, should not be negative",
            ),
        ] {
            assert_eq!(checked(&items), Err(why.to_owned()));
        }
        let mut ended = QueueMappingItem::new(0, "a", 0);
        ended.end_offset = 10;
        let why = "The max logic offset does not increase monotonically".to_owned();
        assert_eq!(checked(&[ended, QueueMappingItem::new(1, "b", 10)]), Err(why));
    }

    #[test]
    fn a_broker_registers_the_queues_that_it_leads() {
        let mut detail = QueueMappingDetail::new("t", 2, "a", 7);
        detail
            .hosted_queues
            .insert(0, vec![QueueMappingItem::new(0, "a", 0), QueueMappingItem::new(1, "b", -1)]);
        detail
            .hosted_queues
            .insert(1, vec![QueueMappingItem::new(0, "b", 0), QueueMappingItem::new(1, "a", 10_000)]);
        let led = detail.led();
        assert_eq!((led.curr_id_map, led.epoch, led.total_queues), (BTreeMap::from([(1, 0)]), 7, 2));
        assert_eq!(logical_broker(GLOBAL_SCOPE), "__syslo__global__");
        assert_eq!(logical_broker("east"), "__syslo__east");
    }
}
