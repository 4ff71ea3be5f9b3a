//! The closed loop: on every connection each answer triggers the next request, until the time is over and the last answer has arrived.
//!
//! Its users define the requests (`send.rs`: sends in flight, `recv.rs`: pulls of queues). Not here: loops that run until they are
//! stopped (`open.rs`, `e2e.rs`).

use std::sync::Arc;
use std::time::Duration;

use super::arguments::Output;
use super::exchange::{self, Exchange};
use super::progress::{Progress, Used};
use super::threads::Threads;
use super::totals::{Clock, Counter, Window};
use super::wire::{Socket, TIMEOUT};
use crate::failure::Failure;

/// Counter of one connection, and until when it starts new requests.
pub(super) struct Pace {
    pub(super) counter: Arc<Counter>,
    pub(super) clock: Clock,
    pub(super) end_us: u64,
}

/// Result of a closed loop.
pub(super) struct Ended {
    /// One per connection.
    pub(super) counters: Vec<Arc<Counter>>,
    pub(super) used: Used,
}

/// Runs the exchange that `exchange` creates for each connection, and shows progress until all have ended.
pub(super) fn run<P, T: Exchange>(
    name: &str,
    window: Window,
    output: &Output,
    connections: Vec<(Socket, P)>,
    exchange: impl Fn(P, Pace) -> T,
) -> Result<Ended, Failure> {
    let clock = Clock::start();
    let (mut threads, mut counters, mut exchanges) = (Threads::default(), Vec::new(), Vec::new());
    for (socket, own) in connections {
        let counter = Arc::new(Counter::new(window));
        counters.push(Arc::clone(&counter));
        let pace = Pace {
            counter,
            clock,
            end_us: window.end_us,
        };
        exchanges.push((socket, exchange(own, pace)));
    }
    let limit = Duration::from_micros(window.end_us) + TIMEOUT;
    exchange::start(&mut threads, name, limit, exchanges)?;
    let progress = Progress {
        clock,
        window,
        counters: &counters,
        output,
    };
    let used = progress.until_the_end(&mut threads)?;
    threads.join()?;
    Ok(Ended { counters, used })
}
