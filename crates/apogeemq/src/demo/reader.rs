//! A member of a consumer group for the demo: it pulls from all queues of a topic and commits what it has processed.

use std::time::Duration;

use client::{Client, PullOptions, Puller, Queue};

use crate::failure::Failure;

/// How long a reader pauses when it has found no message.
const PAUSE: Duration = Duration::from_millis(5);

/// Reads a topic for a group.
pub(super) struct Reader {
    puller: Puller,
    /// Queue and next offset.
    queues: Vec<(Queue, i64)>,
    tags: String,
}

impl Reader {
    /// Starts where the group stopped, or at the beginning. `tags` as in subscriptions: `*`, or `A || B`.
    pub(super) async fn open(client: &Client, group: &str, queues: &[Queue], tags: &str) -> Result<Self, Failure> {
        let puller = Puller::new(client, group);
        let mut positions = Vec::new();
        for queue in queues {
            let committed = puller.committed(queue).await.map_err(Failure::new)?;
            positions.push((queue.clone(), committed.unwrap_or(0)));
        }
        Ok(Self {
            puller,
            queues: positions,
            tags: tags.to_owned(),
        })
    }

    /// The bodies of at most `max` new messages of each queue; none after a short pause if there are none. The next call commits them.
    pub(super) async fn next(&mut self, max: i32) -> Result<Vec<String>, Failure> {
        let mut bodies = Vec::new();
        for (queue, offset) in &mut self.queues {
            let options = PullOptions {
                max_messages: max,
                commit: Some(*offset),
                filter: self.tags.clone(),
                ..PullOptions::default()
            };
            let pulled = self.puller.pull(queue, *offset, &options).await.map_err(Failure::new)?;
            for record in pulled.records() {
                bodies.push(String::from_utf8_lossy(record.map_err(Failure::new)?.body).into_owned());
            }
            *offset = pulled.next_offset;
        }
        if bodies.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(bodies)
    }

    /// Commits all that was returned.
    pub(super) async fn commit(&self) -> Result<(), Failure> {
        for (queue, offset) in &self.queues {
            self.puller.commit(queue, *offset).await.map_err(Failure::new)?;
        }
        Ok(())
    }
}
