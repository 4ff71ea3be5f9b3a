//! Peeks (200052): what a pop would read now, without taking it.

use super::check::Reads;
use super::steps::ReadsOf;
use super::{Pops, result::PopResult};
use crate::errors::Refusal;
use message::QueueOffset;
use protocol::codes::ResponseCode;
use protocol::pop::PeekHeader;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use store::{Limits, ReadSource};

impl Pops {
    /// Reads messages that a pop would read. May wait for the disk.
    ///
    /// # Errors
    /// As a pop.
    pub fn peek(&self, header: &PeekHeader<'_>, peer: SocketAddr, now_ms: i64) -> Result<PopResult, Refusal> {
        let settings = self.core.settings.current();
        let reads = Reads {
            topic: header.topic,
            group: header.consumer_group,
            queue_id: header.queue_id,
        };
        let (topic, _) = self.allowed(&settings, reads, peer, now_ms)?;
        let of = self.waiting.of(header.topic, header.consumer_group);
        let of = of.map_err(|full| Refusal::new(ResponseCode::SystemBusy, full.to_string()))?;
        let reads = ReadsOf {
            topic,
            of: Arc::clone(&of),
            queue_id: header.queue_id,
            in_order: false,
            attempt: None,
        };
        let most = usize::try_from(header.max_msg_nums).unwrap_or(0);
        let (mut records, mut bytes, mut rest) = (Vec::new(), 0, 0);
        for step in self.steps(&reads, &settings, self.turn.load(Relaxed)) {
            let (name, queue_id) = (of.name(step.origin), step.queue_id);
            let committed = self.core.offsets.committed(name, &of.group, queue_id);
            let start = committed.unwrap_or_else(|| self.core.store.min_offset(name, queue_id).0);
            let from = {
                let state = self.state.lock();
                state
                    .find_queue(name, &of.group, queue_id)
                    .map_or(start, |queue| state.position(queue, start))
            };
            rest += (self.core.store.max_offset(name, queue_id).0 - from).max(0);
            if records.len() >= most {
                continue;
            }
            let limits = Limits {
                messages: most - records.len(),
                bytes: (settings.max_transfer_bytes_on_message_in_memory as usize).saturating_sub(bytes),
                scan: settings.max_scanned_entries(),
            };
            let read = self
                .core
                .store
                .read(name, queue_id, QueueOffset(from), limits, &|_| true, ReadSource::Disk)?;
            bytes += read.bytes;
            records.extend(read.records);
        }
        Ok(PopResult {
            is_held: false,
            code: if records.is_empty() {
                ResponseCode::PullNotFound
            } else {
                ResponseCode::Success
            },
            pop_time: 0,
            invisible_ms: 0,
            revive_queue: 0,
            rest,
            start_offsets: String::new(),
            message_offsets: String::new(),
            order_counts: None,
            taken: smallvec::SmallVec::new(),
            records,
            bytes,
        })
    }
}
