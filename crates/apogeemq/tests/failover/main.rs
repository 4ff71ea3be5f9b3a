//! Brokers under a controller: the master is killed, stopped or frozen under load, and another one is elected. Everything that was acknowledged
//! is there, in order.
//!
//! `FAILOVER_ROUNDS=50 cargo test --release -p apogeemq --test failover -- --nocapture` prints how long no send was acknowledged.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod load;
mod local;

use cluster::Cluster;
use common::block_on;
use load::{Load, QUEUES, TOPIC};
use protocol::topic::TopicConfig;
use protocol::{Frame, RequestCode};
use std::time::{Duration, Instant};

/// How often a master is lost, unless `FAILOVER_ROUNDS` is set.
const ROUNDS: usize = 3;
/// All acknowledge, and a replica that is late leaves soon.
const ALL: &str = "allAckInSyncStateSet=true\n";

fn rounds() -> usize {
    std::env::var("FAILOVER_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

fn make_topic(cluster: &Cluster, name: &str) {
    let master = cluster.address(cluster.master());
    let client = cluster.client();
    block_on(async { client.create_topic(&master, &TopicConfig::new(name, QUEUES)).await.unwrap() });
}

fn delete_topic(cluster: &Cluster, name: &str) {
    let master = cluster.address(cluster.master());
    let mut frame = Frame::request(RequestCode::DeleteTopicInBroker);
    frame.ext.push("topic", name);
    let client = cluster.client();
    block_on(async { client.ask(&master, frame).await.unwrap() });
}

fn has_topic(cluster: &Cluster, name: &str) -> bool {
    let master = cluster.address(cluster.master());
    let mut frame = Frame::request(RequestCode::GetTopicConfig);
    frame.ext.push("topic", name);
    let client = cluster.client();
    block_on(async { client.ask(&master, frame).await.is_ok() })
}

fn report(what: &str, gaps: &mut [Duration]) {
    gaps.sort();
    eprintln!(
        "{what}: no acknowledged send for {:?} in the middle of {} rounds, {:?} at most",
        gaps[gaps.len() / 2],
        gaps.len(),
        gaps[gaps.len() - 1]
    );
}

#[test]
fn killed_masters_are_followed_and_lose_nothing() {
    let mut cluster = Cluster::start(2, ALL);
    make_topic(&cluster, TOPIC);
    let load = Load::start(&cluster);
    let mut gaps = Vec::new();
    for round in 0..rounds() {
        load.until_acknowledged(50);
        let master = cluster.master();
        let made = format!("made-{round}");
        make_topic(&cluster, &made);
        let lost = Instant::now();
        match round % 4 {
            3 => cluster.brokers[master].take().unwrap().stop(),
            _ => cluster.brokers[master].take().unwrap().kill(),
        }
        load.until_acknowledged(50);
        gaps.push(load.gap_after(lost));
        assert_ne!(cluster.master(), master);
        assert!(
            has_topic(&cluster, &made),
            "the topic was acknowledged just before: {}",
            cluster.logged(1 - master)
        );
        cluster.start_broker(master);
        cluster.until("both are in sync", |cluster| cluster.now().in_sync.len() == 2);
    }
    let master = cluster.address(cluster.master());
    let read = load.stop_and_read(&cluster.client(), &master);
    report("killed or stopped", &mut gaps);
    eprintln!("{read} messages acknowledged, all there");
}

#[test]
fn a_master_that_is_stopped_passes_on_what_clients_still_send_to_it() {
    let mut cluster = Cluster::start(2, ALL);
    make_topic(&cluster, TOPIC);
    for _ in 0..2 {
        let master = cluster.master();
        let load = Load::start_at(&cluster, &cluster.address(master));
        load.until_acknowledged(50);
        cluster.brokers[master].as_ref().unwrap().signal("-TERM");
        let was = cluster.address(master);
        cluster.until("another one is the master", |cluster| {
            cluster.now().master.is_some_and(|now| now != was)
        });
        load.until_acknowledged(200);
        let given_up = load.given_up();
        let other = cluster.address(cluster.master());
        load.stop_and_read(&cluster.client(), &other);
        assert_eq!(given_up, 0, "{}", cluster.logged(master));
        // Nobody sends to it any more.
        assert_eq!(cluster.brokers[master].take().unwrap().ended().code(), Some(0));
        cluster.start_broker(master);
        cluster.until("both are in sync", |cluster| cluster.now().in_sync.len() == 2);
        // It passes on as a slave, too, and the queues are those of the next round.
        delete_topic(&cluster, TOPIC);
        make_topic(&cluster, TOPIC);
    }
}

#[test]
fn an_operator_replaces_a_master_under_load() {
    let cluster = Cluster::start(2, ALL);
    make_topic(&cluster, TOPIC);
    let load = Load::start(&cluster);
    let mut gaps = Vec::new();
    for _ in 0..rounds() {
        load.until_acknowledged(50);
        let (was, asked) = (cluster.master(), Instant::now());
        cluster.elect(1 - was);
        load.until_acknowledged(50);
        gaps.push(load.gap_after(asked));
        assert_eq!(cluster.master(), 1 - was);
        cluster.until("both are in sync", |cluster| cluster.now().in_sync.len() == 2);
    }
    let master = cluster.address(cluster.master());
    load.stop_and_read(&cluster.client(), &master);
    report("replaced", &mut gaps);
}

#[test]
fn a_frozen_master_acknowledges_nothing_when_it_thaws() {
    let cluster = Cluster::start(2, ALL);
    make_topic(&cluster, TOPIC);
    let load = Load::start(&cluster);
    let mut gaps = Vec::new();
    for _ in 0..rounds().div_ceil(2) {
        load.until_acknowledged(50);
        let master = cluster.master();
        let frozen = Instant::now();
        cluster.brokers[master].as_ref().unwrap().signal("-STOP");
        load.until_acknowledged(50);
        gaps.push(load.gap_after(frozen));
        assert_ne!(cluster.master(), master);
        cluster.brokers[master].as_ref().unwrap().signal("-CONT");
        cluster.until("it is a slave in sync", |cluster| cluster.now().in_sync.len() == 2);
        assert_ne!(cluster.master(), master);
        assert!(
            cluster.logged(master).contains("this broker is a slave now"),
            "{}",
            cluster.logged(master)
        );
    }
    let master = cluster.address(cluster.master());
    load.stop_and_read(&cluster.client(), &master);
    report("frozen", &mut gaps);
}

#[test]
fn a_frozen_slave_leaves_the_in_sync_set_and_comes_back() {
    let cluster = Cluster::start(2, ALL);
    make_topic(&cluster, TOPIC);
    let load = Load::start(&cluster);
    load.until_acknowledged(50);
    let master = cluster.master();
    let slave = cluster.brokers[1 - master].as_ref().unwrap();
    let frozen = Instant::now();
    slave.signal("-STOP");
    load.until_acknowledged(50);
    let mut gaps = [load.gap_after(frozen)];
    assert_eq!(cluster.master(), master);
    assert_eq!(cluster.now().in_sync, [cluster.address(master)]);
    slave.signal("-CONT");
    cluster.until("both are in sync", |cluster| cluster.now().in_sync.len() == 2);
    load.until_acknowledged(50);
    let master = cluster.address(master);
    load.stop_and_read(&cluster.client(), &master);
    report("a frozen slave", &mut gaps);
}

#[test]
fn without_a_controller_a_master_takes_messages_for_its_lease_only() {
    let mut cluster = Cluster::start(2, ALL);
    make_topic(&cluster, TOPIC);
    let load = Load::start(&cluster);
    load.until_acknowledged(50);
    let master = cluster.master();
    let gone = Instant::now();
    cluster.stop_names();
    // The name server is gone with the controller, and the producers know the master: it refuses.
    let count = load.until_nothing_is_acknowledged();
    assert!(gone.elapsed() > Duration::from_secs(1), "its lease was not over");
    cluster.start_names();
    load.until_acknowledged(50);
    assert_eq!(cluster.master(), master);
    let master = cluster.address(master);
    assert!(load.stop_and_read(&cluster.client(), &master) > count);
}

#[test]
fn the_last_of_three_brokers_goes_on_alone() {
    let mut cluster = Cluster::start(3, ALL);
    make_topic(&cluster, TOPIC);
    let load = Load::start(&cluster);
    for left in [2, 1] {
        load.until_acknowledged(50);
        let master = cluster.master();
        cluster.brokers[master].take().unwrap().kill();
        load.until_acknowledged(50);
        // Only who is in sync may be the next one.
        cluster.until("the others are in sync", |cluster| cluster.now().in_sync.len() == left);
    }
    let last = cluster.master();
    for index in (0..3).filter(|index| *index != last) {
        cluster.start_broker(index);
    }
    cluster.until("all are in sync", |cluster| cluster.now().in_sync.len() == 3);
    load.until_acknowledged(50);
    let master = cluster.address(cluster.master());
    load.stop_and_read(&cluster.client(), &master);
}
