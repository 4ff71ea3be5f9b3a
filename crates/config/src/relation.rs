//! Rules that several keys have to keep together: checked at the start and with every change, and adjusted where a value would do.
//!
//! Invariant: a relation that was adjusted reports nothing the second time.
//!
//! A role lists its own relations. Those of the keys that every server with connections has are here, in [`ConnectionSettings::RELATIONS`].

use std::time::Duration;

use crate::key::Note;

/// Bytes per second of a client with 10 Mbit/s.
const SLOW_CLIENT_BYTES_PER_SECOND: u64 = 1_250_000;
/// Default time between two heartbeats of a client, two route look-ups of a client, and two registrations of a broker.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A rule about several keys, or about one key and what is outside the settings.
pub struct Relation<S> {
    /// The keys.
    pub keys: &'static [&'static str],
    /// What has to hold, and what happens if it does not. For the manual.
    pub rule: &'static str,
    /// Adjusts the settings. Returns what was adjusted, or the consequence if nothing could be.
    pub fit: fn(&mut S) -> Option<String>,
}

/// Applies relations in this order and adds a note for each that did not hold.
pub fn fit_all<'a, S: 'a>(relations: impl IntoIterator<Item = &'a Relation<S>>, settings: &mut S, notes: &mut Vec<Note>) {
    for relation in relations {
        if let Some(text) = (relation.fit)(settings) {
            notes.push(Note::new(relation.keys, text));
        }
    }
}

/// Raises a value to `least`. Returns the value before if it was lower.
pub fn raise(value: &mut usize, least: usize) -> Option<usize> {
    let before = std::mem::replace(value, least.max(*value));
    (before < least).then_some(before)
}

/// Values of the keys that every server with connections has.
pub struct ConnectionKeys<'a> {
    /// `com.rocketmq.remoting.frameMaxLength`.
    pub frame_max_length: usize,
    /// `apogeeFrameTimeoutSeconds`.
    pub frame_timeout: Duration,
    /// `serverChannelMaxIdleTimeSeconds`.
    pub max_idle_time: Duration,
    /// `apogeeInboundTotalBytes`.
    pub inbound_total_bytes: &'a mut usize,
    /// `apogeeOutboxPauseBytes`.
    pub outbox_pause_bytes: &'a mut usize,
    /// `apogeeOutboxCloseBytes`.
    pub outbox_close_bytes: &'a mut usize,
    /// `apogeeOutboxTotalBytes`.
    pub outbox_total_bytes: &'a mut usize,
}

/// Settings of a server with connections.
pub trait ConnectionSettings: Sized + 'static {
    /// The keys.
    fn connection_keys(&mut self) -> ConnectionKeys<'_>;

    /// The relations of these keys. The order matters: a value is raised before others are compared with it.
    const RELATIONS: &'static [Relation<Self>] = &[
        Relation {
            keys: &["apogeeOutboxCloseBytes", "com.rocketmq.remoting.frameMaxLength"],
            rule: "An answer may be as large as a frame: apogeeOutboxCloseBytes counts as the largest frame at least",
            fit: |settings| {
                let keys = settings.connection_keys();
                fit_frame("apogeeOutboxCloseBytes", keys.outbox_close_bytes, keys.frame_max_length)
            },
        },
        Relation {
            keys: &["apogeeOutboxTotalBytes", "com.rocketmq.remoting.frameMaxLength"],
            rule: "The same for apogeeOutboxTotalBytes",
            fit: |settings| {
                let keys = settings.connection_keys();
                fit_frame("apogeeOutboxTotalBytes", keys.outbox_total_bytes, keys.frame_max_length)
            },
        },
        Relation {
            keys: &["apogeeOutboxPauseBytes", "apogeeOutboxCloseBytes"],
            rule: "A connection is paused before it is closed: apogeeOutboxPauseBytes counts as apogeeOutboxCloseBytes at most",
            fit: |settings| {
                let keys = settings.connection_keys();
                let (pause, close) = (*keys.outbox_pause_bytes, *keys.outbox_close_bytes);
                *keys.outbox_pause_bytes = pause.min(close);
                (pause > close).then(|| {
                    format!("apogeeOutboxPauseBytes={pause} counts as {close}: at apogeeOutboxCloseBytes the connection is closed")
                })
            },
        },
        Relation {
            keys: &["apogeeInboundTotalBytes", "com.rocketmq.remoting.frameMaxLength"],
            rule: "A largest frame fits beside the space reserved for another: apogeeInboundTotalBytes counts as two largest frames \
                   at least",
            fit: |settings| {
                let keys = settings.connection_keys();
                let (frame, least) = (keys.frame_max_length, keys.frame_max_length.saturating_mul(2));
                raise(keys.inbound_total_bytes, least).map(|before| {
                    format!(
                        "apogeeInboundTotalBytes={before} counts as {least}, twice com.rocketmq.remoting.frameMaxLength={frame}: space for one \
                         such frame is reserved for clients that wait"
                    )
                })
            },
        },
        Relation {
            keys: &["apogeeFrameTimeoutSeconds", "com.rocketmq.remoting.frameMaxLength"],
            rule: "A client with 10 Mbit/s can send the largest frame within apogeeFrameTimeoutSeconds; otherwise its connection is closed",
            fit: |settings| {
                let keys = settings.connection_keys();
                let (frame, timeout) = (keys.frame_max_length, keys.frame_timeout);
                let needed = Duration::from_secs(frame as u64 / SLOW_CLIENT_BYTES_PER_SECOND);
                (timeout < needed).then(|| {
                    format!(
                        "apogeeFrameTimeoutSeconds={}: a client with 10 Mbit/s needs {} s for a frame of \
                         com.rocketmq.remoting.frameMaxLength={frame}, its connection is closed before",
                        timeout.as_secs(),
                        needed.as_secs()
                    )
                })
            },
        },
        Relation {
            keys: &["serverChannelMaxIdleTimeSeconds"],
            rule: "Longer than the 30 s between two heartbeats of a client or broker; otherwise their connections are closed between them",
            fit: |settings| {
                let idle = settings.connection_keys().max_idle_time;
                (idle <= HEARTBEAT).then(|| {
                    format!(
                        "serverChannelMaxIdleTimeSeconds={}: clients and brokers send a heartbeat every {} s, their connections are closed \
                         between two",
                        idle.as_secs(),
                        HEARTBEAT.as_secs()
                    )
                })
            },
        },
    ];
}

fn fit_frame(key: &str, bytes: &mut usize, frame: usize) -> Option<String> {
    raise(bytes, frame).map(|before| {
        format!("{key}={before} counts as {frame}: an answer as large as com.rocketmq.remoting.frameMaxLength would close its connection")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 16 << 20;

    /// Outbox limits: pause, close, total.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Outbox(usize, usize, usize);

    impl ConnectionSettings for (Outbox, usize) {
        fn connection_keys(&mut self) -> ConnectionKeys<'_> {
            let (Outbox(pause, close, total), inbound) = self;
            ConnectionKeys {
                frame_max_length: FRAME,
                frame_timeout: Duration::from_secs(60),
                max_idle_time: Duration::from_secs(120),
                inbound_total_bytes: inbound,
                outbox_pause_bytes: pause,
                outbox_close_bytes: close,
                outbox_total_bytes: total,
            }
        }
    }

    #[test]
    fn outbox_limits_hold_together_after_one_pass() {
        let enough = 8 * FRAME;
        for (given, fitted, notes) in [
            // The pause is compared with the limit that was raised, not with the given one.
            (Outbox(FRAME / 4 * 3, FRAME / 2, enough), Outbox(FRAME / 4 * 3, FRAME, enough), 1),
            (Outbox(enough, FRAME / 2, enough), Outbox(FRAME, FRAME, enough), 2),
            (Outbox(1, FRAME, FRAME / 2), Outbox(1, FRAME, FRAME), 1),
            (Outbox(1, FRAME, FRAME), Outbox(1, FRAME, FRAME), 0),
        ] {
            let mut settings = (given.clone(), enough);
            let mut found = Vec::new();
            fit_all(ConnectionSettings::RELATIONS, &mut settings, &mut found);
            assert_eq!((&settings.0, found.len()), (&fitted, notes), "{given:?}: {found:?}");
            fit_all(ConnectionSettings::RELATIONS, &mut settings, &mut found);
            assert_eq!((&settings.0, found.len()), (&fitted, notes), "a second pass changes nothing");
        }
    }
}
