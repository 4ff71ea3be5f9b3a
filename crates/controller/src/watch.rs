//! What the leader does by itself: it elects a master for names whose master is gone, and tells brokers of a new master (code 1008).

use std::sync::Arc;
use std::time::Duration;

use net::client::{Peer, PeerOptions};
use protocol::{Frame, RequestCode};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::alive::Gone;
use crate::core::Core;
use crate::lost::{leases, lost_masters, was_master};
use crate::replicas::{BrokerSet, Command};
use crate::told::{in_sync, master_header};

/// Pause before an election is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Pause between two attempts to find out whether a suspected broker is gone.
const PROBE_PAUSE: Duration = Duration::from_millis(50);
/// Limit on one of them.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Limit on connecting to a broker. Compat: Apache's.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs until the controller stops: scans for expired brokers and lost masters, also when this controller becomes the leader.
pub(crate) async fn run(core: Arc<Core>, stop: Arc<Notify>, failed: impl Fn()) {
    let settings = core.settings.current();
    let scan = settings.scan_not_active_broker_interval;
    let mut masters = tokio::time::interval(settings.scan_inactive_master_interval);
    let mut metrics = core.raft.metrics();
    let mut last = None;
    let mut beginning: Option<JoinHandle<()>> = None;
    loop {
        let term = core.leads();
        if term != last {
            tracing::info!(is_leader = term.is_some(), "the leader of the controllers has changed");
            last = term;
        }
        // With each event, so that no change is missed: without this a leader elects nobody.
        if let Some(term) = term
            && !core.elections.lock().serves(term)
            && beginning.as_ref().is_none_or(JoinHandle::is_finished)
        {
            beginning = Some(tokio::spawn(begin_to_lead(Arc::clone(&core), term)));
        }
        tokio::select! {
            () = stop.notified() => return,
            () = core.heard.notified() => {}
            () = tokio::time::sleep(until_expiry(&core, scan)) => {
                let now_ms = core.now_ms();
                let gone = core.alive.lock().expire(now_ms);
                lost(&core, gone, "its heartbeat timeout has passed");
            }
            _ = masters.tick() => elect_for_lost_masters(&core),
            changed = metrics.changed() => {
                let running = metrics.borrow_and_update().running_state.clone();
                // The channel closes when the node's task has panicked.
                let ended = changed.map_err(|_| "its task has ended".to_owned());
                if let Err(error) = running.map_err(|fatal| fatal.to_string()).and(ended) {
                    tracing::error!("the controller cannot go on and stops: {error}");
                    failed();
                    return;
                }
            }
        }
    }
}

/// This controller leads in this term. Before it elects anybody, it has to know which masters the last leader may have confirmed until now.
async fn begin_to_lead(core: Arc<Core>, term: u64) {
    while core.leads() == Some(term) {
        match core.read(|replicas| leases(replicas).collect::<Vec<_>>()).await {
            Ok(masters) => {
                let now_ms = core.now_ms();
                let suspected = {
                    let mut alive = core.alive.lock();
                    alive.leads(masters, now_ms);
                    alive.suspected()
                };
                core.elections.lock().serve(term);
                core.heard.notify_one();
                suspect(&core, suspected);
                elect_for_lost_masters(&core);
                return;
            }
            Err(error) => tracing::info!(%error, "no election yet: the other controllers do not follow"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Time until the next broker's timeout passes, at most `scan`.
fn until_expiry(core: &Core, scan: Duration) -> Duration {
    let next = core.alive.lock().next_expiry_ms();
    // The timeout has passed after that millisecond.
    let left = next.map(|next| next.saturating_sub(core.now_ms()).saturating_add(1).max(1));
    left.map_or(scan, |left| Duration::from_millis(left.unsigned_abs()).min(scan))
}

/// Connections of brokers are closed. Where nobody listens any more the process is gone, and another master is elected at once. Otherwise
/// it may be only the connection, and the master would go on beside another one: its heartbeat timeout decides. On the runtime of the
/// caller.
pub(crate) fn suspect(core: &Arc<Core>, suspected: Vec<Gone>) {
    if !core.is_leader() {
        // Who leads next does it.
        return;
    }
    for gone in suspected {
        let core = Arc::clone(core);
        tokio::spawn(async move {
            while core.alive.lock().is_suspected(&gone.cluster, &gone.broker, gone.id) && core.is_leader() {
                let address = core.applied.read(|replicas| {
                    let set = replicas.set(&gone.broker)?;
                    set.address(gone.id).map(str::to_owned)
                });
                if is_refused(address.as_deref()).await {
                    if core.alive.lock().is_gone(&gone) {
                        lost(&core, vec![gone], "its connection is closed, and nobody listens at its address");
                    }
                    return;
                }
                tokio::time::sleep(PROBE_PAUSE).await;
            }
        });
    }
}

/// Whether nobody listens there: the machine answers, the process does not.
async fn is_refused(address: Option<&str>) -> bool {
    let Some(address) = address else { return true };
    let connected = tokio::time::timeout(PROBE_TIMEOUT, tokio::net::TcpStream::connect(address)).await;
    matches!(connected, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// Elects another master for brokers that are gone, on the runtime of the caller.
pub(crate) fn lost(core: &Arc<Core>, gone: Vec<Gone>, why: &str) {
    for gone in gone {
        tracing::warn!(gone.cluster, gone.broker, gone.id, "a broker is not alive: {why}");
        if core.applied.read(|replicas| was_master(replicas, &gone)) && core.is_leader() {
            tokio::spawn(elect(Arc::clone(core), gone.broker));
        }
    }
}

fn elect_for_lost_masters(core: &Arc<Core>) {
    if !core.is_leader() {
        return;
    }
    let now_ms = core.now_ms();
    let lost = {
        let alive = core.alive.lock();
        core.applied.read(|replicas| lost_masters(replicas, &alive, now_ms))
    };
    for broker in lost {
        tokio::spawn(elect(Arc::clone(core), broker));
    }
}

async fn elect(core: Arc<Core>, broker: String) {
    let settings = core.settings.current();
    for _ in 0..settings.elect_master_max_retry_count {
        let command = |core: &Core| Command::Elect {
            candidate: None,
            designated: false,
            unclean: core.settings.current().enable_elect_unclean_master,
            seen_epoch: core.epoch_of(&broker),
            alive: core.alive_of(&broker),
            broker: broker.clone(),
        };
        match core.elect(&broker, None, command).await {
            Ok(answer) => {
                match (&answer.refusal, &answer.set) {
                    (None, Some(set)) => {
                        tracing::warn!(broker, master = set.master, epoch = set.master_epoch, "elected a master");
                        notify(&core, &broker, set);
                    }
                    (Some(refusal), _) => tracing::warn!(broker, "no new master: {refusal}"),
                    (None, None) => {}
                }
                return;
            }
            Err(error) => tracing::warn!(broker, %error, "an election failed"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Tells the living brokers of a name who is their master, on the runtime of the caller. Who misses it asks by itself.
pub(crate) fn notify(core: &Arc<Core>, broker: &str, set: &BrokerSet) {
    if !core.settings.current().notify_broker_role_changed {
        return;
    }
    let frame = Arc::new(role_changed(set));
    let now_ms = core.now_ms();
    for live in core.alive.lock().of(&set.cluster, broker, now_ms) {
        let Some(address) = set.address(live.id) else { continue };
        let (address, frame, connector) = (address.to_owned(), Arc::clone(&frame), core.connector.clone());
        let Ok(permit) = Arc::clone(&core.waiting).try_acquire_owned() else {
            tracing::warn!(address, "too many requests wait to tell a broker of its new master");
            continue;
        };
        tokio::spawn(async move {
            let options = PeerOptions {
                connect_timeout: NOTIFY_TIMEOUT,
                connector,
                ..PeerOptions::default()
            };
            let sent = match Peer::connect(&address, options).await {
                Ok(peer) => peer.one_way(&frame).map_err(std::io::Error::other),
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                tracing::warn!(address, %error, "a broker was not told of its new master");
            }
            drop(permit);
        });
    }
}

fn role_changed(set: &BrokerSet) -> Frame {
    let mut frame = Frame::request(RequestCode::NotifyBrokerRoleChanged)
        .oneway()
        .with_body(in_sync(set));
    master_header(set).encode(&mut frame.ext);
    frame
}
