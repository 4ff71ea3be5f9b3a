//! Producers that send one message after the other, find the master again when a send fails, and record each acknowledgement.

use crate::cluster::{Cluster, NAME};
use crate::common::block_on;
use client::{Client, Message, Outcome, Producer, PullOptions, Puller, Queue, Stored};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) const TOPIC: &str = "orders";
/// Each has one producer.
pub(crate) const QUEUES: i32 = 4;
/// A send that takes longer is given up, and the master looked for again.
const PATIENCE: Duration = Duration::from_millis(300);
/// Longest wait for acknowledgements.
const DEADLINE: Duration = Duration::from_secs(60);

/// An acknowledged message.
#[derive(Clone, Copy, Debug)]
struct Acked {
    at: Instant,
    queue: i32,
    serial: usize,
    offset: i64,
}

/// What the producers share.
#[derive(Default)]
struct Noted {
    acked: Mutex<Vec<Acked>>,
    /// Messages that were given up.
    given_up: AtomicUsize,
    over: AtomicBool,
}

impl Noted {
    fn acked(&self, queue: i32, serial: usize, offset: i64) {
        self.acked.lock().unwrap().push(Acked {
            at: Instant::now(),
            queue,
            serial,
            offset,
        });
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// See the module.
pub(crate) struct Load {
    noted: Arc<Noted>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(cluster: &Cluster) -> Self {
        Self::of(cluster, |client, queue, noted| block_on(produce(client, queue, noted)))
    }

    /// Producers that know this broker only, and try each message three times, at once.
    pub(crate) fn start_at(cluster: &Cluster, address: &str) -> Self {
        let address = address.to_owned();
        Self::of(cluster, move |client, queue, noted| {
            block_on(insist(client, Queue::at(&address, TOPIC, queue), noted));
        })
    }

    fn of(cluster: &Cluster, produce: impl Fn(Client, i32, &Noted) + Clone + Send + 'static) -> Self {
        let noted = Arc::new(Noted::default());
        let threads = (0..QUEUES).map(|queue| {
            let (client, noted, produce) = (cluster.client(), Arc::clone(&noted), produce.clone());
            std::thread::spawn(move || produce(client, queue, &noted))
        });
        Self {
            threads: threads.collect(),
            noted,
        }
    }

    /// How many messages were given up.
    pub(crate) fn given_up(&self) -> usize {
        self.noted.given_up.load(Ordering::Acquire)
    }

    /// Waits for so many acknowledgements from now on.
    pub(crate) fn until_acknowledged(&self, count: usize) {
        let (begun, before) = (Instant::now(), self.noted.acked.lock().unwrap().len());
        while self.noted.acked.lock().unwrap().len() < before + count {
            assert!(begun.elapsed() < DEADLINE, "nothing is acknowledged any more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until there was no acknowledgement for half a second; returns how many there are.
    pub(crate) fn until_nothing_is_acknowledged(&self) -> usize {
        let begun = Instant::now();
        loop {
            let before = self.noted.acked.lock().unwrap().len();
            std::thread::sleep(Duration::from_millis(500));
            if self.noted.acked.lock().unwrap().len() == before {
                return before;
            }
            assert!(begun.elapsed() < DEADLINE, "messages are still acknowledged");
        }
    }

    /// The longest time without an acknowledgement that ends after `moment`.
    pub(crate) fn gap_after(&self, moment: Instant) -> Duration {
        let mut times: Vec<Instant> = self.noted.acked.lock().unwrap().iter().map(|acked| acked.at).collect();
        times.sort();
        let gaps = times.windows(2).filter(|pair| pair[1] > moment).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    /// Stops the producers, reads every queue from the master, and compares: each acknowledged message is at its offset, and those of a
    /// producer are in its order. Returns how many were acknowledged.
    pub(crate) fn stop_and_read(self, client: &Client, master: &str) -> usize {
        self.noted.over.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let acked = std::mem::take(&mut *self.noted.acked.lock().unwrap());
        for queue in 0..QUEUES {
            let stored = block_on(read(client, &Queue::at(master, TOPIC, queue)));
            for one in acked.iter().filter(|one| one.queue == queue) {
                let there = stored.get(one.offset as usize).map(String::as_str);
                assert_eq!(
                    there,
                    Some(format!("{}-{}", one.queue, one.serial).as_str()),
                    "offset {} of queue {queue}",
                    one.offset
                );
            }
            let serials: Vec<usize> = stored.iter().map(|body| body.split_once('-').unwrap().1.parse().unwrap()).collect();
            assert!(serials.is_sorted(), "queue {queue} is not in order");
        }
        acked.len()
    }
}

async fn produce(client: Client, id: i32, noted: &Noted) {
    let producer = Producer::new(&client, "writers");
    let mut serial = 0;
    let mut master: Option<String> = None;
    while !noted.is_over() {
        let Some(address) = &master else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            master = find_master(&client).await;
            continue;
        };
        serial += 1;
        let queue = Queue::at(address, TOPIC, id);
        let send = producer.send_to(&queue, Message::new(TOPIC, format!("{id}-{serial}")));
        match tokio::time::timeout(PATIENCE, send).await {
            Ok(Ok(sent)) if sent.stored == Stored::Confirmed => noted.acked(id, serial, sent.offset),
            _ => master = None,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn insist(client: Client, queue: Queue, noted: &Noted) {
    let producer = Producer::new(&client, "writers");
    let mut serial = 0;
    while !noted.is_over() {
        serial += 1;
        let mut failures = Vec::new();
        while failures.len() < 3 {
            match producer
                .send_to(&queue, Message::new(TOPIC, format!("{}-{serial}", queue.id)))
                .await
            {
                Ok(sent) if sent.stored == Stored::Confirmed => {
                    noted.acked(queue.id, serial, sent.offset);
                    break;
                }
                other => failures.push(format!("{other:?}")),
            }
        }
        if failures.len() == 3 {
            eprintln!("given up: {failures:?}");
            noted.given_up.fetch_add(1, Ordering::AcqRel);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn find_master(client: &Client) -> Option<String> {
    let asked = tokio::time::timeout(PATIENCE, client.cluster()).await;
    let brokers = asked.ok()?.ok()?.broker_addr_table;
    brokers.get(NAME)?.broker_addrs.get(&0).cloned()
}

/// The bodies of a queue, from offset 0 on.
async fn read(client: &Client, queue: &Queue) -> Vec<String> {
    let puller = Puller::new(client, "readers");
    let mut all = Vec::new();
    loop {
        let pulled = puller.pull(queue, all.len() as i64, &PullOptions::default()).await.unwrap();
        if pulled.outcome != Outcome::Found {
            return all;
        }
        for record in pulled.records() {
            let record = record.unwrap();
            assert_eq!(record.queue_offset.0, all.len() as i64);
            all.push(String::from_utf8_lossy(record.body).into_owned());
        }
    }
}
