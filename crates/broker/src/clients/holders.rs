//! Consumers for which popped messages are *held*: the messages stay invisible as long as their consumer is online, so that nobody has to
//! renew them.
//!
//! A consumer is *online* while it is a member of its group, on whichever connection. When its last membership ends without a goodbye (a
//! connection closed, no heartbeats), it is *away*, and may come back within the grace time (`apogeePopHolderGraceMillis`). With a goodbye
//! it has *left*: the listeners make its messages visible again.
//!
//! Invariants
//! - The table has the holders of messages that are in flight, and no other consumer for long: what nobody refers to is removed.
//! - Whether a holder is online is read from the members of its group under the lock of the table, whatever order events arrive in.

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

/// [`Holder::away_since`] of a holder that is online.
const ONLINE: i64 = i64::MAX;
/// The same of one that has left.
const LEFT: i64 = i64::MIN;
/// Messages that stay invisible are not looked at again before this time, ms.
const SHORTEST_LOOK_MS: i64 = 100;
/// Entries that nobody refers to are removed when the table has grown by half, and has more than this.
const FEW: usize = 1_024;

/// How a consumer's membership ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Without a goodbye: it may come back.
    Lost,
    /// It said goodbye: what is held for it is visible again after so many ms.
    Goodbye(i64),
}

/// A consumer for which messages are held.
pub struct Holder {
    /// Differs between holders.
    id: u64,
    group: Box<str>,
    client: Box<str>,
    grace_ms: i64,
    /// [`ONLINE`], [`LEFT`], or since when it is away, by the monotonic clock in ms.
    away_since: AtomicI64,
}

impl fmt::Debug for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "holder {} of {}", self.client, self.group)
    }
}

impl Holder {
    /// A consumer that is away since `now`.
    #[must_use]
    pub fn new(group: &str, client: &str, grace_ms: i64, now: i64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, SeqCst),
            group: group.into(),
            client: client.into(),
            grace_ms,
            away_since: AtomicI64::new(now),
        }
    }

    /// Differs between the holders of this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client id.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// It is a member of its group.
    pub fn come(&self) {
        self.away_since.store(ONLINE, SeqCst);
    }

    /// It is no member of its group any more, since `now`. One that is away stays away since before.
    pub fn go(&self, departure: Departure, now: i64) {
        match departure {
            Departure::Goodbye(_) => self.away_since.store(LEFT, SeqCst),
            Departure::Lost => drop(self.away_since.compare_exchange(ONLINE, now, SeqCst, SeqCst)),
        }
    }

    /// The end of the time in which messages are held for it as far as is known `now`; `i64::MAX` while it is online.
    fn kept_until(&self, now: i64) -> Option<i64> {
        match self.away_since.load(SeqCst) {
            ONLINE => Some(ONLINE),
            LEFT => None,
            since => Some(since.saturating_add(self.grace_ms)).filter(|end| now < *end),
        }
    }
}

/// For whom messages are held, and until when at most. Times are of the monotonic clock of [`Holders`], in ms.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The consumer.
    pub holder: Arc<Holder>,
    /// The messages are visible then, even if it is online.
    pub until: i64,
}

impl Lease {
    /// Whether messages stay invisible whose own time has passed, and when to look again: after another invisible time, or earlier if the
    /// lease may end before.
    #[must_use]
    pub fn look_again(&self, invisible_ms: i64, now: i64) -> Option<i64> {
        let kept = self.holder.kept_until(now).filter(|_| now < self.until)?;
        let next = now.saturating_add(invisible_ms.max(SHORTEST_LOOK_MS));
        Some(next.min(kept).min(self.until))
    }

    /// Whether messages stay invisible whose own time has passed.
    #[must_use]
    pub fn is_kept(&self, now: i64) -> bool {
        self.look_again(0, now).is_some()
    }
}

/// Called with a holder that said goodbye, and after how many ms its messages are to be visible.
pub type OnGoodbye = Box<dyn Fn(&Arc<Holder>, i64) + Send + Sync>;

/// By group, then by client id.
type Table = FxHashMap<Box<str>, FxHashMap<Box<str>, Arc<Holder>>>;

#[derive(Default)]
struct State {
    table: Table,
    count: usize,
    /// Entries after they were tidied last.
    kept: usize,
}

/// The consumers for which messages are held.
pub struct Holders {
    state: Mutex<State>,
    listeners: RwLock<Vec<OnGoodbye>>,
    /// The zero of the monotonic clock.
    started: Instant,
    grace_ms: i64,
}

impl fmt::Debug for Holders {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} holders", self.len())
    }
}

impl State {
    /// Removes the holders to which nobody refers.
    fn tidy(&mut self) {
        self.table.retain(|_, clients| {
            clients.retain(|_, holder| Arc::strong_count(holder) > 1);
            !clients.is_empty()
        });
        self.count = self.table.values().map(FxHashMap::len).sum();
        self.kept = self.count;
    }
}

impl Holders {
    /// Nobody. A holder that is gone without a goodbye may come back within `grace_ms`.
    #[must_use]
    pub fn new(grace_ms: i64) -> Self {
        Self {
            state: Mutex::default(),
            listeners: RwLock::default(),
            started: Instant::now(),
            grace_ms,
        }
    }

    /// The zero of the monotonic clock: times of [`Lease`] count from it.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    fn now(&self) -> i64 {
        self.started.elapsed().as_millis() as i64
    }

    /// Number of holders in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().count
    }

    /// Whether messages are held for nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a listener of goodbyes. It must not call the tables of clients.
    pub fn on_goodbye(&self, listener: OnGoodbye) {
        self.listeners.write().push(listener);
    }

    /// The holder for a client of a group. `is_member` says whether it is online; it is called under the lock.
    pub(super) fn find_or_add(&self, group: &str, client: &str, is_member: impl FnOnce() -> bool) -> Arc<Holder> {
        let mut state = self.state.lock();
        if let Some(known) = state.table.get(group).and_then(|clients| clients.get(client)) {
            return Arc::clone(known);
        }
        if state.count >= FEW && state.count > state.kept + state.kept / 2 {
            state.tidy();
        }
        let holder = Arc::new(Holder::new(group, client, self.grace_ms, self.now()));
        if is_member() {
            holder.come();
        }
        let clients = state.table.entry(group.into()).or_default();
        clients.insert(client.into(), Arc::clone(&holder));
        state.count += 1;
        holder
    }

    /// A client of a group has come or gone. `is_member` says whether it is a member now, on any connection; it is called under the lock, and
    /// only if messages are held for the client.
    pub(super) fn changed(&self, group: &str, client: &str, departure: Departure, is_member: impl FnOnce() -> bool) {
        let state = self.state.lock();
        if state.count == 0 {
            return;
        }
        let Some(holder) = state.table.get(group).and_then(|clients| clients.get(client)) else {
            return;
        };
        if is_member() {
            return holder.come();
        }
        holder.go(departure, self.now());
        let holder = Arc::clone(holder);
        drop(state);
        if let Departure::Goodbye(after_ms) = departure {
            self.listeners.read().iter().for_each(|listener| listener(&holder, after_ms));
        }
    }

    /// Removes the holders to which nobody refers. Called now and then.
    pub(super) fn tidy(&self) {
        self.state.lock().tidy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &Arc<Holder>, until: i64) -> Lease {
        Lease {
            holder: Arc::clone(holder),
            until,
        }
    }

    #[test]
    fn messages_are_held_while_their_holder_is_online_and_for_a_grace_time() {
        let holder = Arc::new(Holder::new("g", "c", 30_000, 0));
        let lease = lease(&holder, 1_000_000);
        assert_eq!(
            (lease.look_again(60_000, 29_000), lease.look_again(60_000, 30_000)),
            (Some(30_000), None)
        );
        holder.come();
        assert_eq!(lease.look_again(60_000, 500_000), Some(560_000));
        assert_eq!(
            (lease.look_again(60_000, 990_000), lease.look_again(60_000, 1_000_000)),
            (Some(1_000_000), None)
        );
        holder.go(Departure::Lost, 100_000);
        holder.go(Departure::Lost, 120_000);
        assert_eq!(
            (lease.look_again(60_000, 129_000), lease.look_again(60_000, 130_000)),
            (Some(130_000), None),
            "since the first time"
        );
        holder.come();
        holder.go(Departure::Goodbye(0), 200_000);
        assert!(!lease.is_kept(200_000));
        holder.go(Departure::Lost, 210_000);
        assert!(!lease.is_kept(210_001), "it has left");
    }

    #[test]
    fn the_table_has_those_that_hold_messages_and_tells_goodbyes() {
        let holders = Holders::new(30_000);
        let told: Arc<Mutex<Vec<(String, i64)>>> = Arc::default();
        let noted = Arc::clone(&told);
        holders.on_goodbye(Box::new(move |holder, after_ms| {
            noted.lock().push((holder.client().to_owned(), after_ms))
        }));
        holders.changed("g", "c", Departure::Goodbye(5), || panic!("nobody holds anything"));
        let holder = holders.find_or_add("g", "c", || true);
        assert_eq!(holder.id(), holders.find_or_add("g", "c", || panic!("it is known")).id());
        holders.changed("g", "c", Departure::Goodbye(5), || true);
        assert!(told.lock().is_empty(), "it is online on another connection");
        holders.changed("g", "c", Departure::Goodbye(5), || false);
        assert_eq!(*told.lock(), [("c".to_owned(), 5)]);
        holders.tidy();
        assert_eq!(holders.len(), 1);
        drop(holder);
        holders.tidy();
        assert!(holders.is_empty());
    }
}
