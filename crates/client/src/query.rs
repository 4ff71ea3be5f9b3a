//! Finding messages: by key or unique key (12), by offset message id (33). Answers are stored records, see [`crate::records`]. A queue's
//! raw entries (321).

use bytes::Bytes;
use message::id;
use protocol::diagnose::{ConsumeQueueEntries, QueryConsumeQueueHeader};
use protocol::query::{QueryMessageHeader, ViewMessageHeader};
use protocol::{Frame, RequestCode, ResponseCode};

use crate::{Client, Error};

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery<'a> {
    /// In which topic.
    pub topic: &'a str,
    /// The key.
    pub key: &'a str,
    /// It is a unique key.
    pub unique: bool,
    /// Most messages.
    pub max: i32,
    /// Stored from here on, ms since 1970.
    pub begin: i64,
    /// Stored up to here.
    pub end: i64,
}

impl<'a> KeyQuery<'a> {
    /// Any time, at most 32 messages.
    pub fn key(topic: &'a str, key: &'a str) -> Self {
        Self {
            topic,
            key,
            unique: false,
            max: 32,
            begin: 0,
            end: i64::MAX,
        }
    }

    /// Any time, at most 32 messages with this unique key.
    pub fn unique_key(topic: &'a str, key: &'a str) -> Self {
        Self {
            unique: true,
            ..Self::key(topic, key)
        }
    }
}

impl Client {
    /// The records a broker has for a key; empty when there are none.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn find(&self, address: &str, query: &KeyQuery<'_>) -> Result<Bytes, Error> {
        let mut request = Frame::request(RequestCode::QueryMessage);
        let header = QueryMessageHeader {
            topic: query.topic,
            key: query.key,
            max_num: query.max,
            begin_timestamp: query.begin,
            end_timestamp: query.end,
            index_type: None,
            last_key: None,
            unique_key: query.unique,
        };
        header.encode(&mut request.ext);
        match self.ask(address, request).await {
            Ok(answer) => Ok(answer.body),
            Err(error) if error.code() == Some(ResponseCode::QueryNotFound.into()) => Ok(Bytes::new()),
            Err(error) => Err(error),
        }
    }

    /// The record with this offset message id, asked at the address that the id names.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no id; else as [`Client::ask`].
    pub async fn view(&self, offset_id: &str, topic: Option<&str>) -> Result<Bytes, Error> {
        let parsed = id::parse_offset_id(offset_id);
        let (address, offset) = parsed.ok_or_else(|| Error::Invalid(format!("{offset_id} is no offset message id")))?;
        let mut request = Frame::request(RequestCode::ViewMessageById);
        let header = ViewMessageHeader { topic, offset: offset.0 };
        header.encode(&mut request.ext);
        Ok(self.ask(&address.to_string(), request).await?.body)
    }

    /// Entries of a consume queue as they are stored.
    ///
    /// # Errors
    /// As [`Client::ask_for`].
    pub async fn queue_entries(&self, address: &str, header: &QueryConsumeQueueHeader<'_>) -> Result<ConsumeQueueEntries, Error> {
        let mut request = Frame::request(RequestCode::QueryConsumeQueue);
        header.encode(&mut request.ext);
        self.ask_for(address, request).await
    }
}
