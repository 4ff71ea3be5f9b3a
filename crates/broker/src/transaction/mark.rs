//! Removal marks: messages of `RMQ_SYS_TRANS_OP_HALF_TOPIC` that name half messages which are done, in Apache's form.

use message::names;
use message::properties;
use message::record::{Draft, Record};
use protocol::number::Integer;
use std::fmt::Write;
use std::net::SocketAddr;

const TAG: &str = "d";
/// `TAGS` with [`TAG`], encoded.
const PROPERTIES: &[u8] = b"TAGS\x01d\x02";

/// A removal mark to be written.
pub(super) struct Mark {
    body: String,
    highest: i64,
}

impl Mark {
    /// For these half messages.
    pub(super) fn of(halves: impl Iterator<Item = i64>) -> Self {
        let mut mark = Self {
            body: String::new(),
            highest: -1,
        };
        for half in halves {
            let _ = write!(mark.body, "{half},");
            mark.highest = mark.highest.max(half);
        }
        mark
    }

    /// The highest half message that it names.
    pub(super) fn highest(&self) -> i64 {
        self.highest
    }

    /// Its message, written by the broker at this address.
    pub(super) fn draft(&self, store_host: SocketAddr, now_ms: i64) -> Draft<'_> {
        Draft {
            born_timestamp: now_ms,
            born_host: store_host,
            store_host,
            properties: PROPERTIES,
            ..Draft::new(names::TRANS_OP_HALF_TOPIC, 0, self.body.as_bytes())
        }
    }
}

/// The half messages that a message of the topic names. What is no number is left out; [`None`]: it is no removal mark.
pub(crate) fn marked<'a>(record: &Record<'a>) -> Option<impl Iterator<Item = i64> + use<'a>> {
    let is_mark = properties::find(record.properties, properties::TAGS) == Some(TAG.as_bytes());
    is_mark.then(|| record.body.split(|byte| *byte == b',').filter_map(i64::parse))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use message::record::Placement;
    use message::{LogOffset, QueueOffset};

    #[test]
    fn a_removal_mark_is_read_as_apaches() {
        let host = SocketAddr::from(([127, 0, 0, 1], 1));
        let read = |draft: Draft<'_>| {
            let mut bytes = BytesMut::new();
            let placement = Placement {
                queue_offset: QueueOffset(0),
                log_offset: LogOffset(0),
                store_timestamp: 1,
            };
            draft.encode(placement, &mut bytes);
            marked(&Record::parse(&bytes).unwrap()).map(Iterator::collect::<Vec<_>>)
        };
        let mark = Mark::of([17, 5].into_iter());
        assert_eq!((mark.body.as_str(), mark.highest()), ("17,5,", 17));
        assert_eq!(read(mark.draft(host, 1)), Some(vec![17, 5]));
        let other = |body: &'static [u8], properties| Draft {
            properties,
            ..Draft::new(names::TRANS_OP_HALF_TOPIC, 0, body)
        };
        assert_eq!(read(other(b"5,x,,-1,17", PROPERTIES)), Some(vec![5, -1, 17]));
        assert_eq!(read(other(b"5,", b"TAGS\x01e\x02")), None);
        assert_eq!(PROPERTIES, properties::Builder::new().with(properties::TAGS, TAG).build());
    }
}
