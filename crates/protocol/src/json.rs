//! JSON bodies: reading what clients of all kinds write, and writing what Java's serializer writes.
//!
//! Java's fastjson leaves JSON in two places, and clients depend on both: integer map keys stand without quotes
//! (`{0:"a"}`) and maps keyed by an object have the object in the key's place (`{{"queueId":0}:1}`). It leaves null
//! fields out and orders fields by name, so bodies here declare their fields by name to give the same bytes.
//!
//! [`write`] writes that dialect, [`write_standard`] quotes all keys. [`read`] accepts both: what is strict JSON with the
//! types that the body has takes the fast way; what that refuses is read again as fastjson would, which takes other notations
//! (`lenient.rs`) and other types (`coerce.rs`). Clients depend on that too: a refused heartbeat makes a group unknown.

mod bare_keys;
mod coerce;
pub(crate) mod lenient;
pub(crate) mod named_enum;
pub mod object_keys;
mod writer;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A body that cannot be read. Answered as code 1 with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed JSON: {0}")]
pub struct JsonError(pub(crate) String);

/// Reads a JSON body, in fastjson's dialect or standard.
///
/// # Errors
/// Neither, or not of this shape, or more than a million values where leniency was needed.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    match serde_json::from_slice(body) {
        Ok(value) => Ok(value),
        Err(strict) => {
            let value = lenient::parse(body).ok().filter(|value| !value.is_nothing());
            let value = value.ok_or_else(|| JsonError(strict.to_string()))?;
            T::deserialize(value).map_err(|mismatch| JsonError(mismatch.to_string()))
        }
    }
}

/// Reads JSON of any size that is standard but for integer keys without quotes: the tables that a broker saves.
///
/// # Errors
/// It is no such JSON, or not of this shape.
pub fn read_large<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    serde_json::from_slice(text)
        .or_else(|_| serde_json::from_slice(&bare_keys::quote(text)))
        .map_err(|error| JsonError(error.to_string()))
}

/// Writes a body as Java's broker does.
pub fn write<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    writer::write(value, writer::Keys::Java)
}

/// Writes a body in standard JSON: integer keys are quoted, object keys are their own JSON as text.
pub fn write_standard<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    writer::write(value, writer::Keys::Standard)
}

#[cfg(test)]
mod tests;
