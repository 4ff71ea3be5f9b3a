//! `bench send --protocol grpc`: a closed loop of calls with one message each.

use std::sync::{Arc, Mutex, PoisonError};

use proxy::v2::{Code, SendMessageResponse};

use super::super::arguments::SendArguments;
use super::super::closed::Pace;
use super::super::progress::Progress;
use super::super::report::{Report, plural};
use super::super::threads::Threads;
use super::super::totals::{Clock, Counter, Window};
use super::call::{Channel, is_code, told};
use super::{Sends, address_of, find_queues, runtime, thread_count};
use crate::failure::Failure;

pub(in crate::bench) fn run(arguments: &SendArguments) -> Result<Report, Failure> {
    arguments.check()?;
    if arguments.batch > 1 || arguments.topics > 1 || arguments.lite_topics.is_some() || arguments.rate.is_some() {
        return Err(Failure::new(
            "--batch, --topics, --lite-topics and --rate are not there for --protocol grpc",
        ));
    }
    if arguments.transactions.is_some() || arguments.after.is_some() || arguments.at.is_some() {
        return Err(Failure::new("--transactions, --after and --at are not there for --protocol grpc"));
    }
    let address = address_of(&arguments.target)?.to_owned();
    let queues = find_queues(&address, &arguments.target.topic)?;
    let (clock, window) = (Clock::start(), Window::new(arguments.load.warmup(), arguments.load.seconds()));
    let (mut threads, mut counters) = (Threads::default(), Vec::new());
    let connections: Vec<u32> = (0..arguments.load.connections).collect();
    for of_thread in connections.chunks(connections.len().div_ceil(thread_count(arguments.load.connections))) {
        let counter = Arc::new(Counter::new(window));
        counters.push(Arc::clone(&counter));
        let (own, address, in_flight) = (of_thread.to_vec(), address.clone(), arguments.window);
        let (topic, size) = (arguments.target.topic.clone(), arguments.load.size as usize);
        threads.spawn("bench-sender", move || {
            runtime()?.block_on(async {
                let pace = Arc::new(Pace {
                    counter,
                    clock,
                    end_us: window.end_us,
                });
                let mut slots = Vec::new();
                for connection in own {
                    let channel = Channel::connect(&address, &format!("ApogeeBench-{connection}")).await?;
                    let sends = Sends::new(&topic, size, u64::from(std::process::id()), u64::from(connection));
                    let sends = Arc::new(Mutex::new(sends));
                    for _ in 0..in_flight {
                        slots.push(tokio::spawn(send(channel.clone(), Arc::clone(&sends), Arc::clone(&pace), size)));
                    }
                }
                for slot in slots {
                    slot.await.map_err(Failure::new)??;
                }
                Ok(())
            })
        })?;
    }
    let progress = Progress {
        clock,
        window,
        counters: &counters,
        output: &arguments.output,
    };
    let used = progress.until_the_end(&mut threads)?;
    threads.join()?;
    let what = format!(
        "gRPC send {} B, {}, {} in flight on each, {}",
        arguments.load.size,
        plural(u64::from(arguments.load.connections), "connection"),
        arguments.window,
        plural(queues.len() as u64, "queue")
    );
    Ok(Report::new(what, &counters, window.seconds(), used))
}

/// One request after the other, until the end.
async fn send(channel: Channel, sends: Arc<Mutex<Sends>>, pace: Arc<Pace>, size: usize) -> Result<(), Failure> {
    loop {
        let due_us = pace.clock.now_us();
        if due_us >= pace.end_us {
            return Ok(());
        }
        let request = sends.lock().unwrap_or_else(PoisonError::into_inner).next(None);
        let answer: SendMessageResponse = channel.unary("SendMessage", request).await?;
        let mut counts = pace.counter.open();
        if is_code(answer.status.as_ref(), &[Code::Ok]) {
            counts.success(due_us, pace.clock.now_us(), 1, size as u64);
        } else {
            counts.failure(due_us, || told(answer.status.as_ref()));
        }
    }
}
