//! The command lines of the runs with peers.

use std::time::Duration;

use clap::{Args, value_parser};

use super::super::arguments::Output;

/// How long to measure.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub(crate) struct Span {
    /// Seconds to measure
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = value_parser!(u32).range(1..=86_400))]
    pub(super) seconds: u32,
    /// Seconds of load before the measurement
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = value_parser!(u32).range(0..=3_600))]
    pub(super) warmup: u32,
}

impl Span {
    pub(super) fn window(&self) -> super::super::totals::Window {
        let seconds = |count: u32| Duration::from_secs(u64::from(count));
        super::super::totals::Window::new(seconds(self.warmup), seconds(self.seconds))
    }
}

#[derive(Debug, Args)]
pub(crate) struct RegistrationsArguments {
    /// The name server, HOST:PORT
    #[arg(long, short = 'n', value_name = "ADDRESS")]
    pub(super) namesrv: String,
    /// Brokers, a connection each
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) brokers: u32,
    /// Topics of each broker
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(2..=100_000))]
    pub(super) topics: u32,
    /// Brokers that have the same topics
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) spread: u32,
    /// Queues of each topic on each broker
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u16).range(1..=1_024))]
    pub(super) queues: u16,
    /// Seconds between two registrations of a broker
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = value_parser!(u32).range(1..=3_600))]
    pub(super) interval: u32,
    /// Brokers that register at the same time at the start
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) at_once: u32,
    /// Routes that are asked in a second
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(super) rate: u32,
    /// Connections of the clients that ask
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) connections: u32,
    #[command(flatten)]
    pub(super) span: Span,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct HeartbeatsArguments {
    /// The broker, HOST:PORT
    #[arg(long, short = 'b', value_name = "ADDRESS")]
    pub(super) broker: String,
    /// Clients, each a consumer in one group
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(super) clients: u32,
    /// Connections; with fewer than clients, the clients are those of proxies [default: one for each client]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=20_000))]
    pub(super) connections: Option<u32>,
    /// Consumer groups
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=100_000))]
    pub(super) groups: u32,
    /// Seconds between two heartbeats of a client
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = value_parser!(u32).range(1..=110))]
    pub(super) interval: u32,
    #[command(flatten)]
    pub(super) span: Span,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct TopicsArguments {
    /// The broker, HOST:PORT
    #[arg(long, short = 'b', value_name = "ADDRESS")]
    pub(super) broker: String,
    /// Topics
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=200_000))]
    pub(super) topics: u32,
    /// Queues of each
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u16).range(1..=1_024))]
    pub(super) queues: u16,
    /// Messages to each queue
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(0..=1_000))]
    pub(super) messages: u32,
    /// Topics in one request that creates them
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) batch: u32,
    /// Connections that send
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..=1_000))]
    pub(super) connections: u32,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct GroupsArguments {
    /// The broker, HOST:PORT
    #[arg(long, short = 'b', value_name = "ADDRESS")]
    pub(super) broker: String,
    /// Consumer groups
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=100_000))]
    pub(super) groups: u32,
    /// Queues of the topic, in each of which each group has an offset
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u16).range(1..=1_024))]
    pub(super) queues: u16,
    /// Groups in one request that creates them
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) batch: u32,
    /// Commits in a second, in all groups in turn
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(super) rate: u32,
    /// Connections that commit
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..=1_000))]
    pub(super) connections: u32,
    #[command(flatten)]
    pub(super) span: Span,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ElectionsArguments {
    /// The leading controller, HOST:PORT
    #[arg(long, short = 'c', value_name = "ADDRESS")]
    pub(super) controller: String,
    /// Broker names, two replicas each, a connection for each replica
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=9_000))]
    pub(super) brokers: u32,
    /// Milliseconds between two heartbeats of a broker
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = value_parser!(u32).range(100..=60_000))]
    pub(super) interval: u32,
    /// Elections in flight
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u32).range(1..=1_000))]
    pub(super) at_once: u32,
    #[command(flatten)]
    pub(super) span: Span,
    #[command(flatten)]
    pub(crate) output: Output,
}
