//! `subscriptionGroup.json` in Apache's format.

use super::{Groups, Rule};
use crate::state_file::{StateFile, Table, Versioned, pretty};
use protocol::DataVersion;
use protocol::group::GroupConfigs;
use protocol::json;
use serde::Serialize;
use std::collections::BTreeMap;
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

/// Groups that changed, as [`crate::state_file::changes`] has them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    data_version: DataVersion,
    subscription_group_table: BTreeMap<Box<str>, Option<Rule>>,
    forbidden_table: BTreeMap<Box<str>, Option<BTreeMap<String, i32>>>,
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

    fn content(&self) -> (Self::Version, Vec<u8>) {
        // Before the table is read: what changes meanwhile is saved twice.
        self.take_changed();
        let configs = configs(self);
        (Some(configs.data_version), pretty(&configs))
    }

    fn take_changes(&self) -> Option<(Self::Version, Vec<u8>)> {
        let (data_version, changed) = self.take_changed()?;
        let (subscription_group_table, forbidden_table) = changed
            .into_iter()
            .map(|(name, rule, forbidden)| ((name.clone(), rule), (name, forbidden)))
            .unzip();
        let changed = Changed {
            data_version,
            subscription_group_table,
            forbidden_table,
        };
        Some((Some(data_version), serde_json::to_vec(&changed).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_file::{SavedTable, VersionedFile};
    use std::sync::Arc;
    use store::disk::real::RealDisk;

    #[test]
    fn changes_of_a_large_table_are_beside_it_until_it_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = || StateFile::new(Arc::new(RealDisk), dir.path(), TABLE, &[]);
        let new = || Arc::new(Groups::new(Default::default(), Arc::default(), 0));
        let groups = new();
        groups
            .update((0..3_000).map(|n| Rule::new(format!("group-{n}"))).collect(), 1)
            .unwrap();
        groups.forbid_reading("group-1", "t", true, 2).unwrap();
        groups.forbid_reading("group-2", "t", true, 2).unwrap();
        let saved = VersionedFile::new(Arc::clone(&groups), file());
        saved.save_changes().unwrap();
        groups.find_or_create("fresh", true, 3).unwrap();
        groups.remove("group-3", 4);
        groups.forbid_reading("group-1", "t", false, 5).unwrap();
        groups.forbid_reading("group-2", "u", true, 5).unwrap();
        groups.forbid_reading("nobody", "t", true, 5).unwrap();
        saved.save_changes().unwrap();
        assert!(dir.path().join("config/subscriptionGroup.json.changes").exists());
        let after = new();
        load(&after, &file()).unwrap();
        assert!(configs(&after) == configs(&groups));
        assert!(after.contains("fresh") && !after.contains("group-3"));
        assert!(after.is_reading_forbidden("group-2", "u") && !after.is_reading_forbidden("group-1", "t"));
    }

    #[test]
    fn groups_and_their_forbidden_topics_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(Arc::new(RealDisk), dir.path(), TABLE, &[]);
        let before = Groups::new(Default::default(), Arc::default(), 0);
        let mut rule = Rule::new("g");
        rule.retry_max_times = 3;
        before.update(vec![rule], 1).unwrap();
        before.forbid_reading("g", "t", true, 2).unwrap();
        file.save(&before.content().1).unwrap();
        let after = Groups::new(Default::default(), Arc::default(), 0);
        load(&after, &file).unwrap();
        assert_eq!(after.find("g"), before.find("g"));
        assert!(after.is_reading_forbidden("g", "t"));
        assert_eq!(after.version(), before.version());
    }
}
