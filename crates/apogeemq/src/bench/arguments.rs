//! The command line of `apogeemq bench`. Every number has a range, so that every run is limited.

use std::time::Duration;

use admin::cli::TlsFlags;
use broker::schedule::{Levels, delay_levels};
use clap::{Args, Subcommand, ValueEnum, value_parser};
use config::shape::Shape;

use super::peers::{ElectionsArguments, GroupsArguments, HeartbeatsArguments, RegistrationsArguments, TopicsArguments};
use crate::failure::Failure;

/// Maximum size of the bodies of one request; a frame may have 16 MiB.
const MAX_REQUEST_BYTES: usize = 15 << 20;
/// An e2e body starts with the run's number and the intended time.
const MIN_E2E_SIZE: i64 = super::frames::STAMP_LEN as i64;

/// Arguments of `apogeemq bench`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Send messages, as fast as they are answered or at a fixed rate
    Send(SendArguments),
    /// Read the messages of a topic
    Recv(RecvArguments),
    /// Send at a fixed rate to long-polling readers and measure the time from intended send to arrival
    E2e(E2eArguments),
    /// Many brokers at a name server, and clients that ask for routes
    Registrations(RegistrationsArguments),
    /// Many clients at a broker
    Heartbeats(HeartbeatsArguments),
    /// Many topics and queues at a broker
    Topics(TopicsArguments),
    /// Many groups with offsets at a broker
    Groups(GroupsArguments),
    /// Many broker names at a controller
    Elections(ElectionsArguments),
}

#[derive(Debug, Clone, Args)]
#[group(skip)]
pub(super) struct Target {
    /// The broker to load, HOST:PORT
    #[arg(long, short = 'b', value_name = "ADDRESS", required_unless_present = "namesrv")]
    pub(super) broker: Option<String>,
    /// Name servers of the brokers, HOST:PORT separated by ';'
    #[arg(long, short = 'n', value_name = "ADDRESSES", conflicts_with = "broker")]
    pub(super) namesrv: Option<String>,
    /// The topic
    #[arg(long, short = 't', value_name = "NAME", default_value = "ApogeeBench")]
    pub(super) topic: String,
    /// The protocol: of the broker's port, or of the 5.x SDKs (send and e2e; --broker is the gRPC endpoint, and the topic has to exist)
    #[arg(long, value_name = "NAME", default_value = "remoting")]
    pub(super) protocol: Protocol,
    #[command(flatten)]
    pub(super) tls: TlsFlags,
}

#[derive(Debug, Clone, Args)]
#[group(skip)]
pub(super) struct Load {
    /// Size of each body in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = value_parser!(u32).range(1..=8 << 20))]
    pub(super) size: u32,
    /// Number of queues of the topic on each broker, if it has to be created
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(i32).range(1..=1024))]
    pub(super) queues: i32,
    /// Number of sending connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=20_000))]
    pub(super) connections: u32,
    /// Seconds to measure
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = value_parser!(u32).range(1..=86_400))]
    pub(super) seconds: u32,
    /// Seconds of load before the measurement
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = value_parser!(u32).range(0..=3_600))]
    pub(super) warmup: u32,
}

#[derive(Debug, Clone, Args)]
#[group(skip)]
pub(super) struct Output {
    /// Process id of the server: adds its CPU time and memory (Linux)
    #[arg(long, value_name = "PID")]
    pub(super) pid: Option<u32>,
    /// Print one line of JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
    /// Do not print progress on stderr
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
}

/// What the load is sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Protocol {
    /// RocketMQ's remoting protocol.
    Remoting,
    /// The gRPC protocol of the 5.x SDKs.
    Grpc,
}

/// How transactions end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum EndWith {
    /// Each commits.
    Commit,
    /// Each rolls back.
    Rollback,
    /// None ends.
    Nothing,
}

/// How readers get messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Consume {
    /// They pull from offsets.
    Pull,
    /// They pop, and acknowledge.
    Pop,
}

/// How popped messages are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Acknowledge {
    /// Each by a request of its own.
    Each,
    /// Those of a pop by one request.
    Batch,
    /// Not: they stay in flight.
    Nothing,
}

#[derive(Debug, Clone, Args)]
#[group(skip)]
pub(super) struct Consumption {
    /// How the readers get messages
    #[arg(long, value_name = "HOW", default_value = "pull")]
    pub(super) consume: Consume,
    /// With --consume pop: how messages are acknowledged
    #[arg(long, value_name = "HOW", default_value = "each")]
    pub(super) acknowledge: Acknowledge,
    /// With --consume pop: how long popped messages are invisible to others, in seconds
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = value_parser!(u32).range(1..=86_400))]
    pub(super) invisible: u32,
}

#[derive(Debug, Args)]
pub(super) struct SendArguments {
    #[command(flatten)]
    pub(super) target: Target,
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    pub(super) output: Output,
    /// Requests in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..=4096))]
    pub(super) window: u32,
    /// Messages in each request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=4096))]
    pub(super) batch: u32,
    /// Number of topics that are used in turn, NAME_0 and so on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) topics: u32,
    /// Number of lite topics of the topic that are used in turn: each message has one, __LITE_TOPIC (needs enableLmq and
    /// enableMultiDispatch)
    #[arg(long, value_name = "N", conflicts_with = "batch", value_parser = value_parser!(u32).range(1..=90_000_000))]
    pub(super) lite_topics: Option<u32>,
    /// Messages per second over all connections: an open loop
    #[arg(long, value_name = "N", conflicts_with = "window", value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub(super) rate: Option<u32>,
    /// Send half messages, and end each transaction like this when its half message is stored; its latency ends with the answer to that
    #[arg(long, value_name = "HOW", conflicts_with_all = ["batch", "rate"])]
    pub(super) transactions: Option<EndWith>,
    /// Messages are due so many ms after they are sent (TIMER_DELAY_MS)
    #[arg(long, value_name = "MS", conflicts_with = "batch", value_parser = value_parser!(i64).range(1..))]
    pub(super) after: Option<i64>,
    /// Messages are due at this time, ms since 1970 (TIMER_DELIVER_MS)
    #[arg(long, value_name = "MS", conflicts_with_all = ["batch", "after"], value_parser = value_parser!(i64).range(1..))]
    pub(super) at: Option<i64>,
}

#[derive(Debug, Args)]
pub(super) struct RecvArguments {
    #[command(flatten)]
    pub(super) target: Target,
    #[command(flatten)]
    pub(super) output: Output,
    /// Number of reading connections, which share the queues [default: one per queue, at most 1024]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=4096))]
    pub(super) readers: Option<u32>,
    #[command(flatten)]
    pub(super) consumption: Consumption,
    /// Maximum number of messages per answer; at most 32 of a pop
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = value_parser!(i32).range(1..=4096))]
    pub(super) batch: i32,
    /// Stop after this many seconds, even if there is more to read
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = value_parser!(u32).range(1..=86_400))]
    pub(super) seconds: u32,
}

#[derive(Debug, Args)]
pub(super) struct E2eArguments {
    #[command(flatten)]
    pub(super) target: Target,
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    pub(super) output: Output,
    /// Messages per second over all connections
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub(super) rate: u32,
    /// Number of reading connections, which share the queues [default: one per queue, at most 1024]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=4096))]
    pub(super) readers: Option<u32>,
    #[command(flatten)]
    pub(super) consumption: Consumption,
    /// With --protocol grpc: the group of the readers, which Apache's proxy does not create [default: a new one]
    #[arg(long, value_name = "NAME")]
    pub(super) group: Option<String>,
    /// The broker's messageDelayLevel, such as "1s 2s 3s": messages use its levels in turn, and latency is measured from the time
    /// at which a message is due
    #[arg(long, value_name = "LEVELS", value_parser = levels)]
    pub(super) delays: Option<Levels>,
    /// Messages are due so many ms after they are sent (TIMER_DELAY_MS), and latency is measured from then
    #[arg(long, value_name = "MS", conflicts_with = "delays", value_parser = value_parser!(i64).range(1..))]
    pub(super) after: Option<i64>,
}

fn levels(text: &str) -> Result<Levels, String> {
    let shape = delay_levels();
    shape.parse(text).map_err(|_| format!("allowed: {}", shape.allowed()))
}

impl Load {
    pub(super) fn warmup(&self) -> Duration {
        Duration::from_secs(u64::from(self.warmup))
    }

    pub(super) fn seconds(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds))
    }
}

impl SendArguments {
    /// Checks that involve several flags.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let bytes = self.load.size as usize * self.batch as usize;
        if bytes > MAX_REQUEST_BYTES {
            return Err(Failure::new(format!(
                "--size times --batch is {bytes} bytes, at most {MAX_REQUEST_BYTES} are allowed"
            )));
        }
        Ok(())
    }
}

impl RecvArguments {
    /// Checks that involve several flags.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.target.protocol == Protocol::Grpc {
            return Err(Failure::new("recv is not there for --protocol grpc; e2e is"));
        }
        if self.consumption.consume == Consume::Pop && self.batch > super::pop::POP_MAX {
            return Err(Failure::new(format!(
                "--batch is {}, a pop has at most {} messages",
                self.batch,
                super::pop::POP_MAX
            )));
        }
        Ok(())
    }
}

impl E2eArguments {
    /// Checks that involve several flags.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if i64::from(self.load.size) < MIN_E2E_SIZE {
            return Err(Failure::new(format!(
                "e2e needs --size {MIN_E2E_SIZE} or more, for the time stamp in the body"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &str) -> Result<Verb, String> {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        Line::try_parse_from(words)
            .map(|line| line.arguments.verb)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_run_needs_a_broker_or_a_name_server() {
        assert!(parse("send").unwrap_err().contains("--broker"));
        assert!(parse("send --broker h:1 --namesrv h:2").is_err());
        assert!(parse("send -n h:2").is_ok() && parse("recv -b h:1").is_ok() && parse("e2e -b h:1").is_ok());
    }

    #[test]
    fn a_loop_is_open_or_closed() {
        assert!(parse("send -b h:1 --rate 5 --window 2").is_err());
        let Ok(Verb::Send(open)) = parse("send -b h:1 --rate 5") else {
            panic!()
        };
        assert_eq!((open.rate, open.load.seconds()), (Some(5), Duration::from_secs(10)));
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        for line in [
            "send -b h:1 --seconds 0",
            "send -b h:1 --seconds 100000",
            "send -b h:1 --connections 0",
            "send -b h:1 --window 5000",
            "send -b h:1 --size 0",
            "e2e -b h:1 --rate 0",
            "recv -b h:1 --readers 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let Ok(Verb::Send(heavy)) = parse("send -b h:1 --size 1000000 --batch 20") else {
            panic!()
        };
        assert!(heavy.check().is_err());
        let Ok(Verb::Recv(wide)) = parse("recv -b h:1 --consume pop --batch 33") else {
            panic!()
        };
        assert!(wide.check().is_err());
        let Ok(Verb::E2e(tiny)) = parse("e2e -b h:1 --size 8") else {
            panic!()
        };
        assert!(tiny.check().is_err());
    }
}
