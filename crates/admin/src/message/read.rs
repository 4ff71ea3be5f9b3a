//! Reading queues in batches, without committing offsets.

use std::collections::BTreeMap;

use client::{Outcome, PullOptions, Pulled, Puller, Queue};
use message::Record;
use serde::Serialize;

use crate::message::body::Charset;
use crate::message::{Found, TOOLS_GROUP};
use crate::{Cluster, Error};

/// Messages per pull.
const BATCH: i64 = 32;

/// A part of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Minimum store time, ms.
    pub begin: Option<i64>,
    /// End of store times, exclusive, ms.
    pub end: Option<i64>,
    /// Minimum queue offset.
    pub from: Option<i64>,
}

/// Options of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// The group to pull with. Its offsets are not changed.
    pub group: String,
    /// Tags, `A || B`, or `*`.
    pub filter: String,
    /// How bodies are shown.
    pub charset: Charset,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            group: TOOLS_GROUP.to_owned(),
            filter: "*".to_owned(),
            charset: Charset::default(),
        }
    }
}

/// Result of reading a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueRead {
    /// The topic.
    pub topic: String,
    /// The broker's name.
    pub broker: String,
    /// The queue.
    pub queue_id: i32,
    /// The first offset that was read.
    pub from_offset: i64,
    /// The offset at which reading ended.
    pub to_offset: i64,
    /// Messages that matched.
    pub messages: usize,
    /// Number of messages by tag, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, usize>>,
}

/// Messages of one pull.
pub struct StoredBatch {
    pulled: Pulled,
    /// Messages from this offset on do not count.
    end: i64,
}

impl StoredBatch {
    /// The records.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, client::Error>> {
        let found = self.pulled.records().take_while(|_| self.pulled.outcome == Outcome::Found);
        found.filter(|record| record.as_ref().map_or(true, |record| record.queue_offset.0 < self.end))
    }
}

/// Reads a queue.
pub struct QueueReader {
    puller: Puller,
    queue: Queue,
    pull: PullOptions,
    charset: Charset,
    from: i64,
    next: i64,
    end: i64,
    messages: usize,
}

impl QueueReader {
    /// Opens a reader of a part of a queue. Looks up the first and last offset of the part.
    ///
    /// # Errors
    /// [`Error::Call`] if the broker does not answer.
    pub async fn open(cluster: &Cluster, queue: Queue, span: Span, options: &ReadOptions) -> Result<Self, Error> {
        let client = cluster.client();
        let begin = match span.begin {
            Some(time) => client.offset_at(&queue, time).await?,
            None => client.min_offset(&queue).await?,
        };
        let end = match span.end {
            Some(time) => client.offset_at(&queue, time).await?,
            None => client.max_offset(&queue).await?,
        };
        let next = begin.max(span.from.unwrap_or(begin));
        let pull = PullOptions {
            filter: options.filter.clone(),
            ..PullOptions::default()
        };
        Ok(Self {
            puller: Puller::new(client, &options.group),
            queue,
            pull,
            charset: options.charset,
            from: next,
            next,
            end,
            messages: 0,
        })
    }

    /// Number of offsets that remain.
    pub fn left(&self) -> i64 {
        self.end.saturating_sub(self.next).max(0)
    }

    /// Ends after this many offsets from here.
    pub fn limit(&mut self, offsets: i64) {
        self.end = self.end.min(self.next.saturating_add(offsets));
    }

    /// The next messages; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Call`] if the broker refuses or does not answer.
    pub async fn next(&mut self) -> Result<Option<Vec<Found>>, Error> {
        let Some(stored) = self.next_stored().await? else {
            return Ok(None);
        };
        let mut batch = Vec::new();
        for record in stored.records() {
            batch.push(Found::new(&record?, self.charset));
        }
        self.messages += batch.len();
        Ok(Some(batch))
    }

    /// The next messages as they are stored; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Call`] if the broker refuses or does not answer.
    pub async fn next_stored(&mut self) -> Result<Option<StoredBatch>, Error> {
        if self.next >= self.end {
            return Ok(None);
        }
        self.pull.max_messages = BATCH.min(self.left()) as i32;
        let pulled = self.puller.pull(&self.queue, self.next, &self.pull).await?;
        // A broker that does not advance would make this loop endless.
        let stuck = pulled.next_offset <= self.next;
        self.next = pulled.next_offset;
        match pulled.outcome {
            Outcome::NothingNew => self.end = self.next,
            _ if stuck => self.end = self.next,
            Outcome::Found | Outcome::NoMatch | Outcome::OffsetMoved => {}
        }
        let end = if stuck { i64::MAX } else { self.end };
        Ok(Some(StoredBatch { pulled, end }))
    }

    /// The offset with which reading continues.
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// The result.
    pub fn done(&self, tags: Option<BTreeMap<String, usize>>) -> QueueRead {
        QueueRead {
            topic: self.queue.topic.to_string(),
            broker: self.queue.broker.to_string(),
            queue_id: self.queue.id,
            from_offset: self.from,
            to_offset: self.next,
            messages: self.messages,
            tags,
        }
    }
}
