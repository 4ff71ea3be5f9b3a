//! Pulls of a logical queue, against a plain model: a list of messages, each with its logical offset.

use super::*;
use proptest::prelude::*;
use protocol::static_topic::QueueMappingDetail;

/// Physical queues: those of the items, by generation. The messages from `min` on exist.
#[derive(Clone, Debug)]
struct Physical {
    min: i64,
    max: i64,
}

/// The answer of a physical queue, by the rules of an ordinary one.
fn read(queue: &Physical, offset: i64, most: i64) -> Pulled {
    let (code, next) = if offset < queue.min {
        (ResponseCode::PullOffsetMoved, queue.min)
    } else if offset > queue.max {
        (ResponseCode::PullOffsetMoved, queue.max)
    } else if offset == queue.max {
        (ResponseCode::PullNotFound, offset)
    } else {
        (ResponseCode::Success, (offset + most).min(queue.max))
    };
    Pulled {
        code,
        status: "",
        next: QueueOffset(next),
        min: QueueOffset(queue.min),
        max: QueueOffset(queue.max),
        offset_delta: None,
        topic_sys_flag: 0,
        group_sys_flag: 0,
        pull_from: 0,
        records: Vec::new(),
        bytes: 0,
    }
}

/// A logical queue whose leader is broker `b0`; broker `b1` has every other item before.
fn mapping(items: Vec<QueueMappingItem>) -> Arc<Mapping> {
    let mut detail = QueueMappingDetail::new("t", 1, "b0", 1);
    detail.hosted_queues.insert(0, items);
    Arc::new(Mapping::new(detail))
}

fn item(generation: i32, broker: &str, logic_offset: i64) -> QueueMappingItem {
    QueueMappingItem {
        generation,
        bname: broker.to_owned(),
        queue_id: generation,
        logic_offset,
        ..QueueMappingItem::default()
    }
}

fn header(offset: i64) -> PullHeader<'static> {
    PullHeader {
        topic: "t",
        queue_offset: offset,
        max_msg_nums: 32,
        sys_flag: sys_flag::SUSPEND | sys_flag::COMMIT_OFFSET,
        commit_offset: offset,
        ..PullHeader::default()
    }
}

/// One pull at a logical offset: the physical range that it read, and the answer.
fn pull(mapping: &Arc<Mapping>, queues: &[Physical], offset: i64, most: i64) -> (i32, i64, Pulled) {
    let source = source(mapping, &header(offset)).unwrap();
    let (generation, from) = (source.header.queue_id, source.header.queue_offset);
    let mut pulled = read(&queues[generation as usize], from, most);
    source.pull.translate(Some(from), &mut pulled);
    (generation, from, pulled)
}

/// The logical offsets that a reader gets, from `offset` to the end.
fn read_all(mapping: &Arc<Mapping>, queues: &[Physical], mut offset: i64, most: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    for _ in 0..10_000 {
        let (_, from, pulled) = pull(mapping, queues, offset, most);
        match pulled.code {
            ResponseCode::Success => {
                let delta = pulled.offset_delta.unwrap();
                seen.extend(from + delta..pulled.next.0);
            }
            ResponseCode::PullNotFound => return seen,
            _ => assert_ne!(pulled.next.0, offset, "it has to get on"),
        }
        offset = pulled.next.0;
    }
    panic!("the reader does not come to an end");
}

prop_compose! {
    /// Sizes of physical queues with how much of the first one is deleted, and whether the last one is undecided.
    fn history()(sizes in prop::collection::vec(0i64..50, 1..6), deleted in 0.0..1.0f64, undecided in any::<bool>())
        -> (Vec<Physical>, Vec<QueueMappingItem>, Vec<i64>) {
        let mut queues: Vec<Physical> = sizes.iter().map(|size| Physical { min: 0, max: *size }).collect();
        queues[0].min = (queues[0].max as f64 * deleted) as i64;
        let last = sizes.len() - 1;
        let (mut items, mut messages, mut start) = (Vec::new(), Vec::new(), 0);
        for (n, queue) in queues.iter().enumerate() {
            let is_undecided = undecided && n == last && last > 0;
            let broker = if (last - n) % 2 == 0 { "b0" } else { "b1" };
            items.push(item(n as i32, broker, if is_undecided { -1 } else { start }));
            if !is_undecided {
                messages.extend(start + queue.min..start + queue.max);
            }
            start = (start + queue.max) / 100 * 100 + 100;
        }
        (queues, items, messages)
    }
}

proptest! {
    #[test]
    fn a_reader_gets_every_message_once_and_in_order((queues, items, messages) in history(), most in 1i64..20) {
        prop_assert_eq!(read_all(&mapping(items), &queues, 0, most), messages);
    }

    #[test]
    fn a_reader_that_begins_anywhere_gets_what_follows((queues, items, messages) in history(), at in 0i64..700) {
        let expected: Vec<i64> = messages.iter().copied().filter(|offset| *offset >= at).collect();
        let read = read_all(&mapping(items.clone()), &queues, at, 7);
        // Offsets beyond an item's end belong to it until the next one begins; beyond the last end a reader is taken back to it.
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn bounds_enclose_the_answer((queues, items, _) in history(), at in 0i64..700) {
        let mapping = mapping(items);
        let (_, _, pulled) = pull(&mapping, &queues, at, 7);
        prop_assert!(pulled.min <= pulled.next && pulled.next <= pulled.max.max(QueueOffset(at)), "{:?}", pulled);
    }
}

#[test]
fn a_pull_of_another_broker_neither_waits_nor_commits_there() {
    let mapping = mapping(vec![item(0, "b1", 0), item(1, "b0", 10_000)]);
    let there = source(&mapping, &header(5)).unwrap();
    assert_eq!((there.broker.as_deref(), there.header.sys_flag), (Some("b1"), 0));
    assert_eq!((there.header.queue_id, there.header.queue_offset), (0, 5));
    let here = source(&mapping, &header(10_003)).unwrap();
    assert_eq!((here.broker, here.header.queue_id, here.header.queue_offset), (None, 1, 3));
    assert_eq!(here.header.commit_offset, 3);
    assert!(here.pull.may_wait() && !there.pull.may_wait());
    let earlier = PullHeader {
        commit_offset: 5,
        ..header(10_003)
    };
    assert_eq!(
        source(&mapping, &earlier).unwrap().header.sys_flag,
        sys_flag::SUSPEND,
        "that of the other item"
    );
}

#[test]
fn a_reset_is_translated_and_not_judged() {
    let mapping = mapping(vec![item(0, "b1", 0), item(1, "b0", 10_000)]);
    let source = source(&mapping, &header(10_003)).unwrap();
    let mut pulled = read(&Physical { min: 0, max: 5 }, 9, 1);
    pulled.next = QueueOffset(2);
    source.pull.translate(None, &mut pulled);
    assert_eq!((pulled.code, pulled.next.0), (ResponseCode::PullOffsetMoved, 10_002));
    assert_eq!(pulled.offset_delta, Some(10_000));
}

#[test]
fn only_the_leader_answers_and_only_when_something_is_decided() {
    let moved = mapping(vec![item(0, "b0", 0), item(1, "b1", 10_000)]);
    assert!(source(&moved, &header(0)).unwrap_err().to_string().contains("moved to broker b1"));
    let fresh = mapping(vec![item(0, "b0", -1)]);
    assert!(source(&fresh, &header(0)).unwrap_err().to_string().contains("not decided"));
}
