//! Which mapping a broker accepts, given the one it has.

use protocol::static_topic::{InvalidMapping, QueueMappingDetail, QueueMappingItem, check_items};

/// Most items of one logical queue: how often it can be moved before the clean-up removes the first ones.
pub const MAX_ITEMS: usize = 1_000;

fn invalid<T>(text: String) -> Result<T, InvalidMapping> {
    Err(InvalidMapping(text))
}

/// The mapping that replaces `old`: `new` with the queues that only the old one has. With `force` it need not fit the old one.
///
/// # Errors
/// [`InvalidMapping`] if the new one is not of this broker, is malformed, is older, or changes what must not change: the items that
/// both have, and the leaders unless the epoch is higher.
pub fn accepted(
    old: Option<&QueueMappingDetail>,
    mut new: QueueMappingDetail,
    broker: &str,
    force: bool,
) -> Result<QueueMappingDetail, InvalidMapping> {
    check(&new, broker)?;
    let Some(old) = old else { return Ok(new) };
    let is_same_epoch = new.epoch == old.epoch;
    if !force {
        if new.epoch < old.epoch {
            return invalid(format!("Can't accept data with small epoch {} < {}", new.epoch, old.epoch));
        }
        if new.scope() != old.scope() {
            return invalid(format!("Can't accept data with unmatched scope {} != {}", new.scope(), old.scope()));
        }
    }
    for (id, items) in &old.hosted_queues {
        match new.hosted_queues.get_mut(id) {
            None if is_same_epoch && !force => return invalid("Cannot accept equal epoch with null data".to_owned()),
            None => drop(new.hosted_queues.insert(*id, items.clone())),
            Some(_) if force => {}
            Some(changed) => {
                keep_decided(items, changed);
                check_change(*id, items, changed, is_same_epoch)?;
            }
        }
    }
    Ok(new)
}

fn check(new: &QueueMappingDetail, broker: &str) -> Result<(), InvalidMapping> {
    if new.bname != broker {
        return invalid(format!("the mapping is of broker {}, this is {broker}", new.bname));
    }
    for (id, items) in &new.hosted_queues {
        if *id < 0 {
            return invalid(format!("a logical queue has the id {id}"));
        }
        if items.len() > MAX_ITEMS {
            return invalid(format!("logical queue {id} has {} items, the limit is {MAX_ITEMS}", items.len()));
        }
        check_items(items)?;
    }
    Ok(())
}

/// A tool that repeats a move begins with an item whose offset is decided already.
fn keep_decided(old: &[QueueMappingItem], new: &mut [QueueMappingItem]) {
    let undecided = new.last_mut().filter(|item| !item.is_decided());
    if let Some(last) = undecided
        && let Some(known) = old.iter().find(|item| item.generation == last.generation)
    {
        last.logic_offset = known.logic_offset;
    }
}

/// Items may be missing at both ends: the clean-up removes the first ones, and a queue that comes back to a broker brings those of
/// meanwhile.
fn check_change(id: i32, old: &[QueueMappingItem], new: &[QueueMappingItem], is_same_epoch: bool) -> Result<(), InvalidMapping> {
    let Some(new_leader) = new.last() else {
        return match old.is_empty() {
            true => Ok(()),
            false => invalid("The new item list is null or empty".to_owned()),
        };
    };
    for before in old {
        let same = new.iter().find(|item| item.generation == before.generation);
        let changed = same.filter(|now| {
            let is_moved = now.bname != before.bname || now.queue_id != before.queue_id || now.start_offset != before.start_offset;
            is_moved || (before.is_decided() && now.logic_offset != before.logic_offset)
        });
        if changed.is_some() {
            return invalid(format!("item {} of logical queue {id} must not change", before.generation));
        }
    }
    let is_other_leader = |leader: &QueueMappingItem| leader.generation != new_leader.generation;
    if is_same_epoch && old.last().is_some_and(is_other_leader) {
        return invalid("The new leader is different but epoch equal".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(epoch: i64, queues: &[(i32, &[QueueMappingItem])]) -> QueueMappingDetail {
        let mut detail = QueueMappingDetail::new("t", 2, "a", epoch);
        detail.hosted_queues = queues.iter().map(|(id, items)| (*id, items.to_vec())).collect();
        detail
    }

    fn outcome(old: &QueueMappingDetail, new: &QueueMappingDetail) -> Result<QueueMappingDetail, String> {
        accepted(Some(old), new.clone(), "a", false).map_err(|error| error.0)
    }

    #[test]
    fn the_steps_of_a_move_are_accepted() {
        let before = of(
            1,
            &[(0, &[QueueMappingItem::new(0, "a", 0)]), (1, &[QueueMappingItem::new(0, "a", 0)])],
        );
        let begun = of(2, &[(0, &[QueueMappingItem::new(0, "a", 0), QueueMappingItem::new(1, "b", -1)])]);
        let merged = outcome(&before, &begun).unwrap();
        assert_eq!(merged.hosted_queues.len(), 2, "the other queue is kept");
        let decided = of(
            2,
            &[
                (0, &[QueueMappingItem::new(0, "a", 0), QueueMappingItem::new(1, "b", 10_000)]),
                (1, &[QueueMappingItem::new(0, "a", 0)]),
            ],
        );
        assert_eq!(outcome(&merged, &decided).unwrap(), decided);
        let repeated = outcome(&decided, &merged).unwrap();
        assert_eq!(repeated, decided, "a decided offset stays");
        let cleaned = of(3, &[(0, &[QueueMappingItem::new(1, "b", 10_000)])]);
        assert!(outcome(&decided, &cleaned).is_ok());
    }

    #[test]
    fn what_contradicts_the_mapping_is_refused_unless_forced() {
        let old = of(
            5,
            &[(0, &[QueueMappingItem::new(0, "a", 0), QueueMappingItem::new(1, "a", 10_000)])],
        );
        let mut other_scope = old.clone();
        other_scope.scope = Some("east".to_owned());
        let items = |epoch, items: &[QueueMappingItem]| of(epoch, &[(0, items)]);
        for (new, why) in [
            (
                items(4, &[QueueMappingItem::new(0, "a", 0)]),
                "Can't accept data with small epoch 4 < 5",
            ),
            (of(5, &[]), "Cannot accept equal epoch with null data"),
            (items(6, &[]), "The new item list is null or empty"),
            (
                items(5, &[QueueMappingItem::new(0, "a", 0), QueueMappingItem::new(2, "b", 20_000)]),
                "The new leader is different but epoch equal",
            ),
            (
                items(6, &[QueueMappingItem::new(0, "b", 0)]),
                "item 0 of logical queue 0 must not change",
            ),
            (
                items(6, &[QueueMappingItem::new(0, "a", 0), QueueMappingItem::new(1, "a", 10_001)]),
                "item 1 of logical queue 0 must not change",
            ),
            (other_scope, "Can't accept data with unmatched scope east != __global__"),
        ] {
            assert_eq!(outcome(&old, &new), Err(why.to_owned()));
            assert!(accepted(Some(&old), new, "a", true).is_ok(), "{why}");
        }
        assert!(accepted(None, old.clone(), "b", true).unwrap_err().0.contains("of broker a"));
        assert!(accepted(None, items(1, &vec![QueueMappingItem::new(0, "a", 0); MAX_ITEMS + 1]), "a", true).is_err());
    }
}
