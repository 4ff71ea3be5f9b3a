//! Pulling, whatever face it is called through; requests 11 and 361 are in [`remoting`].
//!
//! Life of a pull: it is checked, reads its queue, and is answered, or, when nothing is there yet, parked until the arrival of
//! a message takes it out (on the thread that stored the message) or its time is up. What is still in memory goes from the
//! log's tail to the socket without a copy. What is in the page cache only is read by the catch-up threads: a consumer that has
//! much to catch up on would keep the thread that takes sends busy with copying. What has to wait for the disk goes on from there
//! to the reader threads.
//!
//! Compat: a parked pull that is woken does not commit the offset it came with a second time.

mod asker;
mod check;
pub mod remoting;

use crate::arrival::ArrivalListener;
use crate::clients::{ClientChannel, Consumers};
use crate::core::Core;
use crate::errors::Refusal;
use crate::feature::{self, Feature, Work};
use crate::group::Rule;
use crate::hold::{Bounds, Hold, NotParked, Taken, Waiter};
use crate::offset::Offsets;
use crate::readers::Threads;
use crate::settings::BrokerSettings;
use crate::stats::GroupCounters;
use crate::topic::Topic;
pub use asker::{Asker, PullSink, Pulled};
pub use check::Checks;
use check::Wanted;
use message::QueueOffset;
use net::Connection;
use protocol::codes::ResponseCode;
use protocol::pull::{PullHeader, sys_flag};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use store::{Arrival, Damaged, Limits, ReadResult, ReadSource, ReadStatus, Store, StoreError};

/// Longest a pull is parked, whatever the client says: ms.
const MAX_SUSPEND_MS: i64 = 120_000;
/// Parked pulls that a message wakes on the thread that stored it. A catch-up thread wakes the rest: a queue that thousands wait for
/// must not cost its senders their answers.
const WOKEN_AT_ONCE: usize = 64;
/// Parked pulls that are answered together; between two such batches others get at the hold.
const ANSWERED_TOGETHER: usize = 256;
/// What a pull keeps in memory while it waits for a thread, beside its tags.
const PULL_BYTES: usize = 512;

/// A pull that passed its checks.
pub struct Pull {
    asker: Asker,
    topic: Arc<Topic>,
    rule: Arc<Rule>,
    counters: Arc<GroupCounters>,
    filter: Wanted,
    queue_id: i32,
    offset: i64,
    max_messages: usize,
    /// Until when it may wait, epoch ms; `None` when it may not (any more).
    suspend_until: Option<i64>,
    /// The client does not know yet that the topic was deleted and made again.
    is_mistaken: bool,
}

impl Waiter for Pull {
    fn queue(&self) -> (&str, i32) {
        (&self.topic.name, self.queue_id)
    }

    fn owner(&self) -> u64 {
        self.asker.client()
    }

    fn is_disconnected(&self) -> bool {
        self.asker.is_disconnected()
    }

    fn tags(&self) -> Option<&[i32]> {
        self.filter.tags()
    }
}

/// What pulling needs.
pub struct Puller {
    store: Arc<Store>,
    checks: Checks,
    offsets: Arc<Offsets>,
    settings: Arc<config::Live<BrokerSettings>>,
    hold: Arc<Hold<Pull>>,
    threads: Threads,
    itself: Weak<Self>,
}

/// How often parked pulls are looked at for expiry.
const EXPIRE_EVERY: Duration = Duration::from_millis(500);

impl Feature for Puller {
    fn run(self: Arc<Self>) -> Work {
        Box::pin(feature::every(EXPIRE_EVERY, move |now_ms| self.expire(now_ms)))
    }

    fn closed(&self, connection: &Connection) {
        self.hold.forget(connection.id());
    }

    fn topic_deleted(&self, topic: &str) {
        if let Some(puller) = self.shared() {
            puller.answer_those_of(topic);
        }
    }

    fn release(&self) {
        if let Some(puller) = self.shared() {
            puller.park_no_more();
        }
    }
}

/// Wakes parked pulls. Keeps the puller from nothing: the store has this, and the puller has the store.
struct Woken {
    hold: Arc<Hold<Pull>>,
    puller: Weak<Puller>,
}

impl ArrivalListener for Woken {
    /// For every message: costs one load while nobody waits.
    fn arrived(&self, message: &Arrival<'_>) {
        if self.hold.is_empty() {
            return;
        }
        if let Some(puller) = self.puller.upgrade() {
            puller.arrived(message.queue.topic(), message.queue.queue_id(), message.tags_code);
        }
    }
}

impl Puller {
    /// Pulls from the store of `core`; `consumers` say what groups subscribe to.
    #[must_use]
    pub fn new(core: &Core, consumers: Arc<Consumers<ClientChannel>>) -> Arc<Self> {
        let bounds = {
            let settings = core.settings.current();
            Bounds {
                slots: settings.max_parked_pulls,
                slots_per_connection: settings.max_parked_pulls_per_connection,
            }
        };
        let puller = Arc::new_cyclic(|itself| Self {
            store: core.store.clone(),
            checks: Checks {
                topics: core.topics.clone(),
                groups: core.groups.clone(),
                consumers: consumers.clone(),
                stats: core.stats.clone(),
            },
            offsets: core.offsets.clone(),
            settings: core.settings.clone(),
            hold: Arc::new(Hold::new(bounds)),
            threads: core.threads.clone(),
            itself: itself.clone(),
        });
        let told = Arc::downgrade(&puller);
        consumers.set_subscription_listener(Box::new(move |group| {
            if let Some(puller) = told.upgrade() {
                puller.subscription_changed(group);
            }
        }));
        puller
    }

    /// This very puller.
    fn shared(&self) -> Option<Arc<Self>> {
        self.itself.upgrade()
    }

    /// How many pulls are parked.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.hold.len()
    }

    /// Whether nothing is left of pulls that were parked.
    #[cfg(test)]
    pub(crate) fn is_clean(&self) -> bool {
        self.hold.is_clean()
    }

    /// Serves a pull.
    pub fn pull(self: &Arc<Self>, asker: Asker, header: &PullHeader<'_>, now_ms: i64) {
        match self.accept(asker, header, now_ms) {
            Ok(pull) => self.begin(pull),
            Err((asker, refusal)) => asker.refuse(refusal),
        }
    }

    fn accept(&self, asker: Asker, header: &PullHeader<'_>, now_ms: i64) -> Result<Pull, (Asker, Refusal)> {
        let settings = self.settings.current();
        let allowed = match self.checks.check(&settings, header, asker.peer(), now_ms) {
            Ok(allowed) => allowed,
            Err(refusal) => return Err((asker, refusal)),
        };
        let is_mistaken = self.is_mistaken(&allowed.topic, header, asker.client());
        if header.has(sys_flag::COMMIT_OFFSET) && header.commit_offset >= 0 && !is_mistaken {
            // A full offset table must not stop consumption; the consumer's own commits are refused with the reason. A commit
            // does not overrule a reset that this pull is about to take.
            let _ = self
                .offsets
                .commit(header.topic, header.consumer_group, header.queue_id, header.commit_offset);
        }
        let suspend_until = header.has(sys_flag::SUSPEND).then(|| {
            let asked = if settings.long_polling_enable {
                header.suspend_timeout_ms
            } else {
                settings.short_polling_time.as_millis() as i64
            };
            now_ms + asked.clamp(0, MAX_SUSPEND_MS)
        });
        Ok(Pull {
            asker,
            topic: allowed.topic,
            rule: allowed.rule,
            counters: allowed.counters,
            filter: allowed.filter,
            queue_id: header.queue_id,
            offset: header.queue_offset,
            max_messages: usize::try_from(header.max_msg_nums).unwrap_or(0),
            suspend_until,
            is_mistaken,
        })
    }

    /// Whether a pull comes with an offset that its client has from a topic that was deleted since. What it knows of the new
    /// one it knows from us: it has connected since, or asked where it is, or begun at the beginning.
    fn is_mistaken(&self, topic: &Topic, header: &PullHeader<'_>, connection: u64) -> bool {
        if !topic.may_have_stale_offsets(connection) || self.offsets.has_begun(header.topic, header.consumer_group, header.queue_id) {
            return false;
        }
        // From this answer on it knows.
        let _ = self.offsets.begin(header.topic, header.consumer_group, header.queue_id);
        header.queue_offset > 0
    }

    /// The first look at a pull: a pending reset of the group's offset comes before the messages.
    fn begin(self: &Arc<Self>, pull: Pull) {
        if pull.is_mistaken {
            let first = self.store.min_offset(&pull.topic.name, pull.queue_id).0;
            return self.move_to(pull, first);
        }
        match self.offsets.take_reset(&pull.topic.name, &pull.rule.group_name, pull.queue_id) {
            Some(offset) => self.move_to(pull, offset),
            None => self.read(pull),
        }
    }

    /// Has the client go on at another offset.
    fn move_to(&self, pull: Pull, offset: i64) {
        self.answer_empty(pull, ResponseCode::PullOffsetMoved, "OFFSET_RESET", QueueOffset(offset));
    }

    fn answer_empty(&self, pull: Pull, code: ResponseCode, status: &'static str, next: QueueOffset) {
        let (topic_sys_flag, group_sys_flag) = (pull.topic.sys_flag, pull.rule.group_sys_flag);
        pull.asker.answer(Pulled {
            code,
            status,
            next,
            min: self.store.min_offset(&pull.topic.name, pull.queue_id),
            max: self.store.max_offset(&pull.topic.name, pull.queue_id),
            topic_sys_flag,
            group_sys_flag,
            records: Vec::new(),
            bytes: 0,
        });
    }

    /// Reads what the pull asks for: from memory here, else on a thread for what is farther away.
    fn read(self: &Arc<Self>, pull: Pull) {
        self.read_within(pull, ReadSource::Memory, Instant::now());
    }

    fn read_within(self: &Arc<Self>, pull: Pull, source: ReadSource, begun: Instant) {
        if pull.asker.lags() {
            // What waited here or for a thread is read when the client has read what it was sent before.
            return self.ask_again(pull);
        }
        let read = self.look(&pull, source);
        let (threads, farther) = match (&read, source) {
            (Ok(result), ReadSource::Memory) if result.cold => (&self.threads.catch_up, ReadSource::PageCache),
            (Ok(result), ReadSource::PageCache) if result.cold => (&self.threads.reader, ReadSource::Disk),
            _ => return self.answer(pull, read, source, begun),
        };
        let bytes = PULL_BYTES + pull.filter.tags().map_or(0, size_of_val);
        let reply = pull.asker.reply();
        let owed = reply
            .as_ref()
            .map(|reply| reply.connection().owe(self.limits(&pull, farther).bytes));
        let puller = self.clone();
        let job = move || {
            puller.read_within(pull, farther, begun);
            drop(owed);
        };
        let queued = match &reply {
            Some(reply) => threads.run(reply.connection(), bytes, job),
            None => threads.run_own(job),
        };
        if let (Err(busy), Some(reply)) = (queued, reply) {
            reply.send(Err(busy.into()));
        }
    }

    fn limits(&self, pull: &Pull, source: ReadSource) -> Limits {
        let settings = self.settings.current();
        let (messages, bytes) = if source == ReadSource::Disk {
            (
                settings.max_transfer_count_on_message_in_disk,
                settings.max_transfer_bytes_on_message_in_disk,
            )
        } else {
            (
                settings.max_transfer_count_on_message_in_memory,
                settings.max_transfer_bytes_on_message_in_memory,
            )
        };
        Limits {
            messages: pull.max_messages.min(messages as usize),
            // Compat: the Java broker does not look at the request's own limit of bytes (maxMsgBytes).
            bytes: bytes as usize,
            scan: settings.max_scanned_entries(),
        }
    }

    fn look(&self, pull: &Pull, source: ReadSource) -> Result<ReadResult, StoreError> {
        let limits = self.limits(pull, source);
        let (from, takes) = (QueueOffset(pull.offset), |code| pull.filter.takes(code));
        self.store.read(&pull.topic.name, pull.queue_id, from, limits, &takes, source)
    }

    fn answer(self: &Arc<Self>, pull: Pull, read: Result<ReadResult, StoreError>, source: ReadSource, begun: Instant) {
        let result = match read {
            Ok(result) => result,
            Err(error) => return pull.asker.refuse(error.into()),
        };
        if let Some(damaged) = &result.damaged
            && let Err(refusal) = self.pass_damaged(&pull, damaged)
        {
            return pull.asker.refuse(refusal);
        }
        let code = code_of(result.status, pull.offset);
        if code != ResponseCode::Success {
            // Compat: each look that finds nothing, also that of a pull which is parked then.
            pull.counters.missed();
        }
        if code == ResponseCode::PullNotFound
            && let Some(until) = pull.suspend_until
        {
            return self.park(pull, until);
        }
        if code == ResponseCode::Success {
            pull.counters.given(result.records.len() as i64, result.bytes as i64);
            if source == ReadSource::Disk {
                pull.counters.from_disk(result.records.len() as i64, result.bytes as i64);
            }
            pull.counters.took(pull.queue_id, begun.elapsed().as_millis() as i64);
            // A full offset table must not stop consumption.
            let _ = self
                .offsets
                .pulled_to(&pull.topic.name, &pull.rule.group_name, pull.queue_id, result.next.0);
        }
        let (topic_sys_flag, group_sys_flag) = (pull.topic.sys_flag, pull.rule.group_sys_flag);
        pull.asker.answer(Pulled {
            code,
            status: name_of(result.status),
            next: result.next,
            min: result.min,
            max: result.max,
            topic_sys_flag,
            group_sys_flag,
            records: result.records,
            bytes: result.bytes,
        });
    }

    /// Whether a group is led past a damaged message, after one ERROR that names it.
    fn pass_damaged(&self, pull: &Pull, damaged: &Damaged) -> Result<(), Refusal> {
        let (topic, group, queue_id) = (&*pull.topic.name, &*pull.rule.group_name, pull.queue_id);
        let at = format!(
            "the message at offset {} of queue {topic}/{queue_id} is damaged: no record of {} bytes is in the commit log at {} (file {})",
            damaged.queue_offset,
            damaged.size,
            damaged.log_offset,
            self.store.log_file_of(damaged.log_offset)
        );
        if !self.settings.current().skip_damaged_messages {
            return Err(Refusal::system(format!(
                "{at}; apogeeSkipDamagedMessages=true leads groups past it"
            )));
        }
        if self
            .offsets
            .passed_damaged(topic, group, queue_id, damaged.queue_offset.0)
            .unwrap_or(false)
        {
            tracing::error!(group, "{at}; the group is led past it");
        }
        Ok(())
    }

    fn park(self: &Arc<Self>, pull: Pull, until: i64) {
        let (topic, queue_id, offset) = (pull.topic.clone(), pull.queue_id, pull.offset);
        let subscriptions = self.checks.consumers.changes();
        if pull.filter.is_outdated() {
            return self.ask_again(pull);
        }
        let id = match self.hold.park(until, pull) {
            Ok(id) => id,
            Err((mut pull, NotParked::Closed)) => {
                pull.suspend_until = None;
                return self.read(pull);
            }
            Err((pull, why)) => return pull.asker.refuse(Refusal::new(ResponseCode::SystemBusy, why.to_string())),
        };
        // What came between the read and the parking woke nobody: a message, another subscription, or the topic's end.
        let missed = self.store.max_offset(&topic.name, queue_id).0 > offset
            || self.checks.consumers.changes() != subscriptions
            || topic.is_deleted();
        if missed && let Some(pull) = self.hold.take_one(id) {
            self.resume(pull);
        }
    }

    /// A parked pull is looked at again. One whose group subscribes to something else now is sent back for the client to ask
    /// anew from the same place.
    fn resume(self: &Arc<Self>, pull: Pull) {
        if pull.topic.is_deleted() {
            return self.move_to(pull, 0);
        }
        if pull.filter.is_outdated() {
            return self.ask_again(pull);
        }
        self.read(pull);
    }

    /// Sends a pull back, for its client to ask again from the same place at once.
    fn ask_again(&self, pull: Pull) {
        let (code, next) = (ResponseCode::PullRetryImmediately, QueueOffset(pull.offset));
        self.answer_empty(pull, code, name_of(ReadStatus::NoMatchedMessage), next);
    }

    /// A topic was deleted: pulls that wait for it are sent to the beginning of what may come under its name.
    fn answer_those_of(self: &Arc<Self>, topic: &str) {
        let pulls = self.hold.take_if(|pull| *pull.topic.name == *topic);
        pulls.into_iter().for_each(|pull| self.resume(pull));
    }

    /// What wakes parked pulls.
    #[must_use]
    pub fn listener(this: &Arc<Self>) -> impl ArrivalListener + use<> {
        Woken {
            hold: Arc::clone(&this.hold),
            puller: Arc::downgrade(this),
        }
    }

    /// A message with this tag hash has arrived in a queue.
    fn arrived(self: &Arc<Self>, topic: &str, queue_id: i32, tags_code: i64) {
        let woken = self.wanting(topic, queue_id, tags_code, WOKEN_AT_ONCE);
        woken.requests.into_iter().for_each(|pull| self.resume(pull));
        if woken.more {
            let (puller, name) = (self.clone(), topic.to_owned());
            let wake = move |most| puller.wanting(&name, queue_id, tags_code, most);
            self.clone().wake_rest(wake);
        }
    }

    /// Takes out parked pulls that want a message; one whose tag is not known from its queue entry concerns all.
    fn wanting(&self, topic: &str, queue_id: i32, tags_code: i64, most: usize) -> Taken<Pull> {
        if store::queue::is_ext_address(tags_code) {
            self.hold.take_all(topic, queue_id, most)
        } else {
            self.hold.take(topic, queue_id, tags_code, most)
        }
    }

    /// Has the rest woken by another thread, or here if there is none.
    fn wake_rest(self: Arc<Self>, take: impl Fn(usize) -> Taken<Pull> + Send + Sync + 'static) {
        let take = Arc::new(take);
        let (puller, taking) = (self.clone(), take.clone());
        if self
            .threads
            .catch_up
            .run_own(move || puller.answer_each(|most| taking(most)))
            .is_err()
        {
            self.answer_each(|most| take(most));
        }
    }

    /// Answers all that `take` takes out, some at a time.
    fn answer_each(self: &Arc<Self>, take: impl Fn(usize) -> Taken<Pull>) {
        loop {
            let taken = take(ANSWERED_TOGETHER);
            net::together(|| taken.requests.into_iter().for_each(|pull| self.resume(pull)));
            if !taken.more {
                return;
            }
        }
    }

    /// A group subscribes to something else now.
    pub fn subscription_changed(self: &Arc<Self>, group: &str) {
        if self.hold.is_empty() {
            return;
        }
        let outdated = |pull: &Pull| pull.rule.group_name == group && pull.filter.is_outdated();
        let pulls = self.hold.take_if(outdated);
        pulls.into_iter().for_each(|pull| self.resume(pull));
    }

    /// A group's offset in a queue was reset: parked pulls are answered so at once.
    pub fn reset(self: &Arc<Self>, topic: &str, queue_id: i32) {
        loop {
            let taken = self.hold.take_all(topic, queue_id, ANSWERED_TOGETHER);
            net::together(|| taken.requests.into_iter().for_each(|pull| self.begin(pull)));
            if !taken.more {
                return;
            }
        }
    }

    /// Answers the pulls whose time is up. Called a few times a second.
    pub fn expire(self: &Arc<Self>, now_ms: i64) {
        if self.hold.is_empty() {
            return;
        }
        self.answer_each(|most| {
            let mut taken = self.hold.expired(now_ms, most);
            taken.requests.iter_mut().for_each(|pull| pull.suspend_until = None);
            taken
        });
    }

    /// For the end: answers all that wait, and from now on those that would have to wait.
    fn park_no_more(self: &Arc<Self>) {
        self.hold.close();
        self.expire(i64::MAX - 1);
    }
}

/// Apache's response codes for what became of a read.
fn code_of(status: ReadStatus, asked: i64) -> ResponseCode {
    match status {
        ReadStatus::Found => ResponseCode::Success,
        ReadStatus::NoMatchedMessage | ReadStatus::MessageWasRemoving => ResponseCode::PullRetryImmediately,
        ReadStatus::NoMatchedLogicQueue | ReadStatus::NoMessageInQueue if asked == 0 => ResponseCode::PullNotFound,
        ReadStatus::OffsetFoundNull | ReadStatus::OffsetOverflowOne => ResponseCode::PullNotFound,
        ReadStatus::NoMatchedLogicQueue | ReadStatus::NoMessageInQueue | ReadStatus::OffsetOverflowBadly | ReadStatus::OffsetTooSmall => {
            ResponseCode::PullOffsetMoved
        }
    }
}

/// Apache's names, which it sends as the remark.
fn name_of(status: ReadStatus) -> &'static str {
    match status {
        ReadStatus::Found => "FOUND",
        ReadStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
        ReadStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
        ReadStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
        ReadStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
        ReadStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
        ReadStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
        ReadStatus::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
        ReadStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
    }
}
