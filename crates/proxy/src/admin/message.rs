//! Messages: queries, consumption on demand, and sends.

use super::{MAX_NAME_BYTES, Work, checked, group_of, topic_of};
use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::message::{Shown, of_record};
use crate::time::timestamp_ms;
use crate::v2::list_message_request::SearchKey;
use crate::v2::{
    AdminSendMessageRequest, AdminSendMessageResponse, Code, ListMessageRequest, ListMessageResponse, Message, SendMessageRequest,
    VerifyMessageRequest, VerifyMessageResponse,
};
use ::admin::Error;
use ::admin::message::query::{self, Search};
use ::admin::message::read::{QueueReader, ReadOptions, Span};
use ::message::names;
use ::message::record::Record;
use client::{KeyQuery, Queue};
use protocol::Language;
use protocol::diagnose::ConsumeResult;

/// Messages of a page, if the request does not say how many.
const DEFAULT_PAGE: usize = 32;
/// Maximum number of messages of a page.
const MAX_PAGE: usize = 64;
/// Bytes of messages after which a page ends: gRPC clients take answers of 4 MiB, unless they are told otherwise.
const MAX_PAGE_BYTES: usize = 3 << 20;
/// Messages that pages before the requested one may have.
const MAX_SKIPPED: usize = 10_000;
/// Reads of a queue, of up to 32 messages each, after which a page ends although it is not full.
const MAX_READS: usize = 500;
/// Messages that a query by key asks a broker for at once. A broker takes no more by default (`maxMsgsNumBatch`).
const WITH_KEY: i32 = 64;
/// How often brokers are asked for messages with a key.
const MAX_KEY_READS: usize = 200;

/// Which messages are asked for.
struct Asked {
    begin_ms: Option<i64>,
    /// Inclusive.
    end_ms: Option<i64>,
    size: usize,
    /// Messages of the pages before.
    skipped: usize,
}

impl Asked {
    fn of(told: &ListMessageRequest) -> Result<Self, Refused> {
        let bad = |text: String| Err(Refused::new(Code::BadRequest, text));
        let begin_ms = told.begin_timestamp.as_ref().map(timestamp_ms);
        let end_ms = told.end_timestamp.as_ref().map(timestamp_ms);
        if let (Some(begin), Some(end)) = (begin_ms, end_ms)
            && begin > end
        {
            return bad(format!("begin_timestamp is {} ms after end_timestamp", begin.saturating_sub(end)));
        }
        let positive = |number: i32| usize::try_from(number).ok().filter(|number| *number > 0);
        let sizes = [positive(told.max_message_nums), told.page_size.and_then(positive)];
        let size = sizes.into_iter().flatten().min().unwrap_or(DEFAULT_PAGE).min(MAX_PAGE);
        let pages = told.page_num.and_then(positive).unwrap_or(1) - 1;
        let skipped = pages.saturating_mul(size);
        if skipped > MAX_SKIPPED {
            return bad(format!(
                "page {} is behind {skipped} messages; beyond {MAX_SKIPPED} use scroll_id",
                pages + 1
            ));
        }
        Ok(Self {
            begin_ms,
            end_ms,
            size,
            skipped,
        })
    }
}

/// The messages of an answer.
#[derive(Default)]
struct Page {
    messages: Vec<Message>,
    bytes: usize,
}

impl Page {
    /// Whether it has room for this one. The first one always has.
    fn takes(&self, record: &Record<'_>, size: usize) -> bool {
        self.messages.is_empty() || (self.messages.len() < size && self.bytes + record.size <= MAX_PAGE_BYTES)
    }

    fn add(&mut self, record: &Record<'_>, topic: &str) {
        self.bytes += record.size;
        let topic = topic.to_owned();
        self.messages.push(of_record(record, Shown { topic, ..Shown::default() }));
    }

    fn answer(self, scroll_id: String) -> ListMessageResponse {
        ListMessageResponse {
            status: Some(codes::ok()),
            messages: self.messages,
            scroll_id,
        }
    }
}

/// Where a page of several queues begins: a queue and an offset in it.
#[derive(Debug, PartialEq, Eq)]
struct Cursor {
    broker: String,
    queue_id: i32,
    offset: i64,
}

impl Cursor {
    fn write(queue: &Queue, offset: i64) -> String {
        format!("{}/{}/{offset}", queue.broker, queue.id)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, '/');
        let offset = parts.next()?.parse().ok()?;
        let queue_id = parts.next()?.parse().ok()?;
        let broker = parts.next()?.to_owned();
        Some(Self { broker, queue_id, offset })
    }
}

/// A message among those with a key: newer ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    stored_ms: i64,
    log_offset: i64,
}

impl Position {
    fn of(record: &Record<'_>) -> Self {
        Self {
            stored_ms: record.store_timestamp,
            log_offset: record.log_offset.0,
        }
    }

    fn write(self) -> String {
        format!("{}/{}", self.stored_ms, self.log_offset)
    }

    fn read(text: &str) -> Option<Self> {
        let (stored_ms, log_offset) = text.split_once('/')?;
        Some(Self {
            stored_ms: stored_ms.parse().ok()?,
            log_offset: log_offset.parse().ok()?,
        })
    }
}

fn bad_cursor() -> Refused {
    let text = "scroll_id is not one of an answer to this request; leave it out to begin with the first message";
    Refused::new(Code::BadRequest, text)
}

fn no_message(text: String) -> Refused {
    Refused::new(Code::MessageNotFound, text)
}

fn missing(error: Error) -> Refused {
    match error {
        Error::NotFound(text) => no_message(text),
        other => other.into(),
    }
}

impl Work {
    pub(super) async fn messages(&self, told: ListMessageRequest) -> Result<ListMessageResponse, Refused> {
        let topic = topic_of(told.topic.as_ref())?;
        let asked = Asked::of(&told)?;
        let scroll = told.scroll_id.as_deref().filter(|scroll| !scroll.is_empty());
        match &told.search_key {
            Some(SearchKey::MessageId(id)) => self.by_id(topic, id).await,
            Some(SearchKey::MessageKey(key)) => self.by_key(topic, key, &asked, scroll).await,
            Some(SearchKey::Subscription(filter)) => {
                let queues = self.cluster().queues(topic, None).await?;
                self.read(topic, queues, filter, &told, &asked, scroll).await
            }
            Some(SearchKey::LiteTopic(lite)) => {
                checked(lite, "lite topic", Code::IllegalLiteTopic)?;
                let name = names::lite_queue(topic, lite);
                let brokers = self.cluster().brokers_with(topic, None).await?;
                let queue = |broker: ::admin::Broker| Queue {
                    broker: broker.name.as_str().into(),
                    ..Queue::at(&broker.address, &name, 0)
                };
                let queues = brokers.into_iter().map(queue).collect();
                self.read(topic, queues, "*", &told, &asked, scroll).await
            }
            None => {
                let text = "the request needs message_id, message_key, subscription (tags, or * for all) or lite_topic";
                Err(Refused::new(Code::BadRequest, text))
            }
        }
    }

    /// By unique key or offset id.
    async fn by_id(&self, topic: &str, id: &str) -> Result<ListMessageResponse, Refused> {
        checked(id, "message id", Code::IllegalMessageId)?;
        let stored = query::stored_in_topic(self.cluster(), topic, id).await.map_err(missing)?;
        let mut page = Page::default();
        page.add(&query::first(&stored)?, topic);
        Ok(page.answer(String::new()))
    }

    /// Newest first. A broker answers with a few dozen messages, so it is asked again for those that are older.
    async fn by_key(&self, topic: &str, key: &str, asked: &Asked, scroll: Option<&str>) -> Result<ListMessageResponse, Refused> {
        checked(key, "message key", Code::IllegalMessageKey)?;
        let mut before = scroll.map(|scroll| Position::read(scroll).ok_or_else(bad_cursor)).transpose()?;
        let mut to_skip = if before.is_some() { 0 } else { asked.skipped };
        let (begin_ms, end_ms) = (asked.begin_ms.unwrap_or(0), asked.end_ms.unwrap_or(i64::MAX));
        let mut until_ms = before.map_or(end_ms, |before| before.stored_ms.min(end_ms));
        let mut page = Page::default();
        for _ in 0..MAX_KEY_READS {
            let query = KeyQuery {
                max: WITH_KEY,
                // An index knows times to the second, rounded down.
                begin: begin_ms.saturating_sub(1_000).max(0),
                end: until_ms,
                ..KeyQuery::key(topic, key)
            };
            let search = Search { query, cluster: None };
            let stored = query::stored_by_key(self.cluster(), &search).await?;
            let found: Vec<Vec<Record<'_>>> = stored.iter().map(|body| query::with_key(body, &search.query).collect()).collect();
            let is_fresh = |record: &Record<'_>| {
                let is_asked = (begin_ms..=end_ms).contains(&record.store_timestamp);
                is_asked && before.is_none_or(|before| Position::of(record) < before)
            };
            let oldest = |records: &Vec<Record<'_>>| records.iter().map(Position::of).min();
            // A broker may have more messages before its oldest one of this answer, so others' older ones have to wait.
            let complete = found.iter().filter(|records| records.iter().any(is_fresh)).filter_map(oldest).max();
            let Some(complete) = complete else {
                let Some(oldest) = found.iter().filter_map(oldest).max() else {
                    break;
                };
                // All are known: go on before them. Messages of the same second that a broker left out are not found.
                until_ms = oldest.stored_ms.min(until_ms).saturating_sub(1);
                if until_ms < begin_ms {
                    break;
                }
                continue;
            };
            let mut fresh: Vec<&Record<'_>> = found.iter().flatten().filter(|record| is_fresh(record)).collect();
            fresh.retain(|record| Position::of(record) >= complete);
            fresh.sort_by_key(|record| std::cmp::Reverse(Position::of(record)));
            for record in fresh {
                if to_skip > 0 {
                    to_skip -= 1;
                } else if page.takes(record, asked.size) {
                    page.add(record, topic);
                } else {
                    return Ok(page.answer(before.map_or_else(String::new, Position::write)));
                }
                before = Some(Position::of(record));
            }
            until_ms = before.map_or(until_ms, |before| before.stored_ms);
        }
        if page.messages.is_empty() && scroll.is_none() {
            return Err(no_message(format!(
                "topic {topic} has no message with key {key} in this time and page"
            )));
        }
        Ok(page.answer(String::new()))
    }

    /// Reads queues one after the other.
    async fn read(
        &self,
        topic: &str,
        mut queues: Vec<Queue>,
        filter: &str,
        told: &ListMessageRequest,
        asked: &Asked,
        scroll: Option<&str>,
    ) -> Result<ListMessageResponse, Refused> {
        let cursor = scroll.map(|scroll| Cursor::read(scroll).ok_or_else(bad_cursor)).transpose()?;
        let broker = told.broker_name.as_deref().filter(|broker| !broker.is_empty());
        queues.retain(|queue| broker.is_none_or(|broker| *queue.broker == *broker) && told.queue_id.is_none_or(|id| queue.id == id));
        if queues.is_empty() {
            let text = format!("topic {topic} has no such queue to read; GetTopicRoute shows its brokers and queues");
            return Err(Refused::new(Code::NotFound, text));
        }
        queues.sort_by(|a, b| (&a.broker, a.id).cmp(&(&b.broker, b.id)));
        if let Some(cursor) = &cursor {
            queues.retain(|queue| (&*queue.broker, queue.id) >= (cursor.broker.as_str(), cursor.queue_id));
        }
        let options = ReadOptions {
            filter: if filter.is_empty() { "*" } else { filter }.to_owned(),
            ..ReadOptions::default()
        };
        let mut to_skip = if cursor.is_some() { 0 } else { asked.skipped };
        let (mut page, mut reads) = (Page::default(), 0);
        for queue in queues {
            let from = cursor
                .as_ref()
                .filter(|cursor| *cursor.broker == *queue.broker && cursor.queue_id == queue.id);
            let span = Span {
                begin: asked.begin_ms,
                end: asked.end_ms.map(|end| end.saturating_add(1)),
                from: from.map(|cursor| cursor.offset),
            };
            let mut reader = QueueReader::open(self.cluster(), queue.clone(), span, &options).await?;
            while let Some(batch) = reader.next_stored().await? {
                for record in batch.records() {
                    let record = record?;
                    if to_skip > 0 {
                        to_skip -= 1;
                        continue;
                    }
                    if !page.takes(&record, asked.size) {
                        return Ok(page.answer(Cursor::write(&queue, record.queue_offset.0)));
                    }
                    page.add(&record, topic);
                }
                reads += 1;
                if reads >= MAX_READS && to_skip > 0 {
                    let text = "the pages before have too few messages for the queues that they are read from; use scroll_id";
                    return Err(Refused::new(Code::BadRequest, text));
                }
                if reads >= MAX_READS {
                    return Ok(page.answer(Cursor::write(&queue, reader.next_offset())));
                }
            }
        }
        Ok(page.answer(String::new()))
    }

    pub(super) async fn verify(&self, told: VerifyMessageRequest) -> Result<VerifyMessageResponse, Refused> {
        let (group, topic) = (group_of(told.group.as_ref())?, topic_of(told.topic.as_ref())?);
        checked(&told.message_id, "message id", Code::IllegalMessageId)?;
        if told.client_id.is_empty() || told.client_id.len() > MAX_NAME_BYTES {
            let text = "client_id must be the id of a consumer; ListConsumerConnection has them";
            return Err(Refused::new(Code::BadRequest, text));
        }
        let stored = query::stored_in_topic(self.cluster(), topic, &told.message_id)
            .await
            .map_err(missing)?;
        let record = query::first(&stored)?;
        let reply = query::consume(self.cluster(), &record, group, &told.client_id).await?;
        match reply.consume_result {
            Some(ConsumeResult::Success | ConsumeResult::Commit) => Ok(VerifyMessageResponse { status: Some(codes::ok()) }),
            result => {
                let text = format!(
                    "client {} did not consume the message: {} {}",
                    told.client_id,
                    result.map_or("no result", ConsumeResult::name),
                    reply.remark.unwrap_or_default()
                );
                Err(Refused::new(Code::FailedToConsumeMessage, text))
            }
        }
    }

    /// As a producer of this protocol sends it, with the same checks.
    pub(super) async fn send(&self, told: AdminSendMessageRequest) -> Result<AdminSendMessageResponse, Refused> {
        let mut system = told.system_properties.unwrap_or_default();
        system.tag = told.tag.or(system.tag);
        system.keys.extend(told.key.filter(|key| !key.is_empty()));
        if system.message_id.is_empty() {
            system.message_id = client::unique_key();
        }
        let message = Message {
            topic: told.topic,
            user_properties: told.user_properties,
            system_properties: Some(system),
            body: told.body,
        };
        let caller = Caller {
            client_id: format!("admin@{}", self.from.peer).into(),
            language: Language::Other,
            connection: self.from.clone(),
            timeout: None,
        };
        let request = SendMessageRequest { messages: vec![message] };
        let answer = self.messaging.send(&caller, request).await;
        let message_id = answer.entries.into_iter().next().map(|entry| entry.message_id);
        Ok(AdminSendMessageResponse {
            status: answer.status,
            message_id: message_id.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_others_are_refused() {
        let queue = Queue {
            broker: "a/b".into(),
            ..Queue::at("h:1", "t", 3)
        };
        let cursor = Cursor::read(&Cursor::write(&queue, 7)).unwrap();
        assert_eq!((cursor.broker.as_str(), cursor.queue_id, cursor.offset), ("a/b", 3, 7));
        for wrong in ["", "7", "3/7", "b/x/7", "b/3/x"] {
            assert_eq!(Cursor::read(wrong), None, "{wrong}");
        }
        let position = Position {
            stored_ms: 5,
            log_offset: 6,
        };
        assert_eq!(Position::read(&position.write()), Some(position));
        assert_eq!((Position::read("5"), Position::read("5/x")), (None, None));
    }

    #[test]
    fn a_page_has_limits() {
        let of = |max_message_nums, page_size, page_num| {
            Asked::of(&ListMessageRequest {
                max_message_nums,
                page_size,
                page_num,
                ..ListMessageRequest::default()
            })
        };
        let sizes = |asked: Result<Asked, Refused>| asked.map(|asked| (asked.size, asked.skipped)).map_err(|refused| refused.code);
        assert_eq!(sizes(of(0, None, None)), Ok((DEFAULT_PAGE, 0)));
        assert_eq!(sizes(of(i32::MAX, Some(i32::MAX), Some(1))), Ok((MAX_PAGE, 0)));
        assert_eq!(sizes(of(10, Some(5), Some(3))), Ok((5, 10)));
        assert_eq!(sizes(of(-1, Some(-1), Some(-1))), Ok((DEFAULT_PAGE, 0)));
        assert_eq!(sizes(of(0, None, Some(i32::MAX))), Err(Code::BadRequest));
    }
}
