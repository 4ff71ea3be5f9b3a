//! A slave that acts for its master, with a name server and a second broker to which messages escape.

use super::*;
use crate::settings::BrokerRole;
use message::{names, properties, sys_flag};
use nameserver::{NameServer, NamesrvSettings};
use std::net::{Ipv4Addr, TcpListener};

/// As delay level 2: long enough that a master is stopped before, on a machine that is not too slow; a test does not fail if it is not.
const DUE_IN: Duration = Duration::from_secs(5);

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn name_server() -> net::Server {
    let settings = NamesrvSettings {
        support_acting_master: true,
        notify_min_broker_id_changed: true,
        ..NamesrvSettings::default()
    };
    let network = Options {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        ..NameServer::network(&settings)
    };
    let names = NameServer::new(nameserver::Options::new(settings)).unwrap();
    Server::start(network, names).unwrap()
}

/// A broker of this name and id with the mode on.
fn member(name_server: &net::Server, disk: &SimulatedDisk, name: &str, id: u64, change: impl Fn(&mut BrokerSettings)) -> Broker {
    let name_servers = [name_server.local_addrs()[0].to_string()];
    let begin = || {
        let mut settings = BrokerSettings {
            broker_name: name.to_owned(),
            broker_id: id,
            broker_role: if id == 0 { BrokerRole::AsyncMaster } else { BrokerRole::Slave },
            listen_port: free_port(),
            ha_listen_port: Some(free_port()),
            enable_slave_acting_master: true,
            enable_remote_escape: true,
            broker_heartbeat_interval: Duration::from_millis(100),
            sync_broker_member_group_period: Duration::from_millis(100),
            transaction_check_interval: Duration::from_secs(3_600),
            default_topic_queue_nums: 1,
            ..small_settings()
        };
        change(&mut settings);
        match Broker::start(settings, Transport::default(), &name_servers, Arc::new(disk.clone())) {
            Ok(broker) => Some(broker),
            // Another program took a port meanwhile.
            Err(StartError::Listen(_) | StartError::Other(_)) => None,
            Err(error) => panic!("{error}"),
        }
    };
    (0..100).find_map(|_| begin()).expect("free ports")
}

fn total_of(brokers: &[&Broker], topic: &str) -> i64 {
    brokers.iter().map(|broker| broker.store.max_offset(topic, 0).0).sum()
}

/// Waits until the slave has the log and the tables of the master.
fn until_copied(slave: &Broker, master: &Broker) {
    until("the slave has the log", || slave.store.written() == master.store.written());
    let (of_slave, of_master) = (&slave.routes.core, &master.routes.core);
    until("the slave has the topics", || {
        of_slave.topics.version() == of_master.topics.version()
    });
    until("the slave has the progress of delay levels", || {
        slave.routes.delays.all().1.len() == master.routes.delays.all().1.len()
    });
}

#[test]
fn a_slave_acts_for_its_master_and_gives_back_what_it_did() {
    let names = name_server();
    let [disk_master, disk_slave, disk_other] = [1, 2, 3].map(SimulatedDisk::new);
    let master = member(&names, &disk_master, "a", 0, |_| ());
    let other = member(&names, &disk_other, "b", 0, |_| ());
    let slave = member(&names, &disk_slave, "a", 1, |_| ());

    let with = |pairs: &[(&str, &str)]| {
        let built = pairs
            .iter()
            .fold(properties::Builder::new(), |built, (name, value)| built.with(name, value));
        built.with(properties::PRODUCER_GROUP, "p").build()
    };
    for broker in [&master, &other] {
        support::send_to(broker, "t", 0, &with(&[])).unwrap();
        // Topics of their own, so that it can be counted what arrives.
        for topic in ["delayed", "timed", "tran"] {
            support::send_to(broker, topic, 0, &with(&[])).unwrap();
        }
    }
    let due = (now_ms() + DUE_IN.as_millis() as i64).to_string();
    support::send_to(
        &master,
        "delayed",
        0,
        &with(&[(properties::DELAY, "2"), (properties::UNIQ_KEY, "d")]),
    )
    .unwrap();
    support::send_to(&master, "timed", 0, &with(&[(properties::TIMER_DELIVER_MS, &due)])).unwrap();
    let half = with(&[(properties::TRANSACTION_PREPARED, "true"), (properties::UNIQ_KEY, "h")]);
    support::send_to(&master, "tran", sys_flag::TRANSACTION_PREPARED, &half).unwrap();
    until("the transaction is open", || master.routes.transactions.open() == 1);
    block_on(async {
        // The first pull creates the group.
        ask(&connect(&master).await, pull("g", "4")).await;
    });
    until_copied(&slave, &master);
    until("the slave has the group", || slave.routes.core.groups.contains("g"));
    assert!(!slave.routes.core.role.acts());
    master.stop().unwrap();

    let role = &slave.routes.core.role;
    until("the slave acts", || role.acts());
    until("it delivers", || role.delivers());
    block_on(async {
        let peer = connect(&slave).await;
        let mut frame = pull("g", "4");
        frame.ext.push("queueOffset", "0");
        frame.ext.push("subscription", "*");
        let answer = peer.request(frame, SOON).await.unwrap();
        assert_eq!((answer.code, answer.ext.text("suggestWhichBrokerId")), (0, Some("0")));
        let fields = [("consumerGroup", "g"), ("topic", "t"), ("queueId", "0"), ("commitOffset", "1")];
        let commit = request(RequestCode::UpdateConsumerOffset, &fields, "");
        assert_eq!(ask(&peer, commit).await, ResponseCode::Success);
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::SystemBusy, "it takes no messages");
        let runtime = request(RequestCode::GetBrokerRuntimeInfo, &[], "");
        let answer = peer.request(runtime, SOON).await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.contains(r#""apogeeActingMaster":"true""#), "{text}");
    });
    let both = [&slave, &other];
    until("the delayed message is delivered", || total_of(&both, "delayed") == 3);
    until("the timer message is delivered", || total_of(&both, "timed") == 3);
    until("the transaction is open elsewhere", || other.routes.transactions.open() == 1);
    let handed_over = || {
        slave
            .routes
            .core
            .offsets
            .committed(names::TRANS_HALF_TOPIC, crate::transaction::GROUP, 0)
    };
    until("it is noted here", || handed_over() == Some(1));
    // The level passes a message after readers see it.
    until("the level has passed it", || slave.routes.delays.of(2) == Some(1));

    let master = member(&names, &disk_master, "a", 0, |_| ());
    let core = &master.routes.core;
    assert_eq!(core.offsets.committed("t", "g", 0), Some(1), "what was committed at the slave");
    assert_eq!(master.routes.delays.of(2), Some(1), "what it delivered");
    until("name servers answer its heartbeats", || {
        master.routes.acting.answered_heartbeats() > 2
    });
    until("the slave no longer acts", || !role.acts() && !role.delivers());
    until("it follows again", || slave.routes.replication.is_connected());
    until("the timers are read", || {
        let numbers = master.routes.timers.numbers(now_ms());
        numbers.behind == 0 && master.routes.timers.is_idle()
    });
    assert_eq!(master.routes.transactions.open(), 0, "the other broker checks it");
    support::send_to(&master, "t", 0, &with(&[])).unwrap();
    until_copied(&slave, &master);
    let both = [&master, &other];
    assert_eq!(
        [total_of(&both, "delayed"), total_of(&both, "timed")],
        [3, 3],
        "nothing is delivered twice"
    );
    for broker in [slave, master, other] {
        broker.stop().unwrap();
    }
}

#[test]
fn pops_go_on_at_the_acting_slave_and_nothing_is_lost() {
    let names = name_server();
    let [disk_master, disk_slave, disk_other] = [1, 2, 3].map(SimulatedDisk::new);
    // The handles that these tests make are of a broker of this name.
    let master = member(&names, &disk_master, "b", 0, |_| ());
    let other = member(&names, &disk_other, "c", 0, |_| ());
    let slave = member(&names, &disk_slave, "b", 1, |_| ());
    let short = [("invisibleTime", "1000")];
    block_on(async {
        let peer = connect(&master).await;
        popping::send_bodies(&peer, "t", &["acknowledged", "popped before", "left", "later"]).await;
        // In flight at the master; no record of it is written before its time.
        let found = popping::pop(&peer, "t", &[("maxMsgNums", "1"), ("invisibleTime", "600000")])
            .await
            .1;
        assert_eq!(popping::bodies(&found), ["acknowledged"]);
        assert_eq!(popping::ack(&peer, &found[0]).await, ResponseCode::Success);
        let found = popping::pop(&peer, "t", &[("maxMsgNums", "1"), ("invisibleTime", "600000")])
            .await
            .1;
        assert_eq!(popping::bodies(&found), ["popped before"]);
    });
    until("it is committed", || popping::committed(&master, "t") == Some(1));
    until_copied(&slave, &master);
    until("the slave has the offset", || popping::committed(&slave, "t") == Some(1));
    // A kill: what is in flight is in no record.
    let left = support::left_by_crash(&disk_master, None);
    master.stop().unwrap();
    until("the slave delivers", || slave.routes.core.role.delivers());

    block_on(async {
        let peer = connect(&slave).await;
        let (code, found) = popping::pop(&peer, "t", &[("maxMsgNums", "3"), short[0]]).await;
        assert_eq!(code, ResponseCode::Success);
        assert_eq!(popping::bodies(&found), ["popped before", "left", "later"]);
        assert_eq!(popping::ack(&peer, &found[0]).await, ResponseCode::Success);
        assert_eq!(popping::ack(&peer, &found[2]).await, ResponseCode::Success);
    });
    let retry = [names::pop_retry_topic("t", "g"), names::pop_retry_topic_v2("t", "g")];
    until("what was left is stored by the other broker", || {
        retry.iter().map(|topic| other.store.max_offset(topic, 0).0).sum::<i64>() == 1
    });
    until("the offset passes all", || popping::committed(&slave, "t") == Some(4));

    let master = member(&names, &left, "b", 0, |_| ());
    assert_eq!(popping::committed(&master, "t"), Some(4), "what the slave committed");
    until("the slave no longer acts", || !slave.routes.core.role.acts());
    block_on(async {
        let peer = connect(&slave).await;
        let refused = ask(&peer, request(RequestCode::PopMessage, &[], "")).await;
        assert_eq!(refused, ResponseCode::ServiceNotAvailable);
    });
    assert_eq!(slave.routes.pops.in_flight(), 0);
    for broker in [slave, master, other] {
        broker.stop().unwrap();
    }
}

#[test]
fn in_strict_mode_a_queue_is_held_when_most_brokers_have_locked_it() {
    let names = name_server();
    let strict = |settings: &mut BrokerSettings| {
        settings.lock_in_strict_mode = true;
        settings.total_replicas = 2;
    };
    let [disk_master, disk_slave] = [1, 2].map(SimulatedDisk::new);
    let master = member(&names, &disk_master, "a", 0, strict);
    let lock = |code, client: &str| {
        let queue = r#"{"topic":"t","brokerName":"a","queueId":0}"#;
        let body = format!(r#"{{"consumerGroup":"g","clientId":"{client}","mqSet":[{queue}]}}"#);
        request(code, &[], &body)
    };
    let held = async |broker: &Broker, client: &str| {
        let frame = lock(RequestCode::LockBatchMq, client);
        let answer = connect(broker).await.request(frame, SOON).await.unwrap();
        String::from_utf8_lossy(&answer.body).contains("queueId")
    };
    block_on(async {
        assert!(!held(&master, "c1").await, "one of two is not most");
    });
    let slave = member(&names, &disk_slave, "a", 1, strict);
    block_on(async {
        while !held(&master, "c1").await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!held(&slave, "c2").await, "the master has it for another client");
        assert!(held(&slave, "c1").await);
        let unlock = lock(RequestCode::UnlockBatchMq, "c1");
        assert_eq!(ask(&connect(&master).await, unlock).await, ResponseCode::Success);
        while !held(&slave, "c2").await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!held(&master, "c1").await);
    });
    slave.stop().unwrap();
    master.stop().unwrap();
}

#[test]
fn a_master_flushed_offset_is_kept_by_slaves_only() {
    let names = name_server();
    let (disk, flushed) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
    let master = member(&names, &disk, "a", 0, |_| ());
    let slave = member(&names, &flushed, "a", 1, |_| ());
    // A slave that is registered before its master acts until that one is.
    until("the slave knows its master", || {
        slave.routes.standings.master().borrow().is_some() && !slave.routes.core.role.acts()
    });
    let reset = || request(RequestCode::ResetMasterFlushOffset, &[("masterFlushOffset", "4096")], "");
    block_on(async {
        for broker in [&master, &slave] {
            assert_eq!(ask(&connect(broker).await, reset()).await, ResponseCode::Success);
        }
        let asked = request(RequestCode::ExchangeBrokerHaInfo, &[], "");
        let told = connect(&master).await.request(asked, SOON).await.unwrap();
        let addresses = [told.ext.text("masterHaAddress"), told.ext.text("masterAddress")];
        assert!(addresses.iter().all(|address| address.is_some()), "{told:?}");
        let changed = request(RequestCode::NotifyMinBrokerIdChange, &[("minBrokerId", "1")], "");
        assert_eq!(ask(&connect(&slave).await, changed).await, ResponseCode::Success);
    });
    assert_eq!(
        [master.routes.acting.master_flushed(), slave.routes.acting.master_flushed()],
        [0, 4_096]
    );
    assert!(!slave.routes.core.role.acts(), "nobody acts because of one request");
    slave.stop().unwrap();
    let again = member(&names, &flushed, "a", 1, |_| ());
    assert_eq!(again.routes.acting.master_flushed(), 4_096);
    again.stop().unwrap();
    master.stop().unwrap();
}

#[test]
fn without_remote_escape_what_becomes_due_waits_for_the_master() {
    let names = name_server();
    let [disk_master, disk_slave] = [1, 2].map(SimulatedDisk::new);
    let waits = |settings: &mut BrokerSettings| settings.enable_remote_escape = false;
    let master = member(&names, &disk_master, "a", 0, waits);
    let slave = member(&names, &disk_slave, "a", 1, waits);
    let delayed = properties::Builder::new().with(properties::DELAY, "2").build();
    support::send_to(&master, "t", 0, &delayed).unwrap();
    until("it is copied", || slave.store.written() == master.store.written());
    master.stop().unwrap();
    until("the slave acts", || slave.routes.core.role.acts());
    assert!(!slave.routes.core.role.delivers());
    let master = member(&names, &disk_master, "a", 0, waits);
    until("the master delivers", || master.store.max_offset("t", 0).0 == 1);
    until("the slave follows", || {
        !slave.routes.core.role.acts() && slave.store.max_offset("t", 0).0 == 1
    });
    slave.stop().unwrap();
    master.stop().unwrap();
}
