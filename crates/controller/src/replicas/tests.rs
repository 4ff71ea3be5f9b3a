use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { names: 2, replicas: 4 };

fn live(id: i64) -> Live {
    Live {
        id,
        epoch: 1,
        max_offset: 100 + id,
        priority: 0,
    }
}

fn take(id: i64, who: &str) -> Command {
    Command::TakeId {
        cluster: "c".to_owned(),
        broker: "b".to_owned(),
        id,
        check_code: format!("{who};1"),
        limits: LIMITS,
    }
}

fn elect(candidate: Option<i64>, alive: &[i64]) -> Command {
    Command::Elect {
        broker: "b".to_owned(),
        candidate,
        designated: false,
        unclean: false,
        seen_epoch: None,
        alive: alive.iter().copied().map(live).collect(),
    }
}

fn alter(master: i64, master_epoch: i32, ids: &[i64], in_sync_epoch: i32) -> Command {
    Command::AlterInSync {
        broker: "b".to_owned(),
        master,
        master_epoch,
        ids: ids.iter().copied().collect(),
        in_sync_epoch,
        alive: [1, 2, 3].map(live).to_vec(),
    }
}

fn clean(ids: &[i64], living: bool, alive: &[i64]) -> Command {
    Command::Clean {
        broker: "b".to_owned(),
        ids: ids.iter().copied().collect(),
        living,
        alive: alive.iter().copied().map(live).collect(),
    }
}

/// Brokers 1 to 3, of which 1 is master and 1 and 2 are in sync.
fn three() -> Replicas {
    let mut replicas = Replicas::default();
    for command in [
        take(1, "a:1"),
        take(2, "a:2"),
        take(3, "a:3"),
        elect(Some(1), &[1, 2, 3]),
        alter(1, 1, &[1, 2], 1),
    ] {
        assert_eq!(replicas.apply(&command).refusal, None, "{command:?}");
    }
    replicas
}

fn set(replicas: &Replicas) -> &BrokerSet {
    replicas.set("b").unwrap()
}

#[test]
fn the_first_who_asks_becomes_master() {
    let replicas = three();
    let set = set(&replicas);
    assert_eq!((set.master, set.master_epoch, set.in_sync_epoch, set.next_id), (Some(1), 1, 2, 4));
    assert_eq!(set.master_address(), Some("a:1"));
}

#[test]
fn the_in_sync_replica_follows_a_dead_master_and_the_other_one_does_not() {
    let mut replicas = three();
    let answer = replicas.apply(&elect(None, &[2, 3]));
    assert_eq!((answer.refusal, answer.changed), (None, true));
    assert_eq!((set(&replicas).master, set(&replicas).master_epoch), (Some(2), 2));
    assert_eq!(set(&replicas).in_sync, BTreeSet::from([2]));
    // Only 3 lives, which is not in sync: no master, once.
    let answer = replicas.apply(&elect(None, &[3]));
    assert_eq!((answer.refusal, answer.changed), (Some(Refusal::NoMaster), true));
    assert_eq!((set(&replicas).master, set(&replicas).master_epoch), (None, 3));
    let answer = replicas.apply(&elect(None, &[3]));
    assert_eq!((answer.refusal, answer.changed), (Some(Refusal::NoMaster), false));
    assert_eq!(replicas.apply(&elect(Some(3), &[3])).refusal, Some(Refusal::ElectFailed));
    // The last in-sync replica is back and asks.
    assert_eq!(replicas.apply(&elect(Some(2), &[2, 3])).refusal, None);
    assert_eq!((set(&replicas).master, set(&replicas).master_epoch), (Some(2), 4));
}

#[test]
fn an_unclean_election_needs_permission() {
    let mut replicas = three();
    let unclean = Command::Elect {
        broker: "b".to_owned(),
        candidate: None,
        designated: false,
        unclean: true,
        seen_epoch: None,
        alive: vec![live(3)],
    };
    assert_eq!(replicas.apply(&unclean).refusal, None);
    assert_eq!(set(&replicas).master, Some(3));
}

#[test]
fn a_living_master_is_named_to_who_asks() {
    let mut replicas = three();
    let answer = replicas.apply(&elect(Some(2), &[1, 2]));
    assert_eq!(answer.refusal, Some(Refusal::MasterStillExists(1, "b".to_owned())));
    assert!(!answer.changed);
    let designated = Command::Elect {
        broker: "b".to_owned(),
        candidate: Some(2),
        designated: true,
        unclean: false,
        seen_epoch: None,
        alive: vec![live(1), live(2)],
    };
    assert_eq!(replicas.apply(&designated).refusal, None);
    assert_eq!(set(&replicas).master, Some(2));
}

#[test]
fn reports_of_a_set_are_fenced() {
    let mut replicas = three();
    let refused = |replicas: &mut Replicas, command| replicas.apply(&command).refusal.unwrap();
    let was = replicas.clone();
    assert_eq!(refused(&mut replicas, alter(1, 1, &[2, 1], 2)), Refusal::SameInSync);
    assert_eq!(
        refused(&mut replicas, alter(2, 1, &[1], 2)),
        Refusal::NotTheMaster { is: Some(1), asked: 2 }
    );
    assert_eq!(
        refused(&mut replicas, alter(1, 0, &[1], 2)),
        Refusal::MasterEpoch { is: 1, asked: 0 }
    );
    assert_eq!(
        refused(&mut replicas, alter(1, 1, &[1], 1)),
        Refusal::InSyncEpoch { is: 2, asked: 1 }
    );
    assert_eq!(refused(&mut replicas, alter(1, 1, &[1, 9], 2)), Refusal::NoSuchReplica(9));
    assert_eq!(refused(&mut replicas, alter(1, 1, &[2], 2)), Refusal::WithoutMaster(1));
    replicas.apply(&take(4, "a:4"));
    assert_eq!(refused(&mut replicas, alter(1, 1, &[1, 4], 2)), Refusal::ReplicaNotAlive(4));
    assert_eq!(set(&replicas).in_sync, set(&was).in_sync);
}

#[test]
fn an_id_is_given_once() {
    let mut replicas = three();
    assert_eq!(replicas.apply(&take(2, "other")).refusal, Some(Refusal::IdTaken(2, "b".to_owned())));
    assert_eq!(replicas.apply(&take(2, "a:2")).refusal, None, "the same broker asks again");
    assert_eq!(
        replicas.apply(&take(5, "a:5")).refusal,
        Some(Refusal::IdTooHigh(5, "b".to_owned(), 4))
    );
    assert_eq!(replicas.apply(&take(4, "a:4")).refusal, None);
    assert_eq!(
        replicas.apply(&take(5, "a:5")).refusal,
        Some(Refusal::TooManyReplicas(4, "b".to_owned()))
    );
}

fn register(id: i64, address: &str) -> Command {
    Command::Register {
        broker: "b".to_owned(),
        id,
        address: address.to_owned(),
        lease_ms: None,
    }
}

#[test]
fn what_a_master_has_asked_for_before_it_registers_again_is_refused() {
    let mut replicas = three();
    let before = set(&replicas).clone();
    assert_eq!(replicas.apply(&register(1, "a:1")).refusal, None);
    let late = replicas.apply(&alter(1, 1, &[1], before.in_sync_epoch));
    assert_eq!(late.refusal, Some(Refusal::InSyncEpoch { is: 3, asked: 2 }));
    assert_eq!(
        set(&replicas),
        &BrokerSet {
            in_sync_epoch: 3,
            ..before
        }
    );
    assert_eq!(
        replicas.apply(&alter(1, 1, &[1], 3)).refusal,
        None,
        "it has been told of the new epoch"
    );
}

#[test]
fn a_registration_updates_the_address() {
    let mut replicas = three();
    assert!(!replicas.apply(&register(2, "a:2")).changed);
    assert!(replicas.apply(&register(2, "new:2")).changed);
    assert_eq!(set(&replicas).address(2), Some("new:2"));
    assert_eq!(
        replicas.apply(&register(9, "x")).refusal,
        Some(Refusal::UnknownId(9, "b".to_owned()))
    );
}

#[test]
fn cleaning_leaves_a_state_that_can_elect() {
    let mut replicas = three();
    assert_eq!(
        replicas.apply(&clean(&[], false, &[])).refusal,
        Some(Refusal::SetAlive("b".to_owned()))
    );
    assert_eq!(
        replicas.apply(&clean(&[2], false, &[2])).refusal,
        Some(Refusal::ReplicaAlive("b".to_owned(), 2))
    );
    assert_eq!(
        replicas.apply(&clean(&[1, 2], false, &[])).refusal,
        Some(Refusal::LastInSync("b".to_owned()))
    );
    assert_eq!(replicas.apply(&clean(&[1], false, &[2])).refusal, None);
    assert_eq!((set(&replicas).master, set(&replicas).master_epoch), (None, 2));
    assert_eq!(set(&replicas).in_sync, BTreeSet::from([2]));
    assert_eq!(replicas.apply(&clean(&[2, 3], true, &[2])).refusal, None);
    assert!(replicas.set("b").is_none());
}

fn ids() -> impl Strategy<Value = BTreeSet<i64>> {
    proptest::collection::btree_set(1..6i64, 0..5)
}

fn alive() -> impl Strategy<Value = Vec<Live>> {
    let one = |id: i64| {
        (-1..4i32, -1..5i64, 0..3i32).prop_map(move |(epoch, max_offset, priority)| Live {
            id,
            epoch,
            max_offset,
            priority,
        })
    };
    ids().prop_flat_map(move |ids| ids.into_iter().map(one).collect::<Vec<_>>())
}

fn command() -> impl Strategy<Value = Command> {
    let broker = || prop_oneof![4 => Just("b"), 1 => Just("c"), 1 => Just("d")].prop_map(str::to_owned);
    prop_oneof![
        3 => (broker(), 0..6i64, 0..3u8).prop_map(|(broker, id, who)| Command::TakeId {
            cluster: "c".to_owned(), broker, id, check_code: format!("{who};{id}"), limits: LIMITS }),
        4 => (broker(), proptest::option::of(0..6i64), any::<bool>(), proptest::bool::weighted(0.2), alive()).prop_map(
            |(broker, candidate, designated, unclean, alive)| Command::Elect { broker, candidate, designated, unclean, seen_epoch: None, alive }),
        4 => (broker(), 1..4i64, 0..4i32, ids(), 0..6i32, alive()).prop_map(
            |(broker, master, master_epoch, ids, in_sync_epoch, alive)| Command::AlterInSync {
                broker, master, master_epoch, ids, in_sync_epoch, alive }),
        1 => (broker(), 0..6i64, 0..3u8).prop_map(|(broker, id, at)| Command::Register { broker, id, address: at.to_string(), lease_ms: None }),
        1 => (broker(), ids(), any::<bool>(), alive()).prop_map(|(broker, ids, living, alive)| Command::Clean { broker, ids, living, alive }),
    ]
}

/// Makes a report that the state may accept, so that in-sync sets grow.
fn aimed(command: Command, replicas: &Replicas) -> Command {
    match command {
        Command::AlterInSync {
            broker, mut ids, alive, ..
        } if ids.len() % 2 == 1 => {
            let set = replicas.set(&broker);
            let master = set.and_then(|set| set.master).unwrap_or(1);
            ids.insert(master);
            ids.retain(|id| alive.iter().any(|live| live.id == *id) && set.is_some_and(|set| set.replicas.contains_key(id)));
            Command::AlterInSync {
                master,
                master_epoch: set.map_or(0, |set| set.master_epoch),
                in_sync_epoch: set.map_or(0, |set| set.in_sync_epoch),
                broker,
                ids,
                alive,
            }
        }
        other => other,
    }
}

fn check_step(before: &Replicas, command: &Command, answer: &Answer, after: &Replicas) {
    assert_eq!(answer.changed, before != after, "{command:?}");
    assert!(answer.refusal.is_none() || before == after || answer.refusal == Some(Refusal::NoMaster));
    assert!(after.sets.len() <= LIMITS.names);
    for (name, set) in after.sets() {
        assert!(set.replicas.len() <= LIMITS.replicas && set.in_sync.iter().all(|id| set.replicas.contains_key(id)));
        assert!(set.master.is_none_or(|master| set.in_sync.contains(&master)));
        assert!(set.replicas.keys().all(|id| *id < set.next_id), "the next id is free");
        assert!(set.master_epoch == 0 || !set.in_sync.is_empty(), "somebody may be elected");
        let Some(old) = before.set(name) else { continue };
        assert!(set.master_epoch >= old.master_epoch && set.in_sync_epoch >= old.in_sync_epoch);
        assert!(set.next_id >= old.next_id);
        assert!(
            set.master == old.master || set.master_epoch > old.master_epoch,
            "one master an epoch"
        );
        assert!(set.in_sync == old.in_sync || set.in_sync_epoch > old.in_sync_epoch);
        for (id, replica) in &set.replicas {
            assert!(
                old.replicas.get(id).is_none_or(|was| was.check_code == replica.check_code),
                "an id has one broker"
            );
        }
        if set.master != old.master
            && let Some(master) = set.master
        {
            let unclean = matches!(command, Command::Elect { unclean: true, .. });
            assert!(
                old.in_sync.contains(&master) || old.master_epoch == 0 || unclean,
                "{command:?} {old:?}"
            );
            let Command::Elect { alive, .. } = command else {
                panic!("elected by {command:?}")
            };
            assert!(old.master_epoch == 0 || alive.iter().any(|live| live.id == master));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_after_every_command(commands in proptest::collection::vec(command(), 1..80)) {
        let mut replicas = Replicas::default();
        for command in commands {
            let command = aimed(command, &replicas);
            let before = replicas.clone();
            let expected = replicas.unchanged(&command);
            let answer = replicas.apply(&command);
            prop_assert_eq!(expected.is_none(), answer.changed);
            if let Some(expected) = expected {
                prop_assert_eq!(&expected, &answer);
            }
            check_step(&before, &command, &answer, &replicas);
            // The log and the snapshot have them as JSON.
            let text = serde_json::to_vec(&(&command, &replicas)).unwrap();
            prop_assert_eq!(serde_json::from_slice::<(Command, Replicas)>(&text).unwrap(), (command, replicas.clone()));
        }
    }
}
