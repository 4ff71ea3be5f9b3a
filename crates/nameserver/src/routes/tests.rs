//! The rules of registration and routes, with `now` given.

mod invariants;

use std::collections::BTreeMap;

use protocol::route::ClusterInfo;
use protocol::static_topic::QueueMapping;
use protocol::topic::perm;
use protocol::{DataVersion, json};

use super::*;

const RW: i32 = perm::READ | perm::WRITE;

const BOUNDS: Bounds = Bounds {
    brokers: 10,
    brokers_per_connection: 10,
    topics: 100,
    bytes: 1 << 20,
};

fn routes() -> Routes {
    Routes::new(BOUNDS)
}

fn queues(count: i32) -> Queues {
    Queues {
        read: count,
        write: count,
        perm: RW,
        sys_flag: 0,
    }
}

fn version(counter: i64) -> DataVersion {
    DataVersion {
        counter,
        state_version: 0,
        timestamp: 1,
    }
}

/// A master of the name "a" at "a:0" with two topics.
fn master() -> Registration<'static> {
    Registration {
        cluster: "c",
        broker_name: "a",
        broker_id: 0,
        address: "a:0",
        ha_address: "a:ha",
        acting_master: Some(true),
        topics: vec![("orders", queues(4)), ("other", queues(2))],
        version: version(1),
        connection: 1,
        ..Registration::default()
    }
}

/// The slave with this id of the name "a".
fn slave(broker_id: i64, address: &'static str) -> Registration<'static> {
    Registration {
        broker_id,
        address,
        ha_address: "slave:ha",
        connection: 100 + broker_id as u64,
        ..master()
    }
}

fn leave(routes: &mut Routes, registration: &Registration<'_>) -> Vec<MinIdChange> {
    routes.unregister(registration.cluster, registration.broker_name, registration.address)
}

fn perm_of(routes: &Routes, topic: &str) -> i32 {
    routes.route(topic, false).unwrap().queue_datas[0].perm
}

fn addresses(routes: &Routes, topic: &str) -> BTreeMap<i64, String> {
    routes.route(topic, true).unwrap().broker_datas[0].broker_addrs.clone()
}

fn sorted(mut topics: Vec<Arc<str>>) -> Vec<String> {
    topics.sort();
    topics.iter().map(ToString::to_string).collect()
}

/// What 106 answers, as clients read it.
fn clusters(routes: &Routes) -> ClusterInfo {
    json::read(&json::write(&routes.cluster_info())).unwrap()
}

fn all(routes: &Routes) -> Vec<String> {
    sorted(routes.all_topics())
}

#[test]
fn a_registered_topic_has_a_route_and_others_have_none() {
    let mut routes = routes();
    assert_eq!(routes.register(&master(), 0), Ok(Registered::default()));
    let route = routes.route("orders", false).unwrap();
    assert_eq!(route.queue_datas.len(), 1);
    assert_eq!((route.queue_datas[0].read_queue_nums, route.queue_datas[0].perm), (4, RW));
    assert_eq!(route.broker_datas[0].broker_addrs, BTreeMap::from([(0, "a:0".to_owned())]));
    assert_eq!(route.broker_datas[0].cluster, "c");
    assert!(routes.route("unknown", false).is_none());
    assert!(routes.stamp("unknown").is_none());
}

#[test]
fn a_slave_gets_its_master_and_does_not_set_topics() {
    let mut routes = routes();
    assert_eq!(routes.register(&slave(1, "a:1"), 0).unwrap().master, None);
    routes.register(&master(), 0).unwrap();
    let mut changed = slave(1, "a:1");
    changed.topics = vec![("orders", queues(9)), ("slaves", queues(1))];
    changed.version = version(7);
    let registered = routes.register(&changed, 0).unwrap();
    assert_eq!(
        registered.master,
        Some(Master {
            address: "a:0".into(),
            ha_address: "a:ha".into()
        })
    );
    assert_eq!(routes.route("orders", false).unwrap().queue_datas[0].read_queue_nums, 4);
    assert!(routes.route("slaves", false).is_none());
    assert_eq!(addresses(&routes, "orders").len(), 2);
}

#[test]
fn an_unchanged_version_changes_nothing_but_adds_what_is_missing() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    assert_eq!(routes.wipe_write_perm("a"), 2);
    let stamp = routes.stamp("orders");
    let mut again = master();
    again.topics = vec![("orders", queues(8)), ("other", queues(2)), ("new", queues(1))];
    routes.register(&again, 5).unwrap();
    assert_eq!(perm_of(&routes, "orders"), perm::READ);
    assert_eq!(routes.stamp("orders"), stamp, "the route is the same");
    assert!(routes.route("new", false).is_some());
    again.version = version(2);
    routes.register(&again, 10).unwrap();
    assert_eq!(perm_of(&routes, "orders"), RW);
    assert_ne!(routes.stamp("orders"), stamp);
}

#[test]
fn missing_topics_are_removed_only_if_registrations_are_complete() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    let mut fewer = master();
    fewer.topics = vec![("orders", queues(4)), ("third", queues(4))];
    fewer.version = version(2);
    routes.register(&fewer, 0).unwrap();
    assert_eq!(all(&routes), ["orders", "other", "third"]);
    fewer.complete = true;
    routes.register(&fewer, 0).unwrap();
    assert_eq!(all(&routes), ["orders", "third"]);
}

#[test]
fn a_single_topic_is_refused_before_the_whole() {
    let mut routes = routes();
    let mut single = master();
    single.topics.truncate(1);
    assert_eq!(routes.register(&single, 0), Err(Refused::SingleTopicFirst));
    assert!(clusters(&routes).broker_addr_table.is_empty());
    routes.register(&master(), 0).unwrap();
    single.topics = vec![("single", queues(1))];
    routes.register(&single, 0).unwrap();
    assert_eq!(all(&routes), ["orders", "other", "single"]);
}

#[test]
fn a_slave_that_became_master_loses_its_old_id() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    routes.register(&slave(1, "a:1"), 0).unwrap();
    leave(&mut routes, &master());
    let mut promoted = slave(1, "a:1");
    promoted.broker_id = 0;
    routes.register(&promoted, 0).unwrap();
    assert_eq!(addresses(&routes, "orders"), BTreeMap::from([(0, "a:1".to_owned())]));
}

#[test]
fn an_older_state_version_does_not_take_an_id_away() {
    let mut routes = routes();
    let mut current = master();
    current.version.state_version = 5;
    routes.register(&current, 0).unwrap();
    let mut late = master();
    late.address = "b:0";
    late.version.state_version = 4;
    let registered = routes.register(&late, 0).unwrap();
    assert!(registered.stale);
    assert_eq!(addresses(&routes, "orders"), BTreeMap::from([(0, "a:0".to_owned())]));
    assert_eq!(routes.data_version("c", "a", "b:0"), None);
    late.version.state_version = 6;
    assert!(!routes.register(&late, 0).unwrap().stale);
    assert_eq!(addresses(&routes, "orders"), BTreeMap::from([(0, "b:0".to_owned())]));
}

#[test]
fn a_stale_broker_that_had_the_lowest_id_is_reported_to_the_others() {
    let mut routes = routes();
    routes.register(&slave(1, "a:1"), 0).unwrap();
    for (id, address) in [(2, "a:2"), (3, "a:3")] {
        let mut current = slave(id, address);
        current.version.state_version = 5;
        routes.register(&current, 0).unwrap();
    }
    // It claims the id of a broker with a newer state, and loses its own.
    let registered = routes.register(&slave(2, "a:1"), 0).unwrap();
    assert!(registered.stale);
    assert_eq!(
        registered.min_id_change,
        Some(MinIdChange {
            broker_name: "a".into(),
            min_id: 2,
            min_address: "a:2".into(),
            offline_address: Some("a:1".into()),
            ha_address: None,
            recipients: vec!["a:2".into(), "a:3".into()],
        })
    );
    // Without an id of its own nothing changes.
    assert_eq!(routes.register(&slave(2, "a:1"), 0).unwrap().min_id_change, None);
    routes.check_invariants();
}

#[test]
fn the_lowest_slave_acts_as_a_read_only_master() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    routes.register(&slave(2, "a:2"), 0).unwrap();
    routes.register(&slave(3, "a:3"), 0).unwrap();
    let changes = leave(&mut routes, &master());
    assert_eq!(
        changes,
        [MinIdChange {
            broker_name: "a".into(),
            min_id: 2,
            min_address: "a:2".into(),
            offline_address: Some("a:0".into()),
            ha_address: None,
            recipients: vec!["a:2".into(), "a:3".into()],
        }]
    );
    assert_eq!(perm_of(&routes, "orders"), perm::READ);
    assert_eq!(
        addresses(&routes, "orders"),
        BTreeMap::from([(0, "a:2".to_owned()), (3, "a:3".to_owned())])
    );
    let plain = routes.route("orders", false).unwrap();
    assert!(
        !plain.broker_datas[0].broker_addrs.contains_key(&0),
        "only where supportActingMaster is on"
    );

    // It sets the topics now, without write permission.
    let mut acting = slave(2, "a:2");
    acting.version = version(9);
    acting.topics.push(("fresh", queues(3)));
    routes.register(&acting, 0).unwrap();
    assert_eq!(perm_of(&routes, "fresh"), perm::READ);
    assert_eq!(perm_of(&routes, "orders"), perm::READ);
}

#[test]
fn without_acting_masters_a_lone_slave_stays_a_slave() {
    let mut routes = routes();
    let (mut old_master, mut old_slave) = (master(), slave(1, "a:1"));
    old_master.acting_master = None;
    old_slave.acting_master = None;
    routes.register(&old_master, 0).unwrap();
    routes.register(&old_slave, 0).unwrap();
    assert!(leave(&mut routes, &old_master).is_empty());
    assert_eq!(perm_of(&routes, "orders"), RW);
    assert_eq!(addresses(&routes, "orders"), BTreeMap::from([(1, "a:1".to_owned())]));
    let mut changed = old_slave.clone();
    changed.version = version(9);
    changed.topics.push(("fresh", queues(3)));
    routes.register(&changed, 0).unwrap();
    assert!(routes.route("fresh", false).is_none());
}

#[test]
fn a_newcomer_with_a_lower_id_is_announced_to_the_others() {
    let mut routes = routes();
    routes.register(&slave(2, "a:2"), 0).unwrap();
    assert_eq!(routes.register(&slave(3, "a:3"), 0).unwrap().min_id_change, None);
    let change = routes.register(&master(), 0).unwrap().min_id_change.unwrap();
    assert_eq!((change.min_id, change.min_address.as_str()), (0, "a:0"));
    assert_eq!(change.recipients, ["a:2", "a:3"]);
    assert_eq!(change.ha_address.as_deref(), Some("a:ha"));
}

#[test]
fn topics_are_removed_with_the_last_broker_of_their_name() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    let mut other = master();
    (other.broker_name, other.address, other.connection) = ("b", "b:0", 2);
    other.topics = vec![("orders", queues(1)), ("mine", queues(1))];
    routes.register(&other, 0).unwrap();
    assert_eq!(routes.route("orders", false).unwrap().broker_datas.len(), 2);
    let stamp = routes.stamp("orders");
    leave(&mut routes, &other);
    assert_ne!(routes.stamp("orders"), stamp);
    assert_eq!(all(&routes), ["orders", "other"]);
    assert_eq!(routes.route("orders", false).unwrap().broker_datas.len(), 1);
    leave(&mut routes, &master());
    assert!(all(&routes).is_empty());
    let info = clusters(&routes);
    assert!(info.broker_addr_table.is_empty() && info.cluster_addr_table.is_empty());
    assert_eq!(routes.live_brokers(), 0);
}

#[test]
fn a_broker_is_unregistered_by_its_address() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    let elsewhere = Registration {
        address: "elsewhere:0",
        ..master()
    };
    let other_name = Registration {
        broker_name: "b",
        ..master()
    };
    leave(&mut routes, &elsewhere);
    leave(&mut routes, &other_name);
    assert!(routes.route("orders", false).is_some());
}

#[test]
fn a_broker_expires_after_its_heartbeat_timeout() {
    let mut routes = routes();
    routes.register(&master(), 1_000).unwrap();
    let mut hasty = slave(1, "a:1");
    hasty.heartbeat_timeout_ms = Some(10_000);
    routes.register(&hasty, 1_000).unwrap();
    assert!(!routes.has_expired(11_000));
    assert!(routes.has_expired(11_001));
    routes.touch("c", "a", "a:1", 11_001);
    routes.expire(21_001);
    assert_eq!(addresses(&routes, "orders").len(), 2);
    routes.expire(21_002);
    assert_eq!(addresses(&routes, "orders"), BTreeMap::from([(0, "a:0".to_owned())]));
    assert_eq!(routes.data_version("c", "a", "a:1"), None);
    routes.touch("c", "a", "nobody", 0);
    routes.expire(121_001);
    assert!(routes.route("orders", false).is_none());
    routes.check_invariants();
}

#[test]
fn a_broker_stays_if_it_registered_on_another_connection_before_its_old_one_closed() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    let mut moved = master();
    moved.connection = 2;
    routes.register(&moved, 0).unwrap();
    routes.connection_closed(1);
    assert!(routes.route("orders", false).is_some());
    routes.connection_closed(2);
    assert!(routes.route("orders", false).is_none());
    routes.check_invariants();
}

#[test]
fn all_brokers_of_a_closed_connection_leave() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    let mut second = master();
    (second.broker_name, second.address) = ("b", "b:0");
    routes.register(&second, 0).unwrap();
    let mut third = master();
    (third.broker_name, third.address, third.connection) = ("d", "d:0", 2);
    routes.register(&third, 0).unwrap();
    routes.connection_closed(1);
    let left = routes.route("orders", false).unwrap();
    assert_eq!(left.broker_datas.len(), 1);
    assert_eq!(left.broker_datas[0].broker_name, "d");
    routes.check_invariants();
}

#[test]
fn a_second_name_with_the_same_address_is_another_broker() {
    let mut routes = Routes::new(Bounds { brokers: 2, ..BOUNDS });
    routes.register(&master(), 0).unwrap();
    let named = |broker_name| Registration {
        broker_name,
        connection: 2,
        ..master()
    };
    routes.register(&named("evil"), 0).unwrap();
    assert_eq!(routes.register(&named("more"), 0), Err(Refused::TooManyBrokers(2)));
    assert_eq!(routes.route("orders", false).unwrap().broker_datas.len(), 2);
    routes.connection_closed(2);
    let left = routes.route("orders", false).unwrap();
    assert_eq!((left.broker_datas.len(), left.broker_datas[0].broker_name.as_str()), (1, "a"));
    assert_eq!(routes.data_version("c", "evil", "a:0"), None);
    routes.check_invariants();
}

#[test]
fn registrations_of_two_addresses_with_one_name_and_id_are_counted() {
    let mut routes = routes();
    let at = |address, connection| Registration {
        address,
        connection,
        ..master()
    };
    routes.register(&at("a:0", 1), 0).unwrap();
    routes.register(&at("b:0", 2), 0).unwrap();
    assert_eq!(routes.taken_over(), 1);
    routes.register(&at("a:0", 1), 0).unwrap();
    routes.register(&at("a:0", 1), 0).unwrap();
    assert_eq!(routes.taken_over(), 2);
    // A broker that moved: the process at its old address has expired.
    routes.connection_closed(2);
    routes.connection_closed(1);
    routes.register(&at("b:0", 3), 0).unwrap();
    assert_eq!(routes.taken_over(), 2);
}

#[test]
fn an_address_that_changed_its_cluster_leaves_no_trace_of_the_old_one() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    let moved = Registration {
        cluster: "d",
        connection: 2,
        ..master()
    };
    routes.register(&moved, 0).unwrap();
    let info = clusters(&routes);
    assert_eq!(info.broker_addr_table["a"].cluster, "d");
    assert_eq!(Vec::from_iter(info.cluster_addr_table.keys()), ["d"]);
    routes.connection_closed(1);
    assert!(routes.route("orders", false).is_some(), "the last registration counts");
    routes.check_invariants();
}

#[test]
fn write_permission_is_wiped_and_added_by_broker() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    let stamp = routes.stamp("orders");
    assert_eq!(routes.wipe_write_perm("a"), 2);
    assert_eq!(perm_of(&routes, "orders"), perm::READ);
    assert_ne!(routes.stamp("orders"), stamp);
    assert_eq!(routes.add_write_perm("a"), 2);
    assert_eq!(perm_of(&routes, "orders"), RW);
    assert_eq!(routes.wipe_write_perm("unknown"), 0);
}

#[test]
fn queues_registered_after_a_wipe_keep_their_permission() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    assert_eq!(routes.wipe_write_perm("a"), 2);
    let stamp = routes.list_stamp();
    assert_eq!(routes.wipe_write_perm("a"), 2);
    assert_eq!(routes.list_stamp(), stamp, "nothing has changed");
    let mut more = master();
    more.version = version(2);
    more.topics = vec![("orders", queues(4)), ("fresh", queues(1))];
    routes.register(&more, 0).unwrap();
    let perms = ["orders", "fresh", "other"].map(|topic| perm_of(&routes, topic));
    assert_eq!(perms, [RW, RW, perm::READ]);
    // As with Apache, every topic becomes readable and writable, whatever it was before.
    more.version = version(3);
    more.topics = vec![
        (
            "other",
            Queues {
                perm: perm::WRITE,
                ..queues(2)
            },
        ),
        ("orders", queues(4)),
    ];
    routes.register(&more, 0).unwrap();
    assert_eq!(perm_of(&routes, "other"), perm::WRITE);
    assert_eq!(routes.add_write_perm("a"), 3);
    assert_eq!(perm_of(&routes, "other"), RW);
    assert_eq!(routes.wipe_write_perm("a"), 3);
    assert_eq!(perm_of(&routes, "other"), perm::READ);
}

#[test]
fn a_topic_is_deleted_everywhere_or_in_one_cluster() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    let mut far = master();
    (far.cluster, far.broker_name, far.address) = ("far", "f", "f:0");
    routes.register(&far, 0).unwrap();
    routes.delete_topic_of_cluster("orders", "nowhere");
    assert_eq!(routes.route("orders", false).unwrap().queue_datas.len(), 2);
    routes.delete_topic_of_cluster("orders", "far");
    assert_eq!(routes.route("orders", false).unwrap().queue_datas.len(), 1);
    routes.delete_topic_of_cluster("orders", "c");
    assert!(routes.route("orders", false).is_none());
    routes.delete_topic("other");
    assert!(all(&routes).is_empty());
}

#[test]
fn a_topic_is_registered_by_hand_on_known_brokers_only() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    routes
        .register_topic("by hand", &[("a", queues(3)), ("unknown", queues(3))])
        .unwrap();
    assert!(routes.route("by hand", false).is_none());
    routes.register_topic("by hand", &[("a", queues(3))]).unwrap();
    assert_eq!(routes.route("by hand", false).unwrap().queue_datas[0].read_queue_nums, 3);
}

#[test]
fn lists_are_by_cluster_and_by_unit_flags() {
    let mut routes = routes();
    let mut units = master();
    let flagged = |sys_flag| Queues { sys_flag, ..queues(1) };
    units.topics = vec![
        ("plain", flagged(0)),
        ("unit", flagged(1)),
        ("sub", flagged(2)),
        ("both", flagged(3)),
    ];
    routes.register(&units, 0).unwrap();
    assert_eq!(routes.topics_of_cluster("c").len(), 4);
    assert!(routes.topics_of_cluster("unknown").is_empty());
    assert_eq!(sorted(routes.unit_topics(Units::Unit)), ["both", "unit"]);
    assert_eq!(sorted(routes.unit_topics(Units::Subscribed)), ["both", "sub"]);
    assert_eq!(sorted(routes.unit_topics(Units::OnlySubscribed)), ["sub"]);
    let (system, address) = routes.system_topics();
    assert_eq!(sorted(system), ["a", "c"]);
    assert_eq!(address.as_deref(), Some("a:0"));
}

#[test]
fn members_are_those_of_the_name() {
    let mut routes = routes();
    routes.register(&master(), 0).unwrap();
    routes.register(&slave(1, "a:1"), 0).unwrap();
    assert_eq!(routes.member_group("c", "a").broker_addrs.len(), 2);
    assert!(routes.member_group("c", "unknown").broker_addrs.is_empty());
}

#[test]
fn filter_servers_and_mappings_are_part_of_the_route() {
    let mut routes = routes();
    let mapping = QueueMapping {
        bname: "a".into(),
        topic: "orders".into(),
        total_queues: 4,
        ..QueueMapping::default()
    };
    let servers = ["f:1".to_owned()];
    let mut first = master();
    first.mappings = vec![("orders", &mapping)];
    first.filter_servers = Some(&servers);
    routes.register(&first, 0).unwrap();
    let route = routes.route("orders", false).unwrap();
    assert_eq!(route.filter_server_table["a:0"], servers);
    assert_eq!(route.topic_queue_mapping_by_broker.unwrap()["a"], mapping);
    // The mapping is registered again after a deletion here, also with an unchanged version.
    routes.delete_topic("orders");
    routes.register(&first, 0).unwrap();
    assert_eq!(
        routes.route("orders", false).unwrap().topic_queue_mapping_by_broker.unwrap()["a"],
        mapping
    );
    let stamp = routes.stamp("orders");
    first.filter_servers = Some(&[]);
    routes.register(&first, 0).unwrap();
    assert_ne!(routes.stamp("orders"), stamp);
    assert!(routes.route("orders", false).unwrap().filter_server_table.is_empty());
}

#[test]
fn a_mapping_goes_with_its_broker_and_comes_back_with_it() {
    let mut routes = routes();
    let mapping = |broker: &str| QueueMapping {
        bname: broker.into(),
        topic: "orders".into(),
        total_queues: 2,
        ..QueueMapping::default()
    };
    let (at_a, at_b) = (mapping("a"), mapping("b"));
    let mut first = master();
    first.mappings = vec![("orders", &at_a)];
    let mut second = master();
    (second.broker_name, second.address, second.mappings) = ("b", "b:0", vec![("orders", &at_b)]);
    for broker in [&first, &second] {
        routes.register(broker, 0).unwrap();
    }
    let brokers = |routes: &Routes| -> Vec<String> {
        let route = routes.route("orders", false).unwrap();
        route.topic_queue_mapping_by_broker.unwrap_or_default().into_keys().collect()
    };
    assert_eq!(brokers(&routes), ["a", "b"]);
    let before = routes.bytes;
    leave(&mut routes, &second);
    assert_eq!(brokers(&routes), ["a"]);
    routes.register(&second, 0).unwrap();
    assert_eq!((brokers(&routes), routes.bytes), (vec!["a".to_owned(), "b".to_owned()], before));
}

#[test]
fn a_zone_keeps_its_brokers_and_names_without_master() {
    let mut routes = routes();
    let mut near = master();
    near.zone = Some("east");
    routes.register(&near, 0).unwrap();
    let mut far = master();
    (far.broker_name, far.address, far.zone) = ("f", "f:0", Some("west"));
    routes.register(&far, 0).unwrap();
    let mut headless = slave(1, "h:1");
    (headless.broker_name, headless.zone) = ("h", Some("west"));
    routes.register(&headless, 0).unwrap();
    let mut route = routes.route("orders", false).unwrap();
    retain_zone(&mut route, "EAST");
    let kept: Vec<_> = route.broker_datas.iter().map(|data| data.broker_name.as_str()).collect();
    assert_eq!(kept, ["a", "h"]);
    assert!(route.queue_datas.iter().all(|queues| queues.broker_name != "f"));
}
