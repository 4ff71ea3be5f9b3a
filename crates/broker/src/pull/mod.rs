//! Pulls of clients of any protocol; requests 11 and 361 are in [`remoting`].
//!
//! A pull is checked and reads its queue. It is answered, or, if there is no message yet, parked until a message arrives (it is
//! then answered on the thread that stored the message) or its deadline passes. Records in the log's tail, or in a block that was read for
//! another pull, go to the socket without a copy. Records that are only in the page cache are read by the catch-up threads: copying the
//! backlog of a consumer on a connection thread would delay sends. Reads that need disk I/O continue on the reader threads.
//!
//! Compat: a parked pull does not commit its offset again when it is woken.

pub(crate) mod by_content;
mod check;
mod logical;
pub mod remoting;
mod result;
pub(crate) mod selection;

use crate::arrival::ArrivalListener;
use crate::asker::Asker;
use crate::clients::{ClientChannel, Consumers};
use crate::core::Core;
use crate::errors::Refusal;
use crate::feature::{self, Feature, Work};
use crate::group::Rule;
use crate::hold::{Bounds, Hold, NotParked, Taken, Waiter};
use crate::offset::Offsets;
use crate::readers::{Continued, Threads};
use crate::records;
use crate::role::Role;
use crate::settings::BrokerSettings;
use crate::static_topic::forward::Forwarder;
use crate::static_topic::pull::LogicalPull;
use crate::stats::GroupCounters;
use crate::store_options::read_limits;
use crate::topic::Topic;
use by_content::ContentRead;
use bytes::Bytes;
pub use check::Checks;
use message::QueueOffset;
use message::record::Record;
use net::Connection;
use protocol::codes::ResponseCode;
use protocol::pull::{PullHeader, sys_flag};
pub use result::Pulled;
use selection::{Filter, Selection};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use store::{Arrival, Damaged, Limits, ReadResult, ReadSource, ReadStatus, Store, StoreError};

/// Longest time a pull is parked, whatever the client requests, in ms.
const MAX_SUSPEND_MS: i64 = 120_000;
/// Number of parked pulls that a message wakes on the thread that stored it. A catch-up thread wakes the others, so that thousands
/// of waiting pulls do not delay the responses of sends.
const MAX_WOKEN_INLINE: usize = 64;
/// Number of parked pulls that are answered in one batch; the hold is unlocked between batches.
const BATCH: usize = 256;
/// Memory of a pull that waits for a thread, in bytes, without its tags.
const PULL_BYTES: usize = 512;

/// A pull that passed the checks.
pub struct Pull {
    asker: Asker<Pulled>,
    topic: Arc<Topic>,
    rule: Arc<Rule>,
    counters: Arc<GroupCounters>,
    filter: Filter,
    queue_id: i32,
    offset: i64,
    max_messages: usize,
    /// Deadline of parking, in ms since 1970; `None` if the pull must not be parked (any more).
    suspend_until: Option<i64>,
    /// The client does not know yet that the topic was deleted and created again.
    has_stale_offset: bool,
    /// By content: the first offset whose message was not examined yet.
    examined_to: i64,
    /// The pull was parked and woken by a message. It is parked again if the message is not selected.
    was_woken: bool,
    /// The pull is from a logical queue; what it reads is one of its physical queues.
    logical: Option<Box<LogicalPull>>,
}

impl Pull {
    /// Whether the client has to repeat the pull: its subscription or its logical queue has changed.
    fn is_outdated(&self) -> bool {
        self.filter.is_outdated() || self.logical.as_ref().is_some_and(|logical| logical.is_outdated())
    }
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

    fn is_by_content(&self) -> bool {
        self.filter.is_by_content()
    }
}

/// Serves pulls.
pub struct Puller {
    store: Arc<Store>,
    checks: Checks,
    offsets: Arc<Offsets>,
    settings: Arc<config::Live<BrokerSettings>>,
    hold: Arc<Hold<Pull>>,
    threads: Threads,
    role: Arc<Role>,
    forwarder: Arc<Forwarder>,
    weak_self: Weak<Self>,
}

/// How often parked pulls are checked for their deadline.
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
            puller.answer_topic_deleted(topic);
        }
    }

    fn release(&self) {
        if let Some(puller) = self.shared() {
            puller.stop_parking();
        }
    }
}

/// Wakes parked pulls. Holds a weak reference, because the store owns this and the puller owns the store.
struct Waker {
    hold: Arc<Hold<Pull>>,
    puller: Weak<Puller>,
}

impl ArrivalListener for Waker {
    /// Called for every message: one atomic load while no pull is parked.
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
    /// Creates the puller for the store of `core`; `consumers` has the subscriptions of groups, `forwarder` asks other brokers.
    #[must_use]
    pub fn new(core: &Core, consumers: Arc<Consumers<ClientChannel>>, forwarder: Arc<Forwarder>) -> Arc<Self> {
        let bounds = {
            let settings = core.settings.current();
            Bounds {
                slots: settings.max_parked_pulls,
                slots_per_connection: settings.max_parked_pulls_per_connection,
            }
        };
        let puller = Arc::new_cyclic(|weak_self| Self {
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
            role: core.role.clone(),
            forwarder,
            weak_self: weak_self.clone(),
        });
        let weak = Arc::downgrade(&puller);
        consumers.set_subscription_listener(Box::new(move |group| {
            if let Some(puller) = weak.upgrade() {
                puller.subscription_changed(group);
            }
        }));
        puller
    }

    /// A strong reference to this puller.
    fn shared(&self) -> Option<Arc<Self>> {
        self.weak_self.upgrade()
    }

    /// Number of parked pulls.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.hold.len()
    }

    /// Whether no pull is parked and no trace of one is left.
    #[cfg(test)]
    pub(crate) fn is_clean(&self) -> bool {
        self.hold.is_clean()
    }

    /// Handles a pull request.
    pub fn pull(self: &Arc<Self>, asker: Asker<Pulled>, header: &PullHeader<'_>, now_ms: i64) {
        if let Some(mapping) = self.checks.topics.mapping(header.topic)
            && header.is_logical != Some(false)
        {
            return self.pull_logical(asker, header, &mapping, now_ms);
        }
        self.pull_physical(asker, header, None, now_ms);
    }

    fn pull_physical(self: &Arc<Self>, asker: Asker<Pulled>, header: &PullHeader<'_>, logical: Option<Box<LogicalPull>>, now_ms: i64) {
        match self.accept(asker, header, now_ms) {
            Ok(pull) => self.apply_reset_or_read(Pull { logical, ..pull }),
            Err((asker, refusal)) => asker.refuse(refusal),
        }
    }

    fn accept(&self, asker: Asker<Pulled>, header: &PullHeader<'_>, now_ms: i64) -> Result<Pull, (Asker<Pulled>, Refusal)> {
        let settings = self.settings.current();
        let allowed = match self.checks.check(&settings, header, asker.peer(), now_ms) {
            Ok(allowed) => allowed,
            Err(refusal) => return Err((asker, refusal)),
        };
        let has_stale_offset = self.has_stale_offset(&allowed.topic, header, asker.client());
        // Compat: a slave takes offsets with the master's tables.
        let takes_offsets = !self.role.is_slave() || self.role.acts();
        if header.has(sys_flag::COMMIT_OFFSET) && takes_offsets && header.commit_offset >= 0 && !has_stale_offset {
            // A full offset table must not stop consumption; the consumer's own commits are refused with the reason. A commit does
            // not override the pending reset that this pull applies.
            let _ = self
                .offsets
                .commit(header.topic, header.consumer_group, header.queue_id, header.commit_offset);
        }
        let suspend_until = header.has(sys_flag::SUSPEND).then(|| {
            let requested = if settings.long_polling_enable {
                header.suspend_timeout_ms
            } else {
                settings.short_polling_time.as_millis() as i64
            };
            now_ms + requested.clamp(0, MAX_SUSPEND_MS)
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
            has_stale_offset,
            examined_to: 0,
            was_woken: false,
            logical: None,
        })
    }

    /// Whether the offset of a pull is from a deleted topic of the same name. The client knows the new topic if it connected after
    /// its creation, queried its offset, or started at the first message.
    fn has_stale_offset(&self, topic: &Topic, header: &PullHeader<'_>, connection: u64) -> bool {
        if !topic.may_have_stale_offsets(connection) || self.offsets.has_started(header.topic, header.consumer_group, header.queue_id) {
            return false;
        }
        // After this response the client knows the new topic.
        let _ = self.offsets.mark_started(header.topic, header.consumer_group, header.queue_id);
        header.queue_offset > 0
    }

    /// Starts a pull: a pending reset is applied before messages are read.
    fn apply_reset_or_read(self: &Arc<Self>, pull: Pull) {
        if pull.has_stale_offset {
            let first = self.store.min_offset(&pull.topic.name, pull.queue_id).0;
            return self.answer_with_offset(pull, first);
        }
        match self.offsets.take_reset(&pull.topic.name, &pull.rule.group_name, pull.queue_id) {
            Some(offset) => self.answer_with_offset(pull, offset),
            None => self.read(pull),
        }
    }

    /// Has the client continue at another offset.
    fn answer_with_offset(&self, pull: Pull, offset: i64) {
        self.answer_empty(pull, None, ResponseCode::PullOffsetMoved, "OFFSET_RESET", QueueOffset(offset));
    }

    /// `requested` is the offset that the answer is for, if it is for one.
    fn answer_empty(&self, pull: Pull, requested: Option<i64>, code: ResponseCode, status: &'static str, next: QueueOffset) {
        let (topic_sys_flag, group_sys_flag) = (pull.topic.sys_flag, pull.rule.group_sys_flag);
        let mut pulled = Pulled {
            code,
            status,
            next,
            min: self.store.min_offset(&pull.topic.name, pull.queue_id),
            max: self.store.max_offset(&pull.topic.name, pull.queue_id),
            offset_delta: None,
            topic_sys_flag,
            group_sys_flag,
            pull_from: 0,
            records: Vec::new(),
            bytes: 0,
        };
        if let Some(logical) = &pull.logical {
            logical.translate(requested, &mut pulled);
        }
        pull.asker.answer(pulled);
    }

    /// Reads the messages: from memory here, else on a thread for page cache or disk.
    fn read(self: &Arc<Self>, pull: Pull) {
        self.read_within(pull, ReadSource::Memory, Instant::now());
    }

    fn read_within(self: &Arc<Self>, mut pull: Pull, source: ReadSource, start: Instant) {
        if pull.asker.lags() {
            // The messages are read after the client has read its socket.
            return self.have_repeated(pull);
        }
        let read = self.read_store(&mut pull, source);
        let next_source = match (&read, source) {
            (Ok(result), ReadSource::Memory) if result.cold => ReadSource::PageCache,
            (Ok(result), ReadSource::PageCache) if result.cold => ReadSource::Disk,
            _ => return self.answer(pull, read, source, start),
        };
        let continued = Continued {
            source: next_source,
            reply: pull.asker.reply(),
            waiting_bytes: PULL_BYTES + pull.filter.tags().map_or(0, size_of_val),
            read_bytes: self.limits(&pull, next_source).bytes,
        };
        let puller = self.clone();
        self.threads
            .continue_read(continued, move || puller.read_within(pull, next_source, start));
    }

    fn limits(&self, pull: &Pull, source: ReadSource) -> Limits {
        // Compat: the Java broker ignores the request's own byte limit (maxMsgBytes).
        read_limits(&self.settings.current(), source, pull.max_messages)
    }

    fn read_store(&self, pull: &mut Pull, source: ReadSource) -> Result<ReadResult, StoreError> {
        match &pull.filter.selection {
            Selection::Tags(filter) => {
                let limits = self.limits(pull, source);
                let (from, matches) = (QueueOffset(pull.offset), |code| filter.matches(code));
                self.store.read(&pull.topic.name, pull.queue_id, from, limits, &matches, source)
            }
            Selection::Content(content) => {
                let mut examined_to = pull.examined_to;
                let of = ContentRead {
                    store: &self.store,
                    topic: &pull.topic.name,
                    queue_id: pull.queue_id,
                    offset: pull.offset,
                    limits: self.limits(pull, source),
                };
                let read = by_content::read(&of, content, source, &mut examined_to);
                pull.examined_to = examined_to;
                read
            }
        }
    }

    fn answer(self: &Arc<Self>, mut pull: Pull, read: Result<ReadResult, StoreError>, source: ReadSource, start: Instant) {
        let result = match read {
            Ok(result) => result,
            Err(error) => return pull.asker.refuse(error.into()),
        };
        if let Some(damaged) = &result.damaged
            && let Err(refusal) = self.skip_damaged(&pull, damaged)
        {
            return pull.asker.refuse(refusal);
        }
        let code = code_of(result.status, pull.offset);
        if code != ResponseCode::Success {
            // Compat: counted for each read without messages, even if the pull is parked then.
            pull.counters.missed();
        }
        if pull.logical.as_ref().is_some_and(|logical| !logical.may_wait()) {
            // Its queue continues elsewhere.
            pull.suspend_until = None;
        }
        if code == ResponseCode::PullNotFound
            && let Some(until) = pull.suspend_until
        {
            return self.park(pull, until);
        }
        if result.status == ReadStatus::NoMatchedMessage
            && pull.was_woken
            && result.next >= result.max
            && let Some(until) = pull.suspend_until
        {
            pull.offset = result.next.0;
            return self.park(pull, until);
        }
        if code == ResponseCode::Success {
            pull.counters.pulled(result.records.len() as i64, result.bytes as i64);
            if source == ReadSource::Disk {
                pull.counters.from_disk(result.records.len() as i64, result.bytes as i64);
            }
            pull.counters.took(pull.queue_id, start.elapsed().as_millis() as i64);
            // A full offset table must not stop consumption.
            let _ = self
                .offsets
                .pulled_to(&pull.topic.name, &pull.rule.group_name, pull.queue_id, result.next.0);
        }
        let (topic_sys_flag, group_sys_flag) = (pull.topic.sys_flag, pull.rule.group_sys_flag);
        let pull_from = self.pull_from(&pull.rule, result.records.last());
        let mut pulled = Pulled {
            code,
            status: name_of(result.status),
            next: result.next,
            min: result.min,
            max: result.max,
            offset_delta: None,
            topic_sys_flag,
            group_sys_flag,
            pull_from,
            records: result.records,
            bytes: result.bytes,
        };
        if let Some(logical) = &pull.logical {
            logical.translate(Some(pull.offset), &mut pulled);
        }
        pull.asker.answer(pulled);
    }

    /// Compat: who reads so far behind that memory no longer has it is sent to a slave, if slaves serve reads.
    fn pull_from(&self, rule: &Rule, last: Option<&Bytes>) -> i64 {
        let settings = self.settings.current();
        let Some(last) = last.filter(|_| settings.slave_read_enable && !self.role.acts()) else {
            return 0;
        };
        let at = Record::parse(last).map_or(i64::MAX, |record| record.log_offset.0);
        let is_behind = self.store.written().0.saturating_sub(at) > settings.slave_read_behind;
        match (is_behind, self.role.is_slave()) {
            (true, _) => rule.which_broker_when_consume_slowly,
            (false, true) => 0,
            (false, false) => rule.broker_id,
        }
    }

    /// Whether the group may skip a damaged message; logs one ERROR that names the message.
    fn skip_damaged(&self, pull: &Pull, damaged: &Damaged) -> Result<(), Refusal> {
        let (topic, group, queue_id) = (&*pull.topic.name, &*pull.rule.group_name, pull.queue_id);
        let at = records::damage(&self.store, topic, queue_id, damaged);
        if !self.settings.current().skip_damaged_messages {
            return Err(Refusal::system(format!("{at}; apogeeSkipDamagedMessages=true has groups skip it")));
        }
        if self
            .offsets
            .passed_damaged(topic, group, queue_id, damaged.queue_offset.0)
            .unwrap_or(false)
        {
            tracing::error!(group, "{at}; the group skips it");
        }
        Ok(())
    }

    fn park(self: &Arc<Self>, pull: Pull, until: i64) {
        let (topic, queue_id, offset) = (pull.topic.clone(), pull.queue_id, pull.offset);
        let subscriptions = self.checks.consumers.changes();
        if pull.is_outdated() {
            return self.have_repeated(pull);
        }
        let logical = pull.logical.clone();
        let id = match self.hold.park(until, pull) {
            Ok(id) => id,
            Err((mut pull, NotParked::Closed)) => {
                pull.suspend_until = None;
                return self.read(pull);
            }
            Err((pull, why)) => return pull.asker.refuse(Refusal::new(ResponseCode::SystemBusy, why.to_string())),
        };
        // Nothing wakes the pull for a message, a subscription change or a deletion between the read and the parking.
        let missed = self.store.max_offset(&topic.name, queue_id).0 > offset
            || self.checks.consumers.changes() != subscriptions
            || logical.is_some_and(|logical| logical.is_outdated())
            || topic.is_deleted();
        if missed && let Some(pull) = self.hold.take_one(id) {
            if pull.was_woken {
                // Not on this stack: while messages keep arriving, it would recurse for each of them.
                return self.examine_later(vec![pull]);
            }
            self.resume(pull);
        }
    }

    /// Continues a parked pull. If its group's subscription changed, the client has to repeat it at the same offset.
    fn resume(self: &Arc<Self>, pull: Pull) {
        self.resume_within(pull, ReadSource::Memory);
    }

    fn resume_within(self: &Arc<Self>, pull: Pull, source: ReadSource) {
        if pull.topic.is_deleted() {
            return self.answer_with_offset(pull, 0);
        }
        if pull.is_outdated() {
            return self.have_repeated(pull);
        }
        self.read_within(pull, source, Instant::now());
    }

    /// Has the client repeat the pull at the same offset immediately.
    fn have_repeated(&self, pull: Pull) {
        let (code, next) = (ResponseCode::PullRetryImmediately, QueueOffset(pull.offset));
        self.answer_empty(pull, None, code, name_of(ReadStatus::NoMatchedMessage), next);
    }

    /// Answers the parked pulls of a deleted topic with offset 0, where a new topic of this name will start.
    fn answer_topic_deleted(self: &Arc<Self>, topic: &str) {
        let pulls = self.hold.take_if(|pull| *pull.topic.name == *topic);
        pulls.into_iter().for_each(|pull| self.resume(pull));
    }

    /// The listener that wakes parked pulls.
    #[must_use]
    pub fn listener(this: &Arc<Self>) -> impl ArrivalListener + use<> {
        Waker {
            hold: Arc::clone(&this.hold),
            puller: Arc::downgrade(this),
        }
    }

    /// Wakes the pulls that match a new message with this tag hash.
    fn arrived(self: &Arc<Self>, topic: &str, queue_id: i32, tags_code: i64) {
        let woken = self.take_matching(topic, queue_id, tags_code, MAX_WOKEN_INLINE);
        woken.requests.into_iter().for_each(|pull| self.resume(pull));
        if woken.more {
            let (puller, name) = (self.clone(), topic.to_owned());
            let wake = move |most| puller.take_matching(&name, queue_id, tags_code, most);
            self.clone().wake_remaining(wake);
        }
        if self.hold.has_by_content() {
            self.wake_by_content(topic, queue_id);
        }
    }

    /// Removes parked pulls that match a message; all pulls of the queue if the queue entry does not have the tag hash.
    fn take_matching(&self, topic: &str, queue_id: i32, tags_code: i64, most: usize) -> Taken<Pull> {
        if store::queue::is_ext_address(tags_code) {
            self.hold.take_all(topic, queue_id, most)
        } else {
            self.hold.take(topic, queue_id, tags_code, most)
        }
    }

    /// Wakes the remaining pulls on a catch-up thread, or here if none is available.
    fn wake_remaining(self: Arc<Self>, take: impl Fn(usize) -> Taken<Pull> + Send + Sync + 'static) {
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

    /// Answers all pulls that `take` removes, in batches.
    fn answer_each(self: &Arc<Self>, take: impl Fn(usize) -> Taken<Pull>) {
        loop {
            let taken = take(BATCH);
            net::together(|| taken.requests.into_iter().for_each(|pull| self.resume(pull)));
            if !taken.more {
                return;
            }
        }
    }

    /// Answers the parked pulls of a group whose subscription changed.
    pub fn subscription_changed(self: &Arc<Self>, group: &str) {
        if self.hold.is_empty() {
            return;
        }
        let outdated = |pull: &Pull| pull.rule.group_name == group && pull.filter.is_outdated();
        let pulls = self.hold.take_if(outdated);
        pulls.into_iter().for_each(|pull| self.resume(pull));
    }

    /// Answers the parked pulls of a queue whose offset was reset.
    pub fn reset(self: &Arc<Self>, topic: &str, queue_id: i32) {
        loop {
            let taken = self.hold.take_all(topic, queue_id, BATCH);
            net::together(|| taken.requests.into_iter().for_each(|pull| self.apply_reset_or_read(pull)));
            if !taken.more {
                return;
            }
        }
    }

    /// Answers the pulls whose deadline has passed. Called a few times per second.
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

    /// At shutdown: answers all parked pulls, and has later ones answered without parking.
    fn stop_parking(self: &Arc<Self>) {
        self.hold.close();
        self.expire(i64::MAX - 1);
    }
}

/// Apache's response code for the result of a read.
fn code_of(status: ReadStatus, requested: i64) -> ResponseCode {
    match status {
        ReadStatus::Found => ResponseCode::Success,
        ReadStatus::NoMatchedMessage | ReadStatus::MessageWasRemoving => ResponseCode::PullRetryImmediately,
        ReadStatus::NoMatchedLogicQueue | ReadStatus::NoMessageInQueue if requested == 0 => ResponseCode::PullNotFound,
        ReadStatus::OffsetFoundNull | ReadStatus::OffsetOverflowOne => ResponseCode::PullNotFound,
        ReadStatus::NoMatchedLogicQueue | ReadStatus::NoMessageInQueue | ReadStatus::OffsetOverflowBadly | ReadStatus::OffsetTooSmall => {
            ResponseCode::PullOffsetMoved
        }
    }
}

/// Apache's name for the result of a read, which it sends as the remark.
pub(crate) fn name_of(status: ReadStatus) -> &'static str {
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
