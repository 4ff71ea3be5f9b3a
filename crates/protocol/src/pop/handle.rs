//! Handles of popped messages, and the texts of an answer from which clients make them.
//!
//! A handle (property `POP_CK`, header field `extraInfo`) is eight texts separated by blanks:
//!
//! | # | text |
//! |---|---|
//! | 1 | the first queue offset of the pop |
//! | 2 | when it was popped, epoch ms |
//! | 3 | for how long it is invisible, ms |
//! | 4 | queue of the revive topic; 999 for a pop in order |
//! | 5 | 0: of the topic itself, 1 or 2: of its retry topic of that version |
//! | 6 | name of the broker |
//! | 7 | the queue |
//! | 8 | the message's queue offset; may be missing |

use super::ORDER_REVIVE_QUEUE;
use std::fmt::{self, Display, Write};

/// Why a handle is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// Too few parts.
    #[error("the handle has {0} parts, a handle has at least 6")]
    Parts(usize),
    /// A part is not a number.
    #[error("part {0} of the handle is not a number")]
    Number(usize),
}

/// Which topic a message was popped from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The topic itself.
    Topic,
    /// The group's retry topic for it, `%RETRY%group_topic`.
    RetryV1,
    /// The same of version 2, `%RETRY%group+topic`.
    RetryV2,
}

impl Origin {
    /// The text in handles.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Topic => "0",
            Self::RetryV1 => "1",
            Self::RetryV2 => "2",
        }
    }

    /// From the text in handles.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Topic, Self::RetryV1, Self::RetryV2]
            .into_iter()
            .find(|origin| origin.text() == text)
    }
}

/// A handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle<'a> {
    /// The first queue offset of the pop.
    pub start: i64,
    /// When it was popped, epoch ms.
    pub pop_time: i64,
    /// For how long it is invisible, ms.
    pub invisible_time: i64,
    /// Queue of the revive topic, or [`ORDER_REVIVE_QUEUE`].
    pub revive_queue: i32,
    /// Where it was popped from.
    pub origin: &'a str,
    /// Name of the broker.
    pub broker: &'a str,
    /// The queue.
    pub queue_id: i32,
    /// The message's queue offset.
    pub offset: Option<i64>,
}

impl<'a> Handle<'a> {
    /// Reads a handle.
    ///
    /// # Errors
    /// [`HandleError`] if it has too few parts, or one is not a number.
    pub fn parse(text: &'a str) -> Result<Self, HandleError> {
        let mut parts = [""; 8];
        let mut count = 0;
        for (part, text) in parts.iter_mut().zip(text.split(' ')) {
            *part = text;
            count += 1;
        }
        if count < 6 {
            return Err(HandleError::Parts(count));
        }
        let number = |at: usize| parts[at].parse::<i64>().map_err(|_| HandleError::Number(at + 1));
        let small = |at: usize| parts[at].parse::<i32>().map_err(|_| HandleError::Number(at + 1));
        Ok(Self {
            start: number(0)?,
            pop_time: number(1)?,
            invisible_time: number(2)?,
            revive_queue: small(3)?,
            origin: parts[4],
            broker: parts[5],
            queue_id: if count > 6 { small(6)? } else { -1 },
            offset: if count > 7 { Some(number(7)?) } else { None },
        })
    }

    /// Whether the message was popped in order.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.revive_queue == ORDER_REVIVE_QUEUE
    }
}

impl Display for Handle<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            start,
            pop_time,
            invisible_time,
            revive_queue,
            origin,
            broker,
            queue_id,
            offset,
        } = self;
        write!(
            out,
            "{start} {pop_time} {invisible_time} {revive_queue} {origin} {broker} {queue_id}"
        )?;
        offset.map_or(Ok(()), |offset| write!(out, " {offset}"))
    }
}

/// Adds the first offset of a queue that was popped from: `origin queue offset`, separated by `;`.
pub fn push_start_offset(out: &mut String, origin: Origin, queue_id: i32, start: i64) {
    separate(out);
    let _ = write!(out, "{} {queue_id} {start}", origin.text());
}

/// Adds the offsets of the messages from a queue: `origin queue offset,offset,…`, separated by `;`.
pub fn push_message_offsets(out: &mut String, origin: Origin, queue_id: i32, offsets: &[i64]) {
    separate(out);
    let _ = write!(out, "{} {queue_id} ", origin.text());
    for (at, offset) in offsets.iter().enumerate() {
        let _ = write!(out, "{}{offset}", if at > 0 { "," } else { "" });
    }
}

/// Adds how often a message was handed out before: `origin qo<queue>%<offset> count`. With no offset, the least of its queue, which
/// older clients read: `origin queue count`.
pub fn push_order_count(out: &mut String, origin: Origin, queue_id: i32, offset: Option<i64>, count: i32) {
    separate(out);
    let _ = match offset {
        Some(offset) => write!(out, "{} qo{queue_id}%{offset} {count}", origin.text()),
        None => write!(out, "{} {queue_id} {count}", origin.text()),
    };
}

fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push(';');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_back() {
        let text = "100 1700000000000 60000 3 2 broker-a 5 107";
        let handle = Handle::parse(text).unwrap();
        assert_eq!((handle.start, handle.queue_id, handle.offset), (100, 5, Some(107)));
        assert_eq!(Origin::parse(handle.origin), Some(Origin::RetryV2));
        assert_eq!(handle.to_string(), text);
        let short = Handle::parse("100 5 6 999 0 b").unwrap();
        assert!(short.is_in_order() && short.offset.is_none());
        assert_eq!(Handle::parse("1 2 3 4 0"), Err(HandleError::Parts(5)));
        assert_eq!(Handle::parse("1 2 x 4 0 b"), Err(HandleError::Number(3)));
    }

    #[test]
    fn the_texts_of_an_answer_are_apaches() {
        let (mut start, mut offsets, mut counts) = (String::new(), String::new(), String::new());
        push_start_offset(&mut start, Origin::Topic, 0, 7);
        push_start_offset(&mut start, Origin::RetryV1, 0, 9);
        push_message_offsets(&mut offsets, Origin::Topic, 0, &[7, 8, 12]);
        push_message_offsets(&mut offsets, Origin::RetryV1, 0, &[9]);
        push_order_count(&mut counts, Origin::Topic, 3, Some(7), 2);
        push_order_count(&mut counts, Origin::Topic, 3, None, 0);
        assert_eq!(start, "0 0 7;1 0 9");
        assert_eq!(offsets, "0 0 7,8,12;1 0 9");
        assert_eq!(counts, "0 qo3%7 2;0 3 0");
    }
}
