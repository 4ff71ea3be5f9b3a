//! A pop request: checked once, and what stays of it while it is served or parked.

use super::Pops;
use super::check::{MAX_MESSAGES, Reads};
use super::result::PopResult;
use super::steps::ReadsOf;
use super::wake::GroupOnTopic;
use crate::asker::Asker;
use crate::clients::heartbeat::MAX_CLIENT_ID_BYTES;
use crate::errors::{Refusal, check_length};
use crate::hold::{ANY_QUEUE, Waiter};
use crate::pull::selection::Selection;
use crate::topic::Topic;
use protocol::codes::ResponseCode;
use protocol::pop::{INIT_MIN, MAX_HOLD_MS, PopHeader};
use std::sync::Arc;

/// Compat: a request that is later than its own deadline by more is not served, in ms.
const TOO_LATE_MS: i64 = 500;

/// A pop that passed the checks.
pub(super) struct Pop {
    pub(super) asker: Asker<PopResult>,
    pub(super) topic: Arc<Topic>,
    pub(super) of: Arc<GroupOnTopic>,
    pub(super) selection: Arc<Selection>,
    /// Below 0 for any.
    pub(super) queue_id: i32,
    pub(super) most: usize,
    pub(super) invisible_ms: i64,
    /// Deadline of parking, in ms since 1970.
    pub(super) until: Option<i64>,
    pub(super) starts_at_min: bool,
    pub(super) in_order: bool,
    pub(super) attempt: Option<Box<str>>,
    /// The client for which its messages are held, and for how long at most, ms.
    pub(super) held_for: Option<(Box<str>, i64)>,
}

impl Pop {
    pub(super) fn reads(&self) -> ReadsOf {
        ReadsOf {
            topic: Arc::clone(&self.topic),
            of: Arc::clone(&self.of),
            queue_id: self.queue_id,
            in_order: self.in_order,
            attempt: self.attempt.clone(),
        }
    }
}

impl Waiter for Pop {
    fn queue(&self) -> (&str, i32) {
        (&self.of.key, if self.queue_id < 0 { ANY_QUEUE } else { self.queue_id })
    }

    fn owner(&self) -> u64 {
        self.asker.client()
    }

    fn is_disconnected(&self) -> bool {
        self.asker.is_disconnected()
    }

    fn tags(&self) -> Option<&[i32]> {
        match &*self.selection {
            Selection::Tags(filter) => filter.codes(),
            Selection::Content(_) => None,
        }
    }

    fn is_by_content(&self) -> bool {
        matches!(*self.selection, Selection::Content(_))
    }
}

impl Pops {
    /// Handles a pop request.
    pub fn pop(self: &Arc<Self>, asker: Asker<PopResult>, header: &PopHeader<'_>, now_ms: i64) {
        let pop = match self.accept(asker, header, now_ms) {
            Ok(pop) => pop,
            Err((asker, refusal)) => return asker.refuse(refusal),
        };
        let of = Arc::clone(&pop.of);
        if let Some(left) = self.run(pop) {
            self.wake_next(&of, left);
        }
    }

    fn accept(&self, asker: Asker<PopResult>, header: &PopHeader<'_>, now_ms: i64) -> Result<Pop, (Asker<PopResult>, Refusal)> {
        let settings = self.core.settings.current();
        let reads = Reads {
            topic: header.topic,
            group: header.consumer_group,
            queue_id: header.queue_id,
        };
        let born = if header.born_time == 0 { now_ms } else { header.born_time };
        let check = || {
            if now_ms.saturating_sub(born).saturating_sub(header.poll_time) > TOO_LATE_MS {
                let text = format!("the broker[{}] pop message is timeout too much", settings.broker_name);
                return Err(Refusal::new(ResponseCode::PollingTimeout, text));
            }
            if header.max_msg_nums > MAX_MESSAGES {
                let text = format!(
                    "the broker[{}] pop message's num is greater than {MAX_MESSAGES}",
                    settings.broker_name
                );
                return Err(Refusal::invalid(text));
            }
            check_hold(header.hold_for, header.hold_time)?;
            let (topic, _) = self.allowed(&settings, reads, asker.peer(), now_ms)?;
            let selection = self.selection(&settings, reads, (header.exp_type, header.exp), now_ms)?;
            let of = self
                .waiting
                .of(header.topic, header.consumer_group)
                .map_err(|full| Refusal::new(ResponseCode::SystemBusy, full.to_string()))?;
            Ok((topic, selection, of))
        };
        let (topic, selection, of) = match check() {
            Ok(allowed) => allowed,
            Err(refusal) => return Err((asker, refusal)),
        };
        Ok(Pop {
            asker,
            topic,
            of,
            selection: Arc::new(selection),
            queue_id: header.queue_id,
            most: usize::try_from(header.max_msg_nums).unwrap_or(0).max(1),
            invisible_ms: header.invisible_time.max(0),
            until: super::deadline(born, header.poll_time, now_ms),
            starts_at_min: header.init_mode == INIT_MIN,
            in_order: header.order,
            attempt: header.attempt_id.map(Into::into),
            held_for: header
                .hold_for
                .zip(header.hold_time)
                .map(|(client, most_ms)| (client.into(), most_ms)),
        })
    }
}

/// Checks for whom, and for how long, messages are to be held.
///
/// # Errors
/// `InvalidParameter` if the client id is too long, or the time is none.
pub(crate) fn check_hold(client: Option<&str>, most_ms: Option<i64>) -> Result<(), Refusal> {
    check_length("client id", client.unwrap_or_default(), MAX_CLIENT_ID_BYTES)?;
    match most_ms {
        Some(ms) if !(0..=MAX_HOLD_MS).contains(&ms) => {
            let text = format!("messages are to be held for {ms} ms (apogeeHoldMillis), the limit is {MAX_HOLD_MS} ms");
            Err(Refusal::invalid(text))
        }
        _ => Ok(()),
    }
}
