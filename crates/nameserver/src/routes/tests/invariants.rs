//! Limits, and invariants after any sequence of events.

use super::*;

#[test]
fn limits_refuse_and_keep_what_is_registered() {
    let mut routes = Routes::new(Bounds {
        brokers: 1,
        topics: 2,
        ..BOUNDS
    });
    routes.register(&master(), 0).unwrap();
    assert_eq!(routes.register(&slave(1, "a:1"), 0), Err(Refused::TooManyBrokers(1)));
    assert_eq!(routes.register_topic("third", &[("a", queues(1))]), Err(Refused::TooManyTopics(2)));
    assert_eq!(all(&routes), ["orders", "other"]);
    routes.check_invariants();
}

#[test]
fn topics_over_a_limit_are_left_out_and_the_broker_is_registered() {
    let mut routes = Routes::new(Bounds { topics: 2, ..BOUNDS });
    routes.register(&master(), 0).unwrap();
    let mut more = master();
    more.topics = vec![("third", queues(1)), ("orders", queues(9)), ("fourth", queues(1))];
    more.version = version(2);
    let left_out = routes.register(&more, 100_000).unwrap().left_out.unwrap();
    assert_eq!((left_out.topics, left_out.why), (2, Refused::TooManyTopics(2)));
    assert_eq!(routes.route("orders", false).unwrap().queue_datas[0].read_queue_nums, 9);
    assert!(!routes.has_expired(200_000), "the registration counts as a heartbeat");
    assert_eq!(routes.data_version("c", "a", "a:0"), None, "it is asked to register again");
    // With the same version, missing topics are registered when there is space.
    routes.delete_topic("other");
    assert_eq!(routes.register(&more, 0).unwrap().left_out.unwrap().topics, 1);
    assert_eq!(all(&routes), ["orders", "third"]);
    more.topics.pop();
    assert_eq!(routes.register(&more, 0).unwrap().left_out, None);
    assert_eq!(routes.data_version("c", "a", "a:0"), Some(version(2)));
    routes.check_invariants();
}

#[test]
fn the_tables_are_limited_in_bytes() {
    let mut routes = Routes::new(Bounds {
        bytes: 8_000,
        topics: 1_000,
        ..BOUNDS
    });
    let long: Vec<String> = (0..100).map(|n| format!("{n:0>200}")).collect();
    let mut many = master();
    many.topics = long.iter().map(|name| (name.as_str(), queues(1))).collect();
    let left_out = routes.register(&many, 0).unwrap().left_out.unwrap();
    assert_eq!(left_out.why, Refused::TooManyBytes(8_000));
    assert_eq!(routes.all_topics().len() + left_out.topics, 100);
    let big = QueueMapping {
        bname: "a".repeat(9_000),
        ..QueueMapping::default()
    };
    let known = routes.all_topics()[0].to_string();
    many.mappings = vec![(&known, &big)];
    many.topics.truncate(2);
    assert!(routes.register(&many, 0).unwrap().left_out.is_some());
    let servers = ["f".repeat(9_000)];
    many.mappings.clear();
    many.filter_servers = Some(&servers);
    routes.register(&many, 0).unwrap();
    assert!(routes.bytes() <= 8_000 + 1_000, "{}", routes.bytes());
    routes.check_invariants();
    routes.connection_closed(1);
    assert_eq!(routes.bytes(), 0);
}

#[test]
fn brokers_of_one_connection_are_limited() {
    let mut routes = Routes::new(Bounds {
        brokers_per_connection: 1,
        ..BOUNDS
    });
    routes.register(&master(), 0).unwrap();
    let mut second = slave(1, "a:1");
    second.connection = 1;
    assert_eq!(routes.register(&second, 0), Err(Refused::TooManyOnConnection(1)));
    routes.register(&master(), 0).unwrap();
    second.connection = 2;
    routes.register(&second, 0).unwrap();
}

impl Routes {
    /// Asserts the invariants of the module: tables agree, and nothing is left of removed brokers.
    pub(super) fn check_invariants(&self) {
        let mut bytes = 0;
        for (process, live) in &self.live {
            bytes += cost::live(process, live);
            assert!(self.connections[&live.connection].contains(process));
        }
        let registered: usize = self.connections.values().map(Vec::len).sum();
        assert_eq!(registered, self.live.len());
        let mut clusters = BTreeMap::<Box<str>, BTreeMap<Arc<str>, usize>>::new();
        for (name, broker) in &self.brokers {
            bytes += cost::broker(name);
            assert!(!broker.members.is_empty());
            for (id, process) in &broker.members {
                assert_eq!((&process.name, self.live[process].broker_id), (name, *id));
                *clusters
                    .entry(process.cluster.clone())
                    .or_default()
                    .entry(Arc::clone(name))
                    .or_default() += 1;
            }
            assert!(broker.topics.iter().all(|topic| self.topics[topic].has(name)));
        }
        assert_eq!(clusters, self.clusters);
        for (name, topic) in &self.topics {
            bytes += topics::topic_cost(name, topic) + topic.brokers.len() * cost::BROKER_QUEUES;
            assert!(!topic.brokers.is_empty());
            assert!(topic.brokers.is_sorted_by(|one, other| one.broker < other.broker));
            assert!(
                topic
                    .brokers
                    .iter()
                    .all(|on_broker| self.brokers[&on_broker.broker].topics.contains(name))
            );
        }
        for (process, servers) in &self.filter_servers {
            bytes += cost::filter_servers(servers);
            assert!(self.live.contains_key(process));
        }
        assert_eq!(bytes, self.bytes);
    }
}

/// A generator of numbers, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// In any order of registrations, heartbeats, closing connections, expiry and administration: a broker whose registration succeeded stays
/// until its own connection closes, it expires, it unregisters, or another process takes its id; and the tables agree.
#[test]
fn a_registered_broker_stays_in_every_order_of_events() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut routes = Routes::new(Bounds {
            brokers: 6,
            brokers_per_connection: 3,
            topics: 5,
            bytes: 20_000,
        });
        // Name and address of expected brokers, with id, connection and last heartbeat.
        let mut there = BTreeMap::<(&str, &str), (i64, u64, i64)>::new();
        for step in 0..120 {
            let now_ms = step * 1_000;
            let address = random.pick(&["1:1", "2:1", "3:1"]);
            let name = random.pick(&["a", "b"]);
            let connection = random.below(5);
            match random.below(9) {
                0..4 => {
                    let new = Registration {
                        broker_name: name,
                        broker_id: random.below(2) as i64,
                        address,
                        connection,
                        heartbeat_timeout_ms: Some(20_000),
                        version: version(random.below(3) as i64),
                        topics: vec![("t", queues(1)), (random.pick(&["u", "v", "w"]), queues(1))],
                        ..master()
                    };
                    match routes.register(&new, now_ms) {
                        Ok(registered) => {
                            assert!(!registered.stale);
                            there.retain(|(of, _), (id, ..)| (*of, *id) != (name, new.broker_id));
                            there.insert((name, address), (new.broker_id, connection, now_ms));
                        }
                        Err(refused) => assert!(!matches!(refused, Refused::SingleTopicFirst)),
                    }
                }
                4 => {
                    routes.connection_closed(connection);
                    there.retain(|_, (_, on, _)| *on != connection);
                }
                5 => {
                    routes.expire(now_ms);
                    there.retain(|_, (.., last_heartbeat_ms)| *last_heartbeat_ms + 20_000 >= now_ms);
                }
                6 => {
                    routes.touch("c", name, address, now_ms);
                    there
                        .entry((name, address))
                        .and_modify(|(.., last_heartbeat_ms)| *last_heartbeat_ms = now_ms);
                }
                7 => {
                    routes.unregister("c", name, address);
                    there.remove(&(name, address));
                }
                _ => {
                    routes.wipe_write_perm("a");
                    routes.delete_topic(random.pick(&["t", "u", "v"]));
                }
            }
            routes.check_invariants();
            for ((name, address), (id, ..)) in &there {
                let group = routes.member_group("c", name);
                assert_eq!(
                    group.broker_addrs.get(id).map(String::as_str),
                    Some(*address),
                    "seed {seed}, step {step}"
                );
            }
        }
    }
}

fn register_compared(routes: &mut Routes, new: &Registration<'_>, now_ms: i64) -> Result<Registered, Refused> {
    let mut compared = Unchanged::default();
    while routes.compare(new, &mut compared) {}
    routes.register_compared(new, &compared, now_ms)
}

/// A name server that compares first and takes repeated registrations as heartbeats, and one that reads them all, have the same tables after any sequence of events.
#[test]
fn a_registration_taken_as_repeated_would_have_changed_nothing() {
    let mut taken = 0;
    for seed in 0..400 {
        let mut random = Random(seed);
        let (mut repeating, mut reading) = (routes(), routes());
        for step in 0..120 {
            let now_ms = step * 1_000;
            let name = random.pick(&["a", "b"]);
            let address = random.pick(&["1:1", "2:1"]);
            let connection = random.below(2);
            match random.below(10) {
                0..6 => {
                    // Few variants, so that many are repetitions.
                    let (id, variant) = (random.below(2), random.below(3));
                    let mut new = Registration {
                        broker_name: name,
                        broker_id: id as i64,
                        address,
                        connection,
                        heartbeat_timeout_ms: Some(20_000),
                        version: version(variant as i64),
                        topics: vec![("t", queues(1)), (["u", "v", "w"][variant as usize], queues(1))],
                        acting_master: [Some(true), None][id as usize],
                        complete: name == "b",
                        fingerprint: Some(id * 3 + variant),
                        ..master()
                    };
                    let repeated = repeating.repeat(&new, now_ms);
                    taken += u64::from(repeated.is_some());
                    let one = repeated.map_or_else(|| register_compared(&mut repeating, &new, now_ms), Ok);
                    new.fingerprint = None;
                    assert_eq!(one, reading.register(&new, now_ms), "seed {seed}, step {step}");
                }
                event => {
                    let topic = random.pick(&["t", "u", "v"]);
                    for routes in [&mut repeating, &mut reading] {
                        match event {
                            6 if step % 3 == 0 => drop(routes.wipe_write_perm(name)),
                            6 if step % 3 == 1 => drop(routes.add_write_perm(name)),
                            6 => drop(routes.connection_closed(connection)),
                            7 => drop(routes.unregister("c", name, address)),
                            8 => drop(routes.register_topic(topic, &[(name, queues(7))])),
                            _ if step % 2 == 0 => routes.delete_topic(topic),
                            _ => drop(routes.expire(now_ms)),
                        }
                    }
                }
            }
            repeating.check_invariants();
            let tables = |routes: &Routes| {
                let topics = all(routes).into_iter().map(|topic| (routes.route(&topic, true), topic));
                (
                    topics.collect::<Vec<_>>(),
                    clusters(routes),
                    routes.bytes(),
                    routes.has_expired(now_ms + 20_000),
                )
            };
            assert_eq!(tables(&repeating), tables(&reading), "seed {seed}, step {step}");
        }
    }
    assert!(taken > 300, "{taken}");
}

/// All orders of these.
fn orders<T: Clone>(of: &[T]) -> Vec<Vec<T>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let with_first = |first: usize| {
        let mut others = of.to_vec();
        let chosen = others.remove(first);
        orders(&others).into_iter().map(move |mut order| {
            order.push(chosen.clone());
            order
        })
    };
    (0..of.len()).flat_map(with_first).collect()
}

#[test]
fn parts_of_a_registration_add_up_in_any_order_and_when_repeated() {
    // As a broker with many topics sends them: the last part has the version of its table, the others have versions of their own.
    let parts: Vec<_> = (0..4)
        .map(|part| Registration {
            topics: vec![
                (["a0", "b0", "c0", "d0"][part], queues(1)),
                (["a1", "b1", "c1", "d1"][part], queues(2)),
            ],
            version: version(if part == 3 { 1 } else { 1_000 + part as i64 }),
            ..master()
        })
        .collect();
    let table = version(1);
    for order in orders(&[0, 1, 2, 3]) {
        let mut routes = routes();
        // Each part twice: at once and, for the first, once more at the end.
        for part in order.iter().flat_map(|part| [*part, *part]).chain([order[0]]) {
            assert_eq!(routes.register(&parts[part], 0), Ok(Registered::default()));
            assert_eq!(routes.data_version("c", "a", "a:0"), Some(parts[part].version), "{order:?}");
        }
        assert_eq!(all(&routes), ["a0", "a1", "b0", "b1", "c0", "c1", "d0", "d1"], "{order:?}");
        assert_eq!(routes.route("c1", false).unwrap().queue_datas[0].read_queue_nums, 2);
        routes.check_invariants();
        // The broker compares versions (322): after any part but its last one it is asked to register again.
        let asked_again = routes.data_version("c", "a", "a:0") != Some(table);
        assert_eq!(asked_again, order[0] != 3, "{order:?}");
    }
}

#[test]
fn a_late_part_with_old_queues_makes_the_broker_register_again() {
    let mut routes = routes();
    let old = Registration {
        version: version(1_000),
        ..master()
    };
    let mut new = master();
    (new.topics[0].1, new.version) = (queues(8), version(2));
    for registration in [&old, &new, &old] {
        routes.register(registration, 0).unwrap();
    }
    assert_eq!(routes.data_version("c", "a", "a:0"), Some(old.version), "not the one of its table");
    routes.register(&new, 0).unwrap();
    assert_eq!(routes.route("orders", false).unwrap().queue_datas[0].read_queue_nums, 8);
    assert_eq!(routes.data_version("c", "a", "a:0"), Some(new.version));
    routes.check_invariants();
}
