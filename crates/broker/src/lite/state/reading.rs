//! Lite topics become ready, are read by one pop at a time, and have messages in flight.

use super::{Acked, Counts, Full, Limits, Name, Queue, Reading, State, Wakes};
use crate::lite::flight::{Flight, Handout};
use smallvec::SmallVec;
use std::sync::Arc;

impl<C: Clone> State<C> {
    /// The lite topic may have messages for the group. Returns whose parked pop is to be woken.
    pub(in crate::lite) fn ready(&mut self, group: &str, queue: &str, now: i64) -> Wakes {
        let Some(of_group) = self.groups.get_mut(group) else {
            return Wakes::Nobody;
        };
        if of_group.is_wildcard && !of_group.clients.is_empty() && !of_group.queues.contains_key(queue) {
            of_group.queues.insert(queue.into(), Queue::default());
        }
        let Some((name, _)) = of_group.queues.get_key_value(queue) else {
            return Wakes::Nobody;
        };
        let name = Arc::clone(name);
        let Some(of_queue) = of_group.queues.get_mut(queue) else {
            return Wakes::Nobody;
        };
        // The end of the reading, or the time or acknowledgement that ends the flight, is the next occasion.
        if of_queue.reading.is_some() || of_queue.flight.as_ref().is_some_and(|flight| flight.blocks(now)) {
            return Wakes::Nobody;
        }
        if of_group.is_wildcard {
            if of_group.clients.is_empty() {
                return Wakes::Nobody;
            }
            of_queue.is_ready = true;
            of_group.ready.add(&name);
            return Wakes::Any;
        }
        if of_queue.subscribers.is_empty() {
            return Wakes::Nobody;
        }
        of_queue.is_ready = true;
        for client in &of_queue.subscribers {
            if let Some(client) = of_group.clients.get_mut(client) {
                client.ready.add(&name);
            }
        }
        let mut clients = of_queue.subscribers.clone();
        of_group.turn = of_group.turn.wrapping_add(1);
        let first = of_group.turn % clients.len();
        clients.rotate_left(first);
        Wakes::Of(clients)
    }

    /// A lite topic that is ready for the client.
    pub(in crate::lite) fn peek(&self, group: &str, client: &str) -> Option<Name> {
        let of_group = self.groups.get(group)?;
        let known = of_group.clients.get(client)?;
        let ready = if of_group.is_wildcard { &of_group.ready } else { &known.ready };
        ready.order.iter().find(|queue| ready.members.contains(*queue)).cloned()
    }

    /// Whether a pop of the client may find messages.
    pub(in crate::lite) fn has_ready(&self, group: &str, client: &str) -> bool {
        let Some(of_group) = self.groups.get(group) else { return false };
        if of_group.is_wildcard {
            return !of_group.ready.members.is_empty() && of_group.clients.contains_key(client);
        }
        of_group.clients.get(client).is_some_and(|client| !client.ready.members.is_empty())
    }

    /// A pop of the client begins. Returns the lite topics whose messages it hands out again, if it repeats the last one.
    pub(in crate::lite) fn begin(&mut self, group: &str, client: &str, attempt: Option<&str>, now: i64) -> SmallVec<[Name; 1]> {
        let known = self.groups.get_mut(group).and_then(|of_group| of_group.clients.get_mut(client));
        let Some(known) = known else { return SmallVec::new() };
        (known.seen_at, known.last_access) = (now, Some(now));
        match (&known.attempt, attempt) {
            (Some((last, queues)), Some(attempt)) if **last == *attempt => queues.clone(),
            _ => {
                known.attempt = None;
                SmallVec::new()
            }
        }
    }

    /// Begins to read a lite topic again whose messages this attempt handed out, and that are not all acknowledged.
    pub(in crate::lite) fn again(&mut self, group: &str, queue: &str, attempt: Option<&str>) -> Option<Reading> {
        let of_queue = self.groups.get_mut(group)?.queues.get_mut(queue)?;
        let is_own = of_queue.flight.as_ref().is_some_and(|flight| flight.is_of(attempt));
        (is_own && of_queue.reading.is_none()).then_some(())?;
        self.read(group, queue)
    }

    /// Begins to read the next lite topic that is ready for the client.
    pub(in crate::lite) fn next(&mut self, group: &str, client: &str, now: i64) -> Option<Reading> {
        loop {
            let of_group = self.groups.get_mut(group)?;
            let known = of_group.clients.get_mut(client)?;
            let queue = if of_group.is_wildcard {
                &mut of_group.ready
            } else {
                &mut known.ready
            }
            .take()?;
            let Some(of_queue) = of_group.queues.get_mut(&queue) else {
                continue;
            };
            let is_blocked = of_queue.flight.as_ref().is_some_and(|flight| flight.blocks(now));
            if of_queue.is_ready && of_queue.reading.is_none() && !is_blocked {
                return self.read(group, &queue);
            }
        }
    }

    fn read(&mut self, group: &str, queue: &str) -> Option<Reading> {
        let (group, of_group) = self.groups.get_key_value(group)?;
        let (queue, _) = of_group.queues.get_key_value(queue)?;
        self.next_reading += 1;
        let reading = Reading {
            group: Arc::clone(group),
            queue: Arc::clone(queue),
            number: self.next_reading,
        };
        let of_queue = self.groups.get_mut(&reading.group)?.queues.get_mut(&reading.queue)?;
        of_queue.is_ready = false;
        of_queue.reading = Some(reading.number);
        Some(reading)
    }

    fn end(&mut self, reading: &Reading) -> Option<&mut Queue> {
        let of_queue = self.groups.get_mut(&reading.group)?.queues.get_mut(&reading.queue)?;
        (of_queue.reading == Some(reading.number)).then(|| {
            of_queue.reading = None;
            of_queue
        })
    }

    /// Messages were found and are in flight. Returns how often each was handed out before; `None` if they must not be handed out, because
    /// the group's offset was reset meanwhile.
    ///
    /// # Errors
    /// [`Full::InFlight`]. The reading has ended.
    pub(in crate::lite) fn found(
        &mut self,
        reading: &Reading,
        client: &str,
        handout: &Handout<'_>,
        limits: Limits,
        now: i64,
    ) -> Result<Option<Counts>, Full> {
        let is_full = self.in_flight >= limits.in_flight;
        let Some(of_queue) = self.end(reading) else { return Ok(None) };
        let before = of_queue.flight.take();
        let is_new = before.is_none();
        if is_new && is_full {
            self.tidy(&reading.group, &reading.queue);
            return Err(Full::InFlight(limits.in_flight));
        }
        let flight = Flight::new(handout, before.as_deref());
        let counts = flight.counts().collect();
        of_queue.flight = Some(Box::new(flight));
        self.in_flight += usize::from(is_new);
        self.plan(&reading.group, &reading.queue);
        let known = self
            .groups
            .get_mut(&reading.group)
            .and_then(|of_group| of_group.clients.get_mut(client));
        if let Some(known) = known {
            known.last_consume = Some(now);
            if let Some(attempt) = handout.attempt {
                let kept = known.attempt.get_or_insert_with(|| (attempt.into(), SmallVec::new()));
                if *kept.0 != *attempt {
                    *kept = (attempt.into(), SmallVec::new());
                }
                if !kept.1.contains(&reading.queue) {
                    kept.1.push(Arc::clone(&reading.queue));
                }
            }
        }
        Ok(Some(counts))
    }

    /// The reading found nothing, or failed. The caller calls [`Self::ready`] if messages have arrived meanwhile. False if it had ended.
    pub(in crate::lite) fn nothing(&mut self, reading: &Reading) -> bool {
        let was_open = self.end(reading).is_some();
        self.tidy(&reading.group, &reading.queue);
        was_open
    }

    /// Plans when the messages in flight are visible again.
    fn plan(&mut self, group: &str, queue: &str) {
        let Some((group, of_group)) = self.groups.get_key_value(group) else {
            return;
        };
        let Some((queue, _)) = of_group.queues.get_key_value(queue) else {
            return;
        };
        let (group, queue) = (Arc::clone(group), Arc::clone(queue));
        let of_queue = self.groups.get_mut(&group).and_then(|of_group| of_group.queues.get_mut(&queue));
        let Some(of_queue) = of_queue else { return };
        let before = of_queue.wake_at.take();
        // If it has passed, the look at it says until when what is held stays invisible.
        of_queue.wake_at = of_queue.flight.as_ref().and_then(|flight| flight.free_at());
        let planned = of_queue.wake_at;
        let holder = of_queue.flight.as_ref().and_then(|flight| flight.holder());
        let let_go = std::mem::replace(&mut of_queue.holder, holder).filter(|let_go| Some(*let_go) != holder);
        let place = (Arc::clone(&group), Arc::clone(&queue));
        if let Some(let_go) = let_go {
            self.not_held(let_go, &place);
        }
        if let Some(holder) = holder {
            self.held.entry(holder).or_default().insert(place);
        }
        if let Some(at) = before {
            self.wakes.remove(&(at, Arc::clone(&group), Arc::clone(&queue)));
        }
        if let Some(at) = planned {
            self.wakes.insert((at, group, queue));
        }
    }

    /// Nothing of a lite topic is held for the holder any more.
    pub(super) fn not_held(&mut self, holder: u64, place: &(Name, Name)) {
        if let Some(places) = self.held.get_mut(&holder) {
            places.remove(place);
            if places.is_empty() {
                self.held.remove(&holder);
            }
        }
    }

    /// The holder said goodbye: what is held for it is visible at that time, and the next delivery is not counted.
    pub(in crate::lite) fn give_back(&mut self, holder: u64, visible_at: i64) {
        for (group, queue) in self.held.remove(&holder).unwrap_or_default() {
            let of_queue = self.groups.get_mut(&group).and_then(|of_group| of_group.queues.get_mut(&queue));
            let Some(of_queue) = of_queue else { continue };
            of_queue.holder = None;
            if let Some(flight) = &mut of_queue.flight {
                flight.suspend(visible_at);
                flight.let_go();
            }
            self.plan(&group, &queue);
        }
    }

    /// A message was acknowledged.
    pub(in crate::lite) fn ack(&mut self, group: &str, queue: &str, offset: i64, pop_time: i64, now: i64) -> Acked {
        let of_queue = self.groups.get_mut(group).and_then(|of_group| of_group.queues.get_mut(queue));
        let Some(of_queue) = of_queue else { return Acked::Unknown };
        let flight = of_queue.flight.as_mut().filter(|flight| flight.pop_time == pop_time);
        let Some(flight) = flight else { return Acked::Unknown };
        let Some(next) = flight.ack(offset) else {
            return Acked::Unknown;
        };
        let is_free = !flight.blocks(now);
        if flight.free_at().is_none() {
            of_queue.flight = None;
            self.in_flight -= 1;
        }
        self.plan(group, queue);
        self.tidy(group, queue);
        Acked::Done { next, is_free }
    }

    /// A message is invisible until then; with `suspend`, all that are left of its pop, and the next delivery is not counted. False if it is
    /// not in flight.
    pub(in crate::lite) fn renew(
        &mut self,
        group: &str,
        queue: &str,
        (offset, pop_time): (i64, i64),
        visible_at: i64,
        suspend: bool,
    ) -> bool {
        let of_queue = self.groups.get_mut(group).and_then(|of_group| of_group.queues.get_mut(queue));
        let flight = of_queue.and_then(|of_queue| of_queue.flight.as_mut());
        let Some(flight) = flight.filter(|flight| flight.pop_time == pop_time) else {
            return false;
        };
        if suspend {
            flight.suspend(visible_at);
        } else if !flight.renew(offset, visible_at) {
            return false;
        }
        self.plan(group, queue);
        true
    }

    /// The group's offset in the lite topic was reset: nothing is in flight, and what is being read is not handed out.
    pub(in crate::lite) fn clear(&mut self, group: &str, queue: &str) {
        let of_queue = self.groups.get_mut(group).and_then(|of_group| of_group.queues.get_mut(queue));
        let Some(of_queue) = of_queue else { return };
        of_queue.reading = None;
        if of_queue.flight.take().is_some() {
            self.in_flight -= 1;
        }
        self.plan(group, queue);
        self.tidy(group, queue);
    }

    /// As [`Self::clear`], by the pop that reads the lite topic and goes on.
    pub(in crate::lite) fn clear_flight(&mut self, reading: &Reading) {
        let of_queue = self
            .groups
            .get_mut(&reading.group)
            .and_then(|group| group.queues.get_mut(&reading.queue));
        if of_queue.is_some_and(|of_queue| of_queue.reading == Some(reading.number) && of_queue.flight.take().is_some()) {
            self.in_flight -= 1;
        }
        self.plan(&reading.group, &reading.queue);
    }

    /// Whether messages of the lite topic are in flight, or visible again and not handed out since.
    pub(in crate::lite) fn has_flight(&self, group: &str, queue: &str) -> bool {
        let of_queue = self.groups.get(group).and_then(|group| group.queues.get(queue));
        of_queue.is_some_and(|of_queue| of_queue.flight.is_some())
    }

    /// When messages are visible again next.
    pub(in crate::lite) fn next_wake(&self) -> Option<i64> {
        self.wakes.first().map(|(at, _, _)| *at)
    }

    /// Lite topics whose messages are visible again: group and queue. The caller calls [`Self::ready`]. What nobody subscribes to is
    /// forgotten.
    pub(in crate::lite) fn take_visible(&mut self, now: i64, most: usize) -> Vec<(Name, Name)> {
        let mut visible = Vec::new();
        while visible.len() < most
            && let Some((at, _, _)) = self.wakes.first()
            && *at <= now
            && let Some((_, group, queue)) = self.wakes.pop_first()
        {
            let Some(of_group) = self.groups.get_mut(&group) else { continue };
            let Some(of_queue) = of_group.queues.get_mut(&queue) else {
                continue;
            };
            of_queue.wake_at = of_queue.flight.as_ref().and_then(|flight| flight.look_again(now));
            if let Some(at) = of_queue.wake_at {
                self.wakes.insert((at, group, queue));
                continue;
            }
            if let Some(flight) = &mut of_queue.flight {
                flight.let_go();
            }
            let has_readers = !of_queue.subscribers.is_empty() || of_group.is_wildcard && !of_group.clients.is_empty();
            if let Some(holder) = of_queue.holder.take() {
                self.not_held(holder, &(Arc::clone(&group), Arc::clone(&queue)));
            }
            if has_readers {
                visible.push((group, queue));
                continue;
            }
            let of_queue = self.groups.get_mut(&group).and_then(|of_group| of_group.queues.get_mut(&queue));
            if of_queue.is_some_and(|of_queue| of_queue.flight.take().is_some()) {
                self.in_flight -= 1;
            }
            self.tidy(&group, &queue);
        }
        visible
    }
}
