//! Queries for messages by key or unique key (12) and by offset message id (33), whose answers are stored records, see
//! [`crate::records`]; raw entries of a queue (321).

use bytes::Bytes;
use message::id;
use protocol::diagnose::{ConsumeQueueEntries, QueryConsumeQueueHeader};
use protocol::query::{QueryMessageHeader, ViewMessageHeader};
use protocol::{Frame, RequestCode, ResponseCode};

use crate::{Client, Error};

/// A query by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The key.
    pub key: &'a str,
    /// Whether it is a unique key.
    pub unique: bool,
    /// Maximum number of messages.
    pub max: i32,
    /// Minimum store time, ms since 1970.
    pub begin: i64,
    /// Maximum store time.
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
    /// The records with a key at a broker; empty if there are none.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
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

    /// The record with this offset message id, from the address in the id.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not such an id; otherwise as in [`Client::ask`].
    pub async fn view(&self, offset_id: &str, topic: Option<&str>) -> Result<Bytes, Error> {
        let parsed = id::parse_offset_id(offset_id);
        let (address, offset) = parsed.ok_or_else(|| Error::Invalid(format!("{offset_id} is not an offset message id")))?;
        self.view_at(&address.to_string(), offset.0, topic).await
    }

    /// The record at a log offset of a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn view_at(&self, address: &str, log_offset: i64, topic: Option<&str>) -> Result<Bytes, Error> {
        let mut request = Frame::request(RequestCode::ViewMessageById);
        let header = ViewMessageHeader { topic, offset: log_offset };
        header.encode(&mut request.ext);
        Ok(self.ask(address, request).await?.body)
    }

    /// Stored entries of a consume queue.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn queue_entries(&self, address: &str, header: &QueryConsumeQueueHeader<'_>) -> Result<ConsumeQueueEntries, Error> {
        let mut request = Frame::request(RequestCode::QueryConsumeQueue);
        header.encode(&mut request.ext);
        self.ask_for(address, request).await
    }
}
