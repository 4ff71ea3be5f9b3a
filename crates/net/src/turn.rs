//! A connection's turn on its thread: how long it may take, and what is written at its end.
//!
//! A thread serves its connections in turn. A turn ends when all requests of one read are served, or when its time is used up; the remaining
//! requests then wait until the other connections had their turns ([`Connection::must_yield`]). A turn serves hundreds of cheap requests, or
//! one expensive request, so that one connection delays the others by a few milliseconds at most.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use crate::Connection;
use crate::clock::uptime;

/// Time that all connections with requests left share between two turns of the others.
const ROUND: Duration = Duration::from_millis(8);
/// Maximum length of a turn.
const LONGEST: Duration = Duration::from_millis(2);
/// Minimum length of a turn. In less time, changing turns would cost more than serving.
const SHORTEST: Duration = Duration::from_micros(100);
/// Maximum number of connections that are flushed at the end of a turn; further ones are flushed immediately.
const LATER_MAX: usize = 1_024;
/// Up to this many other connections are flushed before the one that is served. So a stored message is sent to waiting consumers before its
/// producer gets the response, and their next pulls arrive while this thread is still awake. More would delay the producer.
const LATER_FIRST_MAX: usize = 4;
/// Id of a turn without a connection, see [`together`].
const NO_CONNECTION: u64 = u64::MAX;

thread_local! {
    /// Id of the connection that this thread is serving, 0 for none.
    static SERVING: Cell<u64> = const { Cell::new(0) };
    /// When the turn ends, in `uptime`; `None` while it has no end.
    static END: Cell<Option<Duration>> = const { Cell::new(None) };
    /// Connections to flush when the turn is over.
    static LATER: RefCell<Vec<Arc<Connection>>> = const { RefCell::new(Vec::new()) };
}

/// Whether this thread is serving the connection with this id.
pub(crate) fn is_serving(id: u64) -> bool {
    SERVING.get() == id
}

/// Whether the time of the running turn is used up.
pub(crate) fn is_over() -> bool {
    END.get().is_some_and(|end| uptime() >= end)
}

/// Returns how long a turn may take while `waiting` connections have requests left.
pub(crate) fn length(waiting: usize) -> Duration {
    let share = ROUND / u32::try_from(waiting).unwrap_or(u32::MAX).max(1);
    share.clamp(SHORTEST, LONGEST)
}

/// Ends the turn when it is dropped, even if the service panics, so that bytes it queued for other connections are sent.
struct Turn;

impl Turn {
    fn begin(id: u64, end: Option<Duration>) -> Self {
        SERVING.set(id);
        END.set(end);
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        SERVING.set(0);
        END.set(None);
        if std::thread::panicking() {
            flush_others();
        }
    }
}

/// Runs a service call for `connection`, then flushes the connection and the others that the call queued bytes for. The turn is over at
/// `end` (in [`uptime`]), or has no end. Returns false if the connection has failed.
pub(crate) fn serving(connection: &Connection, end: Option<Duration>, call: impl FnOnce()) -> bool {
    let turn = Turn::begin(connection.id(), end);
    call();
    drop(turn);
    if LATER.with_borrow(Vec::len) <= LATER_FIRST_MAX {
        flush_others();
        return connection.write_now();
    }
    let alive = connection.write_now();
    flush_others();
    alive
}

/// Runs `call`, then writes what it sent with [`Connection::send_later`], so that many frames for one connection cost one write. For threads
/// outside of `serve` that answer many requests at once.
pub fn together(call: impl FnOnce()) {
    if SERVING.get() != 0 {
        return call();
    }
    let turn = Turn::begin(NO_CONNECTION, None);
    call();
    drop(turn);
    flush_others();
}

/// Schedules a flush of the connection for the end of the turn. Returns false if no turn is running on this thread, or too many are scheduled.
pub(crate) fn flush_later(connection: &Arc<Connection>) -> bool {
    LATER.with_borrow_mut(|later| {
        let is_scheduled = SERVING.get() != 0 && later.len() < LATER_MAX;
        if is_scheduled && !later.iter().rev().take(8).any(|other| other.id() == connection.id()) {
            later.push(Arc::clone(connection));
        }
        is_scheduled
    })
}

fn flush_others() {
    let others = LATER.take();
    for other in &others {
        other.flush();
    }
    keep_list(others);
}

/// Keeps the list's memory for the next turn.
fn keep_list(mut list: Vec<Arc<Connection>>) {
    list.clear();
    if list.capacity() > 0 {
        LATER.with_borrow_mut(|later| {
            if later.capacity() == 0 {
                *later = list;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_get_shorter_with_more_waiting_connections() {
        assert_eq!(length(0), LONGEST);
        assert_eq!(length(4), LONGEST);
        assert_eq!(length(16), Duration::from_micros(500));
        assert_eq!(length(10_000), SHORTEST);
    }
}
