//! What one name server has of our topics, and what has to be said so that it has all.
//!
//! ```text
//! new connection, or it lacks something ─► all topics, in parts (103)
//! a topic changed                       ─► 322: does it have what it was told last? ─► the changed topics (103 or 217)
//! a period is over                      ─► 322, which is our sign of life
//! ```
//!
//! Invariant: `told` is what this name server confirmed on this connection. Without it nothing is told in part: a name server that lost
//! us would take the part for all.

use super::super::parts::{self, PART_BYTES, PartLimits};
use super::{Failure, SHORT_TIMEOUT, Target, lost, succeeded};
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

/// After a registration on a new connection a name server is asked once more: one of Apache's that notices late that our connection
/// before has closed removes us then.
const CONFIRM_AFTER: Duration = Duration::from_secs(3);
/// Parts of a registration that are under way at once.
const PARTS_UNDER_WAY: usize = 4;
/// Most topics told in requests of their own, one after the other; more are told together.
const MAX_SINGLY: usize = 1_000;
/// Bytes a second that forced registrations may take on average (`forceRegister`).
const FORCED_BYTES_PER_SECOND: usize = 32 << 10;
/// So much every name server takes in one request, whatever its settings.
const SMALL_BYTES: usize = 32 << 10;
/// What a frame has beside the body of a registration, at most.
const AROUND_BODY: usize = 4 << 10;

/// What the name server confirmed on this connection.
pub(super) struct Told {
    version: DataVersion,
    /// The setting `brokerPermission` that topics were registered under.
    permission: i32,
    /// When all topics were told last, and how many bytes that were.
    all_at: Instant,
    all_bytes: usize,
    /// Topics were told apart from the rest, without the version: all have to be told at the next period.
    behind: bool,
}

/// What is known of a name server's settings, from 319.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ways {
    /// It deletes the topics that a registration does not name.
    deletes: bool,
    /// The longest frame it takes, if it says so.
    max_frame: Option<usize>,
}

impl Target {
    /// Sees to it that the name server has all topics; `changed` where no more is to be told than what changed.
    pub(super) async fn register(&mut self, changed: bool) -> Result<(), Failure> {
        let local = self.connected().await?;
        let settings = self.greeting.settings.current();
        let permission = settings.broker_permission;
        let single = settings.single_topic_register;
        let is_part_enough = |told: &&Told| told.permission == permission && (changed || !told.must_tell_all(&settings, Instant::now()));
        let Some(told) = self.told.as_ref().filter(is_part_enough) else {
            return self.tell_all(local).await;
        };
        let (version, all) = (told.version, (told.all_at, told.all_bytes));
        let has_it = async { Ok(self.ask(self.greeting.ask(local, version)).await?.ext.bool("changed") == Some(false)) };
        let (newest, topics) = self.greeting.topics.changed_since(version);
        if newest == version {
            return if has_it.await? { Ok(()) } else { self.tell_all(local).await };
        }
        let (has_it, ways) = tokio::try_join!(has_it, self.ways())?;
        if !has_it {
            return self.tell_all(local).await;
        }
        let single = single && topics.len() <= MAX_SINGLY;
        if single {
            self.tell_singly(&topics).await?;
        }
        if ways.deletes {
            if !single {
                return self.tell_all(local).await;
            }
            if let Some(told) = &mut self.told {
                told.behind = true;
            }
            return Ok(());
        }
        let rest: &[Arc<Topic>] = if single { &[] } else { &topics };
        self.tell_parts(local, rest, newest, ways).await?;
        self.told = Some(Told {
            version: newest,
            permission,
            all_at: all.0,
            all_bytes: all.1,
            behind: false,
        });
        Ok(())
    }

    /// All topics, whatever the name server has.
    async fn tell_all(&mut self, local: SocketAddr) -> Result<(), Failure> {
        let is_new = self.told.take().is_none();
        let permission = self.greeting.settings.current().broker_permission;
        let (version, topics) = self.greeting.topics.all();
        let all_bytes = topics.iter().map(|topic| parts::weight(topic)).sum();
        let is_small = all_bytes <= SMALL_BYTES && !self.greeting.settings.current().split_registration;
        let ways = if is_small { Ways::default() } else { self.ways().await? };
        if ways.deletes {
            self.tell_whole(local, &topics, version, ways).await?;
        } else {
            self.tell_parts(local, &topics, version, ways).await?;
        }
        *self.address.lock() = Some(self.greeting.identity.addresses(local).0.into());
        let all_at = Instant::now();
        self.confirm_at = is_new.then(|| all_at + CONFIRM_AFTER);
        self.told = Some(Told {
            version,
            permission,
            all_at,
            all_bytes,
            behind: false,
        });
        Ok(())
    }

    /// In one request, for a name server that deletes what a request does not name.
    async fn tell_whole(&self, local: SocketAddr, topics: &[Arc<Topic>], version: DataVersion, ways: Ways) -> Result<(), Failure> {
        let bytes: usize = topics.iter().map(|topic| parts::weight(topic)).sum();
        let compressed = self.greeting.settings.current().compressed_register || bytes > PART_BYTES;
        let frame = self.greeting.register(local, topics, version, compressed);
        let max = ways.max_frame.unwrap_or(MAX_FRAME_LEN);
        if frame.body.len() + AROUND_BODY > max {
            return Err(Failure::Refused(format!(
                "the {} topics take {} bytes in one request, a frame holds {max}, and this name server deletes topics that are in another \
                 request: set its deleteTopicWithBrokerRegistration to false",
                topics.len(),
                frame.body.len()
            )));
        }
        let answer = self.ask(frame).await?;
        self.take_order(&answer);
        Ok(())
    }

    /// In as many requests as are needed, the last of them with the version, when all others are answered.
    async fn tell_parts(&mut self, local: SocketAddr, topics: &[Arc<Topic>], version: DataVersion, ways: Ways) -> Result<(), Failure> {
        let settings = self.greeting.settings.current();
        let limits = PartLimits {
            bytes: ways.max_frame.map_or(PART_BYTES, |max| PART_BYTES.min(max / 2)),
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
        let mut under_way = 0;
        // A refusal of one part keeps no other from being taken.
        let mut refusal = None;
        let mut before = before.iter();
        loop {
            if under_way < PARTS_UNDER_WAY
                && let Some(part) = before.next()
            {
                self.parts += 1;
                let frame = self
                    .greeting
                    .register(local, part, parts::version_of_part(version, self.parts), compressed);
                let done = done.clone();
                let connection = self.connection()?;
                // The receiver is gone if an earlier part failed.
                let answered = move |answer| drop(done.send(answer));
                connection.request(frame, timeout, answered).map_err(lost)?;
                under_way += 1;
            } else if under_way == 0 {
                break;
            } else {
                let answer = tokio::time::timeout(timeout, answers.recv()).await;
                let Some(answer) = answer.map_err(|_| lost(RequestError::TimedOut))? else {
                    break;
                };
                under_way -= 1;
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
        let answer = self.ask(self.greeting.register(local, last, last_version, compressed)).await?;
        self.take_order(&answer);
        refusal.map_or(Ok(()), Err)
    }

    /// Each in a request of its own.
    async fn tell_singly(&self, topics: &[Arc<Topic>]) -> Result<(), Failure> {
        for topic in topics {
            self.ask(self.greeting.single(topic)).await?;
        }
        Ok(())
    }

    /// What the name server's settings mean to us. One that does not tell them is taken for one with Apache's defaults.
    async fn ways(&self) -> Result<Ways, Failure> {
        let frame = Frame::request(RequestCode::GetNamesrvConfig);
        match self.ask_within(frame, SHORT_TIMEOUT).await {
            Ok(answer) => Ok(Ways::read(&String::from_utf8_lossy(&answer.body))),
            Err(Failure::Refused(_)) => Ok(Ways::default()),
            Err(lost) => Err(lost),
        }
    }

    /// Topics whose order the name server keeps are ordered topics here.
    fn take_order(&self, answer: &Frame) {
        match RegisterBrokerResult::decode(answer) {
            Ok(result) => {
                if let Some(ordered) = &result.order_topics {
                    self.greeting
                        .topics
                        .mark_ordered(ordered.table.keys().map(String::as_str), now_ms());
                }
            }
            Err(error) => tracing::warn!(name_server = self.name_server, %error, "order of topics not understood"),
        }
    }
}

impl Told {
    /// At the end of a period: whether it is time for all topics once more.
    fn must_tell_all(&self, settings: &BrokerSettings, now: Instant) -> bool {
        let amortized = Duration::from_secs((self.all_bytes / FORCED_BYTES_PER_SECOND) as u64);
        let pause = amortized.max(settings.register_name_server_period + settings.register_name_server_period / 2);
        self.behind || settings.force_register && now.saturating_duration_since(self.all_at) >= pause
    }
}

impl Ways {
    /// From properties text.
    fn read(text: &str) -> Self {
        let value = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            lines.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
        };
        Self {
            deletes: value("deleteTopicWithBrokerRegistration") == Some("true"),
            max_frame: value("com.rocketmq.remoting.frameMaxLength").and_then(|bytes| bytes.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_topics_are_told_again_at_the_second_period_or_when_their_bytes_are_worth_it() {
        let settings = |force_register| BrokerSettings {
            force_register,
            ..BrokerSettings::default()
        };
        let told = |seconds, all_bytes, behind| {
            Told {
                version: DataVersion::default(),
                permission: 6,
                // Ahead of what `elapsed` is asked at, so that a machine that was just started has such a time.
                all_at: Instant::now(),
                all_bytes,
                behind,
            }
            .must_tell_all(&settings(true), Instant::now() + Duration::from_secs(seconds))
        };
        assert!(!told(31, 1_000, false) && told(60, 1_000, false));
        let many = 24 << 20;
        assert!(!told(700, many, false) && told(800, many, false));
        assert!(told(0, many, true), "it lacks the version");
        let never = Told {
            version: DataVersion::default(),
            permission: 6,
            all_at: Instant::now(),
            all_bytes: 0,
            behind: false,
        };
        assert!(!never.must_tell_all(&settings(false), Instant::now() + Duration::from_secs(100_000)));
    }

    #[test]
    fn what_matters_of_a_name_servers_settings_is_read() {
        assert_eq!(Ways::read(""), Ways::default());
        let text = "listenPort=9876\ndeleteTopicWithBrokerRegistration=true\ncom.rocketmq.remoting.frameMaxLength=65536\n";
        let expected = Ways {
            deletes: true,
            max_frame: Some(65_536),
        };
        assert_eq!(Ways::read(text), expected);
        assert!(!Ways::read("deleteTopicWithBrokerRegistration=false").deletes);
    }
}
