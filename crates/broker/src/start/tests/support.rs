//! What tests of a whole broker on a simulated disk have in common.

use super::*;
use bytes::Bytes;
use parking_lot::Mutex;
use store::{Limits, ReadSource};

/// Offset in the queue, and in the log; [`None`] for what was not stored.
pub(super) type Place = Option<(i64, i64)>;

/// What becomes of a send, with the place of each message.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<Vec<Place>>>);

impl SendSink for Places {
    type Asker = u32;

    fn wants_answer(_: u32) -> bool {
        true
    }

    fn refuse(&self, _: u32, _: Refusal) {
        self.0.lock().push(None);
    }

    fn answer<'s>(&self, sent: impl Iterator<Item = (u32, Sent<'s>)>) {
        let places = sent.map(|(_, sent)| Some((sent.placements[0].queue_offset.0, sent.placements[0].log_offset.0)));
        self.0.lock().extend(places);
    }

    fn answer_later<'s>(
        &self,
        sent: impl Iterator<Item = (u32, Sent<'s>)> + Clone,
        _: MayBeLate,
    ) -> impl FnOnce(Ending<'_>) + Send + 'static {
        let places: Vec<_> = sent
            .map(|(_, sent)| (sent.placements[0].queue_offset.0, sent.placements[0].log_offset.0))
            .collect();
        let told = self.clone();
        move |ending| {
            let is_done = matches!(ending, Ending::Done);
            told.0.lock().extend(places.into_iter().map(|place| is_done.then_some(place)));
        }
    }

    fn fail(&self, askers: impl Iterator<Item = u32>, _: &str) {
        askers.for_each(|_| self.0.lock().push(None));
    }
}

/// Sends a message with these properties; its place.
pub(super) fn send_to(broker: &Broker, topic: &str, sys_flag: i32, properties: &[u8]) -> Place {
    let request = SendRequest {
        header: protocol::send::SendHeader {
            producer_group: "p",
            topic,
            default_topic: "TBW102",
            default_topic_queue_nums: 1,
            sys_flag,
            born_timestamp: now_ms(),
            properties,
            ..Default::default()
        },
        is_batch: false,
        body: b"body",
        client_version: 500,
        asker: 0,
    };
    let places = Places::default();
    broker.routes.sender.send(&places, std::iter::once(request), 1, send_context());
    until("a send is answered", || !places.0.lock().is_empty());
    places.0.lock()[0]
}

/// The records of a queue, from its first to its last.
pub(super) fn records_of(broker: &Broker, topic: &str, queue_id: i32) -> Vec<Bytes> {
    let limits = Limits {
        messages: 10_000,
        bytes: 16 << 20,
        scan: 10_000,
    };
    let min = broker.store.min_offset(topic, queue_id);
    let read = broker.store.read(topic, queue_id, min, limits, &|_| true, ReadSource::Disk);
    read.unwrap().records
}

/// What a kill leaves, or a power cut with this seed.
pub(super) fn left_by_crash(disk: &SimulatedDisk, power_cut: Option<u64>) -> SimulatedDisk {
    match power_cut {
        Some(seed) => disk.power_cut(seed),
        None => disk.process_killed(),
    }
}
