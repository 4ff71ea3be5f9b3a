//! Registers the topics at one name server.
//!
//! ```text
//! new connection, or topics are missing ─► register all topics, in parts (103)
//! a topic changed                       ─► 322: does it have the confirmed version? ─► the changed topics (103 or 217)
//! periodic round                        ─► 322, which is the heartbeat
//! ```
//!
//! Invariant: `confirmed` is what this name server confirmed on this connection. Without it changed topics are never registered
//! alone: a name server that lost the broker's registration would take them for all topics.

use super::super::parts::{self, PART_BYTES, PartLimits};
use super::{Failure, NameServerTask, SHORT_TIMEOUT, lost, succeeded};
use crate::clock::now_ms;
use crate::settings::BrokerSettings;
use crate::topic::Topic;
use net::RequestError;
use protocol::frame::MAX_FRAME_LEN;
use protocol::register::RegisterBrokerResult;
use protocol::{DataVersion, Frame, RequestCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Delay before the version is queried once more after a registration on a new connection: one of Apache's that notices the close
/// of the previous connection late removes the broker then.
const CONFIRM_AFTER: Duration = Duration::from_secs(3);
/// Largest number of parts in flight.
const MAX_PARTS_IN_FLIGHT: usize = 4;
/// Largest number of topics that are registered one by one; more are registered together.
const MAX_ONE_BY_ONE: usize = 1_000;
/// Average rate of forced registrations in bytes per second (`forceRegister`).
const FORCED_BYTES_PER_SECOND: usize = 32 << 10;
/// A request of this size fits every name server's frame limit.
const SMALL_BYTES: usize = 32 << 10;
/// Upper bound of the bytes of a registration frame besides the body.
const FRAME_OVERHEAD: usize = 4 << 10;

/// What the name server confirmed on this connection.
pub(super) struct Confirmed {
    version: DataVersion,
    /// `brokerPermission` at the time of the registration.
    permission: i32,
    /// When all topics were last registered, and their size in bytes.
    all_at: Instant,
    all_bytes: usize,
    /// Topics were registered one by one, without the version: the next periodic round registers all.
    needs_all: bool,
}

/// The settings of a name server that matter here, from 319.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct NameServerSettings {
    /// It deletes_unlisted topics that a registration does not contain.
    deletes_unlisted: bool,
    /// Its frame limit in bytes, if configured.
    max_frame: Option<usize>,
}

impl NameServerTask {
    /// Registers the topics that the name server does not have. With `changed` only changed topics are registered, if that is
    /// possible.
    pub(super) async fn register(&mut self, changed: bool) -> Result<(), Failure> {
        let local = self.connected().await?;
        let settings = self.requests.settings.current();
        let permission = settings.broker_permission;
        let single = settings.single_topic_register;
        let is_part_enough = |confirmed: &&Confirmed| {
            confirmed.permission == permission && (changed || !confirmed.must_register_all(&settings, Instant::now()))
        };
        let Some(confirmed) = self.confirmed.as_ref().filter(is_part_enough) else {
            return self.register_all(local).await;
        };
        let (version, all) = (confirmed.version, (confirmed.all_at, confirmed.all_bytes));
        let is_current = async { Ok(self.request(self.requests.query_version(local, version)).await?.ext.bool("changed") == Some(false)) };
        let (newest, topics) = self.requests.topics.changed_since(version);
        if newest == version {
            return if is_current.await? {
                Ok(())
            } else {
                self.register_all(local).await
            };
        }
        let (is_current, settings_of_peer) = tokio::try_join!(is_current, self.settings_of_peer())?;
        if !is_current {
            return self.register_all(local).await;
        }
        // Compat: 217 has no mappings.
        let single = single && topics.len() <= MAX_ONE_BY_ONE && topics.iter().all(|topic| topic.mapping().is_none());
        if single {
            self.register_one_by_one(&topics).await?;
        }
        if settings_of_peer.deletes_unlisted {
            if !single {
                return self.register_all(local).await;
            }
            if let Some(confirmed) = &mut self.confirmed {
                confirmed.needs_all = true;
            }
            return Ok(());
        }
        let remaining: &[Arc<Topic>] = if single { &[] } else { &topics };
        self.register_in_parts(local, remaining, newest, settings_of_peer).await?;
        self.confirmed = Some(Confirmed {
            version: newest,
            permission,
            all_at: all.0,
            all_bytes: all.1,
            needs_all: false,
        });
        Ok(())
    }

    /// Registers all topics, whatever the name server has.
    async fn register_all(&mut self, local: SocketAddr) -> Result<(), Failure> {
        let is_new = self.confirmed.take().is_none();
        let permission = self.requests.settings.current().broker_permission;
        let (version, topics) = self.requests.topics.all();
        let all_bytes = topics.iter().map(|topic| parts::estimated_bytes(topic)).sum();
        let is_small = all_bytes <= SMALL_BYTES && !self.requests.settings.current().split_registration;
        let settings_of_peer = if is_small {
            NameServerSettings::default()
        } else {
            self.settings_of_peer().await?
        };
        if settings_of_peer.deletes_unlisted {
            self.register_in_one_request(local, &topics, version, settings_of_peer).await?;
        } else {
            self.register_in_parts(local, &topics, version, settings_of_peer).await?;
        }
        *self.address.lock() = Some(self.requests.identity.addresses(local).0.into());
        let all_at = Instant::now();
        self.confirm_at = is_new.then(|| all_at + CONFIRM_AFTER);
        self.confirmed = Some(Confirmed {
            version,
            permission,
            all_at,
            all_bytes,
            needs_all: false,
        });
        Ok(())
    }

    /// Registers all topics in one request, for a name server that deletes_unlisted topics that a request does not contain.
    async fn register_in_one_request(
        &self,
        local: SocketAddr,
        topics: &[Arc<Topic>],
        version: DataVersion,
        settings_of_peer: NameServerSettings,
    ) -> Result<(), Failure> {
        let bytes: usize = topics.iter().map(|topic| parts::estimated_bytes(topic)).sum();
        let compressed = self.requests.settings.current().compressed_register || bytes > PART_BYTES;
        let frame = self.requests.register(local, topics, version, compressed);
        let max = settings_of_peer.max_frame.unwrap_or(MAX_FRAME_LEN);
        if frame.body.len() + FRAME_OVERHEAD > max {
            return Err(Failure::Refused(format!(
                "the {} topics take {} bytes in one request, a frame holds {max}, and this name server deletes_unlisted topics that are in another \
                 request: set its deleteTopicWithBrokerRegistration to false",
                topics.len(),
                frame.body.len()
            )));
        }
        let answer = self.request(frame).await?;
        self.take_answer(&answer);
        Ok(())
    }

    /// Registers topics in as many requests as needed. The last one has the table's version and is sent after all others are
    /// answered.
    async fn register_in_parts(
        &mut self,
        local: SocketAddr,
        topics: &[Arc<Topic>],
        version: DataVersion,
        settings_of_peer: NameServerSettings,
    ) -> Result<(), Failure> {
        let settings = self.requests.settings.current();
        let limits = PartLimits {
            bytes: settings_of_peer.max_frame.map_or(PART_BYTES, |max| PART_BYTES.min(max / 2)),
            topics: if settings.split_registration {
                settings.split_registration_size
            } else {
                usize::MAX
            },
        };
        let (compressed, timeout) = (settings.compressed_register, settings.register_broker_timeout);
        drop(settings);
        let parts = parts::cut(topics, limits);
        let Some((last, before)) = parts.split_last() else { return Ok(()) };
        let (done, mut answers) = mpsc::unbounded_channel();
        let mut in_flight = 0;
        // After a refused part the others are still sent.
        let mut refusal = None;
        let mut before = before.iter();
        loop {
            if in_flight < MAX_PARTS_IN_FLIGHT
                && let Some(part) = before.next()
            {
                self.parts += 1;
                let frame = self
                    .requests
                    .register(local, part, parts::version_of_part(version, self.parts), compressed);
                let done = done.clone();
                let connection = self.connection()?;
                // The receiver is dropped if an earlier part failed.
                let answered = move |answer| drop(done.send(answer));
                connection.request(frame, timeout, answered).map_err(lost)?;
                in_flight += 1;
            } else if in_flight == 0 {
                break;
            } else {
                let answer = tokio::time::timeout(timeout, answers.recv()).await;
                let Some(answer) = answer.map_err(|_| lost(RequestError::TimedOut))? else {
                    break;
                };
                in_flight -= 1;
                match answer.map_err(lost).and_then(succeeded) {
                    Err(lost @ Failure::Lost(_)) => return Err(lost),
                    Err(refused) => refusal = refusal.or(Some(refused)),
                    Ok(_) => {}
                }
            }
        }
        self.parts += 1;
        let last_version = if refusal.is_none() {
            version
        } else {
            parts::version_of_part(version, self.parts)
        };
        let answer = self.request(self.requests.register(local, last, last_version, compressed)).await?;
        self.take_answer(&answer);
        refusal.map_or(Ok(()), Err)
    }

    /// Registers each topic in its own request.
    async fn register_one_by_one(&self, topics: &[Arc<Topic>]) -> Result<(), Failure> {
        for topic in topics {
            self.request(self.requests.single(topic)).await?;
        }
        Ok(())
    }

    /// Reads the settings of the name server. If it refuses, Apache's defaults are assumed.
    async fn settings_of_peer(&self) -> Result<NameServerSettings, Failure> {
        let frame = Frame::request(RequestCode::GetNamesrvConfig);
        match self.request_within(frame, SHORT_TIMEOUT).await {
            Ok(answer) => Ok(NameServerSettings::parse(&String::from_utf8_lossy(&answer.body))),
            Err(Failure::Refused(_)) => Ok(NameServerSettings::default()),
            Err(lost) => Err(lost),
        }
    }

    /// Marks topics as ordered whose order the name server has.
    fn take_answer(&self, answer: &Frame) {
        match RegisterBrokerResult::decode(answer) {
            Ok(result) => {
                self.standings
                    .heard_of_master(result.master_addr.as_deref(), result.ha_server_addr.as_deref());
                if let Some(ordered) = &result.order_topics {
                    self.requests
                        .topics
                        .mark_ordered(ordered.table.keys().map(String::as_str), now_ms());
                }
            }
            Err(error) => tracing::warn!(name_server = self.name_server, %error, "cannot parse the ordered topics"),
        }
    }
}

impl Confirmed {
    /// Whether a periodic round registers all topics.
    fn must_register_all(&self, settings: &BrokerSettings, now: Instant) -> bool {
        let amortized = Duration::from_secs((self.all_bytes / FORCED_BYTES_PER_SECOND) as u64);
        let pause = amortized.max(settings.register_name_server_period + settings.register_name_server_period / 2);
        // A slave hears in the answer who the master is.
        self.needs_all || settings.is_slave() || settings.force_register && now.saturating_duration_since(self.all_at) >= pause
    }
}

impl NameServerSettings {
    /// Parses the properties format.
    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
        };
        Self {
            deletes_unlisted: value("deleteTopicWithBrokerRegistration") == Some("true"),
            max_frame: value("com.rocketmq.remoting.frameMaxLength").and_then(|bytes| bytes.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_topics_are_registered_again_every_second_period_or_more_rarely_if_they_are_large() {
        let settings = |force_register| BrokerSettings {
            force_register,
            ..BrokerSettings::default()
        };
        let confirmed = |seconds, all_bytes, needs_all| {
            Confirmed {
                version: DataVersion::default(),
                permission: 6,
                // `elapsed` is computed from a later time, because an instant before now may not exist on a machine that just
                // booted.
                all_at: Instant::now(),
                all_bytes,
                needs_all,
            }
            .must_register_all(&settings(true), Instant::now() + Duration::from_secs(seconds))
        };
        assert!(!confirmed(31, 1_000, false) && confirmed(60, 1_000, false));
        let many = 24 << 20;
        assert!(!confirmed(700, many, false) && confirmed(800, many, false));
        assert!(confirmed(0, many, true), "the name server does not have the version");
        let never = Confirmed {
            version: DataVersion::default(),
            permission: 6,
            all_at: Instant::now(),
            all_bytes: 0,
            needs_all: false,
        };
        assert!(!never.must_register_all(&settings(false), Instant::now() + Duration::from_secs(100_000)));
    }

    #[test]
    fn the_settings_of_a_name_server_are_parsed() {
        assert_eq!(NameServerSettings::parse(""), NameServerSettings::default());
        let text = "listenPort=9876\ndeleteTopicWithBrokerRegistration=true\ncom.rocketmq.remoting.frameMaxLength=65536\n";
        let expected = NameServerSettings {
            deletes_unlisted: true,
            max_frame: Some(65_536),
        };
        assert_eq!(NameServerSettings::parse(text), expected);
        assert!(!NameServerSettings::parse("deleteTopicWithBrokerRegistration=false").deletes_unlisted);
    }
}
