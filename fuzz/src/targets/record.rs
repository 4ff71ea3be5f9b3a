//! Stored records, and the batches that clients send.

use super::recorded;
use crate::Target;
use message::LogOffset;
use message::properties::Indexed;
use message::record::{MIN_LEN, Peek, Record, peek, peek_store_timestamp};

/// See the module.
pub const TARGET: Target = Target {
    name: "record",
    run,
    seeds,
};

/// Records taken in all from the log of a Java broker.
const RECORDS: usize = 40;

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for log in recorded("store/tests/golden/clean/commitlog", "") {
        let mut at = 0;
        while let (Peek::Record { size }, true) = (peek(&log[at..]), seeds.len() < RECORDS) {
            seeds.push(log[at..at + size].to_vec());
            at += size;
        }
    }
    let mut batch = Vec::new();
    for body in [&b"one"[..], b"", b"three"] {
        let item = message::batch::Item {
            flag: 1,
            body,
            properties: b"KEYS\x01k\x02",
        };
        message::batch::push(&mut batch, item);
    }
    seeds.push(batch);
    seeds
}

fn run(data: &[u8]) {
    let _ = peek_store_timestamp(data);
    if let Ok(record) = Record::parse(data) {
        assert!(record.size >= MIN_LEN && record.size <= data.len());
        let _ = (
            record.is_plausible(LogOffset(0)),
            record.crc_matches(),
            Indexed::of(record.properties),
        );
    }
    let parts: usize = message::batch::items(data)
        .map_while(Result::ok)
        .map(|item| item.body.len() + item.properties.len())
        .sum();
    assert!(parts <= data.len());
}
