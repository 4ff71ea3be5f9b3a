//! Sends that repeat one whose message is stored: in topics that recognise them ([`crate::dedup`]).
//!
//! A repeat is answered when all that is in the log up to now, the first message among it, is as durable as the flush mode promises.
//! If that fails, the repeat fails, too: the log takes nothing until a restart then, which finds out what is stored.
//!
//! A send whose key another send has claimed, on this connection or on another one, comes after the others of its read, when it holds no
//! claims: it waits for that append, which takes no longer than its own could. It may then be stored behind later sends of its connection,
//! but only if the one that it repeats was refused.

use super::check::Messages;
use super::logical;
use super::{Accepted, SendContext, SendProperties, SendSink, Sender, Sent};
use crate::dedup::{self, BusyKey, Identity, KnownKeys, Recognition, Verdict};
use crate::log_writer::WaitFor;
use crate::topic::Topic;
use message::batch;
use message::record::Placement;
use smallvec::SmallVec;
use std::net::SocketAddr;

/// Accepted requests by what is to be done with them.
struct Sorted<'a, A> {
    new: Vec<Accepted<'a, A>>,
    repeats: Vec<Repeat<'a, A>>,
    busy: Vec<(Accepted<'a, A>, BusyKey)>,
}

/// A request whose messages are all stored already.
struct Repeat<'a, A> {
    request: Accepted<'a, A>,
    places: Vec<Placement>,
    queue_id: i32,
    store_host: SocketAddr,
}

impl Sender {
    /// What the messages of a request can be recognised by, if their topic does that.
    pub(super) fn recognition(
        &self,
        topic: &Topic,
        messages: &Messages<'_>,
        seen: &SendProperties<'_>,
        known: &mut KnownKeys,
    ) -> Option<Recognition> {
        topic.dedup?;
        match messages {
            Messages::One { .. } => self.dedup.recognise(topic, std::iter::once(seen.identity()), known),
            Messages::Batch(body) => {
                let items = batch::items(body).flatten();
                self.dedup.recognise(topic, items.map(|item| Identity::of(item.properties)), known)
            }
        }
    }

    /// Stores the requests of a read that are new, and answers the others like the ones that they repeat.
    pub(super) fn store_new<'a, S: SendSink>(
        &'a self,
        sink: &S,
        accepted: Vec<Accepted<'a, S::Asker>>,
        context: SendContext,
        tries_left: usize,
    ) {
        if accepted.iter().all(|one| one.recognition.is_none()) {
            return self.store_together(sink, accepted, context, tries_left);
        }
        let mut rest = accepted;
        while !rest.is_empty() {
            let Sorted { new, repeats, busy } = self.sort(rest, context);
            let held_none = new.is_empty();
            if !new.is_empty() {
                self.store_together(sink, new, context, tries_left);
            }
            for flush in [false, true] {
                self.answer_repeats(sink, &repeats, flush);
            }
            if held_none && let Some((first, key)) = busy.first() {
                first.recognition.iter().for_each(|recognition| recognition.wait_for(*key));
            }
            rest = busy.into_iter().map(|(one, _)| one).collect();
        }
    }

    fn sort<'a, A>(&self, mut accepted: Vec<Accepted<'a, A>>, context: SendContext) -> Sorted<'a, A> {
        self.dedup.make_room(
            accepted
                .iter()
                .filter_map(|one| one.recognition.as_ref())
                .map(|one| one.len())
                .sum(),
        );
        let now_ms = self.dedup.now_ms();
        dedup::claim_all(&mut recognised(&mut accepted), now_ms);
        let verdict = |one: &mut Accepted<'a, A>| one.recognition.as_mut().map_or(Verdict::Store, |recognition| recognition.verdict());
        let verdicts: SmallVec<[Verdict; 64]> = accepted.iter_mut().map(verdict).collect();
        let mut sorted = Sorted {
            new: Vec::new(),
            repeats: Vec::new(),
            busy: Vec::new(),
        };
        if verdicts.iter().all(|verdict| *verdict == Verdict::Store) {
            // Nearly always.
            sorted.new = accepted;
            return sorted;
        }
        for (one, verdict) in accepted.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Store => sorted.new.push(one),
                Verdict::Busy(key) => sorted.busy.push((one, key)),
                Verdict::Repeat => {
                    let repeat = one.recognition.as_ref().map(|recognition| recognition.places(&self.dedup));
                    let (places, queue_id, host) = repeat.unwrap_or_default();
                    sorted.repeats.push(Repeat {
                        request: one,
                        places,
                        queue_id,
                        store_host: host.unwrap_or(context.store_host),
                    });
                }
            }
        }
        sorted
    }

    /// The new messages of these requests were appended there.
    pub(super) fn placed<A>(&self, accepted: &mut [Accepted<'_, A>], placements: &[Placement], context: SendContext) {
        if accepted.iter().all(|one| one.recognition.is_none()) {
            return;
        }
        let host = self.dedup.host(context.store_host);
        let queues: SmallVec<[(i32, usize); 64]> = accepted
            .iter()
            .filter(|one| one.recognition.is_some())
            .map(|one| (one.queue_id, one.messages.start))
            .collect();
        dedup::place_all(&mut recognised(accepted), |n, m| {
            let (queue_id, first) = queues[n];
            dedup::place_of(placements[first + m], queue_id, host)
        });
        for one in accepted {
            let Some(recognition) = &one.recognition else { continue };
            one.places = recognition.all_places(&self.dedup, &placements[one.messages.clone()]);
        }
    }

    /// Answers those that wait for the flush, or those that do not.
    fn answer_repeats<S: SendSink>(&self, sink: &S, repeats: &[Repeat<'_, S::Asker>], flush: bool) {
        let may_wait = self.log.may_wait();
        let of_group = || repeats.iter().filter(|one| (may_wait && one.request.checked.waits) == flush);
        let asking = || of_group().filter(|one| S::wants_answer(one.request.request.asker));
        if asking().next().is_none() {
            return;
        }
        let sent = || {
            asking().map(|one| {
                let (queue_id, queue_offset) = logical::known_place(&one.request.topic, one.queue_id, &one.places);
                let sent = Sent {
                    placements: &one.places,
                    store_host: one.store_host,
                    queue_id,
                    queue_offset,
                    uniq_key: &one.request.checked.uniq_key,
                    // That of the first names the time at which that one is due, which is not known here.
                    recall_handle: None,
                    region: self.added.region(),
                    trace_on: self.added.trace_on(),
                };
                (one.request.request.asker, sent)
            })
        };
        let wait = WaitFor {
            flush,
            topics: of_group().any(|one| self.is_new(&one.request)),
            slaves: flush,
        };
        let late = self.may_be_late(flush);
        let later = || self.late.completion(late.flush, sink.answer_later(sent(), late));
        match self.log.complete(self.log.appended(), wait, later) {
            None => {}
            Some(Ok(())) => sink.answer(sent()),
            Some(Err(reason)) => sink.fail(asking().map(|one| one.request.request.asker), &reason.to_string()),
        }
    }
}

/// What requests to topics that recognise repeats can be recognised by.
fn recognised<'r, A>(accepted: &'r mut [Accepted<'_, A>]) -> SmallVec<[&'r mut Recognition; 64]> {
    accepted.iter_mut().filter_map(|one| one.recognition.as_mut()).collect()
}
