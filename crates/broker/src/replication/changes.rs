//! Tells slaves at once that topics, groups or request modes have changed, and knows how far they have copied them.
//!
//! A slave asks for changes, and the question is answered when there are some, or after a second. So it copies tables when they change, and a
//! topic whose creation was acknowledged under a controller is on the in-sync replicas, as messages are.
//!
//! Tables have a *generation*, which grows when changes are saved. It is that of one start of the master: `STARTED:GENERATION`. Apache's masters do
//! not know the question; their slaves, and ours of theirs, copy tables periodically.

use crate::errors::Refusal;
use crate::reply::{Answer, Reply};
use crate::settings::BrokerSettings;
use config::Live;
use parking_lot::Mutex;
use protocol::replication::WaitForTablesHeader;
use protocol::{Frame, ResponseCode};
use replication::Acks;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a question waits for a change.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// A slave that has asked nothing for so long is not waited for.
const SILENT: Duration = Duration::from_secs(3);
/// How long the acknowledgement of a change waits for slaves.
const COPY_WAIT: Duration = Duration::from_millis(500);

/// See the module.
pub struct Changes {
    /// Start of this master, epoch ms: its generations are its own.
    started_ms: i64,
    settings: Arc<Live<BrokerSettings>>,
    /// Under a controller: the in-sync set.
    in_sync: Option<Arc<Acks>>,
    state: Mutex<State>,
    /// A slave has asked.
    asked: Notify,
}

#[derive(Default)]
struct State {
    generation: u64,
    slaves: BTreeMap<i64, Slave>,
}

struct Slave {
    /// The generation that it has.
    has: u64,
    asked_at: Instant,
    /// Its question, while it is not answered.
    waits: Option<Reply>,
}

impl Changes {
    /// Nothing has changed yet. `in_sync` has the in-sync set under a controller: its members are waited for.
    #[must_use]
    pub fn new(started_ms: i64, settings: Arc<Live<BrokerSettings>>, in_sync: Option<Arc<Acks>>) -> Self {
        Self {
            started_ms,
            settings,
            in_sync,
            state: Mutex::default(),
            asked: Notify::new(),
        }
    }

    /// A slave asks for changes; answered now or later.
    pub(crate) fn wait(&self, frame: &Frame, reply: &Reply) {
        let header = match WaitForTablesHeader::decode(&frame.ext) {
            Ok(header) => header,
            Err(error) => return reply.send(Err(error.into())),
        };
        let has = header.known.and_then(|known| self.generation_of(known));
        let most = self.settings.current().max_slaves;
        let old = {
            let mut state = self.state.lock();
            if state.slaves.len() >= most && !state.slaves.contains_key(&header.broker_id) {
                let text = format!("{most} slaves ask for changes, as many as apogeeMaxSlaves allows");
                return reply.send(Err(Refusal::new(ResponseCode::SystemBusy, text)));
            }
            let waits = has == Some(state.generation);
            let slave = Slave {
                has: has.unwrap_or_default(),
                asked_at: Instant::now(),
                waits: waits.then(|| reply.clone()),
            };
            let old = state.slaves.insert(header.broker_id, slave).and_then(|old| old.waits);
            let now = (!waits).then(|| reply.clone());
            old.into_iter()
                .chain(now)
                .map(|reply| (reply, state.generation))
                .collect::<Vec<_>>()
        };
        self.answer(old);
        self.asked.notify_waiters();
    }

    /// Waits until a slave asks, if none has asked lately.
    pub(super) async fn until_asked(&self) {
        let mut asked = pin!(self.asked.notified());
        asked.as_mut().enable();
        if self.state.lock().slaves.is_empty() {
            asked.await;
        }
    }

    /// Changes are saved: slaves that ask hear of them. Returns the new generation.
    pub fn raise(&self) -> u64 {
        let (waiting, generation) = {
            let mut state = self.state.lock();
            state.generation += 1;
            let generation = state.generation;
            (state.take_waiting(|_| true), generation)
        };
        self.answer(waiting);
        generation
    }

    /// Answers questions that have waited long enough. To be called periodically.
    pub(super) fn time_out(&self, now: Instant) {
        let due = {
            let mut state = self.state.lock();
            state
                .slaves
                .retain(|_, slave| now.saturating_duration_since(slave.asked_at) < SILENT * 10);
            state.take_waiting(|slave| now.saturating_duration_since(slave.asked_at) >= PATIENCE)
        };
        self.answer(due);
    }

    /// Under a controller: waits until the in-sync slaves have this generation, for half a second at most, and not for one that does not ask.
    pub async fn until_copied(&self, generation: u64) {
        let Some(in_sync) = &self.in_sync else { return };
        let copied = async {
            loop {
                let mut asked = pin!(self.asked.notified());
                // From now on no question is missed.
                asked.as_mut().enable();
                if self.is_copied(in_sync, generation, Instant::now()) {
                    return;
                }
                asked.await;
            }
        };
        if tokio::time::timeout(COPY_WAIT, copied).await.is_err() {
            tracing::warn!("a change of topics or groups is acknowledged before all in-sync slaves have copied it: one is slow");
        }
    }

    fn is_copied(&self, in_sync: &Acks, generation: u64, now: Instant) -> bool {
        let members = in_sync.look(|set| set.members().ids.clone()).unwrap_or_default();
        let state = self.state.lock();
        let is_behind = |(id, slave): (&i64, &Slave)| {
            members.contains(id) && slave.has < generation && now.saturating_duration_since(slave.asked_at) < SILENT
        };
        !state.slaves.iter().any(is_behind)
    }

    fn token(&self, generation: u64) -> String {
        format!("{}:{generation}", self.started_ms)
    }

    fn generation_of(&self, known: &str) -> Option<u64> {
        let (started, generation) = known.split_once(':')?;
        (started.parse() == Ok(self.started_ms)).then(|| generation.parse().ok()).flatten()
    }

    fn answer(&self, waiting: Vec<(Reply, u64)>) {
        for (reply, generation) in waiting {
            reply.send(Ok(Answer::ok().with("versions", &self.token(generation))));
        }
    }
}

impl State {
    fn take_waiting(&mut self, is_due: impl Fn(&Slave) -> bool) -> Vec<(Reply, u64)> {
        let generation = self.generation;
        let due = self.slaves.values_mut().filter(|slave| is_due(slave));
        due.filter_map(|slave| slave.waits.take())
            .map(|reply| (reply, generation))
            .collect()
    }
}
