//! When a message asks to be delivered, and its properties while it waits and when it is delivered.

use crate::errors::Refusal;
use crate::settings::BrokerSettings;
use message::properties::{self, Builder};
use protocol::codes::ResponseCode;
use protocol::number::Integer;

/// What the properties of a message grow by while it waits and when it is delivered: kept free when it is sent.
pub(crate) const GROWTH_BYTES: usize = 128;

/// The timer properties of a message, unparsed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimerProperties<'a> {
    delay_seconds: Option<&'a [u8]>,
    delay_ms: Option<&'a [u8]>,
    deliver_ms: Option<&'a [u8]>,
    /// It waited already, or came with what a message that waits has.
    has_waited: bool,
}

impl<'a> TimerProperties<'a> {
    /// Those among all properties of a message.
    pub(crate) fn of(all: &'a [u8]) -> Self {
        let mut found = Self::default();
        for (name, value) in properties::iter(all) {
            found.see(std::str::from_utf8(name).unwrap_or_default(), value);
        }
        found
    }

    /// Takes a property, if it is one of them.
    pub(crate) fn see(&mut self, name: &str, value: &'a [u8]) {
        match name {
            properties::TIMER_DELAY_SEC => self.delay_seconds = Some(value),
            properties::TIMER_DELAY_MS => self.delay_ms = Some(value),
            properties::TIMER_DELIVER_MS => self.deliver_ms = Some(value),
            properties::TIMER_OUT_MS => self.has_waited = true,
            _ => {}
        }
    }

    /// Whether the message asks for a time.
    pub(crate) fn ask(&self) -> bool {
        !self.has_waited && (self.delay_seconds.is_some() || self.delay_ms.is_some() || self.deliver_ms.is_some())
    }

    /// When it is due, epoch ms; `None` if it is due now or asks for no time. Compat: seconds come before ms, and both before a time.
    ///
    /// # Errors
    /// What Apache's broker answers: 1 if timers are off, 13 if the time is no number or further away than `timerMaxDelaySec`.
    pub(crate) fn due_ms(&self, settings: &BrokerSettings, now_ms: i64) -> Result<Option<i64>, Refusal> {
        if !self.ask() {
            return Ok(None);
        }
        if !settings.timer_wheel_enable {
            let text = "timer messages are switched off here: timerWheelEnable is false";
            return Err(Refusal::system(text));
        }
        let number = |name: &str, value: &[u8]| i64::parse(value).ok_or_else(|| illegal(format!("{name} is not a whole number")));
        let due_ms = match (self.delay_seconds, self.delay_ms, self.deliver_ms) {
            (Some(seconds), ..) => {
                let seconds = number(properties::TIMER_DELAY_SEC, seconds)?;
                seconds.checked_mul(1_000).and_then(|ms| ms.checked_add(now_ms))
            }
            (None, Some(ms), _) => number(properties::TIMER_DELAY_MS, ms)?.checked_add(now_ms),
            (None, None, Some(time)) => Some(number(properties::TIMER_DELIVER_MS, time)?),
            (None, None, None) => return Ok(None),
        };
        let longest_ms = settings.timer_max_delay.as_millis() as i64;
        match due_ms {
            Some(due_ms) if due_ms <= now_ms => Ok(None),
            Some(due_ms) if due_ms - now_ms <= longest_ms => Ok(Some(due_ms)),
            _ => Err(illegal(format!(
                "the delay time should not be bigger than the max delay {longest_ms}ms (timerMaxDelaySec)"
            ))),
        }
    }
}

pub(super) fn illegal(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(ResponseCode::MessageIllegal, format!("timer message illegal, {why}"))
}

/// The properties with which a message waits in the timer topic.
#[must_use]
pub(crate) fn waiting_properties(own: &[u8], value_ms: i64, topic: &str, queue_id: i32) -> Vec<u8> {
    const REPLACED: [&str; 3] = [properties::TIMER_OUT_MS, properties::REAL_TOPIC, properties::REAL_QID];
    Builder::from_bytes_without(own, &REPLACED)
        .with(properties::TIMER_OUT_MS, &value_ms.to_string())
        .with(properties::REAL_TOPIC, topic)
        .with(properties::REAL_QID, &queue_id.to_string())
        .build()
}

/// When a message was taken into the index and out of it, epoch ms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) enqueued_ms: i64,
    pub(super) dequeued_ms: i64,
}

/// The properties with which it is delivered. Compat: Apache's broker leaves REAL_TOPIC and REAL_QID.
#[must_use]
pub(super) fn delivered_properties(waiting: &[u8], times: Times) -> Vec<u8> {
    const REMOVED: [&str; 4] = [
        properties::REAL_TOPIC,
        properties::REAL_QID,
        properties::TIMER_ENQUEUE_MS,
        properties::TIMER_DEQUEUE_MS,
    ];
    with_times(Builder::from_bytes_without(waiting, &REMOVED), times)
        .unwrap_or_else(|| Builder::from_bytes_without(waiting, &REMOVED[..2]).build())
}

/// The properties with which it is written again to wait on, for the `times`-th time.
#[must_use]
pub(super) fn rolled_properties(waiting: &[u8], rolls: i64, times: Times) -> Vec<u8> {
    const REPLACED: [&str; 3] = [
        properties::TIMER_ROLL_TIMES,
        properties::TIMER_ENQUEUE_MS,
        properties::TIMER_DEQUEUE_MS,
    ];
    let kept = || Builder::from_bytes_without(waiting, &REPLACED).with(properties::TIMER_ROLL_TIMES, &rolls.to_string());
    with_times(kept(), times).unwrap_or_else(|| waiting.to_vec())
}

/// `None` if the properties would be too long: messages of Apache's brokers have no room kept free.
fn with_times(properties: Builder, times: Times) -> Option<Vec<u8>> {
    let built = properties
        .with(properties::TIMER_ENQUEUE_MS, &times.enqueued_ms.to_string())
        .with(properties::TIMER_DEQUEUE_MS, &times.dequeued_ms.to_string())
        .build();
    (built.len() <= properties::MAX_BYTES).then_some(built)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use store::timer::value_of;

    const NOW: i64 = 1_700_000_000_000;

    fn due(properties: &str) -> Result<Option<i64>, ResponseCode> {
        let settings = BrokerSettings {
            timer_max_delay: Duration::from_hours(1),
            ..BrokerSettings::default()
        };
        let bytes = properties.replace('=', "\u{1}").replace(';', "\u{2}");
        TimerProperties::of(bytes.as_bytes())
            .due_ms(&settings, NOW)
            .map_err(|refusal| refusal.code)
    }

    #[test]
    fn seconds_come_before_milliseconds_and_both_before_a_time() {
        assert_eq!(
            due("TIMER_DELIVER_MS=1700000000500;TIMER_DELAY_MS=7;TIMER_DELAY_SEC=2;"),
            Ok(Some(NOW + 2_000))
        );
        assert_eq!(due("TIMER_DELIVER_MS=1700000000500;TIMER_DELAY_MS=7;"), Ok(Some(NOW + 7)));
        assert_eq!(due("TIMER_DELIVER_MS=1700000000500;"), Ok(Some(NOW + 500)));
        assert_eq!(due("TAGS=a;"), Ok(None));
    }

    #[test]
    fn what_is_due_is_not_delayed_and_what_is_too_far_or_no_number_is_refused() {
        for now in [
            "TIMER_DELAY_SEC=0;",
            "TIMER_DELAY_MS=-7;",
            "TIMER_DELIVER_MS=5;",
            "TIMER_DELAY_SEC=9;TIMER_OUT_MS=1;",
        ] {
            assert_eq!(due(now), Ok(None), "{now}");
        }
        assert_eq!(due("TIMER_DELAY_SEC=3600;"), Ok(Some(NOW + 3_600_000)));
        for illegal in [
            "TIMER_DELAY_SEC=3601;",
            "TIMER_DELAY_MS=3600001;",
            "TIMER_DELAY_SEC=9223372036854775807;",
            "TIMER_DELAY_MS=9223372036854775807;",
            "TIMER_DELIVER_MS=9223372036854775807;",
            "TIMER_DELAY_SEC=soon;",
            "TIMER_DELIVER_MS=;",
        ] {
            // An empty value is no property at all.
            let expected = if illegal.ends_with("=;") {
                Ok(None)
            } else {
                Err(ResponseCode::MessageIllegal)
            };
            assert_eq!(due(illegal), expected, "{illegal}");
        }
        let off = BrokerSettings {
            timer_wheel_enable: false,
            ..BrokerSettings::default()
        };
        let asks = TimerProperties::of(b"TIMER_DELAY_SEC\x015\x02");
        assert_eq!(asks.due_ms(&off, NOW).unwrap_err().code, ResponseCode::SystemError);
    }

    #[test]
    fn a_value_is_within_the_slot_of_apaches_broker_and_never_early() {
        for due in NOW..NOW + 2_500 {
            let value = value_of(due, 1_000);
            // Compat: an exact multiple belongs to the slot before it.
            let apaches = if due % 1_000 == 0 { due - 1_000 } else { due / 1_000 * 1_000 };
            assert_eq!(value / 1_000 * 1_000, apaches, "{due}");
            assert!(value % 1_000 != 0 && (due..=due + 1).contains(&(value + 1)), "{due}");
            assert_eq!(value_of(due, 1), due - 1);
        }
    }

    #[test]
    fn a_message_that_waited_keeps_its_own_properties() {
        let own = b"TAGS\x01a\x02TIMER_DELAY_SEC\x015\x02REAL_TOPIC\x01forged\x02";
        let waiting = waiting_properties(own, 77, "t", 3);
        assert_eq!(
            waiting,
            b"TAGS\x01a\x02TIMER_DELAY_SEC\x015\x02TIMER_OUT_MS\x0177\x02REAL_TOPIC\x01t\x02REAL_QID\x013\x02"
        );
        let times = Times {
            enqueued_ms: 5,
            dequeued_ms: 6,
        };
        let rolled = rolled_properties(&waiting, 1, times);
        assert!(
            rolled.starts_with(&waiting)
                && rolled.ends_with(b"TIMER_ROLL_TIMES\x011\x02TIMER_ENQUEUE_MS\x015\x02TIMER_DEQUEUE_MS\x016\x02")
        );
        assert!(rolled.len() <= own.len() + GROWTH_BYTES);
        let delivered = delivered_properties(&rolled, times);
        assert_eq!(
            delivered,
            b"TAGS\x01a\x02TIMER_DELAY_SEC\x015\x02TIMER_OUT_MS\x0177\x02TIMER_ROLL_TIMES\x011\x02TIMER_ENQUEUE_MS\x015\x02TIMER_DEQUEUE_MS\x016\x02"
        );
        let full = Builder::new().with("a", &"x".repeat(properties::MAX_BYTES - 10)).build();
        assert_eq!(delivered_properties(&full, times), full, "without the times, but delivered");
    }
}
