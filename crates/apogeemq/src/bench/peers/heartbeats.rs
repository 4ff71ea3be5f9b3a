//! `bench heartbeats`: clients at a broker, each a consumer in one group that subscribes to one topic.
//!
//! With fewer connections than clients, clients are those of proxies: a broker tells clients apart by connection, and clients of a proxy by
//! client id. Heartbeats are complete ones, with all subscriptions.

use protocol::heartbeat::{CLIENT_ADDRESS, ConsumerData, HeartbeatData, PROXIED, Subscription};
use protocol::{Frame, RequestCode, json};

use super::super::report::plural;
use super::super::totals::Clock;
use super::arguments::HeartbeatsArguments;
use super::asked::ask_all;
use super::connect_all;
use super::figures::Figures;
use super::load::{Load, every};
use crate::failure::Failure;

/// First heartbeats in flight on a connection.
const WINDOW: usize = 4;
const TOPIC: &str = "ApogeeBench";

pub(crate) fn run(arguments: &HeartbeatsArguments) -> Result<Figures, Failure> {
    let clients = Clients::new(arguments);
    let mut figures = Figures::new(describe(arguments, &clients), arguments.output.pid);
    figures.memory("before");
    let sockets = connect_all(&arguments.broker, clients.connections)?;
    let before = figures.memory("connected");
    let joining = sockets.iter().zip(0..).map(|(socket, connection)| {
        let clients = clients.clone();
        (socket.clone(), clients.of(connection).map(move |client| clients.heartbeat(client)))
    });
    let joined = ask_all(joining.collect(), WINDOW)?;
    figures.add("joined_s", joined.seconds);
    figures.answers("join", &joined.counters);
    figures.cost("client", before, u64::from(arguments.clients));
    figures.memory("joined");

    let (clock, window) = (Clock::start(), arguments.span.window());
    let beating = sockets.into_iter().zip(0..).map(|(socket, connection)| {
        let clients = clients.clone();
        let mut turn = clients.of(connection).cycle();
        (socket, move || clients.heartbeat(turn.next().unwrap_or(connection)))
    });
    let schedule = every(arguments.interval, u64::from(arguments.clients));
    let mut beats = Load::start(beating.collect(), schedule, clock, window)?;
    let used = beats.until_the_end(clock, window, &arguments.output)?;
    let count = beats.end(&mut figures, "heartbeat")?;
    figures.used_for("heartbeat", used, count);
    figures.used(used, window.seconds());
    Ok(figures)
}

fn describe(arguments: &HeartbeatsArguments, clients: &Clients) -> String {
    format!(
        "{} in {} over {}, a heartbeat every {} s",
        plural(u64::from(arguments.clients), "client"),
        plural(u64::from(arguments.groups), "group"),
        plural(u64::from(clients.connections), "connection"),
        arguments.interval
    )
}

#[derive(Debug, Clone)]
struct Clients {
    count: u32,
    connections: u32,
    groups: u32,
}

impl Clients {
    fn new(arguments: &HeartbeatsArguments) -> Self {
        let connections = arguments.connections.unwrap_or(arguments.clients).min(arguments.clients);
        Self {
            count: arguments.clients,
            connections,
            groups: arguments.groups,
        }
    }

    /// The clients of a connection.
    fn of(&self, connection: u32) -> impl Iterator<Item = u32> + Clone + use<> {
        (connection..self.count).step_by(self.connections as usize)
    }

    fn heartbeat(&self, client: u32) -> Frame {
        let data = HeartbeatData {
            client_id: format!("10.{}.{}.{}@bench", client >> 16, client >> 8 & 255, client & 255),
            consumers: vec![ConsumerData {
                group_name: format!("BenchGroup_{:05}", client % self.groups),
                subscriptions: vec![Subscription {
                    topic: TOPIC.to_owned(),
                    sub_string: "*".to_owned(),
                    sub_version: 1,
                    ..Subscription::default()
                }],
                ..ConsumerData::default()
            }],
            ..HeartbeatData::default()
        };
        let mut frame = Frame::request(RequestCode::HeartBeat);
        if self.connections < self.count {
            frame.ext.push(PROXIED, true);
            let address = format!("10.{}.{}.{}:40000", client >> 16, client >> 8 & 255, client & 255);
            frame.ext.push(CLIENT_ADDRESS, &*address);
        }
        frame.with_body(json::write_standard(&data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_client_beats_on_one_connection_under_an_id_of_its_own() {
        let clients = Clients {
            count: 1_000,
            connections: 7,
            groups: 10,
        };
        let all: Vec<u32> = (0..7).flat_map(|connection| clients.of(connection)).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 1_000);
        let id = |client: &u32| {
            let frame = clients.heartbeat(*client);
            assert_eq!(frame.ext.bool(PROXIED), Some(true));
            json::read::<HeartbeatData>(&frame.body).unwrap().client_id
        };
        assert_eq!(all.iter().map(id).collect::<HashSet<_>>().len(), 1_000);
    }
}
