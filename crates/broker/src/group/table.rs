//! `subscriptionGroup.json` in Apache's format.

use super::Groups;
use crate::state_file::{StateFile, Table, Versioned};
use protocol::DataVersion;
use protocol::group::GroupConfigs;
use protocol::json;
use std::io;

/// The file of this table.
pub const TABLE: Table = Table {
    name: "subscriptionGroup.json",
    holds: "the consumer groups, their retry configuration and the topics that they may not read",
    without: "groups are made again by their first consumer where autoCreateSubscriptionGroup allows it, with the rules of a new group; \
              prohibitions are forgotten",
    is_made_again: false,
    check: |content| json::read::<GroupConfigs>(content).map(drop),
};

/// All groups in their wire format, with their data version.
#[must_use]
pub fn configs(groups: &Groups) -> GroupConfigs {
    let (data_version, table, forbidden_table) = groups.snapshot();
    let subscription_group_table = table.into_iter().map(|(name, rule)| (name, (*rule).clone())).collect();
    GroupConfigs {
        data_version,
        forbidden_table,
        subscription_group_table,
    }
}

/// Adds the groups in the file to the built-in ones.
///
/// # Errors
/// `io::Error` if the file exists and cannot be read or parsed.
pub fn load(groups: &Groups, file: &StateFile) -> io::Result<()> {
    let Some(saved) = file.load(json::read::<GroupConfigs>)? else {
        return Ok(());
    };
    let rules = saved.subscription_group_table.into_iter().map(|(name, mut rule)| {
        rule.group_name = name;
        rule
    });
    groups.restore(rules, saved.forbidden_table, Some(saved.data_version));
    Ok(())
}

/// Takes over the groups of a master, from its answer to 201.
///
/// # Errors
/// [`json::JsonError`] if it cannot be parsed; nothing is changed then.
pub fn copy(groups: &Groups, body: &[u8]) -> Result<(), json::JsonError> {
    let of_master = json::read_large::<GroupConfigs>(body)?;
    let rules = of_master.subscription_group_table.into_iter().map(|(name, mut rule)| {
        rule.group_name = name;
        rule
    });
    groups.copy(rules, of_master.forbidden_table, of_master.data_version);
    Ok(())
}

/// Writes all groups; returns the data version that was written.
///
/// # Errors
/// `io::Error` if the file cannot be written.
pub fn save(groups: &Groups, file: &StateFile) -> io::Result<DataVersion> {
    let configs = configs(groups);
    file.save(&crate::state_file::pretty(&configs))?;
    Ok(configs.data_version)
}

impl Versioned for Groups {
    /// [`None`]: not written yet.
    type Version = Option<DataVersion>;

    fn load(&self, file: &StateFile) -> io::Result<()> {
        load(self, file)
    }

    fn version(&self) -> Self::Version {
        Some(Groups::version(self))
    }

    fn save(&self, file: &StateFile) -> io::Result<Self::Version> {
        save(self, file).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rule;
    use super::*;
    use std::sync::Arc;
    use store::disk::real::RealDisk;

    #[test]
    fn groups_and_their_forbidden_topics_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(Arc::new(RealDisk), dir.path(), TABLE, &[]);
        let before = Groups::new(Default::default(), Arc::default(), 0);
        let mut rule = Rule::new("g");
        rule.retry_max_times = 3;
        before.update(vec![rule], 1).unwrap();
        before.forbid_reading("g", "t", true, 2).unwrap();
        save(&before, &file).unwrap();
        let after = Groups::new(Default::default(), Arc::default(), 0);
        load(&after, &file).unwrap();
        assert_eq!(after.find("g"), before.find("g"));
        assert!(after.is_reading_forbidden("g", "t"));
        assert_eq!(after.version(), before.version());
    }
}
