//! Handlers of message queries: codes 12 and 33.

use crate::errors::Refusal;
use crate::queues::Log;
use crate::reply::{Answer, Outcome};
use bytes::{Bytes, BytesMut};
use protocol::query::{BY_TAG, QueryMessageHeader, ViewMessageHeader};
use protocol::{Frame, ResponseCode};
use store::IndexedBy;

/// Limit of a response in bytes. Records over it are left out, except the first.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Limits of the number of records in a response: `maxMsgsNumBatch`, and `defaultQueryMaxNum` for a unique key.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    /// Of any query.
    pub records: u32,
    /// Of a query by unique key.
    pub by_unique_key: u32,
}

/// Code 12: the newest records of a topic by key, unique key or tag, in the order of the log; code 22 if there are none.
///
/// # Errors
/// `SystemError` if a field is missing, or the refusal of a `StoreError` if the index or the log cannot be read.
pub fn by_key(request: &Frame, log: &dyn Log, most: QueryLimits) -> Outcome {
    let header = QueryMessageHeader::decode(&request.ext)?;
    // Compat: for a unique key Apache ignores the number that the client requests.
    let max = if header.unique_key {
        most.by_unique_key
    } else {
        u32::try_from(header.max_num).unwrap_or(0)
    };
    let max = usize::try_from(max.min(most.records)).unwrap_or(usize::MAX);
    let by = match header.index_type {
        Some(BY_TAG) if !header.unique_key => IndexedBy::Tag(header.key),
        _ => IndexedBy::Key(header.key),
    };
    let found = log.indexed(header.topic, by, header.begin_timestamp, header.end_timestamp, max)?;
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

/// Joins the records in the order of the log; they come newest first. Over the limit the oldest are left out.
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

/// Code 33: the record at the log offset in a message id.
///
/// # Errors
/// `SystemError` if no record starts there or it cannot be read.
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

    fn header(max: &str, unique: &str) -> Frame {
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

    fn most(records: u32) -> QueryLimits {
        QueryLimits { records, by_unique_key: 2 }
    }

    fn log() -> FakeLog {
        FakeLog(vec![
            Bytes::from_static(b"aa"),
            Bytes::from_static(b"bb"),
            Bytes::from_static(b"cc"),
        ])
    }

    #[test]
    fn records_are_joined_up_to_the_requested_number() {
        let answer = by_key(&header("2", "false"), &log(), most(64)).unwrap();
        assert_eq!(&answer.body[..], b"bbaa");
        assert_eq!(answer.fields.long("indexLastUpdatePhyoffset"), Some(7));
        assert_eq!(&by_key(&header("1", "true"), &log(), most(64)).unwrap().body[..], b"bbaa");
        assert_eq!(&by_key(&header("99", "false"), &log(), most(1)).unwrap().body[..], b"aa");
    }

    #[test]
    fn the_index_type_selects_a_query_by_tag() {
        let by_type = |index_type: &str, unique: &str| {
            let mut frame = header("9", unique);
            frame.ext.push("indexType", index_type);
            by_key(&frame, &log(), most(64)).unwrap().body
        };
        assert_eq!(&by_type("T", "false")[..], b"cc");
        assert_eq!(&by_type("K", "false")[..], b"ccbbaa");
        assert_eq!(&by_type("T", "true")[..], b"bbaa", "a unique key takes precedence");
    }

    #[test]
    fn an_empty_result_has_its_own_code() {
        let answer = by_key(&header("5", "false"), &FakeLog(vec![]), most(64)).unwrap();
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
