//! `apogeemq bench`: load for any RocketMQ-compatible address, and what it measured.
//!
//! ```text
//! send   producers: closed loop (each answer is followed by the next request) or open loop (--rate)
//! recv   readers of what a topic holds, from its first message to the end it had at the start
//! e2e    open loop with long-polling readers: from the intended send to the arrival
//! ```
//!
//! Latency is counted from the moment at which a request *should* have been sent. In an open loop that moment is fixed by the rate
//! alone, so a server that stalls is charged for every message that had to wait, sent or not (no coordinated omission); in a closed
//! loop it is the moment of sending, since there the rate is the result.
//!
//! The generator is cheap, so that it measures the server and not itself: frames are encoded once and only patched, one read takes all
//! answers that are there, few connections block on threads of their own and many share one. Its own CPU time stands in the report.
//!
//! Bounds: every run ends by itself (`--seconds`, and [`wire::PATIENCE`] for an answer); it talks only to the addresses given, and to
//! the brokers that a given name server names.
//!
//! Not here: starting servers and comparing them (`bench/compare`), correctness (the tests).

mod arguments;
mod closed;
mod e2e;
mod frames;
mod lanes;
mod open;
mod place;
mod recv;
mod report;
mod send;
mod talk;
mod tally;
mod usage;
mod watch;
mod wire;

pub(crate) use arguments::Arguments;

use crate::failure::Failure;
use crate::process::raise_descriptor_limit;
use arguments::Verb;

/// Runs the load and prints what was measured.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    // A refusal shows as soon as a connection lacks a descriptor.
    let _ = raise_descriptor_limit();
    let (output, report) = match arguments.verb {
        Verb::Send(arguments) => (arguments.output.clone(), send::run(&arguments)?),
        Verb::Recv(arguments) => (arguments.output.clone(), recv::run(&arguments)?),
        Verb::E2e(arguments) => (arguments.output.clone(), e2e::run(&arguments)?),
    };
    report.print(output.json)
}
