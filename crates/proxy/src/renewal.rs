//! Messages that push consumers process and that their broker does not hold (Apache's, or one that does not take the client): the proxy renews
//! their invisible time until they are acknowledged.
//!
//! A consumer keeps the handle with which it received a message; a renewed message has another one. [`Renewals`] knows which. With nothing
//! to renew the task sleeps without a timer. If the process dies, the messages are delivered again after their invisible time.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Messages that are renewed at the same time.
const BATCH: usize = 128;

/// A message that a consumer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) group: Box<str>,
    pub(crate) topic: Box<str>,
    /// Its handle now.
    pub(crate) current: Box<str>,
    /// When it was received, epoch ms.
    pub(crate) received_ms: i64,
}

struct Entry {
    held: Held,
    /// Its place in [`Table::due`].
    due: (i64, u64),
    /// It is being renewed, and not in [`Table::due`].
    is_busy: bool,
    /// Acknowledgements that wait for its handle after that.
    takers: Vec<oneshot::Sender<Box<str>>>,
}

/// A message that has to be renewed now.
pub(crate) struct Due {
    key: Box<str>,
    pub(crate) held: Held,
}

impl Due {
    pub(crate) fn client(&self) -> &str {
        self.key.split('\0').next().unwrap_or_default()
    }
}

#[derive(Default)]
struct Table {
    /// By client and first handle.
    entries: HashMap<Box<str>, Entry>,
    due: BTreeMap<(i64, u64), Box<str>>,
    next: u64,
}

/// The messages whose invisible time is renewed.
pub(crate) struct Renewals {
    table: Mutex<Table>,
    most: usize,
    earlier: Notify,
}

fn key(client: &str, handle: &str) -> Box<str> {
    [client, "\0", handle].concat().into()
}

impl Renewals {
    /// For up to `most` messages.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            table: Mutex::default(),
            most,
            earlier: Notify::new(),
        }
    }

    /// A client received a message with `held.current` as its handle; it is renewed at `due_ms`. Returns false if there are too many.
    pub(crate) fn add(&self, client: &str, held: Held, due_ms: i64) -> bool {
        let mut table = self.table.lock();
        if table.entries.len() >= self.most {
            return false;
        }
        let key = key(client, &held.current);
        let due = (due_ms, table.next);
        table.next += 1;
        let is_first = table.due.first_key_value().is_none_or(|(first, _)| due < *first);
        table.due.insert(due, key.clone());
        let entry = Entry {
            held,
            due,
            is_busy: false,
            takers: Vec::new(),
        };
        if let Some(before) = table.entries.insert(key, entry) {
            table.due.remove(&before.due);
        }
        drop(table);
        if is_first {
            self.earlier.notify_one();
        }
        true
    }

    /// The handle now of the message that this client received with this one. It is not renewed any more. Waits while it is being renewed.
    pub(crate) async fn take(&self, client: &str, handle: &str) -> Option<Box<str>> {
        let settled = {
            let mut table = self.table.lock();
            if table.entries.is_empty() {
                return None;
            }
            let key = key(client, handle);
            let entry = table.entries.get_mut(&*key)?;
            if !entry.is_busy {
                let entry = table.entries.remove(&*key)?;
                table.due.remove(&entry.due);
                return Some(entry.held.current);
            }
            let (taker, settled) = oneshot::channel();
            entry.takers.push(taker);
            settled
        };
        settled.await.ok()
    }

    /// All messages of a client but those that are being renewed just now. They are not renewed any more.
    pub(crate) fn take_all(&self, client: &str) -> Vec<Held> {
        let start = key(client, "");
        let mut table = self.table.lock();
        let taken: Vec<Entry> = table
            .entries
            .extract_if(|key, entry| key.starts_with(&*start) && !entry.is_busy)
            .map(|(_, entry)| entry)
            .collect();
        for entry in &taken {
            table.due.remove(&entry.due);
        }
        taken.into_iter().map(|entry| entry.held).collect()
    }

    /// Some of the messages that are due. Each is settled by [`Self::settle`].
    pub(crate) fn take_due(&self, now_ms: i64) -> Vec<Due> {
        let mut table = self.table.lock();
        let mut all = Vec::new();
        while all.len() < BATCH
            && let Some(first) = table.due.first_entry().filter(|first| first.key().0 <= now_ms)
        {
            let key = first.remove();
            if let Some(entry) = table.entries.get_mut(&key) {
                entry.is_busy = true;
                let held = entry.held.clone();
                all.push(Due { key, held });
            }
        }
        all
    }

    /// A message was renewed: its new handle, and when it is due next. `None`: it is forgotten.
    pub(crate) fn settle(&self, due: &Due, renewed: Option<(Box<str>, i64)>) {
        let mut table = self.table.lock();
        let Some(entry) = table.entries.get_mut(&due.key) else { return };
        entry.is_busy = false;
        let takers = std::mem::take(&mut entry.takers);
        if let Some((handle, due_ms)) = &renewed {
            entry.held.current = handle.clone();
            entry.due.0 = *due_ms;
        }
        if renewed.is_some() && takers.is_empty() {
            let place = entry.due;
            table.due.insert(place, due.key.clone());
            return;
        }
        let current = table.entries.remove(&due.key).map(|entry| entry.held.current);
        drop(table);
        for (taker, current) in takers.into_iter().zip(std::iter::repeat(current.unwrap_or_default())) {
            // Its client may be gone.
            let _ = taker.send(current);
        }
    }

    /// Returns when something may be due. `now_ms` is the clock.
    pub(crate) async fn wait(&self, now_ms: impl Fn() -> i64) {
        let first = self.table.lock().due.first_key_value().map(|((due, _), _)| *due);
        match first {
            None => self.earlier.notified().await,
            Some(due) => {
                let left = Duration::from_millis(u64::try_from(due - now_ms()).unwrap_or(0));
                // Whichever is first.
                let _ = tokio::time::timeout(left, self.earlier.notified()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    fn take(renewals: &Renewals, client: &str, handle: &str) -> Option<Box<str>> {
        let taken = std::pin::pin!(renewals.take(client, handle));
        match taken.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(taken) => taken,
            Poll::Pending => panic!("it is being renewed"),
        }
    }

    fn held(handle: &str) -> Held {
        Held {
            group: "g".into(),
            topic: "t".into(),
            current: handle.into(),
            received_ms: 0,
        }
    }

    #[test]
    fn a_client_acknowledges_a_renewed_message_with_its_first_handle() {
        let renewals = Renewals::new(2);
        assert!(renewals.add("a", held("h1"), 10) && renewals.add("b", held("h1"), 20));
        assert!(!renewals.add("c", held("h1"), 5), "the table is full");
        let due = renewals.take_due(10);
        let [one] = &due[..] else { panic!("one is due") };
        assert_eq!((one.client(), &*one.held.current), ("a", "h1"));
        let mut waits = std::pin::pin!(renewals.take("a", "h1"));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut context).is_pending(), "it is being renewed");
        renewals.settle(one, Some(("h2".into(), 30)));
        assert_eq!(waits.as_mut().poll(&mut context), Poll::Ready(Some("h2".into())));
        assert_eq!(take(&renewals, "a", "h1"), None);
        let due = renewals.take_due(20);
        renewals.settle(&due[0], None);
        assert_eq!(take(&renewals, "b", "h1"), None, "it was forgotten");
        let table = renewals.table.lock();
        assert!(table.entries.is_empty() && table.due.is_empty());
    }

    #[test]
    fn the_messages_of_a_client_are_taken_together() {
        let renewals = Renewals::new(10);
        for (client, handle) in [("a", "1"), ("a", "2"), ("ab", "1")] {
            renewals.add(client, held(handle), 10);
        }
        assert_eq!(renewals.take_all("a").len(), 2);
        assert_eq!(take(&renewals, "ab", "1").as_deref(), Some("1"));
        assert!(renewals.table.lock().due.is_empty());
    }
}
