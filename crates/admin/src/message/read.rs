//! Reading queues in bulk, in batches, without keeping offsets.

use std::collections::BTreeMap;

use client::{Outcome, PullOptions, Puller, Queue};
use serde::Serialize;

use crate::message::body::Charset;
use crate::message::{Found, TOOLS_GROUP};
use crate::{Cluster, Error};

/// Messages of one pull.
const BATCH: i64 = 32;

/// Which part of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Stored from this time on, ms.
    pub begin: Option<i64>,
    /// Stored before this time, ms.
    pub end: Option<i64>,
    /// From this offset on.
    pub from: Option<i64>,
}

/// What of it, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// In whose name; its offsets are not touched.
    pub group: String,
    /// Tags, `A || B`, or `*`.
    pub filter: String,
    /// What bodies are.
    pub charset: Charset,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            group: TOOLS_GROUP.to_owned(),
            filter: "*".to_owned(),
            charset: Charset::default(),
        }
    }
}

/// What was read of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueRead {
    /// The topic.
    pub topic: String,
    /// The broker's name.
    pub broker: String,
    /// The queue.
    pub queue_id: i32,
    /// The first offset looked at.
    pub from_offset: i64,
    /// The offset at which looking ended.
    pub to_offset: i64,
    /// Messages that matched.
    pub messages: usize,
    /// How many messages have each tag, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, usize>>,
}

/// A queue on its way to being read.
pub struct QueueReader {
    puller: Puller,
    queue: Queue,
    wish: PullOptions,
    charset: Charset,
    from: i64,
    next: i64,
    end: i64,
    messages: usize,
}

impl QueueReader {
    /// A reader of a part of a queue; the part's ends are asked for now.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn open(cluster: &Cluster, queue: Queue, span: Span, look: &Look) -> Result<Self, Error> {
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
        let wish = PullOptions {
            filter: look.filter.clone(),
            ..PullOptions::default()
        };
        Ok(Self {
            puller: Puller::new(client, &look.group),
            queue,
            wish,
            charset: look.charset,
            from: next,
            next,
            end,
            messages: 0,
        })
    }

    /// Offsets still to be looked at.
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
    /// The broker refuses or does not answer.
    pub async fn next(&mut self) -> Result<Option<Vec<Found>>, Error> {
        if self.next >= self.end {
            return Ok(None);
        }
        self.wish.max_messages = BATCH.min(self.left()) as i32;
        let pulled = self.puller.pull(&self.queue, self.next, &self.wish).await?;
        // A broker that does not go on would keep us here forever.
        let stuck = pulled.next_offset <= self.next;
        self.next = pulled.next_offset;
        match pulled.outcome {
            Outcome::NothingNew => self.end = self.next,
            _ if stuck => self.end = self.next,
            Outcome::Found | Outcome::NoMatch | Outcome::OffsetMoved => {}
        }
        let mut batch = Vec::new();
        for record in pulled.records().take_while(|_| pulled.outcome == Outcome::Found) {
            let record = record?;
            if record.queue_offset.0 < self.end || stuck {
                batch.push(Found::new(&record, self.charset));
            }
        }
        self.messages += batch.len();
        Ok(Some(batch))
    }

    /// What was read.
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
