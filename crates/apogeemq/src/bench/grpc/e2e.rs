//! `bench e2e --protocol grpc`: an open loop of sends, and simple consumers whose receives wait at the server until messages arrive.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use proxy::v2::receive_message_response::Content;
use proxy::v2::settings::PubSub;
use proxy::v2::telemetry_command::Command;
use proxy::v2::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, ClientType, Code, FilterExpression, FilterType, MessageQueue,
    ReceiveMessageRequest, ReceiveMessageResponse, SendMessageResponse, Settings, Subscription, SubscriptionEntry, TelemetryCommand,
};

use super::super::arguments::{Acknowledge, E2eArguments};
use super::super::frames;
use super::super::open::{LAST_ANSWERS, Schedule, wait_for_arrivals};
use super::super::progress::{Progress, wait_for};
use super::super::report::{Report, plural};
use super::super::threads::Threads;
use super::super::totals::{Clock, Counter, Window, histogram};
use super::call::{Channel, framed, is_code, told};
use super::{Sends, address_of, duration, find_queues, resource, runtime, thread_count};
use crate::failure::Failure;

/// How long a receive may wait at the server.
const HOLD: Duration = Duration::from_secs(15);
/// Most messages of a receive.
const RECEIVE_MAX: i32 = 32;
/// How long readers may take to connect, each of them.
const CONNECTING: Duration = Duration::from_millis(20);

/// What the readers of a run share.
struct Readers {
    address: String,
    topic: String,
    group: String,
    queues: Vec<MessageQueue>,
    acknowledge: Acknowledge,
    invisible: Duration,
    run: u64,
    /// Readers whose first receive is on its way.
    ready: AtomicU64,
    started: OnceLock<Started>,
    is_over: AtomicBool,
    arrived: AtomicU64,
}

/// What is known when all of them are ready.
struct Started {
    clock: Clock,
    /// One of each thread.
    counters: Vec<Arc<Counter>>,
}

pub(in crate::bench) fn run(arguments: &E2eArguments) -> Result<Report, Failure> {
    arguments.check()?;
    if arguments.delays.is_some() || arguments.after.is_some() {
        return Err(Failure::new("--delays and --after are not there for --protocol grpc"));
    }
    let address = address_of(&arguments.target)?.to_owned();
    let queues = find_queues(&address, &arguments.target.topic)?;
    let count = arguments.readers.unwrap_or(queues.len() as u32);
    let run = RandomState::new().build_hasher().finish();
    let readers = Arc::new(Readers {
        address,
        topic: arguments.target.topic.clone(),
        group: arguments.group.clone().unwrap_or_else(|| format!("ApogeeBenchGrpc_{run:x}")),
        queues,
        acknowledge: arguments.consumption.acknowledge,
        invisible: Duration::from_secs(u64::from(arguments.consumption.invisible)),
        run,
        ready: AtomicU64::new(0),
        started: OnceLock::new(),
        is_over: AtomicBool::new(false),
        arrived: AtomicU64::new(0),
    });
    let mut threads = Threads::default();
    for thread in 0..thread_count(count) {
        let (own, readers) = ((thread as u32..count).step_by(thread_count(count)), Arc::clone(&readers));
        threads.spawn("bench-reader", move || runtime()?.block_on(read(own, thread, readers)))?;
    }
    let are_ready = || readers.ready.load(Ordering::Acquire) == u64::from(count);
    wait_for(Duration::from_secs(10) + CONNECTING * count, || are_ready() || threads.are_over());
    threads.check()?;
    if !are_ready() {
        return Err(Failure::new("the readers could not connect in time"));
    }

    let (clock, window) = (Clock::start(), Window::new(arguments.load.warmup(), arguments.load.seconds()));
    let counters: Vec<_> = (0..thread_count(count)).map(|_| Arc::new(Counter::new(window))).collect();
    // It is set once.
    let _ = readers.started.set(Started {
        clock,
        counters: counters.clone(),
    });
    let senders = Arc::new(Senders {
        clock,
        counter: Arc::new(Counter::new(window)),
        late: Mutex::new(histogram()),
        unanswered: AtomicU64::new(0),
    });
    let mut sending = Threads::default();
    let (own, of_thread, load) = (Arc::clone(&senders), Arc::clone(&readers), arguments.load.clone());
    let schedule = Schedule {
        rate: u64::from(arguments.rate),
        batch: 1,
    };
    sending.spawn("bench-sender", move || {
        runtime()?.block_on(send(&own, &of_thread, schedule, (load.connections, load.size as usize), window))
    })?;
    let progress = Progress {
        clock,
        window,
        counters: &counters,
        output: &arguments.output,
    };
    let used = progress.until_the_end(&mut threads)?;
    sending.join()?;
    let acks = [Arc::clone(&senders.counter)];
    wait_for_arrivals(&counters, &acks, &readers.arrived, &mut threads);
    readers.is_over.store(true, Ordering::Release);
    threads.join()?;
    let what = format!(
        "gRPC e2e {} B, {} a second, {}, received by {}",
        arguments.load.size,
        arguments.rate,
        plural(readers.queues.len() as u64, "queue"),
        plural(u64::from(count), "reader")
    );
    let late = senders.late.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Report::new(what, &counters, window.seconds(), used)
        .with_acknowledgements(&acks)
        .with_late(&late)
        .with_unanswered(senders.unanswered.load(Ordering::Acquire)))
}

/// What the sends of a run share.
struct Senders {
    clock: Clock,
    counter: Arc<Counter>,
    late: Mutex<Histogram<u64>>,
    unanswered: AtomicU64,
}

/// Sends until the window ends, and waits for the answers.
async fn send(
    senders: &Arc<Senders>,
    readers: &Readers,
    schedule: Schedule,
    (connections, size): (u32, usize),
    window: Window,
) -> Result<(), Failure> {
    let mut channels = Vec::new();
    for connection in 0..connections {
        channels.push(Channel::connect(&readers.address, &format!("ApogeeBenchSender-{connection}")).await?);
    }
    let mut sends = Sends::new(&readers.topic, size, readers.run, 0);
    let from_us = senders.clock.now_us();
    for (n, channel) in (0..).zip(channels.iter().cycle()) {
        let due_us = from_us + schedule.due_us(n);
        if due_us >= window.end_us {
            break;
        }
        let left_us = due_us.saturating_sub(senders.clock.now_us());
        if left_us > 0 {
            tokio::time::sleep(Duration::from_micros(left_us)).await;
        }
        if window.holds(due_us) {
            let late_us = senders.clock.now_us().saturating_sub(due_us).max(1);
            senders
                .late
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .saturating_record(late_us);
        }
        let request = sends.next(Some((readers.run, due_us)));
        let (channel, senders) = (channel.clone(), Arc::clone(senders));
        senders.unanswered.fetch_add(1, Ordering::AcqRel);
        tokio::spawn(async move {
            let answer = channel.unary::<SendMessageResponse>("SendMessage", request).await;
            let mut counts = senders.counter.open();
            match answer {
                Ok(answer) if is_code(answer.status.as_ref(), &[Code::Ok]) => {
                    counts.success(due_us, senders.clock.now_us(), 1, size as u64);
                }
                Ok(answer) => counts.failure(due_us, || told(answer.status.as_ref())),
                Err(failure) => counts.failure(due_us, || failure.to_string()),
            }
            senders.unanswered.fetch_sub(1, Ordering::AcqRel);
        });
    }
    let end = tokio::time::Instant::now() + LAST_ANSWERS;
    while senders.unanswered.load(Ordering::Acquire) > 0 && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// The readers of one thread.
async fn read(own: impl Iterator<Item = u32>, thread: usize, readers: Arc<Readers>) -> Result<(), Failure> {
    let mut running = tokio::task::JoinSet::new();
    for number in own {
        let channel = Channel::connect(&readers.address, &format!("ApogeeBenchReader-{number}")).await?;
        // The client is online while its stream is open.
        let telemetry = channel.open("Telemetry", framed(&readers.settings())).await?;
        let readers = Arc::clone(&readers);
        running.spawn(async move {
            let result = readers.receive_until_the_end(&channel, number, thread).await;
            drop(telemetry);
            result
        });
    }
    let mut look = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            ended = running.join_next() => match ended {
                Some(ended) => ended.map_err(Failure::new)??,
                None => return Ok(()),
            },
            _ = look.tick() => if readers.is_over.load(Ordering::Acquire) {
                return Ok(());
            },
        }
    }
}

impl Readers {
    fn settings(&self) -> TelemetryCommand {
        let subscription = Subscription {
            group: resource(&self.group),
            subscriptions: vec![SubscriptionEntry {
                topic: resource(&self.topic),
                expression: Some(all()),
            }],
            ..Subscription::default()
        };
        let settings = Settings {
            client_type: Some(ClientType::SimpleConsumer.into()),
            pub_sub: Some(PubSub::Subscription(subscription)),
            ..Settings::default()
        };
        TelemetryCommand {
            status: None,
            command: Some(Command::Settings(settings)),
        }
    }

    async fn receive_until_the_end(&self, channel: &Channel, number: u32, thread: usize) -> Result<(), Failure> {
        let request = framed(&ReceiveMessageRequest {
            group: resource(&self.group),
            message_queue: self.queues.get(number as usize % self.queues.len().max(1)).cloned(),
            filter_expression: Some(all()),
            batch_size: RECEIVE_MAX,
            invisible_duration: Some(duration(self.invisible)),
            long_polling_timeout: Some(duration(HOLD)),
            ..ReceiveMessageRequest::default()
        });
        let mut is_first = true;
        loop {
            let asked = channel.call::<ReceiveMessageResponse>("ReceiveMessage", request.clone(), HOLD);
            if std::mem::take(&mut is_first) {
                self.ready.fetch_add(1, Ordering::AcqRel);
            }
            let handles = self.arrived(asked.await?, thread)?;
            match self.acknowledge {
                Acknowledge::Nothing => {}
                Acknowledge::Batch => self.acknowledged(channel, handles).await?,
                Acknowledge::Each => {
                    for handle in handles {
                        self.acknowledged(channel, vec![handle]).await?;
                    }
                }
            }
        }
    }

    /// Counts the messages of this run. Returns the handles of all.
    fn arrived(&self, answers: Vec<ReceiveMessageResponse>, thread: usize) -> Result<Vec<AckMessageEntry>, Failure> {
        let mut handles = Vec::new();
        for answer in answers {
            match answer.content {
                Some(Content::Message(message)) => {
                    if let (Some(started), Some(due_us)) = (self.started.get(), frames::stamp(&message.body, self.run)) {
                        let now_us = started.clock.now_us();
                        started.counters[thread]
                            .open()
                            .success(due_us, now_us, 1, message.body.len() as u64);
                        self.arrived.fetch_add(1, Ordering::AcqRel);
                    }
                    let system = message.system_properties.unwrap_or_default();
                    handles.push(AckMessageEntry {
                        message_id: system.message_id,
                        receipt_handle: system.receipt_handle.unwrap_or_default(),
                        ..AckMessageEntry::default()
                    });
                }
                Some(Content::Status(status)) if !is_code(Some(&status), &[Code::Ok, Code::MessageNotFound]) => {
                    return Err(Failure::new(format!("a reader was refused: {}", told(Some(&status)))));
                }
                _ => {}
            }
        }
        Ok(handles)
    }

    async fn acknowledged(&self, channel: &Channel, entries: Vec<AckMessageEntry>) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        let request = AckMessageRequest {
            group: resource(&self.group),
            topic: resource(&self.topic),
            entries,
        };
        let answer: AckMessageResponse = channel.unary("AckMessage", framed(&request)).await?;
        match is_code(answer.status.as_ref(), &[Code::Ok]) {
            true => Ok(()),
            false => {
                let text = told(answer.status.as_ref());
                Err(Failure::new(format!("an acknowledgement was refused: {text}")))
            }
        }
    }
}

fn all() -> FilterExpression {
    FilterExpression {
        r#type: FilterType::Tag.into(),
        expression: "*".to_owned(),
    }
}
