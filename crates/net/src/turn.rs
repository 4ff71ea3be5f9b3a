//! A connection's turn on its thread: how long it may take, and what is written at its end.
//!
//! A thread serves its connections in turn. A turn ends when all that one read brought is served, or when its time is used up: what
//! is left then waits until the others had theirs ([`Connection::must_yield`]). Cheap requests are served by the hundred in a turn,
//! expensive ones one at a time, so that what one connection asks for costs the others no more than a few milliseconds at once.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use crate::Connection;
use crate::clock::uptime;

/// What all connections with requests left over share between two looks at the others.
const ROUND: Duration = Duration::from_millis(8);
/// The longest turn.
const LONGEST: Duration = Duration::from_millis(2);
/// The shortest turn: less would be spent on taking turns.
const SHORTEST: Duration = Duration::from_micros(100);
/// Connections remembered for one flush at the end of a turn; more are flushed at once.
const LATER_MAX: usize = 1_024;
/// Up to so many other connections are written before the one that is served. A message that was just stored goes to those who
/// wait for it before its sender is told: they ask for the next one while this thread is still awake. More would keep the sender
/// waiting.
const LATER_FIRST_MAX: usize = 4;
/// Stands for a batch of frames that belongs to no connection's turn, see [`together`].
const NOBODY: u64 = u64::MAX;

thread_local! {
    /// The connection whose frames this thread is serving, 0 for none.
    static SERVING: Cell<u64> = const { Cell::new(0) };
    /// When the turn ends, in `uptime`; `None` while it has no end.
    static END: Cell<Option<Duration>> = const { Cell::new(None) };
    /// Connections to flush when the turn is over.
    static LATER: RefCell<Vec<Arc<Connection>>> = const { RefCell::new(Vec::new()) };
}

/// Whether this thread is serving the connection of this id.
pub(crate) fn is_serving(id: u64) -> bool {
    SERVING.get() == id
}

/// The time of the running turn is used up.
pub(crate) fn is_over() -> bool {
    END.get().is_some_and(|end| uptime() >= end)
}

/// How long a turn may take while `waiting` connections have requests left over.
pub(crate) fn length(waiting: usize) -> Duration {
    let share = ROUND / u32::try_from(waiting).unwrap_or(u32::MAX).max(1);
    share.clamp(SHORTEST, LONGEST)
}

/// Ends a turn even if the service panics: others must not wait for bytes that it queued for them.
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

/// Runs a service call for `connection`; then writes what it queued, there and elsewhere. The turn is over at
/// `end` (in [`uptime`]), or has no end. False: the connection has failed.
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

/// Has all that `call` sends by [`Connection::send_later`] written when it is done: many frames for one connection then cost one
/// write. For threads that answer many requests at once and are serving none.
pub fn together(call: impl FnOnce()) {
    if SERVING.get() != 0 {
        return call();
    }
    let turn = Turn::begin(NOBODY, None);
    call();
    drop(turn);
    flush_others();
}

/// Has the connection flushed at the end of the turn; false if no turn is running here, or too many wait for its end.
pub(crate) fn flush_later(connection: &Arc<Connection>) -> bool {
    LATER.with_borrow_mut(|later| {
        let room = SERVING.get() != 0 && later.len() < LATER_MAX;
        if room && !later.iter().rev().take(8).any(|other| other.id() == connection.id()) {
            later.push(Arc::clone(connection));
        }
        room
    })
}

fn flush_others() {
    let others = LATER.take();
    for other in &others {
        other.flush();
    }
    give_back(others);
}

/// Keeps the list's memory for the next turn.
fn give_back(mut list: Vec<Arc<Connection>>) {
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
    fn turns_get_shorter_the_more_connections_wait_for_theirs() {
        assert_eq!(length(0), LONGEST);
        assert_eq!(length(4), LONGEST);
        assert_eq!(length(16), Duration::from_micros(500));
        assert_eq!(length(10_000), SHORTEST);
    }
}
