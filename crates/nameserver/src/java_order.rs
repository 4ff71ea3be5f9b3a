//! The iteration order of Java's hash tables, so that answers equal those of Apache's name server byte for byte. Clients do not rely on
//! it; it makes answers of both servers easy to compare.
//!
//! Entries of one bucket are sorted by name here and by insertion in Java.

/// A Java hash table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Table {
    /// `HashMap` and `HashSet`.
    Hash,
    /// `ConcurrentHashMap` with this initial capacity.
    Concurrent(usize),
}

impl Table {
    /// Number of buckets with so many entries.
    fn buckets(self, entries: usize) -> usize {
        let (mut buckets, spare) = match self {
            Self::Hash => (16, 0),
            Self::Concurrent(capacity) => ((capacity + capacity / 2 + 1).next_power_of_two(), 1),
        };
        while entries + spare > buckets * 3 / 4 {
            buckets *= 2;
        }
        buckets
    }
}

/// Sorts the entries as the table iterates over them.
pub(crate) fn ordered<T>(entries: Vec<T>, table: Table, name: impl Fn(&T) -> &str) -> Vec<T> {
    let mask = u32::try_from(table.buckets(entries.len()) - 1).unwrap_or(u32::MAX);
    let mut keyed: Vec<(u32, T)> = entries
        .into_iter()
        .map(|entry| (spread(hash(name(&entry))) & mask, entry))
        .collect();
    keyed.sort_unstable_by(|(bucket, one), (other_bucket, other)| bucket.cmp(other_bucket).then_with(|| name(one).cmp(name(other))));
    keyed.into_iter().map(|(_, entry)| entry).collect()
}

/// `String.hashCode()`.
fn hash(text: &str) -> u32 {
    text.encode_utf16()
        .fold(0, |hash: u32, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)))
}

fn spread(hash: u32) -> u32 {
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from a name server of Apache RocketMQ 5.5.0.
    #[test]
    fn names_are_in_the_order_of_javas_tables() {
        for (table, expected) in [
            (
                Table::Concurrent(8),
                &["sub", "other", "unit", "bonly", "conly", "orders", "both"][..],
            ),
            (Table::Concurrent(8), &["broker-b", "broker-c", "broker-a", "C2", "DefaultCluster"]),
            (Table::Concurrent(128), &["broker-d", "broker-b", "broker-c", "broker-a"]),
            (Table::Concurrent(32), &["C2", "DefaultCluster"]),
            (Table::Hash, &["broker-d", "broker-b", "broker-a"]),
        ] {
            let mut names = expected.to_vec();
            names.sort_unstable();
            assert_eq!(ordered(names, table, |name| name), expected, "{table:?}");
        }
    }

    #[test]
    fn tables_grow_as_javas_do() {
        assert_eq!([12, 13].map(|entries| Table::Hash.buckets(entries)), [16, 32]);
        assert_eq!([11, 12].map(|entries| Table::Concurrent(8).buckets(entries)), [16, 32]);
        assert_eq!(Table::Concurrent(128).buckets(1), 256);
        assert_eq!((hash("hello"), hash("")), (99_162_322, 0));
    }
}
