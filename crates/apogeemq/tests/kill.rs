//! The built program, killed with SIGKILL under load again and again, and stopped with SIGTERM: what it acknowledged is there.
//!
//! Each queue has one producer on a connection of its own, which notes every answer it gets. A reader of the whole broker then
//! looks for what was noted: at its offset, in the order it was sent.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use client::{Client, Error, Message, Options, Outcome, Pending, Producer, Puller, Queue, Stored, Wish};
use protocol::topic::TopicConfig;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const TOPIC: &str = "orders";
const GROUP: &str = "readers";
const QUEUES: i32 = 4;
const ROUNDS: usize = 50;
/// Sends of one producer that are not answered yet.
const IN_FLIGHT: usize = 16;
const DEADLINE: Duration = Duration::from_secs(30);
/// As configured below; and how late a busy machine may be with it.
const OFFSETS_SAVED_EVERY: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_secs(1);

/// A process that does not outlive its test.
struct Running {
    child: Child,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the program lives.
struct Home {
    dir: tempfile::TempDir,
    namesrv_port: u16,
    broker_port: u16,
}

impl Home {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            namesrv_port: free_port(),
            broker_port: free_broker_port(),
        }
    }

    fn start(&self, flush_disk_type: &str) -> Running {
        let small = "mappedFileSizeCommitLog=262144\nmappedFileSizeConsumeQueue=20000\nmaxHashSlotNum=1000\nmaxIndexNum=4000\n\
                     apogeeCheckpointBytes=1048576\nflushConsumerOffsetInterval=100\ncleanFileForciblyEnable=false\n\
                     diskMaxUsedSpaceRatio=95\ndiskSpaceWarningLevelRatio=100\n";
        let config = format!("flushDiskType={flush_disk_type}\n{small}");
        std::fs::write(self.dir.path().join("broker.conf"), config).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_apogeemq"))
            .args([
                "-c",
                "broker.conf",
                "--bind",
                "127.0.0.1",
                "--data",
                "data",
                "--log",
                "warn,store=info",
            ])
            .args(["--namesrv-port", &self.namesrv_port.to_string()])
            .args(["--broker-port", &self.broker_port.to_string()])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.log()).unwrap())
            .spawn()
            .unwrap();
        let mut running = Running {
            child,
            address: format!("127.0.0.1:{}", self.broker_port),
        };
        let begun = Instant::now();
        while TcpStream::connect(&running.address).is_err() {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended with {ended:?}: {}", self.logged());
            assert!(begun.elapsed() < DEADLINE, "the port did not open: {}", self.logged());
            std::thread::sleep(Duration::from_millis(2));
        }
        running
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.path().join("stderr")
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap()
    }

    fn data(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.dir.path()).join("data").join(name)
    }
}

impl Running {
    fn queue(&self, id: i32) -> Queue {
        Queue::at(&self.address, TOPIC, id)
    }

    fn client(&self) -> Client {
        Client::new(Options::with_broker(&self.address))
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().code(), None);
    }

    fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "it did not stop");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One whose neighbours, the VIP port and the reserved one, are free as well.
fn free_broker_port() -> u16 {
    loop {
        let port = free_port();
        let neighbours = [port - 2, port + 1].map(|port| TcpListener::bind(("127.0.0.1", port)));
        if neighbours.iter().all(Result::is_ok) {
            return port;
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), work).await.expect("it hangs") })
}

async fn create_topic(client: &Client, address: &str, name: &str) {
    let topic = TopicConfig {
        topic_name: name.to_owned(),
        read_queue_nums: QUEUES,
        write_queue_nums: QUEUES,
        ..TopicConfig::default()
    };
    client.create_topic(address, &topic).await.unwrap();
}

/// What the producer of a queue knows.
#[derive(Default)]
struct Noted {
    /// Bodies begin with a number that only grows.
    serial: usize,
    acknowledged: Vec<(i64, String)>,
}

impl Noted {
    fn next_body(&mut self, queue: i32) -> String {
        self.serial += 1;
        format!("{queue}-{:08}-{}", self.serial, "x".repeat(self.serial * 37 % 900))
    }
}

/// Sends until the connection breaks; also takes the answers that came before it broke.
async fn produce(client: Client, queue: Queue, mut noted: Noted) -> Noted {
    let producer = Producer::new(&client, "writers");
    let mut flying: VecDeque<(String, Pending)> = VecDeque::new();
    let mut broken = false;
    loop {
        while !broken && flying.len() < IN_FLIGHT {
            let body = noted.next_body(queue.id);
            match producer.begin(&queue, Message::new(TOPIC, body.clone())).await {
                Ok(pending) => flying.push_back((body, pending)),
                Err(_) => broken = true,
            }
        }
        let Some((body, pending)) = flying.pop_front() else { return noted };
        match pending.await {
            Ok(sent) => {
                assert_eq!((sent.stored, sent.queue.id), (Stored::AsPromised, queue.id));
                noted.acknowledged.push((sent.offset, body));
            }
            Err(Error::Busy { .. }) => {}
            Err(_) => broken = true,
        }
    }
}

/// Commits ever higher offsets until the connection breaks: each with the time at which the broker had taken it.
async fn commit(client: Client, queue: Queue, mut offset: i64) -> Vec<(Instant, i64)> {
    let puller = Puller::new(&client, GROUP);
    let mut taken = Vec::new();
    while puller.commit(&queue, offset + 1).await.is_ok() {
        offset += 1;
        taken.push((Instant::now(), offset));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    taken
}

/// All messages of a queue by offset; they follow each other without a hole from 0 on.
async fn read_all(client: &Client, queue: &Queue) -> Vec<String> {
    let puller = Puller::new(client, GROUP);
    let mut bodies = Vec::new();
    loop {
        let pulled = puller.pull(queue, bodies.len() as i64, &Wish::default()).await.unwrap();
        if pulled.outcome != Outcome::Found {
            assert_eq!((pulled.max_offset, pulled.outcome), (bodies.len() as i64, Outcome::NothingNew));
            return bodies;
        }
        for record in pulled.records() {
            let record = record.unwrap();
            assert!(record.crc_matches());
            assert_eq!(record.queue_offset.0, bodies.len() as i64, "offsets follow each other");
            bodies.push(String::from_utf8(record.body.to_vec()).unwrap());
        }
    }
}

/// Whether a queue has what its producer was told, where it was told, and everything in the order it was sent.
fn compare(queue: i32, noted: &Noted, found: &[String]) {
    for (offset, body) in &noted.acknowledged {
        let there = usize::try_from(*offset).ok().and_then(|at| found.get(at));
        assert_eq!(
            there.map(|b| &b[..10]),
            Some(&body[..10]),
            "queue {queue}: acknowledged at {offset} of {}",
            found.len()
        );
        assert_eq!(there, Some(body), "queue {queue}: whole at {offset}");
    }
    let forward = |pair: &[(i64, String)]| pair[0].0 < pair[1].0 && pair[0].1[..10] < pair[1].1[..10];
    assert!(noted.acknowledged.windows(2).all(forward), "queue {queue}: answers went back");
    let mut last = String::new();
    for body in found {
        let number = body[..10].to_owned();
        let serial: usize = number[2..].parse().unwrap();
        assert_eq!(body.len(), 11 + serial * 37 % 900, "queue {queue}: {number} is not what was sent");
        assert!(last < number && serial <= noted.serial, "queue {queue}: {number} after {last}");
        last = number;
    }
}

async fn read_and_compare(client: &Client, running: &Running, noted: &HashMap<i32, Noted>) {
    for (id, noted) in noted {
        let found = read_all(client, &running.queue(*id)).await;
        compare(*id, noted, &found);
    }
}

/// Load on all queues until the process is killed. Returns the commits that the broker had taken.
async fn load(running: Running, noted: &mut HashMap<i32, Noted>, committed: i64, time: Duration) -> Vec<(Instant, i64)> {
    let producers: Vec<_> = (0..QUEUES)
        .map(|id| tokio::spawn(produce(running.client(), running.queue(id), noted.remove(&id).unwrap_or_default())))
        .collect();
    let committer = tokio::spawn(commit(running.client(), running.queue(0), committed));
    tokio::time::sleep(time).await;
    running.kill();
    for (id, producer) in (0..QUEUES).zip(producers) {
        noted.insert(id, producer.await.unwrap());
    }
    committer.await.unwrap()
}

#[test]
fn killed_fifty_times_under_load_it_has_all_it_acknowledged() {
    let home = Home::new();
    let mut noted: HashMap<i32, Noted> = HashMap::new();
    let (mut committed, mut must_be_committed) = (0, 0);
    for round in 0..ROUNDS {
        let mode = ["ASYNC_FLUSH", "SYNC_FLUSH"][round % 2];
        let running = home.start(mode);
        block_on(async {
            let client = running.client();
            if round == 0 {
                create_topic(&client, &running.address, TOPIC).await;
            }
            let found = Puller::new(&client, GROUP).committed(&running.queue(0)).await.unwrap().unwrap_or(0);
            assert!(
                found >= must_be_committed,
                "round {round}: committed offset {found}, {must_be_committed} was saved"
            );
            committed = found;
            for (id, noted) in &noted {
                let max = client.max_offset(&running.queue(*id)).await.unwrap();
                let told = noted.acknowledged.last().map_or(0, |(offset, _)| offset + 1);
                assert!(
                    max >= told,
                    "round {round} {mode}, queue {id}: ends at {max}, {told} were acknowledged"
                );
            }
            if round % 10 == 9 {
                read_and_compare(&client, &running, &noted).await;
            }
            let long = round % 10 == 5;
            let time = if long {
                2 * LATE
            } else {
                Duration::from_millis(100 + round as u64 * 7 % 200)
            };
            let taken = load(running, &mut noted, committed, time).await;
            let killed = Instant::now();
            let saved = taken
                .iter()
                .rfind(|(at, _)| killed.duration_since(*at) > OFFSETS_SAVED_EVERY + LATE);
            must_be_committed = saved.map_or(committed, |(_, offset)| *offset);
        });
    }
    let running = home.start("SYNC_FLUSH");
    block_on(async { read_and_compare(&running.client(), &running, &noted).await });
    assert!(must_be_committed > 0, "offsets were committed");
    let acknowledged: usize = noted.values().map(|noted| noted.acknowledged.len()).sum();
    assert!(acknowledged > ROUNDS * 20, "only {acknowledged} messages in all");
    assert!(
        std::fs::read_dir(home.data("commitlog")).unwrap().count() > 2,
        "the log has changed files"
    );
}

#[test]
fn on_sigterm_it_answers_what_it_took_and_ends_with_0() {
    for mode in ["ASYNC_FLUSH", "SYNC_FLUSH"] {
        let home = Home::new();
        let mut running = home.start(mode);
        let noted = block_on(async {
            let client = running.client();
            create_topic(&client, &running.address, TOPIC).await;
            let producers: Vec<_> = (0..QUEUES)
                .map(|id| tokio::spawn(produce(running.client(), running.queue(id), Noted::default())))
                .collect();
            create_topic(&client, &running.address, "quiet").await;
            let parked = Puller::new(&client, GROUP);
            let wish = Wish {
                wait: Duration::from_secs(20),
                ..Wish::default()
            };
            let quiet = Queue::at(&running.address, "quiet", 0);
            let (pulled, ()) = tokio::join!(parked.pull(&quiet, 0, &wish), async {
                for id in 0..QUEUES {
                    while client.max_offset(&running.queue(id)).await.unwrap() < 20 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                running.terminate();
            });
            assert_eq!(pulled.unwrap().outcome, Outcome::NothingNew, "the parked pull is answered");
            let mut noted = HashMap::new();
            for (id, producer) in (0..QUEUES).zip(producers) {
                noted.insert(id, producer.await.unwrap());
            }
            noted
        });
        assert_eq!(running.ended().code(), Some(0), "{}", home.logged());
        assert!(!home.data("abort").exists());
        drop(running);
        let running = home.start(mode);
        block_on(async {
            let client = running.client();
            for (id, noted) in &noted {
                let found = read_all(&client, &running.queue(*id)).await;
                compare(*id, noted, &found);
                assert_eq!(found.len(), noted.acknowledged.len(), "queue {id}, {mode}: stored and not answered");
                assert!(!found.is_empty());
            }
        });
    }
}

#[test]
fn after_a_stop_in_order_nothing_is_recovered_and_after_a_kill_what_is_not_in_the_checkpoint() {
    let home = Home::new();
    let send = |running: &Running, count: usize| {
        block_on(async {
            let client = running.client();
            create_topic(&client, &running.address, TOPIC).await;
            let producer = Producer::new(&client, "writers");
            for _ in 0..count {
                producer.send_to(&running.queue(0), Message::new(TOPIC, "hello")).await.unwrap();
            }
        });
    };
    let mut running = home.start("ASYNC_FLUSH");
    send(&running, 20);
    running.terminate();
    assert_eq!(running.ended().code(), Some(0));
    let running = home.start("ASYNC_FLUSH");
    assert!(!home.logged().contains("recovered"), "{}", home.logged());
    send(&running, 7);
    running.kill();
    let running = home.start("ASYNC_FLUSH");
    let log = home.logged();
    assert!(log.contains("recovered") && log.contains("messages=7"), "{log}");
    let found = block_on(async { read_all(&running.client(), &running.queue(0)).await });
    assert_eq!(found.len(), 27);
}

#[test]
fn a_second_process_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let home = Home::new();
    let running = home.start("ASYNC_FLUSH");
    let second = Command::new(env!("CARGO_BIN_EXE_apogeemq"))
        .args(["--bind", "127.0.0.1", "--data", "data"])
        .args(["--namesrv-port", &free_port().to_string()])
        .args(["--broker-port", &free_broker_port().to_string()])
        .current_dir(home.dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains("in use by another process") && text.contains("--data"), "{text}");
    block_on(async {
        let client = running.client();
        create_topic(&client, &running.address, TOPIC).await;
        let sent = Producer::new(&client, "writers")
            .send_to(&running.queue(0), Message::new(TOPIC, "a"))
            .await;
        assert_eq!(sent.unwrap().offset, 0);
    });
}
