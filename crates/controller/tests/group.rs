//! Controllers on simulated disks, asked over TCP as Apache's brokers ask.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Beating, Group, alter, apply_id, designate, elect, heartbeat, register, replica_info, until};
use protocol::controller::{ControllerMetadata, MasterHeader};
use protocol::{Frame, RequestCode, ResponseCode};

/// Registers brokers 1 and 2; 1 is master, both are in sync.
fn two_in_sync(group: &Group) -> [Beating; 2] {
    group.succeed(&apply_id(1));
    group.succeed(&apply_id(2));
    let beating = [Beating::of(group, 1), Beating::of(group, 2)];
    let answer = group.succeed(&elect(1));
    assert_eq!(MasterHeader::decode(&answer.ext).unwrap().master_epoch, Some(1));
    group.succeed(&alter(1, 1, &[1, 2], 1));
    beating
}

#[test]
fn a_single_controller_keeps_its_state_over_a_power_cut() {
    let mut group = Group::start(1);
    let beating = two_in_sync(&group);
    let before = group.replica_info();
    assert_eq!((before.1, before.2), (Some(1), Some(1)));
    let after = group.disks[0].power_cut(7);
    group.stop_one(0);
    group.disks[0] = after;
    group.start_one(0);
    assert_eq!(group.replica_info(), before);
    drop(beating);
    // The master was not heard since the start, so it is not replaced yet.
    let slave = Beating::of(&group, 2);
    assert_eq!(slave.count(), 1);
    assert_eq!(group.replica_info().1, Some(1));
}

#[test]
fn a_closed_connection_of_the_master_elects_its_in_sync_slave() {
    let group = Group::start(1);
    let [master, slave] = two_in_sync(&group);
    drop(master);
    until("the slave is master", || (group.replica_info().1 == Some(2)).then_some(()));
    assert_eq!(group.replica_info().2, Some(2));
    assert_eq!(group.replica_info().0.sync_state_set, BTreeSet::from([2]));
    // The last one goes, too: no master, and the set is kept.
    drop(slave);
    until("no master", || group.replica_info().1.is_none().then_some(()));
    assert_eq!(group.replica_info().0.sync_state_set, BTreeSet::from([2]));
    let answer = group.ask_leader(&elect(1));
    assert_eq!(answer.code, i32::from(ResponseCode::ControllerElectMasterFailed));
}

#[test]
fn a_master_without_heartbeats_is_replaced() {
    let group = Group::start(1);
    group.succeed(&apply_id(1));
    group.succeed(&apply_id(2));
    let slave = Beating::of(&group, 2);
    let peer = group.runtime.block_on(async {
        let address = format!("127.0.0.1:{}", group.ports[0]);
        let peer = net::client::Peer::connect(&address, net::client::PeerOptions::default())
            .await
            .unwrap();
        peer.request(heartbeat(1, 500), Duration::from_secs(10)).await.unwrap();
        peer
    });
    group.succeed(&elect(1));
    group.ask_leader(&alter(1, 1, &[1, 2], 1));
    until("another master or none", || (group.replica_info().1 != Some(1)).then_some(()));
    assert!(!peer.is_closed(), "only heartbeats are missing");
    drop(slave);
}

#[test]
fn three_controllers_survive_the_loss_of_their_leader_and_a_power_cut() {
    let mut group = Group::start(3);
    let _beating = two_in_sync(&group);
    let before = group.replica_info();
    // Another one may lead until the group has settled.
    let first = until("a follower refuses and names the leader", || {
        let leader = group.leader();
        let follower = (leader + 1) % 3;
        let refused = group.ask(follower, replica_info())?;
        let answer = group.ask(follower, Frame::request(RequestCode::ControllerGetMetadataInfo))?;
        let metadata = ControllerMetadata::decode(&answer.ext).unwrap();
        let address = format!("127.0.0.1:{}", group.ports[leader]);
        let names_it = !metadata.is_leader && metadata.controller_leader_address == Some(address.as_str());
        (names_it && refused.code == i32::from(ResponseCode::ControllerNotLeader)).then_some(leader)
    });
    group.stop_one(first);
    let second = group.leader();
    assert_ne!(first, second);
    assert_eq!(group.replica_info(), before);
    group.succeed(&apply_id(3));
    // The first one comes back after a power cut and catches up; then the second one goes.
    group.disks[first] = group.disks[first].power_cut(11);
    group.start_one(first);
    until("the first follows", || {
        let answer = group.ask(first, Frame::request(RequestCode::ControllerGetMetadataInfo))?;
        let metadata = ControllerMetadata::decode(&answer.ext).unwrap();
        metadata.controller_leader_id.is_some().then_some(())
    });
    group.stop_one(second);
    assert_eq!(group.replica_info(), before);
    let taken = group.ask_leader(&apply_id(3));
    assert_eq!(taken.code, 0, "the same broker asks again");
    // Alone, it must not decide.
    let third = group.leader();
    let other = (0..3).find(|at| *at != third && group.running[*at].is_some()).unwrap();
    group.stop_one(other);
    until("no answer without a majority", || {
        let answer = group.ask(third, apply_id(4))?;
        let refusal = [i32::from(ResponseCode::ControllerNotLeader), i32::from(ResponseCode::SystemError)];
        assert!(refusal.contains(&answer.code), "{answer:?}");
        Some(())
    });
}

#[test]
fn nobody_is_told_who_the_master_is_while_another_one_is_being_elected() {
    let mut group = Group::start(3);
    let _beating = two_in_sync(&group);
    let leader = group.leader();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    // There is no majority to agree on an election.
    others.iter().for_each(|other| group.stop_one(*other));
    let not_agreed = group.ask(leader, designate(2)).unwrap();
    assert_eq!(not_agreed.code, i32::from(ResponseCode::SystemError), "{not_agreed:?}");
    for request in [replica_info(), register(1), elect(1)] {
        let busy = group.ask(leader, request).unwrap();
        assert_eq!(busy.code, i32::from(ResponseCode::SystemBusy), "{busy:?}");
        assert!(busy.remark.unwrap().contains("ask again"));
    }
    others.iter().for_each(|other| group.start_one(*other));
    // It is agreed on, or lost with the leader if another one leads now.
    let told = until("a master is told again", || {
        let answer = group.ask(group.leader(), replica_info())?;
        (answer.code == 0).then_some(answer)
    });
    let master = MasterHeader::decode(&told.ext).unwrap();
    assert!([(Some(2), Some(2)), (Some(1), Some(1))].contains(&(master.master_broker_id, master.master_epoch)));
}

#[test]
fn a_controller_that_was_away_for_long_gets_a_snapshot() {
    let mut group = Group::start(3);
    let leader = group.leader();
    let away = (leader + 1) % 3;
    group.stop_one(away);
    let _beating = two_in_sync(&group);
    for round in 0..1_300 {
        let ids: &[i64] = if round % 2 == 0 { &[1] } else { &[1, 2] };
        group.succeed(&alter(1, 1, ids, 2 + round));
    }
    let before = group.replica_info();
    // It has lost its disk.
    group.disks[away] = store::disk::simulated::SimulatedDisk::new(99);
    group.start_one(away);
    let other = (0..3).find(|at| *at != leader && *at != away).unwrap();
    until("it has the snapshot", || {
        let names = store::disk::Disk::list(&group.disks[away], std::path::Path::new("/data/controller")).unwrap();
        names.iter().any(|entry| entry.name == "snapshot").then_some(())
    });
    group.stop_one(other);
    assert_eq!(group.replica_info(), before);
}

#[test]
fn requests_of_others_are_refused_with_a_reason() {
    let group = Group::start(1);
    let code = |frame: Frame| group.ask(0, frame).unwrap();
    let unknown = code(Frame::request(RequestCode::SendMessage));
    assert_eq!(unknown.code, i32::from(ResponseCode::RequestCodeNotSupported));
    assert!(unknown.remark.unwrap().contains("SEND_MESSAGE"));
    assert_eq!(code(Frame::request(123_456)).code, i32::from(ResponseCode::RequestCodeNotSupported));
    // Of a controller of another group.
    let stranger = code(Frame::request(901_102).with_field("group", "other").with_body("{}"));
    assert_eq!(stranger.code, i32::from(ResponseCode::SystemError));
    assert!(stranger.remark.unwrap().contains("group=other"));
    let ours = |body: &'static str| {
        Frame::request(901_101)
            .with_field("group", "group1")
            .with_field("to", "n0")
            .with_field("peers", "n0")
            .with_body(body)
    };
    assert_eq!(code(ours("[]")).code, i32::from(ResponseCode::SystemError));
    let settings = code(Frame::request(RequestCode::GetControllerConfig));
    assert!(String::from_utf8_lossy(&settings.body).contains("enableElectUncleanMaster=false"));
    let refused = code(Frame::request(RequestCode::UpdateControllerConfig).with_body("controllerStorePath=/etc"));
    assert_eq!(refused.code, i32::from(ResponseCode::NoPermission));
}
