//! The body of SEND_BATCH_MESSAGE: consecutive messages of one topic and queue.
//!
//! | field | bytes |
//! |---|---|
//! | total size, itself included | 4 |
//! | magic, 0 | 4 |
//! | body CRC, 0: the broker computes it | 4 |
//! | flag | 4 |
//! | body length, body | 4 + n |
//! | properties length, properties | 2 + n |

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The user's flag.
    pub flag: i32,
    /// The body as sent.
    pub body: &'a [u8],
    /// The encoded properties.
    pub properties: &'a [u8],
}

/// A batch body whose lengths do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("batch body is malformed at byte {at}")]
pub struct BatchError {
    /// Where in the batch body.
    pub at: usize,
}

/// The messages of a batch body; ends after the first error.
pub fn items(body: &[u8]) -> impl Iterator<Item = Result<Item<'_>, BatchError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= body.len() {
            return None;
        }
        let parsed = parse(&body[at..]);
        let here = at;
        at = parsed.map_or(body.len(), |(_, used)| here + used);
        Some(parsed.map(|(item, _)| item).ok_or(BatchError { at: here }))
    })
}

fn parse(rest: &[u8]) -> Option<(Item<'_>, usize)> {
    let int = |at: usize| Some(i32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    let total = usize::try_from(int(0)?).ok()?;
    let body_len = usize::try_from(int(16)?).ok()?;
    let body = rest.get(20..20usize.checked_add(body_len)?)?;
    let at = 20 + body_len;
    let properties_len = usize::try_from(i16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?)).ok()?;
    let properties = rest.get(at + 2..at + 2 + properties_len)?;
    let used = at + 2 + properties_len;
    (total == used).then_some((
        Item {
            flag: int(12)?,
            body,
            properties,
        },
        used,
    ))
}

/// Appends one message to a batch body.
pub fn push(out: &mut Vec<u8>, item: Item<'_>) {
    let total = 4 * 5 + item.body.len() + 2 + item.properties.len();
    for word in [total as u32, 0, 0, item.flag as u32, item.body.len() as u32] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(item.body);
    out.extend_from_slice(&(item.properties.len() as u16).to_be_bytes());
    out.extend_from_slice(item.properties);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_back_as_written() {
        let all = [
            Item {
                flag: 7,
                body: b"one",
                properties: b"A\x011",
            },
            Item {
                flag: 0,
                body: b"",
                properties: b"",
            },
        ];
        let mut out = Vec::new();
        all.iter().for_each(|i| push(&mut out, *i));
        assert_eq!(items(&out).collect::<Result<Vec<_>, _>>().unwrap(), all);
    }

    #[test]
    fn a_wrong_length_is_an_error_and_ends_the_batch() {
        let mut out = Vec::new();
        push(
            &mut out,
            Item {
                flag: 0,
                body: b"one",
                properties: b"",
            },
        );
        out[19] = 200;
        assert_eq!(items(&out).collect::<Vec<_>>(), [Err(BatchError { at: 0 })]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = items(&bytes).count();
        }
    }
}
