//! Requests that are encoded once and patched for each send.
//!
//! All fields that change between two sends have a fixed width, so a request costs a copy and a few digits:
//!
//! | what | where | width |
//! |---|---|---|
//! | opaque: 1,000,000,000 + intended µs, modulo a billion | header | 10 digits |
//! | born time | header | 13 digits |
//! | unique key, its last part | header, or each message of a batch | 12 hex digits |
//! | lite topic | header | 8 digits |
//! | run and intended µs (end to end) | start of the body | 8 + 8 bytes |
//!
//! The opaque contains the time, so that the latency follows from the answer alone, without a table.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use client::{Queue, unique_key};
use message::{batch, id, names, properties};
use protocol::heartbeat::{SUB_ALL, TAG};
use protocol::number::Decimal;
use protocol::pull::{PullHeader, sys_flag};
use protocol::send::SendHeader;
use protocol::transaction::EndTransactionHeader;
use protocol::{Frame, RequestCode};

/// The first number with ten digits: opaques always have ten.
const OPAQUE_BASE: u64 = 1_000_000_000;
/// Microseconds until opaques repeat: a thousand seconds, longer than the time-out of an answer.
const OPAQUE_RANGE: u64 = 1_000_000_000;
/// Hex digits of the counter in a unique key.
const COUNT_DIGITS: usize = 12;
/// Bytes of an end-to-end body before its padding: run, intended µs.
pub(super) const STAMP_LEN: usize = 16;

/// System flag of half messages.
const HALF_FLAG: i32 = 4;
/// The first lite topic: all have eight digits.
const LITE_BASE: u64 = 10_000_000;
/// Bytes of a separator in a property string within JSON: `\u0001`.
const LITE_SEPARATOR: usize = 6;
pub(super) const PRODUCER_GROUP: &str = "ApogeeBenchProducer";
const CONSUMER_GROUP: &str = "ApogeeBenchConsumer";

/// The opaque of a request that is due at this time.
#[inline]
pub(super) fn opaque(due_us: u64) -> u32 {
    (OPAQUE_BASE + due_us % OPAQUE_RANGE) as u32
}

/// When the request with an opaque was due, given the current time.
#[inline]
pub(super) fn due_us(opaque: u32, now_us: u64) -> u64 {
    let due = u64::from(opaque).wrapping_sub(OPAQUE_BASE) % OPAQUE_RANGE;
    let age = (now_us % OPAQUE_RANGE + OPAQUE_RANGE - due) % OPAQUE_RANGE;
    now_us.saturating_sub(age)
}

/// Parameters of sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape<'a> {
    pub(super) size: usize,
    /// Messages per request; 1 is a plain send.
    pub(super) batch: usize,
    /// Each body starts with this number and the time from which its latency is measured.
    pub(super) run: Option<u64>,
    /// When messages are delivered.
    pub(super) wait: Wait<'a>,
    /// Whether they are half messages.
    pub(super) are_half: bool,
    /// Lite topics that they are sent to in turn; 0 for none.
    pub(super) lite_topics: u32,
}

/// When messages are delivered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait<'a> {
    /// At once.
    Not,
    /// At delay levels with these delays in ms, which they use in turn, level 1 first.
    Levels(&'a [i64]),
    /// So many ms after they are sent (`TIMER_DELAY_MS`).
    After(i64),
    /// At this time, epoch ms (`TIMER_DELIVER_MS`).
    At(i64),
}

impl Wait<'_> {
    /// Properties that ask for it, each with the delay in ms from the send on.
    fn properties(self) -> Vec<(Option<(&'static str, String)>, i64)> {
        let asks = |name, value: i64| Some((name, value.to_string()));
        match self {
            Self::Not => vec![(None, 0)],
            Self::Levels(delays_ms) => (1..)
                .zip(delays_ms)
                .map(|(level, delay_ms)| (asks(properties::DELAY, level), *delay_ms))
                .collect(),
            Self::After(ms) => vec![(asks(properties::TIMER_DELAY_MS, ms), ms)],
            Self::At(ms) => vec![(asks(properties::TIMER_DELIVER_MS, ms), 0)],
        }
    }
}

/// Sends to the queues of one broker in turn, from one connection.
pub(super) struct Sends {
    /// One per queue.
    heads: Vec<Head>,
    body: Body,
    turn: usize,
    count: u64,
    clock: WallClock,
    run: Option<u64>,
    lite_topics: u32,
}

struct Head {
    delay_us: u64,
    bytes: Bytes,
    opaque_at: usize,
    born_at: usize,
    key_at: Option<usize>,
    lite_at: Option<usize>,
}

struct Body {
    bytes: Vec<u8>,
    keys_at: Vec<usize>,
}

impl Sends {
    /// `connection` makes the unique keys of the connections of a run different, and selects the first queue.
    pub(super) fn new(shape: Shape<'_>, queues: &[Queue], connection: usize) -> Self {
        let body = Body::new(shape);
        let waits = shape.wait.properties();
        let places = queues.iter().flat_map(|queue| waits.iter().map(move |wait| (queue, wait)));
        let heads = places
            .map(|(queue, (asks, delay_ms))| Head::new(shape, queue, (asks.as_ref(), *delay_ms), body.bytes.len()))
            .collect();
        Self {
            heads,
            body,
            turn: connection,
            count: (connection as u64) << 32,
            clock: WallClock::new(),
            run: shape.run,
            lite_topics: shape.lite_topics,
        }
    }

    /// Appends the next request, due at `due_us`.
    pub(super) fn push(&mut self, due_us: u64, out: &mut Vec<u8>) {
        let head = &self.heads[self.turn % self.heads.len()];
        let lite = self.turn as u64 % u64::from(self.lite_topics.max(1));
        self.turn += 1;
        let start = out.len();
        out.extend_from_slice(&head.bytes);
        if let Some(at) = head.lite_at {
            put(out, start + at, Decimal::new((LITE_BASE + lite) as i64).as_bytes());
        }
        put(out, start + head.opaque_at, Decimal::new(i64::from(opaque(due_us))).as_bytes());
        put(out, start + head.born_at, self.clock.digits(due_us));
        let body = out.len();
        out.extend_from_slice(&self.body.bytes);
        let keys = head
            .key_at
            .map(|at| start + at)
            .into_iter()
            .chain(self.body.keys_at.iter().map(|at| body + at));
        for at in keys {
            put(out, at, &hex(self.count));
            self.count += 1;
        }
        if let Some(run) = self.run {
            put(out, body, &run.to_be_bytes());
            put(out, body + 8, &(due_us + head.delay_us).to_be_bytes());
        }
    }
}

impl Head {
    /// `asks` is a property that asks for the delay beside it, in ms.
    fn new(shape: Shape<'_>, queue: &Queue, (asks, delay_ms): (Option<&(&str, String)>, i64), body_len: usize) -> Self {
        let code = if shape.batch > 1 {
            RequestCode::SendBatchMessage
        } else {
            RequestCode::SendMessageV2
        };
        let key = unique_key();
        let one = properties::Builder::new()
            .with(properties::UNIQ_KEY, &key)
            .with(properties::WAIT, "true");
        let one = match shape.are_half {
            true => one
                .with(properties::TRANSACTION_PREPARED, "true")
                .with(properties::PRODUCER_GROUP, PRODUCER_GROUP),
            false => one,
        };
        let one = match shape.lite_topics {
            0 => one,
            _ => one.with(properties::LITE_TOPIC, &LITE_BASE.to_string()),
        };
        let one = asks.into_iter().fold(one, |one, (name, value)| one.with(name, value)).build();
        let all = properties::Builder::new().with(properties::WAIT, "true").build();
        let header = SendHeader {
            producer_group: PRODUCER_GROUP,
            topic: &queue.topic,
            default_topic: names::AUTO_CREATE_TOPIC,
            default_topic_queue_nums: 4,
            queue_id: queue.id,
            sys_flag: if shape.are_half { HALF_FLAG } else { 0 },
            born_timestamp: wall_ms(),
            properties: if shape.batch > 1 { &all } else { &one },
            batch: shape.batch > 1,
            ..SendHeader::default()
        };
        let mut frame = Frame::request(code);
        frame.opaque = OPAQUE_BASE as i32;
        header.encode_v2(&mut frame.ext);
        let mut bytes = frame.to_bytes().to_vec();
        let total = (bytes.len() - 4 + body_len) as u32;
        put(&mut bytes, 0, &total.to_be_bytes());
        Self {
            delay_us: delay_ms as u64 * 1_000,
            opaque_at: after(&bytes, "\"opaque\":"),
            born_at: after(&bytes, "\"g\":\""),
            lite_at: (shape.lite_topics > 0).then(|| after(&bytes, properties::LITE_TOPIC) + LITE_SEPARATOR),
            key_at: (shape.batch == 1).then(|| after(&bytes, &key) - COUNT_DIGITS),
            bytes: bytes.into(),
        }
    }
}

impl Body {
    fn new(shape: Shape<'_>) -> Self {
        let filling = vec![b'x'; shape.size];
        let (mut bytes, mut keys_at) = (Vec::new(), Vec::new());
        if shape.batch == 1 {
            return Self { bytes: filling, keys_at };
        }
        let key = unique_key();
        let properties = properties::Builder::new()
            .with(properties::UNIQ_KEY, &key)
            .with(properties::WAIT, "true")
            .build();
        let key_from_end = properties.len() - after(&properties, &key) + COUNT_DIGITS;
        for _ in 0..shape.batch {
            let item = batch::Item {
                flag: 0,
                body: &filling,
                properties: &properties,
            };
            batch::push(&mut bytes, item);
            keys_at.push(bytes.len() - key_from_end);
        }
        Self { bytes, keys_at }
    }
}

/// The wall clock as 13 digits of ms, read at most once per ms.
struct WallClock {
    read_at_us: u64,
    digits: Decimal,
}

impl WallClock {
    fn new() -> Self {
        Self {
            read_at_us: 0,
            digits: Decimal::new(wall_ms()),
        }
    }

    fn digits(&mut self, now_us: u64) -> &[u8] {
        if now_us.saturating_sub(self.read_at_us) >= 1_000 {
            (self.read_at_us, self.digits) = (now_us, Decimal::new(wall_ms()));
        }
        self.digits.as_bytes()
    }
}

pub(super) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// Position after a text in the frame; the text was written by us.
fn after(bytes: &[u8], text: &str) -> usize {
    let found = bytes.windows(text.len()).position(|window| window == text.as_bytes());
    found.map_or(0, |at| at + text.len())
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn hex(count: u64) -> [u8; COUNT_DIGITS] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    std::array::from_fn(|at| DIGITS[(count >> (4 * (COUNT_DIGITS - 1 - at)) & 15) as usize])
}

/// The end of a transaction whose half message got this answer; `None` if it was not stored.
pub(super) fn end_transaction(half: &Frame, outcome: i32, out: &mut Vec<u8>) -> Option<()> {
    let (_, commit_log_offset) = id::parse_offset_id(half.ext.text("msgId")?)?;
    let header = EndTransactionHeader {
        topic: None,
        producer_group: PRODUCER_GROUP,
        tran_state_table_offset: half.ext.long("queueOffset")?,
        commit_log_offset: commit_log_offset.0,
        commit_or_rollback: outcome,
        from_transaction_check: false,
        msg_id: half.ext.text("transactionId"),
        transaction_id: half.ext.text("transactionId"),
    };
    let mut frame = Frame::request(RequestCode::EndTransaction);
    frame.opaque = half.opaque;
    header.encode(&mut frame.ext);
    out.extend_from_slice(&frame.to_bytes());
    Some(())
}

/// A pull of one queue. `opaque` comes back with the answer.
pub(super) fn pull(topic: &str, queue_id: i32, offset: i64, max: i32, hold_ms: i64, opaque: u32, out: &mut Vec<u8>) {
    let mut frame = Frame::request(RequestCode::PullMessage);
    frame.opaque = opaque as i32;
    let header = PullHeader {
        consumer_group: CONSUMER_GROUP,
        topic,
        queue_id,
        queue_offset: offset,
        max_msg_nums: max,
        sys_flag: sys_flag::SUBSCRIPTION | if hold_ms > 0 { sys_flag::SUSPEND } else { 0 },
        commit_offset: 0,
        suspend_timeout_ms: hold_ms,
        subscription: Some(SUB_ALL),
        sub_version: 0,
        expression_type: Some(TAG),
        max_msg_bytes: None,
        request_source: None,
        proxy_forward_client_id: None,
        is_logical: None,
    };
    header.encode(&mut frame.ext);
    out.extend_from_slice(&frame.to_bytes());
}

/// When a stamped body of this run was due.
pub(super) fn stamp(body: &[u8], run: u64) -> Option<u64> {
    let (found, rest) = body.split_first_chunk::<8>()?;
    let due = rest.first_chunk::<8>()?;
    (u64::from_be_bytes(*found) == run).then(|| u64::from_be_bytes(*due))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use protocol::frame::{MAX_FRAME_LEN, decode};
    use std::collections::HashSet;

    fn queues(ids: &[i32]) -> Vec<Queue> {
        ids.iter().map(|id| Queue::at("h:1", "t", *id)).collect()
    }

    fn shape(batch: usize) -> Shape<'static> {
        Shape {
            lite_topics: 0,
            size: 100,
            batch,
            run: Some(77).filter(|_| batch == 1),
            wait: Wait::Not,
            are_half: false,
        }
    }

    fn frames(sends: &mut Sends, dues: &[u64]) -> Vec<Frame> {
        let mut out = Vec::new();
        dues.iter().for_each(|due| sends.push(*due, &mut out));
        let mut bytes = BytesMut::from(&out[..]);
        std::iter::from_fn(|| decode(&mut bytes, MAX_FRAME_LEN).unwrap()).collect()
    }

    #[test]
    fn patched_sends_are_whole_requests_to_the_queues_in_turn() {
        let mut sends = Sends::new(shape(1), &queues(&[0, 1, 7]), 1);
        let frames = frames(&mut sends, &[5, 1_000_000_005, 2_000_000]);
        let headers: Vec<_> = frames.iter().map(|frame| SendHeader::decode_v2(&frame.ext).unwrap()).collect();
        assert_eq!(headers.iter().map(|header| header.queue_id).collect::<Vec<_>>(), [1, 7, 0]);
        assert_eq!(
            frames.iter().map(|frame| frame.opaque).collect::<Vec<_>>(),
            [1_000_000_005, 1_000_000_005, 1_002_000_000]
        );
        let keys: HashSet<_> = headers
            .iter()
            .map(|header| properties::text(header.properties, "UNIQ_KEY").unwrap().into_owned())
            .collect();
        assert!(keys.len() == 3 && keys.iter().all(|key| key.len() == 32));
        assert!(frames.iter().all(|frame| frame.code == 310 && frame.body.len() == 100));
        assert!(headers.iter().all(|header| (header.born_timestamp - wall_ms()).abs() < 60_000));
    }

    #[test]
    fn each_message_of_a_batch_has_its_own_key() {
        let frames = frames(&mut Sends::new(shape(3), &queues(&[0]), 0), &[0, 1]);
        assert!(
            frames
                .iter()
                .all(|frame| frame.code == 320 && SendHeader::decode_v2(&frame.ext).unwrap().batch)
        );
        let items: Vec<_> = frames
            .iter()
            .flat_map(|frame| batch::items(&frame.body))
            .map(Result::unwrap)
            .collect();
        let keys: HashSet<_> = items
            .iter()
            .map(|item| properties::text(item.properties, "UNIQ_KEY").unwrap())
            .collect();
        assert_eq!((items.len(), keys.len()), (6, 6));
    }

    #[test]
    fn lite_topics_are_used_in_turn() {
        let lite = Shape {
            lite_topics: 2,
            ..shape(1)
        };
        let frames = frames(&mut Sends::new(lite, &queues(&[0]), 0), &[0, 1, 2]);
        let of = |frame: &Frame| {
            let header = SendHeader::decode_v2(&frame.ext).unwrap();
            properties::text(header.properties, properties::LITE_TOPIC).unwrap().into_owned()
        };
        assert_eq!(frames.iter().map(of).collect::<Vec<_>>(), ["10000000", "10000001", "10000000"]);
    }

    #[test]
    fn connections_use_different_keys() {
        let first = frames(&mut Sends::new(shape(1), &queues(&[0]), 0), &[0]);
        let second = frames(&mut Sends::new(shape(1), &queues(&[0]), 1), &[0]);
        let key = |frames: &[Frame]| frames[0].ext.text("i").unwrap()[..50].to_owned();
        assert_ne!(key(&first), key(&second));
    }

    #[test]
    fn the_due_time_follows_from_the_answer() {
        for (due, now) in [(0, 0), (5, 900), (999_999_999, 1_000_000_100), (7_123_456_789, 7_133_456_789)] {
            let opaque = (OPAQUE_BASE + due % OPAQUE_RANGE) as u32;
            assert_eq!(due_us(opaque, now), due);
        }
    }

    #[test]
    fn delayed_messages_use_the_levels_in_turn_and_count_from_when_they_are_due() {
        let delayed = Shape {
            wait: Wait::Levels(&[1_000, 5_000]),
            ..shape(1)
        };
        let frames = frames(&mut Sends::new(delayed, &queues(&[3, 4]), 0), &[10, 20, 30, 40]);
        let places: Vec<_> = frames
            .iter()
            .map(|frame| {
                let header = SendHeader::decode_v2(&frame.ext).unwrap();
                let level = properties::text(header.properties, properties::DELAY).unwrap().into_owned();
                (header.queue_id, level, stamp(&frame.body, 77).unwrap())
            })
            .collect();
        let place = |queue, level: &str, due| (queue, level.to_owned(), due);
        let expected = [
            place(3, "1", 1_000_010),
            place(3, "2", 5_000_020),
            place(4, "1", 1_000_030),
            place(4, "2", 5_000_040),
        ];
        assert_eq!(places, expected);
    }

    #[test]
    fn a_body_carries_run_and_time() {
        let frames = frames(&mut Sends::new(shape(1), &queues(&[0]), 0), &[123_456]);
        assert_eq!(
            (stamp(&frames[0].body, 77), stamp(&frames[0].body, 78), stamp(b"short", 77)),
            (Some(123_456), None, None)
        );
    }
}
