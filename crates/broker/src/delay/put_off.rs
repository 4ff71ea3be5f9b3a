//! Putting a message off: what its properties become, and which queue it waits in.

use crate::errors::Refusal;
use message::properties::{self, Builder};

/// The delay level that a message asks for; 0 or less when it asks for none.
///
/// # Errors
/// Compat: what is no number is refused with the code of Apache's exception (1).
pub fn level_of(value: Option<&str>) -> Result<i32, Refusal> {
    value.map_or(Ok(0), |text| {
        text.parse()
            .map_err(|_| Refusal::system(format!("property {} is not a delay level: {text:?}", properties::DELAY)))
    })
}

/// The queue of the schedule topic in which messages of a level wait.
#[must_use]
pub fn queue_of(level: i32) -> i32 {
    level - 1
}

/// The properties with which a message waits: its level, and where it goes then. A level wins over the exact times of timer
/// messages, which are taken out.
#[must_use]
pub fn put_off(properties: &[u8], level: i32, topic: &str, queue_id: i32) -> Vec<u8> {
    const REPLACED: [&str; 6] = [
        properties::DELAY,
        properties::REAL_TOPIC,
        properties::REAL_QID,
        properties::TIMER_DELAY_SEC,
        properties::TIMER_DELAY_MS,
        properties::TIMER_DELIVER_MS,
    ];
    Builder::from_bytes_without(properties, &REPLACED)
        .with(properties::DELAY, &level.to_string())
        .with(properties::REAL_TOPIC, topic)
        .with(properties::REAL_QID, &queue_id.to_string())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_waits_knows_where_it_goes() {
        let built = put_off(
            b"TAGS\x01a\x02REAL_TOPIC\x01forged\x02DELAY\x0199\x02TIMER_DELAY_SEC\x015",
            18,
            "orders",
            3,
        );
        assert_eq!(built, b"TAGS\x01a\x02DELAY\x0118\x02REAL_TOPIC\x01orders\x02REAL_QID\x013\x02");
    }

    #[test]
    fn levels_are_numbers() {
        assert_eq!(level_of(None).unwrap(), 0);
        assert_eq!((level_of(Some("-1")).unwrap(), level_of(Some("19")).unwrap()), (-1, 19));
        assert!(level_of(Some("x")).unwrap_err().text.contains("DELAY"));
    }
}
