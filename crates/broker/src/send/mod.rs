//! Sending messages, independent of the protocol; [`remoting`] has requests 10, 310 and 320.
//!
//! All sends of one read from a connection are checked, appended together and answered with one write. A message's body is copied
//! once between network and log: into the record.
//!
//! Order: sends pipelined on one connection to one queue get ascending offsets, because they are appended in the order in which
//! they were read. Apache's broker does not guarantee this.
//!
//! A message with a priority goes to the queue of that number, or to the last one. A message may be stored in another topic first, see [`Destination`]. The answer names the queue it was sent to.
//!
//! In a topic that recognises repeats ([`crate::dedup`]), a message that is stored already is answered like the first time ([`repeats`]).
//!
//! Not here: the end of transactions ([`crate::transaction`]), and the delivery of what waits ([`crate::delay`], [`crate::timer`]).

mod added;
pub(crate) mod check;
mod known;
mod late;
mod logical;
pub mod remoting;
mod repeats;
mod request;
mod tally;

pub use late::{Ending, LateFlushes, MayBeLate};
pub use request::{SendContext, SendRequest, SendSink, Sent};

use crate::core::Core;
use crate::dedup::{Dedup, Recognition};
use crate::destination::Destination;
use crate::errors::Refusal;
use crate::feature::{self, Feature, Work};
use crate::group::Groups;
use crate::lock::OrderLocks;
use crate::log_writer::{LogWriter, WaitFor};
use crate::retry::rules;
use crate::retry::send_back::{dead_letters, rule};
use crate::settings::BrokerSettings;
use crate::stats::{BrokerStats, TopicCounters};
use crate::timer::Timers;
use crate::topic::{Topic, Topics};
use crate::transaction::Transactions;
use added::{Added, SendProperties};
use check::{Checked, Messages};
use known::Known;
use message::record::{Draft, Placement, body_crc};
use message::{batch, names, sys_flag};
use protocol::timer::RecallHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use store::{AppendError, ConsumeQueue, Ticket};

/// How many times sends are checked again because a topic was deleted between check and append.
const RETIRED_MAX: usize = 3;

/// Checks and stores messages that clients send.
pub struct Sender {
    log: LogWriter,
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    locks: Arc<OrderLocks>,
    settings: Arc<config::Live<BrokerSettings>>,
    added: Added,
    late: LateFlushes,
    stats: Arc<BrokerStats>,
    /// Counters of the schedule topic.
    delayed: Arc<TopicCounters>,
    /// Counters of the topic of half messages.
    half: Arc<TopicCounters>,
    transactions: Arc<Transactions>,
    /// Counters of the timer topic.
    timed: Arc<TopicCounters>,
    timers: Arc<Timers>,
    dedup: Arc<Dedup>,
    /// Chooses a queue for messages without one, round robin.
    next_queue: AtomicU32,
}

/// A request that passed its checks.
struct Accepted<'a, A> {
    request: SendRequest<'a, A>,
    topic: Arc<Topic>,
    queue: Arc<ConsumeQueue>,
    queue_id: i32,
    checked: Checked<'a>,
    /// Range of the request's messages among the drafts and placements: those that are stored.
    messages: std::ops::Range<usize>,
    /// In a topic that recognises repeats.
    recognition: Option<Recognition>,
    /// Places of all messages, if some of them were stored before.
    places: Option<Vec<Placement>>,
    /// The logical queue of a static topic that it was sent to.
    logical: Option<logical::LogicalQueue>,
}

/// Interval of the check for sends whose flush took longer than `syncFlushTimeout`.
const TIME_OUT_EVERY: Duration = Duration::from_millis(500);

impl Feature for Sender {
    fn run(self: Arc<Self>) -> Work {
        let time_out = move |_| {
            let settings = self.settings.current();
            // Slaves are waited for behind the flush, within their own limit.
            let for_slaves = if self.log.is_copied() {
                settings.slave_timeout
            } else {
                Duration::ZERO
            };
            self.late.time_out(settings.sync_flush_timeout + for_slaves);
        };
        Box::pin(feature::every(TIME_OUT_EVERY, time_out))
    }
}

impl Sender {
    /// Appends to the log of `core`. `locks` tell which groups consume in order; half messages are counted in `transactions`; `dedup` has
    /// the keys by which repeats are recognised.
    #[must_use]
    pub fn new(core: &Core, locks: Arc<OrderLocks>, transactions: Arc<Transactions>, timers: Arc<Timers>, dedup: Arc<Dedup>) -> Self {
        let now = core.settings.current();
        Self {
            log: core.log.clone(),
            topics: core.topics.clone(),
            groups: core.groups.clone(),
            locks,
            settings: core.settings.clone(),
            added: Added::new(&now.region_id, now.trace_on, &now.broker_cluster_name),
            late: LateFlushes::default(),
            delayed: Arc::new(core.stats.topic(names::SCHEDULE_TOPIC)),
            half: Arc::new(core.stats.topic(names::TRANS_HALF_TOPIC)),
            transactions,
            timed: Arc::new(core.stats.topic(names::TIMER_TOPIC)),
            timers,
            dedup,
            stats: core.stats.clone(),
            next_queue: AtomicU32::new(0),
        }
    }

    /// Serves up to `most` requests of one client, in their order.
    pub fn send<'a, S: SendSink>(
        &'a self,
        sink: &S,
        requests: impl Iterator<Item = SendRequest<'a, S::Asker>>,
        most: usize,
        context: SendContext,
    ) {
        let mut rest = self.accept_all(sink, requests, most, context);
        while !rest.is_empty() {
            let count = self.fitting(&rest);
            let later = rest.split_off(count);
            self.store_new(sink, rest, context, RETIRED_MAX);
            rest = later;
        }
    }

    /// The requests that pass the checks. The others are answered with a refusal.
    fn accept_all<'a, S: SendSink>(
        &'a self,
        sink: &S,
        requests: impl Iterator<Item = SendRequest<'a, S::Asker>>,
        most: usize,
        context: SendContext,
    ) -> Vec<Accepted<'a, S::Asker>> {
        let settings = self.settings.current();
        let mut accepted = Vec::with_capacity(most);
        let mut known = Known::default();
        for request in requests {
            let asker = request.asker;
            match self.accept(request, &settings, context, &mut known) {
                Ok(one) => accepted.push(one),
                Err(refusal) => sink.refuse(
                    asker,
                    refusal
                        .with("MSG_REGION", self.added.region())
                        .with("TRACE_ON", self.added.trace_on()),
                ),
            }
        }
        accepted
    }

    /// Number of requests that fit into one append, at least one.
    fn fitting<A>(&self, accepted: &[Accepted<'_, A>]) -> usize {
        let mut left = self.log.max_append_bytes();
        let fits = accepted.iter().take_while(|one| {
            let bytes = one.checked.most_bytes;
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        });
        fits.count().max(1)
    }

    fn accept<'a, A>(
        &'a self,
        request: SendRequest<'a, A>,
        settings: &BrokerSettings,
        context: SendContext,
        known: &mut Known,
    ) -> Result<Accepted<'a, A>, Refusal> {
        let header = &request.header;
        check::time(settings, context.now_ms)?;
        let mut topic = known.topic(header.topic, || check::topic(&self.topics, settings, header, context.now_ms))?;
        let logical = logical::queue(&self.topics, &mut topic, header.queue_id)?;
        if logical.is_none() {
            check::queue(&topic, header, context.client)?;
        }
        let seen = if request.is_batch {
            SendProperties::default()
        } else {
            SendProperties::of(header.properties)
        };
        let queue_id = match seen.priority {
            _ if let Some(logical) = &logical => logical.physical,
            Some(priority) => priority.min(topic.write_queues - 1).max(0),
            None if header.queue_id < 0 => self.any_queue(&topic),
            None => header.queue_id,
        };
        let checked = if request.is_batch {
            check::batch(settings, header, request.body, topic.is_compacted())?
        } else {
            let dead = self.dead_letters(&request, settings, context.now_ms)?;
            let to = check::SentTo {
                queue_id,
                dead,
                light: check::light_queues(settings, &self.log, header.topic, &seen)?,
                is_compacted: topic.is_compacted(),
                now_ms: context.now_ms,
            };
            check::single(settings, header, request.body, &seen, &self.added, to)?
        };
        match checked.destination {
            Destination::Half => self.transactions.check_room(settings.max_open_transactions)?,
            Destination::Timer { value_ms } if self.timers.is_crowded(value_ms) => {
                return Err(Refusal::system(format!(
                    "timer message is under flow control: {} messages are due in the same slot already (timerCongestNumEachSlot)",
                    settings.timer_congest_num_each_slot
                )));
            }
            _ => {}
        }
        let recognition = self.recognition(&topic, &checked.messages, &seen, &mut known.keys);
        let (stored_in, stored_queue_id) = checked.destination.place(header.topic, queue_id);
        let find_queue = || self.log.queue(stored_in, stored_queue_id);
        let queue = match checked.destination {
            Destination::Topic => known.queue(queue_id, find_queue),
            _ => find_queue(),
        };
        Ok(Accepted {
            queue,
            request,
            topic,
            queue_id,
            checked,
            messages: 0..0,
            recognition,
            places: None,
            logical,
        })
    }

    /// The dead letter topic, if the client sends this message for a retry beyond the group's maximum.
    fn dead_letters<A>(&self, request: &SendRequest<'_, A>, settings: &BrokerSettings, now_ms: i64) -> Result<Option<Arc<Topic>>, Refusal> {
        let header = &request.header;
        if !names::is_retry(header.topic) {
            return Ok(None);
        }
        let group = rules::group_of(header.topic);
        let rule = rule(&self.groups, settings, group, now_ms)?;
        let max = rules::max_times(&rule, request.client_version, header.max_reconsume_times);
        if !rules::dies_on_send(header.reconsume_times, max, self.locks.holds_any(group, now_ms)) {
            return Ok(None);
        }
        Ok(Some(dead_letters(&self.topics, group, now_ms)?))
    }

    fn any_queue(&self, topic: &Topic) -> i32 {
        let queues = topic.write_queues.max(1) as u32;
        (self.next_queue.fetch_add(1, Ordering::Relaxed) % queues) as i32
    }

    /// Stores requests with one append. `tries_left`: how many times they may be checked again because a topic was deleted.
    fn store_together<'a, S: SendSink>(
        &'a self,
        sink: &S,
        mut accepted: Vec<Accepted<'a, S::Asker>>,
        context: SendContext,
        tries_left: usize,
    ) {
        let begun = Instant::now();
        let mut count = 0;
        for one in &mut accepted {
            let stored = one.stored();
            one.messages = count..count + stored;
            count += stored;
        }
        let mut drafts: Vec<Draft<'_>> = Vec::with_capacity(count);
        let mut queues: Vec<&Arc<ConsumeQueue>> = Vec::with_capacity(count);
        for one in &accepted {
            one.draft(context, &mut drafts);
            queues.extend(std::iter::repeat_n(&one.queue, one.messages.len()));
        }
        let mut placements = Vec::with_capacity(drafts.len());
        let appended = match accepted.iter().find_map(Accepted::retired) {
            Some(retired) => Err(retired),
            None => self.log.append(&drafts, &queues, context.now_ms, &mut placements),
        };
        let ticket = match appended {
            Ok(ticket) => ticket,
            Err(AppendError::QueueRetired { .. }) if tries_left > 0 => {
                drop(drafts);
                let most = accepted.len();
                let requests = accepted.into_iter().map(|one| one.request);
                let again = self.accept_all(sink, requests, most, context);
                if !again.is_empty() {
                    self.store_new(sink, again, context, tries_left - 1);
                }
                return;
            }
            Err(error) => {
                self.stats.totals().put_failed(count as i64);
                return accepted.iter().for_each(|one| sink.refuse(one.request.asker, error.clone().into()));
            }
        };
        debug_assert_eq!(placements.len(), count, "each message has its place");
        let sizes: Vec<usize> = drafts.iter().map(Draft::encoded_len).collect();
        drop(drafts);
        self.placed(&mut accepted, &placements, context);
        let (waiting, quick) = self.by_wait(accepted);
        for (group, flush) in [(quick, false), (waiting, true)] {
            if group.is_empty() {
                continue;
            }
            self.tally(&group, &sizes, context.now_ms);
            self.answer(sink, ticket, &group, &placements, context, flush);
            self.tally_time(&group, begun.elapsed().as_millis() as i64);
        }
        // Without the time that sends wait for a flush.
        self.stats.totals().put_took(count as i64, begun.elapsed().as_micros() as i64);
    }

    /// Requests that wait for more than the page cache, and those that do not.
    fn by_wait<'a, A>(&self, accepted: Vec<Accepted<'a, A>>) -> (Vec<Accepted<'a, A>>, Vec<Accepted<'a, A>>) {
        let may_wait = self.log.may_wait();
        let waits = |one: &Accepted<'_, A>| may_wait && one.checked.waits;
        // Nearly always all of them are one or the other, and stay where they are.
        match accepted.iter().filter(|one| waits(one)).count() {
            0 => (Vec::new(), accepted),
            all if all == accepted.len() => (accepted, Vec::new()),
            _ => accepted.into_iter().partition(waits),
        }
    }

    fn answer<S: SendSink>(
        &self,
        sink: &S,
        ticket: Ticket,
        group: &[Accepted<'_, S::Asker>],
        placements: &[Placement],
        context: SendContext,
        flush: bool,
    ) {
        let asking = || group.iter().filter(|one| S::wants_answer(one.request.asker));
        let sent = || {
            asking().map(|one| {
                let placements = one.places.as_deref().unwrap_or(&placements[one.messages.clone()]);
                let (queue_id, queue_offset) = one.place(placements);
                let sent = Sent {
                    placements,
                    store_host: context.store_host,
                    queue_id,
                    queue_offset,
                    uniq_key: &one.checked.uniq_key,
                    recall_handle: one.recall_handle(&self.settings),
                    region: self.added.region(),
                    trace_on: self.added.trace_on(),
                };
                (one.request.asker, sent)
            })
        };
        let wait = WaitFor {
            flush,
            topics: group.iter().any(|one| self.is_new(one)),
            slaves: flush,
        };
        let late = self.may_be_late(flush);
        let later = || self.late.completion(late.flush, sink.answer_later(sent(), late));
        match self.log.complete(ticket, wait, later) {
            None => {}
            Some(Ok(())) => sink.answer(sent()),
            Some(Err(reason)) => sink.fail(asking().map(|one| one.request.asker), &reason.to_string()),
        }
    }
}

impl Sender {
    /// What sends that wait for more than the page cache wait for.
    fn may_be_late(&self, waits: bool) -> MayBeLate {
        MayBeLate {
            flush: waits && self.log.is_sync_flush(),
            slaves: waits && self.log.is_copied(),
        }
    }

    /// Whether the topic that it was sent to, or the one it is stored in, is new: neither saved nor known to the name servers.
    fn is_new<A>(&self, one: &Accepted<'_, A>) -> bool {
        let changed = self.log.changed();
        !one.topic.is_settled(changed) || !one.checked.destination.is_settled(changed)
    }
}

impl<'a, A> Accepted<'a, A> {
    /// Queue and offset of the first message, as the client knows them.
    fn place(&self, placements: &[Placement]) -> (i32, i64) {
        let offset = placements.first().map_or(0, |placement| placement.queue_offset.0);
        match &self.logical {
            Some(logical) => (logical.queue_id, logical.offset(offset)),
            None => (self.queue_id, offset),
        }
    }

    /// Number of its messages that are stored now.
    fn stored(&self) -> usize {
        self.recognition
            .as_ref()
            .map_or(self.checked.count, |recognition| recognition.stored())
    }

    /// Error if its topic was deleted before the queue was looked up: that queue may be one that the deletion did not retire.
    fn retired(&self) -> Option<AppendError> {
        self.checked.destination.is_deleted(&self.topic).then(|| AppendError::QueueRetired {
            topic: self.queue.topic().to_owned(),
            queue_id: self.queue.queue_id(),
        })
    }

    /// What recalls the message, if it waits for its time. Compat: not one for a retry.
    fn recall_handle(&self, settings: &config::Live<BrokerSettings>) -> Option<String> {
        let Destination::Timer { value_ms } = self.checked.destination else {
            return None;
        };
        let settings = settings.current();
        let handle = RecallHandle {
            topic: self.request.header.topic,
            broker_name: &*settings.broker_name,
            due_ms: value_ms + 1,
            uniq_key: &*self.checked.uniq_key,
        };
        (!names::is_retry(self.request.header.topic)).then(|| handle.encode())
    }

    /// Appends the request's messages to the drafts.
    fn draft<'d>(&'d self, context: SendContext, drafts: &mut Vec<Draft<'d>>)
    where
        'a: 'd,
    {
        let header = &self.request.header;
        let (topic, queue_id) = self.checked.destination.place(header.topic, self.queue_id);
        let base = Draft {
            topic,
            queue_id,
            flag: header.flag,
            // Compat: half messages are stored without transaction bits; only committed messages have them.
            sys_flag: (header.sys_flag & !sys_flag::TRANSACTION_MASK) | if self.topic.multi_tag { sys_flag::MULTI_TAGS } else { 0 },
            born_timestamp: header.born_timestamp,
            born_host: context.client,
            store_host: context.store_host,
            reconsume_times: header.reconsume_times,
            prepared_offset: 0,
            body: &[],
            properties: &[],
            added_properties: &[],
            body_crc: 0,
        };
        match &self.checked.messages {
            Messages::One { body, properties, added } => {
                drafts.push(Draft {
                    body,
                    properties,
                    added_properties: added,
                    body_crc: body_crc(body),
                    ..base
                });
            }
            Messages::Batch(body) => {
                let is_stored = |n| self.recognition.as_ref().is_none_or(|recognition| recognition.is_stored(n));
                for (_, item) in batch::items(body).flatten().enumerate().filter(|(n, _)| is_stored(*n)) {
                    drafts.push(Draft {
                        flag: item.flag,
                        body: item.body,
                        properties: item.properties,
                        body_crc: body_crc(item.body),
                        ..base
                    });
                }
            }
        }
    }
}
