//! A peak that is ten times what the worker can do. Senders do not notice; the backlog is worked off afterwards.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{Message, Pending, Producer, Queue};
use protocol::topic::TopicConfig;
use tokio::sync::mpsc;

use super::reader::Reader;
use super::terminal::{Colour, FRAME, bar};
use super::{Stage, check};
use crate::failure::Failure;
use crate::number::grouped;

/// The part's title.
pub(super) const TITLE: &str = "2. A peak of 10,000 orders a second, a worker of 1,000 a second. Nobody is refused.";

const TOPIC: &str = "peak";
const QUEUES: i32 = 4;
/// Orders in the whole part: two seconds of peak.
const ORDERS: u64 = 20_000;
/// Orders sent a second.
const PEAK: u64 = 10_000;
/// Orders that the worker processes a second.
const WORKER: u64 = 1_000;
/// Sends without an answer yet; the sender waits if there are more. Below the limit of a connection.
const IN_FLIGHT: usize = 512;
/// Orders that the worker makes up for at once when it was held up.
const BURST: f64 = 50.0;
/// Time between two looks at how many orders are due.
const TICK: Duration = Duration::from_millis(5);
/// Rates are those of the last second.
const RATE_FRAMES: usize = 10;

/// What the senders did so far.
#[derive(Default)]
struct Sends {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    /// Why the first one was refused.
    reason: Mutex<Option<String>>,
}

/// Runs the part; returns what was shown to be true.
pub(super) async fn run(stage: &mut Stage) -> Result<String, Failure> {
    let queues = stage.server.topic(TopicConfig::new(TOPIC, QUEUES)).await?;
    let orders = stage.scaled(ORDERS);
    let mut worker = Reader::open(&stage.server.client(), "worker", &queues, "*").await?;
    let sends = Arc::new(Sends::default());
    let (answers, pending) = mpsc::channel(IN_FLIGHT);
    let shop = Producer::new(&stage.server.client(), "shop");
    let begun = Instant::now();
    let sending = tokio::spawn(send(shop, queues, orders, answers));
    let counting = tokio::spawn(count(pending, Arc::clone(&sends)));

    let (mut processed, mut most) = (HashSet::new(), 0);
    let (mut repeated, mut drawn, mut rates) = (0, begun, Rates::default());
    let (mut allowed, mut looked) = (0.0, begun);
    while processed.len() as u64 + sends.refused.load(Ordering::Relaxed) < orders {
        allowed = f64::min(allowed + looked.elapsed().as_secs_f64() * WORKER as f64, BURST);
        looked = Instant::now();
        let of_each_queue = (allowed / f64::from(QUEUES)) as i32;
        if of_each_queue > 0 {
            let taken = worker.next(of_each_queue).await?;
            allowed -= taken.len() as f64;
            for order in taken {
                repeated += u64::from(!processed.insert(order));
            }
        } else {
            tokio::time::sleep(TICK).await;
        }
        let acknowledged = sends.acknowledged.load(Ordering::Relaxed);
        let done = processed.len() as u64;
        // A message can be read before its sender has its answer.
        most = most.max(acknowledged.saturating_sub(done));
        if drawn.elapsed() >= FRAME {
            drawn = Instant::now();
            rates.note(acknowledged, done);
            stage.terminal.draw(block(&rates, acknowledged, done, &sends, orders));
        }
    }
    let (acknowledged, done) = (sends.acknowledged.load(Ordering::Relaxed), processed.len() as u64);
    stage.terminal.draw(block(&rates, acknowledged, done, &sends, orders));
    let sent = sending.await.map_err(Failure::new)?;
    counting.await.map_err(Failure::new)?;
    worker.commit().await?;
    let refused = sends.refused.load(Ordering::Relaxed);
    check(
        "orders that were refused",
        &(0, Ok(())),
        &(refused, sent.map_err(|error| error.to_string())),
    )?;
    check(
        "orders that were acknowledged",
        &orders,
        &sends.acknowledged.load(Ordering::Relaxed),
    )?;
    check("orders that were processed twice", &0, &repeated)?;
    stage.sent += orders;
    Ok(format!(
        "{} orders, none refused; up to {} waited; all processed, each once, in {} s",
        grouped(orders),
        grouped(most),
        begun.elapsed().as_secs()
    ))
}

/// Sends at the rate of the peak, without waiting for answers.
async fn send(shop: Producer, queues: Vec<Queue>, orders: u64, answers: mpsc::Sender<Pending>) -> Result<(), client::Error> {
    let begun = Instant::now();
    let mut sent = 0;
    while sent < orders {
        let due = (begun.elapsed().as_secs_f64() * PEAK as f64) as u64;
        while sent < due.min(orders) {
            let queue = &queues[sent as usize % queues.len()];
            let pending = shop.begin(queue, Message::new(TOPIC, sent.to_string())).await?;
            // Closed only if the demo has failed.
            let _ = answers.send(pending).await;
            sent += 1;
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

async fn count(mut pending: mpsc::Receiver<Pending>, sends: Arc<Sends>) {
    while let Some(answer) = pending.recv().await {
        match answer.await {
            Ok(_) => sends.acknowledged.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                let mut reason = sends.reason.lock().unwrap_or_else(PoisonError::into_inner);
                reason.get_or_insert_with(|| error.to_string());
                sends.refused.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// Counters at the last frames.
#[derive(Default)]
struct Rates(VecDeque<(Instant, u64, u64)>);

impl Rates {
    fn note(&mut self, sent: u64, processed: u64) {
        self.0.push_back((Instant::now(), sent, processed));
        if self.0.len() > RATE_FRAMES {
            self.0.pop_front();
        }
    }

    /// Sent and processed a second.
    fn per_second(&self) -> (u64, u64) {
        match (self.0.front(), self.0.back()) {
            (Some((first, sent_first, done_first)), Some((last, sent_last, done_last))) if last > first => {
                let seconds = last.duration_since(*first).as_secs_f64();
                let rate = |from: u64, to: u64| ((to - from) as f64 / seconds).round() as u64;
                (rate(*sent_first, *sent_last), rate(*done_first, *done_last))
            }
            _ => (0, 0),
        }
    }
}

fn block(rates: &Rates, acknowledged: u64, processed: u64, sends: &Sends, orders: u64) -> Vec<String> {
    let (sent_rate, done_rate) = rates.per_second();
    let waiting = acknowledged.saturating_sub(processed);
    let line =
        |name: &str, colour, value, most, unit: &str| format!("  {name:<14}{} {:>7}{unit}", bar(colour, value, most, 40), grouped(value));
    vec![
        line("sent", Colour::Green, sent_rate, PEAK, "/s"),
        line("processed", Colour::Green, done_rate, PEAK, "/s"),
        line("backlog", Colour::Yellow, waiting, orders, ""),
        format!(
            "  {} acknowledged, {} refused, {} processed",
            grouped(acknowledged),
            sends.refused.load(Ordering::Relaxed),
            grouped(processed)
        ),
    ]
}
