//! Links, and connections between brokers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use replication::{Epoch, Epochs};

use crate::log::Record;

/// Who sends: a broker by its id, or the controllers.
pub(crate) type Place = i64;
/// The place of the controllers.
pub(crate) const CONTROLLERS: Place = 0;

/// What two brokers say to each other.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// A slave begins.
    Hello,
    /// The master's epochs and the end of its log.
    Epochs { epochs: Epochs, end: i64 },
    /// A slave has the log up to here.
    Report(i64),
    /// A part of the log, or none.
    Block {
        offset: i64,
        records: Vec<Record>,
        epoch: Epoch,
        confirmed: i64,
    },
    /// The other side has closed the connection.
    Closed,
}

/// One side of a connection: a role of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) broker: i64,
    /// Which of the roles that it had.
    pub(crate) role: u64,
    pub(crate) is_open: bool,
    pub(crate) last_heard: i64,
}

/// A connection of a slave (side 0) to a master (side 1).
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) sides: [Side; 2],
    /// What was sent by each side, with the time at which it arrives.
    on_the_way: [VecDeque<(i64, Said)>; 2],
}

impl Connection {
    pub(crate) fn new(sides: [Side; 2]) -> Self {
        Self {
            sides,
            on_the_way: Default::default(),
        }
    }

    /// Side `from` sends. Returns when it arrives.
    pub(crate) fn send(&mut self, from: usize, said: Said, at: i64) -> i64 {
        let at = self.on_the_way[from].back().map_or(at, |(last, _)| at.max(*last));
        self.on_the_way[from].push_back((at, said));
        at
    }

    /// Takes what was sent by `from` and has arrived.
    pub(crate) fn arrived(&mut self, from: usize, now: i64) -> Option<Said> {
        let (at, _) = self.on_the_way[from].front()?;
        if *at > now {
            return None;
        }
        self.on_the_way[from].pop_front().map(|(_, said)| said)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.sides.iter().all(|side| !side.is_open)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) connections: BTreeMap<u64, Connection>,
    next: u64,
    /// Directions that carry nothing, each as often as it was cut.
    cut: BTreeMap<(Place, Place), u32>,
    /// Places to and from which all takes long.
    pub(crate) slow: BTreeSet<Place>,
}

impl Network {
    pub(crate) fn carries(&self, from: Place, to: Place) -> bool {
        !self.cut.contains_key(&(from, to))
    }

    pub(crate) fn cut(&mut self, from: Place, to: Place) {
        *self.cut.entry((from, to)).or_default() += 1;
    }

    pub(crate) fn heal(&mut self, from: Place, to: Place) {
        if let Some(times) = self.cut.get_mut(&(from, to)) {
            *times -= 1;
            if *times == 0 {
                self.cut.remove(&(from, to));
            }
        }
    }

    pub(crate) fn heal_all(&mut self) {
        self.cut.clear();
        self.slow.clear();
    }

    pub(crate) fn open(&mut self, connection: Connection) -> u64 {
        self.next += 1;
        self.connections.insert(self.next, connection);
        self.next
    }
}
