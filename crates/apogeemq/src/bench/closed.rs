//! The closed loop: on every connection what was heard says what is said next, until the time is over and the last answer is there.
//!
//! What goes round is its user's (`send.rs`: requests in flight, `recv.rs`: pulls of queues). Loops that end only when they are told to
//! are elsewhere (`open.rs`, `e2e.rs`).

use std::sync::Arc;
use std::time::Duration;

use super::arguments::Output;
use super::lanes::Lanes;
use super::talk::{self, Talk};
use super::tally::{Clock, Counter, Window};
use super::watch::{Used, Watch};
use super::wire::{PATIENCE, Socket};
use crate::failure::Failure;

/// With what one connection counts, and until when it begins something new.
pub(super) struct Pace {
    pub(super) counter: Arc<Counter>,
    pub(super) clock: Clock,
    pub(super) end_us: u64,
}

/// What a closed loop leaves behind.
pub(super) struct Ended {
    /// One for each connection.
    pub(super) counters: Vec<Arc<Counter>>,
    pub(super) used: Used,
}

/// Holds a conversation on each connection, made by `talk` of what belongs to that connection, and looks on until all have ended.
pub(super) fn run<P, T: Talk>(
    name: &str,
    window: Window,
    output: &Output,
    connections: Vec<(Socket, P)>,
    talk: impl Fn(P, Pace) -> T,
) -> Result<Ended, Failure> {
    let clock = Clock::start();
    let (mut lanes, mut counters, mut talks) = (Lanes::default(), Vec::new(), Vec::new());
    for (socket, own) in connections {
        let counter = Arc::new(Counter::new(window));
        counters.push(Arc::clone(&counter));
        let pace = Pace {
            counter,
            clock,
            end_us: window.end_us,
        };
        talks.push((socket, talk(own, pace)));
    }
    let limit = Duration::from_micros(window.end_us) + PATIENCE;
    talk::start(&mut lanes, name, limit, talks)?;
    let watch = Watch {
        clock,
        window,
        counters: &counters,
        output,
    };
    let used = watch.until_the_end(&mut lanes)?;
    lanes.join()?;
    Ok(Ended { counters, used })
}
