//! Who of a broker's name is there, and what follows from it. Pure.

use protocol::route::MASTER_ID;
use std::collections::BTreeMap;

/// The brokers of one name, `host:port` by id, as name servers list them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    members: BTreeMap<i64, String>,
}

/// What a slave has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Follow the master at this address.
    Follow(String),
    /// The master is gone, and this slave acts for it.
    Act,
    /// The master is gone, and another slave acts for it.
    Wait,
    /// It is not known: everything stays as it is.
    Unknown,
}

impl Group {
    /// Adds what one name server lists. A broker that any of them lists is there.
    pub(super) fn add(&mut self, members: BTreeMap<i64, String>) {
        for (id, address) in members {
            self.members.entry(id).or_insert(address);
        }
    }

    pub(super) fn lowest(&self) -> Option<i64> {
        self.members.keys().next().copied()
    }

    /// All but the broker with this id, in order.
    pub(super) fn others(&self, own_id: i64) -> impl Iterator<Item = (i64, &str)> {
        let others = self.members.iter().filter(move |(id, _)| **id != own_id);
        others.map(|(id, address)| (*id, address.as_str()))
    }

    /// The part of the slave with this id.
    pub(super) fn part_of(&self, own_id: i64) -> Part {
        if let Some(master) = self.members.get(&MASTER_ID) {
            return Part::Follow(master.clone());
        }
        match self.lowest() {
            // Whom no name server lists is not registered yet.
            _ if !self.members.contains_key(&own_id) => Part::Unknown,
            Some(lowest) if lowest == own_id => Part::Act,
            _ => Part::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(ids: &[i64]) -> Group {
        let mut group = Group::default();
        group.add(ids.iter().map(|id| (*id, format!("b{id}:1"))).collect());
        group
    }

    #[test]
    fn the_lowest_slave_acts_when_every_name_server_has_lost_the_master() {
        assert_eq!(group(&[0, 1, 2]).part_of(1), Part::Follow("b0:1".to_owned()));
        assert_eq!(group(&[1, 2]).part_of(1), Part::Act);
        assert_eq!(group(&[1, 2]).part_of(2), Part::Wait);
        assert_eq!(group(&[2]).part_of(1), Part::Unknown, "it is not registered");
        assert_eq!(group(&[]).part_of(1), Part::Unknown);
        let mut both = group(&[1]);
        both.add([(0, "other:1".to_owned())].into());
        assert_eq!(
            both.part_of(1),
            Part::Follow("other:1".to_owned()),
            "one name server still has the master"
        );
        assert_eq!((both.lowest(), both.others(1).count()), (Some(0), 1));
    }
}
