//! Masters and slaves: what sends wait for, and what operators are told.

use super::*;
use crate::settings::{BrokerRole, FlushDiskType};
use ::replication::{Slave, SlaveOptions};
use protocol::replication::ReplicationStatus;

const SLAVE_TIME_OUT: Duration = Duration::from_millis(300);

fn sync_master(disk: &SimulatedDisk) -> Broker {
    start(disk, |settings| {
        settings.broker_role = BrokerRole::SyncMaster;
        settings.in_sync_replicas = 2;
        settings.slave_timeout = SLAVE_TIME_OUT;
    })
}

/// A slave without a broker around it, with the store that it copies into.
fn copy_of(broker: &Broker) -> (Slave, Arc<Store>) {
    let settings = BrokerSettings {
        flush_disk_type: FlushDiskType::Async,
        ..small_settings()
    };
    let (store, _) = Store::open(Arc::new(SimulatedDisk::new(2)), store_options(&settings)).unwrap();
    let options = SlaveOptions {
        heartbeat: Duration::from_millis(100),
        housekeeping: SOON,
        follower: None,
        retry: [Duration::from_millis(5); 2],
    };
    let slave = Slave::start(store.clone(), options).unwrap();
    slave.set_master(broker.routes.replication.addr().map(|addr| addr.to_string()).as_deref());
    (slave, store)
}

async fn status(peer: &Peer) -> ReplicationStatus {
    let answer = peer.request(request(RequestCode::GetBrokerHaStatus, &[], ""), SOON).await.unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn a_sync_master_answers_when_a_slave_has_the_message_or_with_the_time_out() {
    let broker = sync_master(&SimulatedDisk::new(1));
    block_on(async {
        let peer = connect(&broker).await;
        let begun = Instant::now();
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::FlushSlaveTimeout);
        assert!(begun.elapsed() >= SLAVE_TIME_OUT, "{:?}", begun.elapsed());
        assert_eq!(ask(&peer, send("t", false)).await, ResponseCode::Success, "it waits for nobody");
        assert_eq!(broker.store.max_offset("t", 0).0, 2, "consumers read what the master has");

        let (slave, copy) = copy_of(&broker);
        until("the slave is there", || copy.written() == broker.store.written());
        let (first, second) = tokio::join!(ask(&peer, send("t", true)), ask(&peer, send("t", true)));
        assert_eq!([first, second], [ResponseCode::Success; 2]);
        assert!(copy.max_offset("t", 0).0 == 4, "an acknowledged message is on the slave");

        let told = status(&peer).await;
        let end = broker.store.written().0;
        assert!(told.master && told.master_commit_log_max_offset == end && told.in_sync_slave_nums == 1);
        let connected = &told.ha_connection_info[0];
        assert_eq!(
            (connected.slave_ack_offset, connected.diff, connected.transfer_from_where),
            (end, 0, end)
        );

        drop(slave);
        assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::FlushSlaveTimeout);
    });
    broker.stop().unwrap();
}

#[test]
fn sends_that_wait_for_slaves_are_answered_before_a_stop_ends() {
    let broker = start(&SimulatedDisk::new(1), |settings| {
        settings.broker_role = BrokerRole::SyncMaster;
        settings.in_sync_replicas = 2;
    });
    block_on(async {
        let peer = connect(&broker).await;
        let waiting = peer.request(send("t", true), SOON);
        let stopped = async {
            while broker.routes.core.acks.waiting() == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            tokio::task::spawn_blocking(move || broker.stop()).await.unwrap().unwrap();
        };
        let (answer, ()) = tokio::join!(waiting, stopped);
        assert_eq!(answer.unwrap().code, i32::from(ResponseCode::FlushSlaveTimeout));
    });
}

fn slave(disk: &SimulatedDisk, of: &Broker) -> Broker {
    let slave = start(disk, |settings| {
        settings.broker_role = BrokerRole::Slave;
        settings.broker_id = 1;
        settings.slave_read_enable = true;
    });
    let slaves = of.routes.replication.addr().map(|addr| addr.to_string());
    slave
        .routes
        .standings
        .heard_of_master(Some(&of.addresses()[0].to_string()), slaves.as_deref());
    slave
}

#[test]
fn a_slave_copies_log_and_tables_and_serves_pulls_but_takes_no_messages() {
    let master = start(&SimulatedDisk::new(1), |_| ());
    let disk = SimulatedDisk::new(2);
    let slave_broker = slave(&disk, &master);
    block_on(async {
        let (peer, of_slave) = (connect(&master).await, connect(&slave_broker).await);
        for _ in 0..20 {
            assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::Success);
        }
        let delayed = |level: i32| {
            let mut frame = send("t", true);
            frame.ext.push("properties", &*format!("DELAY\u{1}{level}\u{2}"));
            frame
        };
        assert_eq!(ask(&peer, delayed(1)).await, ResponseCode::Success);
        // The first pull creates the group.
        ask(&peer, pull("g", "4")).await;
        let commit = |offset| {
            let fields = [("consumerGroup", "g"), ("topic", "t"), ("queueId", "0"), ("commitOffset", offset)];
            request(RequestCode::UpdateConsumerOffset, &fields, "")
        };
        assert_eq!(ask(&peer, commit("7")).await, ResponseCode::Success);

        let of = slave_broker.operations().core;
        until("the log is there", || of.store.written() == master.store.written());
        until("the topic is there", || of.topics.contains("t"));
        until("the group is there", || of.groups.contains("g"));
        until("the offset is there", || of.offsets.committed("t", "g", 0) == Some(7));
        assert_eq!(of.topics.version(), master.operations().core.topics.version());

        for code in [send("t", true), send("t", false)] {
            assert_eq!(ask(&of_slave, code).await, ResponseCode::SystemBusy);
        }
        let end = request(RequestCode::EndTransaction, &[], "");
        assert_eq!(ask(&of_slave, end).await, ResponseCode::SlaveNotAvailable);
        assert_eq!(
            ask(&of_slave, request(RequestCode::PopMessage, &[], "")).await,
            ResponseCode::ServiceNotAvailable
        );
        let answer = of_slave.request(pull("g", "4"), SOON).await.unwrap();
        assert!(
            [ResponseCode::Success, ResponseCode::PullRetryImmediately]
                .map(i32::from)
                .contains(&answer.code),
            "{answer:?}"
        );

        let told = status(&of_slave).await;
        assert!(!told.master && told.ha_client_runtime_info.max_offset == of.store.written().0);
        assert_eq!(
            told.ha_client_runtime_info.master_addr,
            master.routes.replication.addr().map(|addr| addr.to_string())
        );
        // The level is due on the master, which delivers; the slave gets that as a message like others.
        until("it is delivered", || master.store.max_offset("t", 0).0 == 21);
        until("the slave has it", || {
            of.store.max_offset("t", 0).0 == 21 && of.store.written() == master.store.written()
        });
    });
    slave_broker.stop().unwrap();
    master.stop().unwrap();
    let again = start(&disk, |_| ());
    assert_eq!(again.store.max_offset("t", 0).0, 21);
    assert_eq!(again.operations().core.offsets.committed("t", "g", 0), Some(7));
    again.stop().unwrap();
}

#[test]
fn a_consumer_that_is_far_behind_is_sent_to_a_slave_that_serves_reads() {
    let broker = start(&SimulatedDisk::new(1), |settings| {
        settings.slave_read_enable = true;
        settings.slave_read_behind = 300;
    });
    block_on(async {
        let peer = connect(&broker).await;
        for _ in 0..4 {
            assert_eq!(ask(&peer, send("t", true)).await, ResponseCode::Success);
        }
        let mut from = Vec::new();
        for offset in ["0", "3"] {
            let mut frame = pull("g", "4");
            frame.ext.push("queueOffset", offset);
            frame.ext.push("subscription", "*");
            let answer = peer.request(frame, SOON).await.unwrap();
            from.push((answer.code, answer.ext.text("suggestWhichBrokerId").unwrap_or_default().to_owned()));
        }
        assert_eq!(from, [(0, "1".to_owned()), (0, "0".to_owned())]);
    });
    broker.stop().unwrap();
}

#[test]
fn a_slave_that_becomes_the_master_delivers_the_timers_that_are_left() {
    let master = start(&SimulatedDisk::new(1), |settings| {
        settings.timer_flush_interval = Duration::from_millis(20)
    });
    let timer = |name: &str, value: i64| {
        let properties = message::properties::Builder::new().with(name, &value.to_string()).build();
        support::send_to(&master, "t", 0, &properties).unwrap()
    };
    timer(message::properties::TIMER_DELAY_MS, 1);
    let far = crate::clock::now_ms() + 3_600_000;
    timer(message::properties::TIMER_DELIVER_MS, far);
    until("the first is delivered", || master.store.max_offset("t", 0).0 == 1);
    let since = crate::clock::now_ms();

    let disk = SimulatedDisk::new(2);
    let slave_broker = slave(&disk, &master);
    let copied = || {
        let file = disk
            .open(std::path::Path::new("/store/config/timercheck"), store::disk::OpenMode::Read)
            .ok()?;
        let mut read_time = [0; 8];
        file.read_at(&mut read_time, 0).ok()?;
        Some(i64::from_be_bytes(read_time))
    };
    until("the slave knows how far timers are done", || {
        copied().is_some_and(|done_ms| done_ms + 1_000 >= since)
    });
    master.stop().unwrap();
    slave_broker.stop().unwrap();

    let promoted = start(&disk, |_| ());
    let timers = &promoted.routes.timers;
    until("the other one waits", || timers.numbers(crate::clock::now_ms()).waiting == 1);
    until("the queue is read", || timers.numbers(crate::clock::now_ms()).behind == 0);
    assert_eq!(promoted.store.max_offset("t", 0).0, 1, "the first is not delivered again");
    promoted.stop().unwrap();
}
