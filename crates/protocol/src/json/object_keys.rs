//! Maps whose keys are objects, `{{"brokerName":"b","queueId":0,"topic":"t"}:…}`.
//!
//! For `#[serde(with = "crate::json::object_keys")]`. The key passes through serde as the text of its own JSON, which writer and
//! lenient parser distinguish from an ordinary name.

use super::writer::ObjectKey;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// Writes the map.
///
/// # Errors
/// The serializer's error if a key or value cannot be written.
pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(map: &BTreeMap<K, V>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut out = serializer.serialize_map(Some(map.len()))?;
    for (key, value) in map {
        let json = serde_json::to_string(key).map_err(serde::ser::Error::custom)?;
        out.serialize_entry(&ObjectKey(json), value)?;
    }
    out.end()
}

/// Reads the map.
///
/// # Errors
/// The deserializer's error if it is not a map, or a key is not the JSON of its object.
pub fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    K: DeserializeOwned + Ord,
    V: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_map(KeyedByObject(PhantomData))
}

struct KeyedByObject<K, V>(PhantomData<(K, V)>);

impl<'de, K: DeserializeOwned + Ord, V: Deserialize<'de>> Visitor<'de> for KeyedByObject<K, V> {
    type Value = BTreeMap<K, V>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a map keyed by objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            let key = super::read(key.as_bytes()).map_err(de::Error::custom)?;
            map.insert(key, entries.next_value()?);
        }
        Ok(map)
    }
}
