//! Shows who leads, while the parts of a local cluster come and go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use client::{Client, Options};
use protocol::controller::ReplicaIdentity;

use super::part::{BROKER, Part};
use crate::failure::Failure;

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(200);
/// A controller that takes longer is passed over.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A thread that looks, and stops the parts at its end.
pub(super) struct Watching {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watching {
    pub(super) fn start(parts: Vec<Part>) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::new)?;
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || watch(&runtime, parts, &stopping))
            .map_err(Failure::new)?;
        Ok(Self { stop, thread })
    }

    /// Stops all parts: brokers first, so that they can say goodbye.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.thread.join();
    }
}

/// What is shown, again only when it has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    leader: Option<String>,
    master: Option<String>,
    epoch: i32,
    in_sync: BTreeSet<String>,
    missing: BTreeSet<String>,
}

fn watch(runtime: &tokio::runtime::Runtime, mut parts: Vec<Part>, stop: &AtomicBool) {
    let begun = Instant::now();
    let mut before = Seen::default();
    let client = Client::new(Options {
        request_timeout: TIMEOUT,
        // Controllers are asked by address.
        ..Options::with_name_servers([] as [&str; 0])
    });
    while !stop.load(Ordering::Acquire) {
        for part in &mut parts {
            if part.has_ended() {
                show(begun, &format!("{} has ended; start it again: {}", part.name, part.command()));
            }
        }
        let seen = runtime.block_on(look(&client, &parts));
        if let Some(seen) = seen.filter(|seen| *seen != before) {
            show(begun, &line(&seen, &parts));
            before = seen;
        }
        std::thread::sleep(EVERY);
    }
    parts.iter_mut().rev().for_each(Part::stop);
}

async fn look(client: &Client, parts: &[Part]) -> Option<Seen> {
    for part in parts.iter().filter(|part| !part.is_broker()) {
        let Ok(controllers) = client.controllers(&part.controller()).await else {
            continue;
        };
        let Some(leader) = controllers.leader_address else { continue };
        let Ok(states) = client.sync_states(&leader, &[BROKER.to_owned()]).await else {
            continue;
        };
        let set = states.replicas_info_table.get(BROKER).cloned().unwrap_or_default();
        let names = |replicas: &[ReplicaIdentity], alive: bool| {
            let wanted = replicas.iter().filter(|replica| replica.alive == alive);
            wanted
                .map(|replica| name_of(parts, &replica.broker_address))
                .collect::<BTreeSet<_>>()
        };
        let missing = &names(&set.in_sync_replicas, false) | &names(&set.not_in_sync_replicas, false);
        return Some(Seen {
            leader: controllers.leader_id,
            master: set.master_address.as_deref().map(|address| name_of(parts, address)),
            epoch: set.master_epoch,
            in_sync: names(&set.in_sync_replicas, true),
            missing,
        });
    }
    None
}

fn name_of(parts: &[Part], address: &str) -> String {
    let known = parts.iter().find(|part| part.address() == address);
    known.map_or_else(|| address.to_owned(), |part| part.name.clone())
}

fn line(seen: &Seen, parts: &[Part]) -> String {
    let leader = seen.leader.as_deref().unwrap_or("nobody");
    let process = |name: &str| parts.iter().find(|part| part.name == name).map_or(0, Part::process);
    let master = match &seen.master {
        Some(master) if process(master) > 0 => format!("{master} is the master (epoch {}), process {}", seen.epoch, process(master)),
        Some(master) => format!("{master} is the master (epoch {})", seen.epoch),
        None => "no broker is the master".to_owned(),
    };
    let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let in_sync = match seen.in_sync.is_empty() {
        true => "nobody is in sync".to_owned(),
        false => format!("in sync: {}", list(&seen.in_sync)),
    };
    let missing = match seen.missing.is_empty() {
        true => String::new(),
        false => format!("; not there: {}", list(&seen.missing)),
    };
    format!("{master}; {in_sync}{missing}; {leader} leads the controllers")
}

fn show(begun: Instant, text: &str) {
    println!("  {:>8.2} s  {text}", begun.elapsed().as_secs_f64());
}
