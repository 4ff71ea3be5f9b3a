//! `apogeemq bench`: load for any RocketMQ-compatible server, and its measurement.
//!
//! ```text
//! send   producers: closed loop (each answer is followed by the next request) or open loop (--rate)
//! recv   readers of a topic, from its first message to its end at the start of the run; they pull, or pop and acknowledge
//! e2e    open loop with long-polling readers: from the intended send to the arrival
//! ```
//!
//! Runs with many simulated peers, which send few requests each, are in `peers/`.
//!
//! `send` and `e2e` speak the remoting protocol, or that of the 5.x SDKs (`--protocol grpc`).
//!
//! Latency is measured from the time at which a request *should* have been sent. In an open loop the rate alone determines that time,
//! so a server that stalls is charged for every message that had to wait, sent or not (no coordinated omission). In a closed
//! loop it is the time of sending, because there the rate is the result.
//!
//! The generator is cheap, so that it measures the server and not itself: frames are encoded once and patched, one read takes all
//! available answers, few connections have a blocking thread each and many share one. Its own CPU time is in the report.
//!
//! Limits: every run ends (`--seconds`, and [`wire::TIMEOUT`] for an answer). It connects only to the given addresses and to
//! the brokers in the routes of a given name server.
//!
//! Not here: starting servers and comparing them (`bench/compare`), correctness (the tests).

mod arguments;
mod closed;
mod e2e;
mod exchange;
mod frames;
mod grpc;
mod open;
mod peers;
mod pop;
mod progress;
mod recv;
mod report;
mod send;
mod target;
mod threads;
mod totals;
mod usage;
mod wire;

pub(crate) use arguments::Arguments;

use crate::failure::Failure;
use crate::process::raise_descriptor_limit;
use arguments::{Protocol, Verb};

/// Runs the load and prints the result.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    // If this fails, the first connection without a descriptor reports it.
    let _ = raise_descriptor_limit();
    let (output, report) = match arguments.verb {
        Verb::Send(arguments) => {
            let report = match arguments.target.protocol {
                Protocol::Remoting => send::run(&arguments),
                Protocol::Grpc => grpc::send(&arguments),
            };
            (arguments.output, report?)
        }
        Verb::Recv(arguments) => (arguments.output.clone(), recv::run(&arguments)?),
        Verb::E2e(arguments) => {
            let report = match arguments.target.protocol {
                Protocol::Remoting => e2e::run(&arguments),
                Protocol::Grpc => grpc::e2e(&arguments),
            };
            (arguments.output, report?)
        }
        Verb::Registrations(arguments) => return peers::registrations(&arguments)?.print(arguments.output.json),
        Verb::Heartbeats(arguments) => return peers::heartbeats(&arguments)?.print(arguments.output.json),
        Verb::Topics(arguments) => return peers::topics(&arguments)?.print(arguments.output.json),
        Verb::Groups(arguments) => return peers::groups(&arguments)?.print(arguments.output.json),
        Verb::Elections(arguments) => return peers::elections(&arguments)?.print(arguments.output.json),
    };
    report.print(output.json)
}
