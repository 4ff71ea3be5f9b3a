//! Messages that are also in light queues: their offsets there are a property of the record, so the record's length is known only
//! under the append lock. Only batches with such a message do any of this.

use super::append::{Batch, DispatchRequest};
use crate::queue::{ConsumeQueue, Entry, OFFSETS_PROPERTY, QueueTable, split};
use message::properties::{MAX_BYTES, NAME_VALUE_SEPARATOR, PROPERTY_SEPARATOR};
use message::record::Draft;
use message::{QueueOffset, names};
use std::collections::HashMap;
use std::sync::Arc;

/// Maximum bytes of an offset with its comma.
const OFFSET_BYTES: usize = 20;

/// A message of a batch that names light queues.
#[derive(Debug)]
pub(crate) struct LightMessage {
    /// Which one of the batch.
    pub(super) draft: usize,
    /// One for each name; `None` if it is not one of a light queue.
    named: Vec<Option<Arc<ConsumeQueue>>>,
    /// Each queue once, and its offset there.
    numbered: Vec<(Arc<ConsumeQueue>, QueueOffset)>,
    /// The properties that the broker adds, with the offsets behind them.
    added: Vec<u8>,
}

impl LightMessage {
    /// `None` if the message is in no light queue.
    pub(super) fn of(table: &QueueTable, draft: usize, message: &Draft<'_>, queues: &str) -> Option<Self> {
        // A message whose own queue is light would have two offsets in one.
        if !names::allows_light_queues(message.topic) || names::is_light_queue(message.topic) {
            return None;
        }
        let named = split(queues).into_iter();
        let named: Vec<_> = named
            .map(|name| names::can_be_light_queue(name).then(|| table.find_or_create(name, 0)))
            .collect();
        let this = Self {
            draft,
            named,
            numbered: Vec::new(),
            added: Vec::new(),
        };
        let bytes = message.properties.len() + message.added_properties.len() + this.max_bytes();
        if this.named.iter().all(Option::is_none) {
            return None;
        }
        if bytes > MAX_BYTES {
            tracing::warn!(
                topic = message.topic,
                bytes,
                max = MAX_BYTES,
                "a message is in none of the light queues that it names: its properties would be too long"
            );
            return None;
        }
        Some(this)
    }

    /// Maximum bytes by which it makes the record longer.
    pub(super) fn max_bytes(&self) -> usize {
        OFFSETS_PROPERTY.len() + 3 + self.named.len() * OFFSET_BYTES
    }

    /// The message with its offsets.
    pub(super) fn draft_of<'d>(&'d self, draft: &Draft<'d>) -> Draft<'d> {
        Draft {
            added_properties: &self.added,
            ..*draft
        }
    }

    /// Assigns the offsets; `entries` gets the queues' entries.
    pub(super) fn assign(self, entry: Entry, entries: &mut Vec<DispatchRequest>) {
        for (queue, queue_offset) in self.numbered {
            let assigned = queue.assign();
            assert_eq!(assigned, queue_offset, "a light queue assigned an offset without the append lock");
            entries.push(DispatchRequest {
                queue,
                queue_offset,
                entry,
            });
        }
    }

    fn number(&mut self, table: &QueueTable, draft: &Draft<'_>, next: &mut HashMap<Arc<str>, i64>) {
        self.numbered.clear();
        self.added.clear();
        self.added.extend_from_slice(draft.added_properties);
        let last = self.added.last().or(draft.properties.last());
        if last.is_some_and(|last| *last != PROPERTY_SEPARATOR) {
            self.added.push(PROPERTY_SEPARATOR);
        }
        self.added.extend_from_slice(OFFSETS_PROPERTY.as_bytes());
        self.added.push(NAME_VALUE_SEPARATOR);
        for (at, named) in self.named.iter_mut().enumerate() {
            if at > 0 {
                self.added.push(b',');
            }
            let Some(queue) = named else { continue };
            if queue.is_retired() {
                *queue = table.find_or_create(queue.topic(), 0);
            }
            let known = self
                .numbered
                .iter()
                .find(|(known, _)| Arc::ptr_eq(known, queue))
                .map(|(_, offset)| *offset);
            let offset = known.unwrap_or_else(|| {
                let next = next.entry(Arc::clone(queue.name())).or_insert_with(|| queue.assigned().0);
                let offset = QueueOffset(*next);
                *next += 1;
                self.numbered.push((Arc::clone(queue), offset));
                offset
            });
            self.added.extend_from_slice(offset.0.to_string().as_bytes());
        }
        self.added.push(PROPERTY_SEPARATOR);
    }
}

/// Numbers the messages of a batch that are in light queues, as they will be assigned, and moves the places of its records. Only under
/// the append lock; repeated if the batch has to wait for a file. Returns the bytes of the batch.
pub(super) fn number(table: &QueueTable, drafts: &[Draft<'_>], batch: &mut Batch) -> usize {
    let mut next = HashMap::new();
    let mut light = batch.light.iter_mut().peekable();
    let mut keys = batch.keys.iter_mut().peekable();
    let mut at = 0;
    for (n, (draft, dispatched)) in drafts.iter().zip(&mut batch.entries).enumerate() {
        if dispatched.queue.is_light() {
            let own = &dispatched.queue;
            *next.entry(Arc::clone(own.name())).or_insert_with(|| own.assigned().0) += 1;
        }
        let before = dispatched.entry.log_offset;
        let mut size = draft.encoded_len();
        if let Some(light) = light.next_if(|light| light.draft == n) {
            light.number(table, draft, &mut next);
            size = light.draft_of(draft).encoded_len();
        }
        if let Some(key) = keys.next_if(|key| key.log_offset.0 == before) {
            key.log_offset.0 = at;
        }
        (dispatched.entry.log_offset, dispatched.entry.size) = (at, size as i32);
        at += size as i64;
    }
    at as usize
}
