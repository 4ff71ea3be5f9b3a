//! JSON bodies: reading what all kinds of clients write, and writing what Java's serializer writes.
//!
//! Java's fastjson deviates from JSON in two places, and clients depend on both: integer map keys have no quotes
//! (`{0:"a"}`), and maps keyed by an object have the object as key (`{{"queueId":0}:1}`). It omits null
//! fields and orders fields by name, so bodies here declare their fields in that order to give the same bytes.
//!
//! [`write`] writes that dialect, [`write_standard`] quotes all keys. [`read`] accepts both: strict JSON with the
//! types of the body takes the fast path; anything else is parsed again as fastjson would, which accepts other notations
//! (`lenient.rs`) and other types (`coerce.rs`). Clients depend on that, too: without its heartbeat a group is unknown.

mod bare_keys;
mod coerce;
pub(crate) mod lenient;
pub(crate) mod named_enum;
pub mod object_keys;
mod writer;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A body that cannot be parsed. Answered with code 1 and this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed JSON: {0}")]
pub struct JsonError(pub(crate) String);

/// Reads a JSON body, in fastjson's dialect or standard.
///
/// # Errors
/// [`JsonError`] if it is neither, is not of this shape, or needs the lenient parser and has more than a million values.
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

/// Reads JSON of any size that is standard except for integer keys without quotes: the tables that a broker saves.
///
/// # Errors
/// [`JsonError`] if it is not such JSON or not of this shape.
pub fn read_large<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    serde_json::from_slice(text)
        .or_else(|_| serde_json::from_slice(&bare_keys::quote(text)))
        .map_err(|error| JsonError(error.to_string()))
}

/// Writes a body as the Java broker does.
pub fn write<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    writer::write(value, writer::Keys::Java)
}

/// Writes a body in standard JSON: integer keys are quoted, object keys are strings of JSON.
pub fn write_standard<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    writer::write(value, writer::Keys::Standard)
}

#[cfg(test)]
mod tests;
