//! `bench registrations`: brokers that register their topics with a name server, and clients that ask for routes.
//!
//! Broker n shares its topics with the brokers n / spread * spread and the following ones. One more broker changes a topic five times a
//! second and looks when its route says so.

use std::iter;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use protocol::register::{RegisterBrokerBody, RegisterBrokerHeader};
use protocol::route::{RouteHeader, TopicRoute};
use protocol::topic::TopicConfig;
use protocol::{DataVersion, Frame, RequestCode, json};

use super::super::open::Schedule;
use super::super::report::plural;
use super::super::threads::Threads;
use super::super::totals::{Clock, Window, histogram};
use super::arguments::RegistrationsArguments;
use super::asked::{Asked, ask_all};
use super::connect_all;
use super::figures::Figures;
use super::load::{Load, every};
use super::talk::Talk;
use crate::failure::Failure;

const CLUSTER: &str = "ApogeeBench";
/// Pause between two changes of a topic.
const CHANGE_PAUSE: Duration = Duration::from_millis(200);
/// How long a change may take until it is in the route.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn run(arguments: &RegistrationsArguments) -> Result<Figures, Failure> {
    let brokers = Brokers::new(arguments.brokers, arguments.topics, arguments.spread, arguments.queues);
    let mut figures = Figures::new(describe(arguments), arguments.output.pid);
    let before = figures.memory("before");
    let sockets = connect_all(&arguments.namesrv, arguments.brokers)?;
    let numbered: Vec<_> = sockets.into_iter().zip(0..).collect();
    let mut registered = Asked::default();
    for part in numbered.chunks(arguments.at_once as usize) {
        let requests = part
            .iter()
            .map(|(socket, number)| (socket.clone(), iter::once(brokers.registration(*number))));
        registered = registered.and(ask_all(requests.collect(), 1)?);
    }
    figures.add("registered_s", registered.seconds);
    figures.answers("first_registration", &registered.counters);
    let entries = u64::from(arguments.brokers) * u64::from(arguments.topics);
    figures.cost("queues_of_a_topic_on_a_broker", before, entries);
    figures.memory("registered");

    let (clock, window) = (Clock::start(), arguments.span.window());
    let again = numbered.into_iter().map(|(socket, number)| {
        let brokers = brokers.clone();
        (socket, move || brokers.registration(number))
    });
    let schedule = every(arguments.interval, u64::from(arguments.brokers));
    let again = Load::start(again.collect(), schedule, clock, window)?;
    let asking = connect_all(&arguments.namesrv, arguments.connections)?
        .into_iter()
        .zip(1..)
        .map(|(socket, seed)| {
            let mut routes = Routes::new(&brokers, seed);
            (socket, move || routes.next())
        });
    let rate = Schedule {
        rate: u64::from(arguments.rate),
        batch: 1,
    };
    let mut routes = Load::start(asking.collect(), rate, clock, window)?;
    let (mut changing, took) = (Threads::default(), Arc::new(Mutex::new(histogram())));
    let changes = Changes::new(arguments, &brokers, &took)?;
    changing.spawn("bench-changes", move || changes.run(clock, window))?;
    let used = routes.until_the_end(clock, window, &arguments.output)?;
    routes.end(&mut figures, "route")?;
    again.end(&mut figures, "registration")?;
    changing.join()?;
    figures.quantiles("change_until_routed", &took.lock().unwrap_or_else(PoisonError::into_inner));
    figures.used(used, window.seconds());
    Ok(figures)
}

fn describe(arguments: &RegistrationsArguments) -> String {
    format!(
        "{} with {} each, a topic on {}, every {} s; {} a second",
        plural(u64::from(arguments.brokers), "broker"),
        plural(u64::from(arguments.topics), "topic"),
        plural(u64::from(arguments.spread.min(arguments.brokers)), "broker"),
        arguments.interval,
        plural(u64::from(arguments.rate), "route")
    )
}

/// The brokers and their topics.
#[derive(Debug, Clone)]
struct Brokers {
    count: u32,
    topics: u32,
    spread: u32,
    /// Bodies of the registrations, one for all brokers with the same topics.
    bodies: Arc<[Bytes]>,
}

impl Brokers {
    fn new(count: u32, topics: u32, spread: u32, queues: u16) -> Self {
        let body = |first| {
            let configs = (0..topics).map(|number| TopicConfig::new(topic(first, number), i32::from(queues)));
            body(0, configs)
        };
        Self {
            count,
            topics,
            spread,
            bodies: (0..count).step_by(spread as usize).map(body).collect(),
        }
    }

    /// The broker whose topics all of its group have.
    fn first(&self, broker: u32) -> u32 {
        broker / self.spread * self.spread
    }

    fn topic(&self, broker: u32, topic: u32) -> String {
        self::topic(self.first(broker), topic)
    }

    fn registration(&self, broker: u32) -> Frame {
        registration(broker, self.bodies[(broker / self.spread) as usize].clone())
    }
}

fn topic(first: u32, number: u32) -> String {
    format!("BenchTopic_{first:05}_{number:05}")
}

fn body(version: i64, topics: impl Iterator<Item = TopicConfig>) -> Bytes {
    let mut body = RegisterBrokerBody::default();
    body.topics.data_version = DataVersion {
        counter: version,
        state_version: 0,
        timestamp: 1,
    };
    body.topics.topic_config_table = topics.map(|topic| (topic.topic_name.clone(), topic)).collect();
    body.encode(false).into()
}

fn registration(broker: u32, body: Bytes) -> Frame {
    let mut frame = Frame::request(RequestCode::RegisterBroker);
    RegisterBrokerHeader {
        broker_name: &format!("bench-broker-{broker:05}"),
        broker_addr: &format!("10.{}.{}.{}:10911", broker >> 16, broker >> 8 & 255, broker & 255),
        cluster_name: CLUSTER,
        ha_server_addr: &format!("10.{}.{}.{}:10912", broker >> 16, broker >> 8 & 255, broker & 255),
        broker_id: 0,
        heartbeat_timeout_ms: None,
        enable_acting_master: Some(false),
        compressed: false,
        body_crc32: None,
    }
    .encode(&mut frame.ext);
    frame.with_body(body)
}

/// Requests for routes of topics by chance.
struct Routes {
    brokers: Brokers,
    seed: u64,
}

impl Routes {
    fn new(brokers: &Brokers, seed: u64) -> Self {
        Self {
            brokers: brokers.clone(),
            seed,
        }
    }

    fn next(&mut self) -> Frame {
        let (broker, topic) = (self.below(self.brokers.count), self.below(self.brokers.topics));
        route(&self.brokers.topic(broker, topic))
    }

    /// A linear congruential generator: topics need no better chance.
    fn below(&mut self, limit: u32) -> u32 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.seed >> 33) % u64::from(limit)) as u32
    }
}

fn route(topic: &str) -> Frame {
    let mut frame = Frame::request(RequestCode::GetRouteinfoByTopic);
    RouteHeader {
        topic,
        accept_standard_json_only: Some(true),
    }
    .encode(&mut frame.ext);
    frame
}

/// One more broker, which changes its first topic.
struct Changes {
    broker: Talk,
    client: Talk,
    number: u32,
    topics: u32,
    took: Arc<Mutex<Histogram<u64>>>,
}

impl Changes {
    fn new(arguments: &RegistrationsArguments, brokers: &Brokers, took: &Arc<Mutex<Histogram<u64>>>) -> Result<Self, Failure> {
        Ok(Self {
            broker: Talk::connect(&arguments.namesrv)?,
            client: Talk::connect(&arguments.namesrv)?,
            number: brokers.count,
            topics: brokers.topics,
            took: Arc::clone(took),
        })
    }

    fn run(mut self, clock: Clock, window: Window) -> Result<(), Failure> {
        let mut queues = 1;
        while clock.now_us() < window.end_us {
            queues = queues % 16 + 1;
            let begun_us = clock.now_us();
            let changed_us = self.change(queues, clock)?;
            if window.holds(begun_us) {
                let took_us = changed_us.saturating_sub(begun_us).max(1);
                self.took.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took_us);
            }
            std::thread::sleep(CHANGE_PAUSE);
        }
        Ok(())
    }

    /// Registers all topics, the first one with so many queues, and asks until its route says so.
    fn change(&mut self, queues: i32, clock: Clock) -> Result<u64, Failure> {
        let topic = |number: u32| TopicConfig::new(format!("BenchChange_{number:05}"), if number == 0 { queues } else { 4 });
        let version = clock.now_us() as i64;
        let frame = registration(self.number, body(version, (0..self.topics).map(topic)));
        let limit_us = clock.now_us() + CHANGE_LIMIT.as_micros() as u64;
        self.broker.ask(&frame)?;
        while clock.now_us() < limit_us {
            let answer = self.client.call(&route("BenchChange_00000"))?;
            let route: TopicRoute = json::read(&answer.body).unwrap_or_default();
            if route.queue_datas.iter().any(|data| data.write_queue_nums == queues) {
                return Ok(clock.now_us());
            }
        }
        Err(Failure::new("a change of a topic is not in its route after 30 s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_their_topics_and_routes_ask_for_topics_that_exist() {
        let brokers = Brokers::new(10, 3, 4, 2);
        let topics = |broker| {
            let frame = brokers.registration(broker);
            let body = RegisterBrokerBody::decode(&frame.body, false, frame.version).unwrap();
            body.topics.topic_config_table
        };
        assert_eq!(topics(4), topics(7));
        assert!(topics(3).keys().all(|topic| !topics(4).contains_key(topic)));
        let mut routes = Routes::new(&brokers, 1);
        for _ in 0..100 {
            let frame = routes.next();
            let topic = RouteHeader::decode(&frame.ext).unwrap().topic.to_owned();
            assert!((0..10).any(|broker| topics(broker).contains_key(&topic)), "{topic}");
        }
    }
}
