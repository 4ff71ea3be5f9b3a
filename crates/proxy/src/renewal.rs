//! Messages that push consumers process: the proxy renews their invisible time until they are acknowledged.
//!
//! A consumer keeps the handle with which it received a message; a renewed message has another one. [`Renewals`] knows which. With nothing
//! to renew the task sleeps without a timer. If the process dies, the messages are delivered again after their invisible time.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::Notify;

/// Messages that are renewed while the table is locked.
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
        if let Some(before) = table.entries.insert(key, Entry { held, due }) {
            table.due.remove(&before.due);
        }
        drop(table);
        if is_first {
            self.earlier.notify_one();
        }
        true
    }

    /// The handle now of the message that this client received with this one. It is not renewed any more.
    pub(crate) fn take(&self, client: &str, handle: &str) -> Option<Box<str>> {
        let mut table = self.table.lock();
        if table.entries.is_empty() {
            return None;
        }
        let entry = table.entries.remove(&*key(client, handle))?;
        table.due.remove(&entry.due);
        Some(entry.held.current)
    }

    /// All messages of a client. They are not renewed any more.
    pub(crate) fn take_all(&self, client: &str) -> Vec<Held> {
        let start = key(client, "");
        let mut table = self.table.lock();
        let taken: Vec<Entry> = table
            .entries
            .extract_if(|key, _| key.starts_with(&*start))
            .map(|(_, entry)| entry)
            .collect();
        for entry in &taken {
            table.due.remove(&entry.due);
        }
        taken.into_iter().map(|entry| entry.held).collect()
    }

    /// Renews what is due: `renew` gets the client and the message, and returns the new handle and when to renew it next, or `None` to
    /// forget it. Returns whether more is due.
    pub(crate) fn renew_due(&self, now_ms: i64, mut renew: impl FnMut(&str, &Held) -> Option<(Box<str>, i64)>) -> bool {
        let mut table = self.table.lock();
        for _ in 0..BATCH {
            let Some(first) = table.due.first_entry().filter(|first| first.key().0 <= now_ms) else {
                return false;
            };
            let key = first.remove();
            let Some(entry) = table.entries.get_mut(&key) else { continue };
            let client = key.split('\0').next().unwrap_or_default();
            match renew(client, &entry.held) {
                Some((handle, due_ms)) => {
                    entry.held.current = handle;
                    let due = (due_ms, entry.due.1);
                    entry.due = due;
                    table.due.insert(due, key);
                }
                None => {
                    table.entries.remove(&key);
                }
            }
        }
        true
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
        let mut seen = Vec::new();
        let more = renewals.renew_due(10, |client, held| {
            seen.push((client.to_owned(), held.current.to_string()));
            Some(("h2".into(), 30))
        });
        assert!(!more && seen == [("a".to_owned(), "h1".to_owned())]);
        assert_eq!(renewals.take("a", "h1").as_deref(), Some("h2"));
        assert_eq!(renewals.take("a", "h1"), None);
        renewals.renew_due(20, |_, _| None);
        assert_eq!(renewals.take("b", "h1"), None, "it was forgotten");
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
        assert_eq!(renewals.take("ab", "1").as_deref(), Some("1"));
        assert!(renewals.table.lock().due.is_empty());
    }
}
