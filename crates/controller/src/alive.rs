//! Which brokers are alive: those whose heartbeat timeout has not passed. One whose connection was closed is *suspected* until it is heard over
//! another one: the caller finds out whether its process is gone. Pure state; the caller has the clock.
//!
//! Every controller keeps its own table, since brokers send heartbeats to all of them. It is not replicated.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::replicas::Live;

/// Heartbeat timeout of a broker that does not name one, ms. Compat: Apache's.
const DEFAULT_TIMEOUT_MS: i64 = 10_000;
/// Range of the timeout that a broker may name, ms.
const MIN_TIMEOUT_MS: i64 = 500;
const MAX_TIMEOUT_MS: i64 = 600_000;

/// The nearest timeout that is allowed, ms.
#[must_use]
pub fn allowed_timeout(asked_ms: i64) -> i64 {
    asked_ms.clamp(MIN_TIMEOUT_MS, MAX_TIMEOUT_MS)
}

/// A broker name in a cluster.
type Name = (String, String);

/// A heartbeat.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat<'a> {
    /// The cluster.
    pub cluster: &'a str,
    /// The broker name.
    pub broker: &'a str,
    /// What it says of itself.
    pub live: &'a Live,
    /// After how many ms without another one it is not alive.
    pub timeout_ms: Option<i64>,
    /// Id of the connection.
    pub connection: u64,
}

/// A broker that is not alive any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The cluster.
    pub cluster: String,
    /// The broker name.
    pub broker: String,
    /// Its id.
    pub id: i64,
}

impl Gone {
    fn new(cluster: &str, broker: &str, id: i64) -> Self {
        Self {
            cluster: cluster.to_owned(),
            broker: broker.to_owned(),
            id,
        }
    }
}

#[derive(Debug)]
struct Known {
    live: Live,
    last_ms: i64,
    timeout_ms: i64,
    /// The one of its last heartbeat; `None` if that was closed.
    connection: Option<u64>,
    /// Its lease may last until then, by what an earlier leader has confirmed.
    held_until_ms: i64,
}

impl Known {
    /// Of a broker that has not been heard.
    fn new(live: Live, now_ms: i64) -> Self {
        Self {
            live,
            last_ms: now_ms,
            timeout_ms: 0,
            connection: None,
            held_until_ms: 0,
        }
    }

    fn expires_ms(&self) -> i64 {
        self.last_ms.saturating_add(self.timeout_ms).max(self.held_until_ms)
    }

    fn is_alive(&self, now_ms: i64) -> bool {
        now_ms <= self.expires_ms()
    }
}

/// The table.
#[derive(Debug)]
pub struct Alive {
    brokers: HashMap<Name, BTreeMap<i64, Known>>,
    count: usize,
    max: usize,
    started_ms: i64,
    /// Those that were heard since the start; kept while that matters.
    heard: HashSet<(Name, i64)>,
}

impl Alive {
    /// An empty table for `max` brokers.
    pub fn new(max: usize, now_ms: i64) -> Self {
        Self {
            brokers: HashMap::new(),
            count: 0,
            max,
            started_ms: now_ms,
            heard: HashSet::new(),
        }
    }

    /// Takes a heartbeat. Returns whether its broker may now be the next one whose timeout passes; `None` if the table is full.
    ///
    /// Compat: epoch and log end never go back while a broker is alive.
    pub fn heartbeat(&mut self, heartbeat: Heartbeat<'_>, now_ms: i64) -> Option<bool> {
        let name = (heartbeat.cluster.to_owned(), heartbeat.broker.to_owned());
        let id = heartbeat.live.id;
        let is_new = !self.brokers.get(&name).is_some_and(|brokers| brokers.contains_key(&id));
        if is_new && self.count >= self.max {
            return None;
        }
        self.count += usize::from(is_new);
        if !self.is_young(now_ms) {
            self.heard = HashSet::new();
        } else if self.heard.len() < self.max {
            self.heard.insert((name.clone(), id));
        }
        let brokers = self.brokers.entry(name).or_default();
        let known = brokers.entry(id).or_insert_with(|| Known::new(heartbeat.live.clone(), now_ms));
        let expired_ms = known.expires_ms();
        known.last_ms = now_ms;
        known.timeout_ms = allowed_timeout(heartbeat.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS));
        known.connection = Some(heartbeat.connection);
        known.live.priority = heartbeat.live.priority;
        let (new, old) = (heartbeat.live, &mut known.live);
        if (new.epoch, new.max_offset) > (old.epoch, old.max_offset) {
            (old.epoch, old.max_offset) = (new.epoch, new.max_offset);
        }
        Some(is_new || known.expires_ms() < expired_ms)
    }

    /// This controller begins to lead. The last leader may have confirmed these masters until now, by heartbeats that did not arrive here: their
    /// leases last so long from now on, in ms, unless their processes are gone. One that is not known is suspected, so that it is looked for.
    /// A controller that has just started gives it the time that [`Self::may_come`] has.
    pub fn leads(&mut self, masters: impl IntoIterator<Item = (Gone, i64)>, now_ms: i64) {
        for (master, lease_ms) in masters {
            let Gone { cluster, broker, id } = &master;
            let mut until_ms = now_ms.saturating_add(lease_ms);
            if self.may_come(cluster, broker, *id, now_ms) {
                until_ms = until_ms.max(self.started_ms.saturating_add(DEFAULT_TIMEOUT_MS));
            }
            let brokers = self.brokers.entry((master.cluster, master.broker)).or_default();
            // Not bounded by `max`: the names are.
            let known = brokers.entry(master.id).or_insert_with(|| {
                self.count += 1;
                let unheard = Live {
                    id: master.id,
                    epoch: -1,
                    max_offset: -1,
                    priority: i32::MAX,
                };
                Known::new(unheard, now_ms)
            });
            known.held_until_ms = until_ms;
        }
    }

    /// The living brokers of a name, without suspected ones.
    pub fn of(&self, cluster: &str, broker: &str, now_ms: i64) -> Vec<Live> {
        self.with_master(cluster, broker, None, now_ms)
    }

    /// As [`Self::of`], and the master also while it is suspected: its process may go on, and its lease last.
    pub fn with_master(&self, cluster: &str, broker: &str, master: Option<i64>, now_ms: i64) -> Vec<Live> {
        let brokers = self.brokers.get(&(cluster.to_owned(), broker.to_owned()));
        let alive = brokers
            .into_iter()
            .flatten()
            .filter(|(id, known)| known.is_alive(now_ms) && (known.connection.is_some() || master == Some(**id)));
        alive.map(|(_, known)| known.live.clone()).collect()
    }

    /// Whether a broker must not be taken for dead yet: this controller has just started and has not heard it.
    pub fn may_come(&self, cluster: &str, broker: &str, id: i64, now_ms: i64) -> bool {
        self.is_young(now_ms) && !self.heard.contains(&((cluster.to_owned(), broker.to_owned()), id))
    }

    fn is_young(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.started_ms) < DEFAULT_TIMEOUT_MS
    }

    /// Removes the brokers whose timeout has passed, and returns them.
    pub fn expire(&mut self, now_ms: i64) -> Vec<Gone> {
        self.remove(|known| !known.is_alive(now_ms))
    }

    /// A connection is closed: returns the brokers whose last heartbeat came over it, which are suspected now.
    pub fn closed(&mut self, connection: u64) -> Vec<Gone> {
        let mut suspected = Vec::new();
        for ((cluster, broker), brokers) in &mut self.brokers {
            for (id, known) in brokers.iter_mut().filter(|(_, known)| known.connection == Some(connection)) {
                known.connection = None;
                suspected.push(Gone::new(cluster, broker, *id));
            }
        }
        suspected
    }

    /// All brokers that are suspected.
    pub fn suspected(&self) -> Vec<Gone> {
        let all = self.brokers.iter().flat_map(|((cluster, broker), brokers)| {
            let suspected = brokers.iter().filter(|(_, known)| known.connection.is_none());
            suspected.map(move |(id, _)| Gone::new(cluster, broker, *id))
        });
        all.collect()
    }

    /// Whether a broker is suspected.
    pub fn is_suspected(&self, cluster: &str, broker: &str, id: i64) -> bool {
        let brokers = self.brokers.get(&(cluster.to_owned(), broker.to_owned()));
        let known = brokers.and_then(|brokers| brokers.get(&id));
        known.is_some_and(|known| known.connection.is_none())
    }

    /// The process of a suspected broker is gone. False if the broker is not suspected any more.
    pub fn is_gone(&mut self, gone: &Gone) -> bool {
        if !self.is_suspected(&gone.cluster, &gone.broker, gone.id) {
            return false;
        }
        let name = (gone.cluster.clone(), gone.broker.clone());
        if let Some(brokers) = self.brokers.get_mut(&name) {
            brokers.remove(&gone.id);
            if brokers.is_empty() {
                self.brokers.remove(&name);
            }
            self.count -= 1;
        }
        true
    }

    /// When the next broker is not alive any more without another heartbeat.
    pub fn next_expiry_ms(&self) -> Option<i64> {
        self.brokers.values().flat_map(BTreeMap::values).map(Known::expires_ms).min()
    }

    fn remove(&mut self, is_gone: impl Fn(&Known) -> bool) -> Vec<Gone> {
        let mut gone = Vec::new();
        self.brokers.retain(|(cluster, broker), brokers| {
            brokers.retain(|id, known| {
                let leaves = is_gone(known);
                if leaves {
                    gone.push(Gone::new(cluster, broker, *id));
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
        table.heartbeat(heartbeat, now_ms).is_some()
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
        assert_eq!(table.next_expiry_ms(), Some(1_000));
        assert_eq!(table.expire(1_001), [gone(1)]);
        assert_eq!(table.closed(999), []);
        assert_eq!(table.closed(200), [gone(2)]);
        assert_eq!((table.of("c", "b", 1_001), table.suspected()), (vec![], vec![gone(2)]));
        assert_eq!(table.with_master("c", "b", Some(2), 1_001), [live(2, 1, 10)], "it may go on");
        assert!(beat(&mut table, &live(2, 1, 10), 201, 1_100), "it was only the connection");
        assert!(!table.is_gone(&gone(2)) && table.of("c", "b", 1_101).len() == 1);
        assert_eq!(table.closed(201), [gone(2)]);
        assert!(table.is_gone(&gone(2)) && table.suspected().is_empty());
        assert!(beat(&mut table, &live(3, 1, 10), 300, 1_500), "there is room again");
    }

    #[test]
    fn a_new_leader_leaves_a_master_its_lease() {
        let gone = |id| Gone {
            cluster: "c".to_owned(),
            broker: "b".to_owned(),
            id,
        };
        let mut table = Alive::new(9, 0);
        beat(&mut table, &live(1, 1, 10), 100, 20_000);
        table.leads([(gone(1), 1_000), (gone(2), 1_000)], 20_800);
        assert_eq!((table.suspected(), table.expire(21_800)), (vec![gone(2)], vec![]));
        assert_eq!(table.of("c", "b", 21_800), [live(1, 1, 10)], "it was heard here until 21,000 only");
        assert_eq!(table.next_expiry_ms(), Some(21_800));
        assert_eq!(table.expire(21_801), [gone(1), gone(2)]);
        // Nobody listens there: it takes nothing any more.
        table.leads([(gone(1), 1_000)], 22_000);
        assert!(table.is_gone(&gone(1)) && table.next_expiry_ms().is_none());
        // A controller that has just started has not heard anybody yet.
        let mut young = Alive::new(9, 30_000);
        beat(&mut young, &live(1, 1, 10), 100, 30_100);
        young.leads([(gone(1), 1_000), (gone(2), 1_000)], 31_000);
        assert_eq!(young.expire(32_001), [gone(1)]);
        assert_eq!((young.expire(40_000), young.expire(40_001)), (vec![], vec![gone(2)]));
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
