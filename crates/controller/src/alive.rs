//! Which brokers are alive: those whose heartbeat timeout has not passed and whose connection is open. Pure state; the caller has the clock.
//!
//! Every controller keeps its own table, since brokers send heartbeats to all of them. It is not replicated.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::replicas::Live;

/// Heartbeat timeout of a broker that does not name one, ms. Compat: Apache's.
const DEFAULT_TIMEOUT_MS: i64 = 10_000;
/// Range of the timeout that a broker may name, ms.
const MIN_TIMEOUT_MS: i64 = 500;
const MAX_TIMEOUT_MS: i64 = 600_000;

/// A broker name in a cluster.
type Name = (String, String);

/// A heartbeat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heartbeat<'a> {
    /// The cluster.
    pub(crate) cluster: &'a str,
    /// The broker name.
    pub(crate) broker: &'a str,
    /// What it says of itself.
    pub(crate) live: &'a Live,
    /// After how many ms without another one it is not alive.
    pub(crate) timeout_ms: Option<i64>,
    /// Id of the connection.
    pub(crate) connection: u64,
}

/// A broker that is not alive any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    /// The cluster.
    pub(crate) cluster: String,
    /// The broker name.
    pub(crate) broker: String,
    /// Its id.
    pub(crate) id: i64,
}

#[derive(Debug)]
struct Known {
    live: Live,
    last_ms: i64,
    timeout_ms: i64,
    connection: u64,
}

impl Known {
    fn is_alive(&self, now_ms: i64) -> bool {
        now_ms <= self.last_ms.saturating_add(self.timeout_ms)
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Alive {
    brokers: HashMap<Name, BTreeMap<i64, Known>>,
    count: usize,
    max: usize,
    started_ms: i64,
    /// Those that were heard since the start; kept while that matters.
    heard: HashSet<(Name, i64)>,
}

impl Alive {
    /// An empty table for `max` brokers.
    pub(crate) fn new(max: usize, now_ms: i64) -> Self {
        Self {
            brokers: HashMap::new(),
            count: 0,
            max,
            started_ms: now_ms,
            heard: HashSet::new(),
        }
    }

    /// Takes a heartbeat. Returns false if the table is full.
    ///
    /// Compat: epoch and log end never go back while a broker is alive.
    pub(crate) fn heartbeat(&mut self, heartbeat: Heartbeat<'_>, now_ms: i64) -> bool {
        let name = (heartbeat.cluster.to_owned(), heartbeat.broker.to_owned());
        let id = heartbeat.live.id;
        let is_new = !self.brokers.get(&name).is_some_and(|brokers| brokers.contains_key(&id));
        if is_new && self.count >= self.max {
            return false;
        }
        self.count += usize::from(is_new);
        if !self.is_young(now_ms) {
            self.heard = HashSet::new();
        } else if self.heard.len() < self.max {
            self.heard.insert((name.clone(), id));
        }
        let brokers = self.brokers.entry(name).or_default();
        let known = brokers.entry(id).or_insert_with(|| Known {
            live: heartbeat.live.clone(),
            last_ms: now_ms,
            timeout_ms: 0,
            connection: 0,
        });
        known.last_ms = now_ms;
        known.timeout_ms = heartbeat
            .timeout_ms
            .unwrap_or(DEFAULT_TIMEOUT_MS)
            .clamp(MIN_TIMEOUT_MS, MAX_TIMEOUT_MS);
        known.connection = heartbeat.connection;
        known.live.priority = heartbeat.live.priority;
        let (new, old) = (heartbeat.live, &mut known.live);
        if (new.epoch, new.max_offset) > (old.epoch, old.max_offset) {
            (old.epoch, old.max_offset) = (new.epoch, new.max_offset);
        }
        true
    }

    /// The living brokers of a name.
    pub(crate) fn of(&self, cluster: &str, broker: &str, now_ms: i64) -> Vec<Live> {
        let brokers = self.brokers.get(&(cluster.to_owned(), broker.to_owned()));
        let alive = brokers.into_iter().flatten().filter(|(_, known)| known.is_alive(now_ms));
        alive.map(|(_, known)| known.live.clone()).collect()
    }

    /// Whether a broker must not be taken for dead yet: this controller has just started and has not heard it.
    pub(crate) fn may_come(&self, cluster: &str, broker: &str, id: i64, now_ms: i64) -> bool {
        self.is_young(now_ms) && !self.heard.contains(&((cluster.to_owned(), broker.to_owned()), id))
    }

    fn is_young(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.started_ms) < DEFAULT_TIMEOUT_MS
    }

    /// Removes the brokers whose timeout has passed, and returns them.
    pub(crate) fn expire(&mut self, now_ms: i64) -> Vec<Gone> {
        self.remove(|known| !known.is_alive(now_ms))
    }

    /// Removes the brokers whose last heartbeat came over a connection that is closed, and returns them.
    pub(crate) fn closed(&mut self, connection: u64) -> Vec<Gone> {
        self.remove(|known| known.connection == connection)
    }

    fn remove(&mut self, is_gone: impl Fn(&Known) -> bool) -> Vec<Gone> {
        let mut gone = Vec::new();
        self.brokers.retain(|(cluster, broker), brokers| {
            brokers.retain(|id, known| {
                let leaves = is_gone(known);
                if leaves {
                    gone.push(Gone {
                        cluster: cluster.clone(),
                        broker: broker.clone(),
                        id: *id,
                    });
                }
                !leaves
            });
            !brokers.is_empty()
        });
        self.count -= gone.len();
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(id: i64, epoch: i32, max_offset: i64) -> Live {
        Live {
            id,
            epoch,
            max_offset,
            priority: 7,
        }
    }

    fn beat(table: &mut Alive, live: &Live, connection: u64, now_ms: i64) -> bool {
        let heartbeat = Heartbeat {
            cluster: "c",
            broker: "b",
            live,
            timeout_ms: Some(1_000),
            connection,
        };
        table.heartbeat(heartbeat, now_ms)
    }

    #[test]
    fn a_broker_lives_until_its_timeout_or_its_connection_ends() {
        let mut table = Alive::new(2, 0);
        assert!(beat(&mut table, &live(1, 1, 10), 100, 0) && beat(&mut table, &live(2, 1, 10), 200, 500));
        assert!(!beat(&mut table, &live(3, 1, 10), 300, 500), "the table is full");
        assert_eq!(table.of("c", "b", 1_000).len(), 2);
        assert_eq!(table.of("c", "b", 1_001), [live(2, 1, 10)]);
        let gone = |id| Gone {
            cluster: "c".to_owned(),
            broker: "b".to_owned(),
            id,
        };
        assert_eq!(table.expire(1_001), [gone(1)]);
        assert_eq!(table.closed(999), []);
        assert_eq!(table.closed(200), [gone(2)]);
        assert!(beat(&mut table, &live(3, 1, 10), 300, 1_500), "there is room again");
    }

    #[test]
    fn the_end_of_a_log_does_not_go_back() {
        let mut table = Alive::new(9, 0);
        for (epoch, end) in [(2, 50), (1, 90), (2, 40)] {
            beat(&mut table, &live(1, epoch, end), 1, 0);
        }
        assert_eq!(table.of("c", "b", 0), [live(1, 2, 50)]);
    }

    #[test]
    fn a_broker_that_was_not_heard_since_the_start_may_still_come() {
        let mut table = Alive::new(9, 1_000);
        assert!(table.may_come("c", "b", 1, 10_999) && !table.may_come("c", "b", 1, 11_000));
        beat(&mut table, &live(1, 1, 1), 5, 2_000);
        table.closed(5);
        assert!(!table.may_come("c", "b", 1, 3_000));
        assert!(table.may_come("c", "b", 2, 3_000));
    }
}
