//! Codes 12 and 33.

use crate::errors::Refusal;
use crate::queues::Log;
use crate::reply::{Answer, Outcome};
use bytes::{Bytes, BytesMut};
use protocol::query::{BY_TAG, QueryMessageHeader, ViewMessageHeader};
use protocol::{Frame, ResponseCode};
use store::IndexedBy;

/// Most bytes of one answer; what would not fit is left out, but for the first record.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Most records of an answer: the settings `maxMsgsNumBatch` and, for a unique key, `defaultQueryMaxNum`.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Of any answer.
    pub records: u32,
    /// By unique key.
    pub by_unique_key: u32,
}

/// Code 12: the newest records of a topic by a key, by their unique key, or by a tag, in the order of the log; none is code 22.
///
/// # Errors
/// A field is missing, or the disk's.
pub fn by_key(request: &Frame, log: &dyn Log, most: Most) -> Outcome {
    let asked = QueryMessageHeader::decode(&request.ext)?;
    // Compat: for a unique key Apache takes its own number, whatever the client asks for.
    let wanted = if asked.unique_key {
        most.by_unique_key
    } else {
        u32::try_from(asked.max_num).unwrap_or(0)
    };
    let wanted = usize::try_from(wanted.min(most.records)).unwrap_or(usize::MAX);
    let by = match asked.index_type {
        Some(BY_TAG) if !asked.unique_key => IndexedBy::Tag(asked.key),
        _ => IndexedBy::Key(asked.key),
    };
    let found = log.indexed(asked.topic, by, asked.begin_timestamp, asked.end_timestamp, wanted)?;
    let answer = |answer: Answer, timestamp: i64, log_offset: i64| {
        answer
            .with("indexLastUpdateTimestamp", timestamp)
            .with("indexLastUpdatePhyoffset", log_offset)
    };
    if found.records.is_empty() {
        let text = "can not find message, maybe time range not correct";
        return Ok(answer(Answer::ok().code(ResponseCode::QueryNotFound).remark(text), 0, 0));
    }
    let body = Answer::body(join(&found.records));
    Ok(answer(body, found.last_timestamp, found.last_log_offset.0))
}

/// The records, which come newest first, in the order of the log. What is over the bound is the oldest.
fn join(records: &[Bytes]) -> Bytes {
    let mut bytes = 0;
    let fits = records.iter().take_while(|record| {
        let first = bytes == 0;
        bytes += record.len();
        first || bytes <= MAX_BYTES
    });
    let fits: Vec<&Bytes> = fits.collect();
    let mut body = BytesMut::with_capacity(fits.iter().map(|record| record.len()).sum());
    for record in fits.into_iter().rev() {
        body.extend_from_slice(record);
    }
    body.freeze()
}

/// Code 33: the record at the log offset that its id names.
///
/// # Errors
/// No record begins there.
pub fn by_id(request: &Frame, log: &dyn Log) -> Outcome {
    let offset = ViewMessageHeader::decode(&request.ext)?.offset;
    match log.record(offset) {
        Ok(record) => Ok(Answer::body(record)),
        Err(refusal) => {
            let text = format!("can not find message by the offset, {offset}: {}", refusal.text);
            Err(Refusal::system(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::LogOffset;
    use protocol::RequestCode;
    use store::QueryResult;

    struct FakeLog(Vec<Bytes>);

    impl Log for FakeLog {
        fn record(&self, offset: i64) -> Result<Bytes, Refusal> {
            let at = usize::try_from(offset).map_err(|_| Refusal::system("no record"))?;
            self.0.get(at).cloned().ok_or_else(|| Refusal::system("no record"))
        }

        fn indexed(&self, _: &str, by: IndexedBy<'_>, _: i64, _: i64, max: usize) -> Result<QueryResult, Refusal> {
            let tagged = usize::from(matches!(by, IndexedBy::Tag(_)));
            Ok(QueryResult {
                records: self.0.iter().skip(2 * tagged).take(max).cloned().collect(),
                last_timestamp: 5,
                last_log_offset: LogOffset(7),
            })
        }
    }

    fn asked(max: &str, unique: &str) -> Frame {
        let mut frame = Frame::request(RequestCode::QueryMessage);
        let fields = [
            ("topic", "t"),
            ("key", "k"),
            ("maxNum", max),
            ("beginTimestamp", "0"),
            ("endTimestamp", "9"),
        ];
        for (name, value) in fields {
            frame.ext.push(name, value);
        }
        frame.ext.push("_UNIQUE_KEY_QUERY", unique);
        frame
    }

    fn most(records: u32) -> Most {
        Most { records, by_unique_key: 2 }
    }

    fn log() -> FakeLog {
        FakeLog(vec![
            Bytes::from_static(b"aa"),
            Bytes::from_static(b"bb"),
            Bytes::from_static(b"cc"),
        ])
    }

    #[test]
    fn records_come_one_after_another_up_to_the_number_asked() {
        let answer = by_key(&asked("2", "false"), &log(), most(64)).unwrap();
        assert_eq!(&answer.body[..], b"bbaa");
        assert_eq!(answer.fields.long("indexLastUpdatePhyoffset"), Some(7));
        assert_eq!(&by_key(&asked("1", "true"), &log(), most(64)).unwrap().body[..], b"bbaa");
        assert_eq!(&by_key(&asked("99", "false"), &log(), most(1)).unwrap().body[..], b"aa");
    }

    #[test]
    fn a_tag_is_looked_for_when_the_index_type_says_so() {
        let by_type = |index_type: &str, unique: &str| {
            let mut frame = asked("9", unique);
            frame.ext.push("indexType", index_type);
            by_key(&frame, &log(), most(64)).unwrap().body
        };
        assert_eq!(&by_type("T", "false")[..], b"cc");
        assert_eq!(&by_type("K", "false")[..], b"ccbbaa");
        assert_eq!(&by_type("T", "true")[..], b"bbaa", "a unique key wins");
    }

    #[test]
    fn nothing_found_is_said_by_code() {
        let answer = by_key(&asked("5", "false"), &FakeLog(vec![]), most(64)).unwrap();
        assert_eq!((answer.code, answer.body.len()), (ResponseCode::QueryNotFound, 0));
        let mut frame = Frame::request(RequestCode::ViewMessageById);
        frame.ext.push("offset", 9);
        let refusal = by_id(&frame, &log()).unwrap_err();
        assert!(
            refusal.text.starts_with("can not find message by the offset, 9"),
            "{}",
            refusal.text
        );
        frame.ext.push("offset", 1);
        assert_eq!(&by_id(&frame, &log()).unwrap().body[..], b"bb");
    }
}
