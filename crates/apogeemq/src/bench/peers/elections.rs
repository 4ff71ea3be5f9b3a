//! `bench elections`: broker names with two replicas each at a controller.
//!
//! 1. All take their ids, register, are heard, get a first master (id 1) and report both replicas as in sync.
//! 2. Heartbeats of all replicas for the measured time.
//! 3. Operators make replica 2 the master of every name, then replica 1 again.
//! 4. All first replicas are lost at once, as with a rack: their connections close and nobody listens at their address.
//!
//! Only heartbeats belong to a connection; the other requests share as many connections as there may be in flight.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, iter};

use protocol::controller::{
    AlterSyncStateSetHeader, ApplyBrokerIdHeader, BrokerReplicasInfo, ControllerMetadata, ElectMasterHeader, RegisterToControllerHeader,
    ReplicasInfo, SyncStateSet,
};
use protocol::register::BrokerHeartbeatHeader;
use protocol::{Frame, RequestCode, json};

use super::super::open::Schedule;
use super::super::report::plural;
use super::super::totals::Clock;
use super::super::wire::Socket;
use super::arguments::ElectionsArguments;
use super::asked::{Asked, ask_all};
use super::connect_all;
use super::figures::Figures;
use super::load::Load;
use super::talk::Talk;
use crate::failure::Failure;

const CLUSTER: &str = "ApogeeBench";
/// Heartbeat timeout in ms: Apache's default while heartbeats are sent, and the longest one otherwise.
const TIMEOUT_MS: i64 = 10_000;
const LONG_TIMEOUT_MS: i64 = 600_000;
/// Names in one request for replicas.
const NAMES: usize = 1_000;
/// How long a controller may take to lead.
const LEADER_LIMIT: Duration = Duration::from_secs(20);
/// How long all names may be without a new master.
const LOSS_LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks at the masters.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn run(arguments: &ElectionsArguments) -> Result<Figures, Failure> {
    let (names, replicas) = (u64::from(arguments.brokers), 2 * u64::from(arguments.brokers));
    let load = format!(
        "{} with two replicas, a heartbeat every {} ms, {} in flight",
        plural(names, "broker name"),
        arguments.interval,
        plural(u64::from(arguments.at_once), "election")
    );
    let mut figures = Figures::new(load, arguments.output.pid);
    wait_for_leader(&arguments.controller)?;
    let doors = [Door::open()?, Door::open()?];
    let mut set = Set {
        arguments,
        addresses: [doors[0].address.clone(), doors[1].address.clone()],
        asking: connect_all(&arguments.controller, arguments.at_once)?,
    };
    let before = figures.memory("before");
    let sockets = set.appear(&mut figures)?;
    figures.cost("replica", before, replicas);
    figures.memory("appeared");
    set.beats(&mut figures, sockets)?;

    let [firsts, seconds] = set.connect()?;
    set.heard(&firsts, 1, LONG_TIMEOUT_MS)?;
    set.heard(&seconds, 2, LONG_TIMEOUT_MS)?;
    let before = figures.look();
    let there = set.elect(2)?;
    set.all_in_sync(2)?;
    let elected = there.and(set.elect(1)?);
    figures.add("elections_per_s", replicas as f64 / elected.seconds);
    figures.answers("election", &elected.counters);
    figures.cost("election", before, replicas);
    set.all_in_sync(1)?;

    let begun = Instant::now();
    let [first, second] = doors;
    first.close();
    firsts.iter().for_each(Socket::shut_down);
    set.until_masters_are(2)?;
    figures.add("all_masters_lost_until_replaced_s", begun.elapsed().as_secs_f64());
    figures.memory("after");
    second.close();
    Ok(figures)
}

/// Waits until the controller leads, which it does soon after its start.
fn wait_for_leader(controller: &str) -> Result<(), Failure> {
    let (begun, mut talk) = (Instant::now(), Talk::connect(controller)?);
    while begun.elapsed() < LEADER_LIMIT {
        let answer = talk.ask(&Frame::request(RequestCode::ControllerGetMetadataInfo))?;
        if ControllerMetadata::decode(&answer.ext).is_ok_and(|metadata| metadata.is_leader) {
            return Ok(());
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    Err(Failure::new(format!("{controller} does not lead the controllers")))
}

/// The names, and connections for requests about them.
struct Set<'a> {
    arguments: &'a ElectionsArguments,
    /// Of all replicas with id 1, and of those with id 2.
    addresses: [String; 2],
    asking: Vec<Socket>,
}

impl Set<'_> {
    /// A connection for each replica, by id.
    fn connect(&self) -> Result<[Vec<Socket>; 2], Failure> {
        let one = || connect_all(&self.arguments.controller, self.arguments.brokers);
        Ok([one()?, one()?])
    }

    fn address(&self, id: i64) -> &str {
        &self.addresses[usize::from(id != 1)]
    }

    /// Asks for each name, `at_once` at a time.
    fn ask(&mut self, request: impl Fn(&str) -> Frame) -> Result<Asked, Failure> {
        let connections = self.asking.len();
        let of = |connection: usize| -> Vec<Frame> {
            let own = (0..self.arguments.brokers).skip(connection).step_by(connections);
            own.map(|number| request(&name(number))).collect()
        };
        let shares = self
            .asking
            .iter()
            .enumerate()
            .map(|(at, socket)| (socket.clone(), of(at).into_iter()));
        ask_all(shares.collect(), 1)
    }

    fn appear(&mut self, figures: &mut Figures) -> Result<[Vec<Socket>; 2], Failure> {
        let begun = Instant::now();
        for id in [1, 2] {
            let address = self.address(id).to_owned();
            let taken = self.ask(|name| take_id(name, id, &address))?;
            figures.answers(if id == 1 { "first_id" } else { "second_id" }, &taken.counters);
            if figures.has_errors() {
                return Err(Failure::new(
                    "ids were refused: the controller must not know the names of another run",
                ));
            }
            self.ask(|name| register(name, id, &address))?;
        }
        let sockets = self.connect()?;
        self.heard(&sockets[0], 1, TIMEOUT_MS)?;
        self.heard(&sockets[1], 2, TIMEOUT_MS)?;
        let elected = self.ask(|name| elect(name, 1, false))?;
        figures.answers("first_election", &elected.counters);
        self.all_in_sync(1)?;
        figures.add("appeared_s", begun.elapsed().as_secs_f64());
        Ok(sockets)
    }

    /// A heartbeat of each replica with this id.
    fn heard(&self, sockets: &[Socket], id: i64, timeout_ms: i64) -> Result<(), Failure> {
        let beats = sockets.iter().zip(0..).map(|(socket, number)| {
            let beat = heartbeat(&name(number), id, self.address(id), timeout_ms);
            (socket.clone(), iter::once(beat))
        });
        ask_all(beats.collect(), 1).map(drop)
    }

    /// Heartbeats of all replicas, which leave their connections at the end.
    fn beats(&self, figures: &mut Figures, sockets: [Vec<Socket>; 2]) -> Result<(), Failure> {
        let (clock, window) = (Clock::start(), self.arguments.span.window());
        let both = sockets
            .into_iter()
            .zip([1, 2])
            .flat_map(|(sockets, id)| sockets.into_iter().zip(0..).map(move |of| (id, of)));
        let beating = both.map(|(id, (socket, number))| {
            let beat = heartbeat(&name(number), id, self.address(id), TIMEOUT_MS);
            (socket, move || beat.clone())
        });
        // So many in `interval` ms.
        let schedule = Schedule {
            rate: 2_000 * u64::from(self.arguments.brokers),
            batch: u64::from(self.arguments.interval),
        };
        let mut beats = Load::start(beating.collect(), schedule, clock, window)?;
        let used = beats.until_the_end(clock, window, &self.arguments.output)?;
        let count = beats.end(figures, "heartbeat")?;
        figures.used_for("heartbeat", used, count);
        figures.used(used, window.seconds());
        Ok(())
    }

    fn elect(&mut self, id: i64) -> Result<Asked, Failure> {
        self.ask(|name| elect(name, id, true))
    }

    /// The masters report both replicas as in sync.
    fn all_in_sync(&mut self, master: i64) -> Result<(), Failure> {
        let known = self.replicas()?;
        let altered = self.ask(|name| {
            let info = known.get(name).cloned().unwrap_or_default();
            all_in_sync(name, master, &info)
        })?;
        let failed: u64 = altered.counters.iter().map(|counter| counter.measured().0.errors).sum();
        if failed > 0 {
            let text = altered.counters.iter().find_map(|counter| counter.measured().1.pop());
            return Err(Failure::new(format!(
                "{failed} in-sync sets were refused: {}",
                text.unwrap_or_default()
            )));
        }
        Ok(())
    }

    fn replicas(&self) -> Result<BTreeMap<String, ReplicasInfo>, Failure> {
        let (mut all, mut talk) = (BTreeMap::new(), Talk::connect(&self.arguments.controller)?);
        let names: Vec<String> = (0..self.arguments.brokers).map(name).collect();
        for part in names.chunks(NAMES) {
            let request = Frame::request(RequestCode::ControllerGetSyncStateData).with_body(json::write(part));
            let answer = talk.ask(&request)?;
            let info: BrokerReplicasInfo = json::read(&answer.body).map_err(Failure::new)?;
            all.extend(info.replicas_info_table);
        }
        Ok(all)
    }

    fn until_masters_are(&self, id: i64) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let known = self.replicas()?;
            let others = known.values().filter(|info| info.master_broker_id != Some(id)).count();
            if others == 0 && known.len() == self.arguments.brokers as usize {
                return Ok(());
            }
            if begun.elapsed() > LOSS_LIMIT {
                return Err(Failure::new(format!("{others} names have no new master")));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }
}

fn name(number: u32) -> String {
    format!("bench-broker-{number:05}")
}

fn take_id(broker_name: &str, id: i64, address: &str) -> Frame {
    let mut frame = Frame::request(RequestCode::ControllerApplyBrokerId);
    ApplyBrokerIdHeader {
        cluster_name: CLUSTER,
        broker_name,
        applied_broker_id: id,
        register_check_code: &format!("{address};{id}"),
    }
    .encode(&mut frame.ext);
    frame
}

fn register(broker_name: &str, broker_id: i64, broker_address: &str) -> Frame {
    let mut frame = Frame::request(RequestCode::ControllerRegisterBroker);
    RegisterToControllerHeader {
        cluster_name: CLUSTER,
        broker_name,
        broker_id,
        broker_address,
        lease_ms: None,
    }
    .encode(&mut frame.ext);
    frame
}

fn heartbeat(broker_name: &str, id: i64, broker_addr: &str, timeout_ms: i64) -> Frame {
    let mut frame = Frame::request(RequestCode::BrokerHeartbeat);
    BrokerHeartbeatHeader {
        cluster_name: CLUSTER,
        broker_addr,
        broker_name,
        broker_id: Some(id),
        epoch: Some(1),
        max_offset: Some(1_000),
        confirm_offset: Some(1_000),
        heartbeat_timeout_ms: Some(timeout_ms),
        election_priority: Some(i32::MAX),
    }
    .encode(&mut frame.ext);
    frame
}

fn elect(broker_name: &str, id: i64, designate_elect: bool) -> Frame {
    let mut frame = Frame::request(RequestCode::ControllerElectMaster);
    ElectMasterHeader {
        cluster_name: Some(CLUSTER),
        broker_name,
        broker_id: Some(id),
        designate_elect,
        gave_up_epoch: None,
    }
    .encode(&mut frame.ext);
    frame
}

fn all_in_sync(broker_name: &str, master_broker_id: i64, info: &ReplicasInfo) -> Frame {
    let mut frame = Frame::request(RequestCode::ControllerAlterSyncStateSet);
    AlterSyncStateSetHeader {
        broker_name,
        master_broker_id,
        master_epoch: info.master_epoch,
    }
    .encode(&mut frame.ext);
    let set = SyncStateSet {
        sync_state_set: [1, 2].into(),
        sync_state_set_epoch: info.sync_state_set_epoch,
    };
    frame.with_body(json::write(&set))
}

/// An address at which brokers listen: a controller connects to it to tell a broker of its new master, and to find out whether it is gone.
struct Door {
    address: String,
    closing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Door {
    const PAUSE: Duration = Duration::from_millis(1);

    fn open() -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new(format!("cannot listen: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        let closing = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&closing);
        let accept = move || {
            while !closed.load(Ordering::Acquire) {
                if listener.accept().is_err() {
                    std::thread::sleep(Self::PAUSE);
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("bench-door".to_owned())
            .spawn(accept)
            .map_err(failed)?;
        Ok(Self { address, closing, thread })
    }

    /// From now on connections to it are refused.
    fn close(self) {
        self.closing.store(true, Ordering::Release);
        // A thread that panicked does not listen either.
        let _ = self.thread.join();
    }
}
