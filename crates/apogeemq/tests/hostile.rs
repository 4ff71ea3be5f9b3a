//! The program with malicious or faulty clients: what they cost, and that other clients are served.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{Message, Producer, Stored};
use common::{DEADLINE, Home, Running, apogeemq, block_on};
use protocol::RequestCode;
use protocol::frame::Frame;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TOPIC: &str = "orders";

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a server with a limit of descriptors.
fn start_with_descriptors(home: &Home, limit: u32, settings: &str) -> Running {
    std::fs::write(home.path("broker.conf"), settings).unwrap();
    let server = home.command();
    // The rest of the environment is that of `apogeemq`.
    let mut command = apogeemq(server.get_current_dir().unwrap());
    let program = command.get_program().to_owned();
    command = Command::new("bash");
    command.current_dir(server.get_current_dir().unwrap());
    for (name, _) in server.get_envs() {
        command.env_remove(name);
    }
    command.arg("-c").arg(format!("ulimit -n {limit} && exec \"$0\" \"$@\""));
    command
        .arg(program)
        .args(server.get_args())
        .args(["-c", "broker.conf", "--log", "warn"]);
    home.run(&mut command)
}

#[test]
fn idle_connections_leave_descriptors_for_the_next_files_of_the_store() {
    let home = Home::new();
    let small = "mappedFileSizeCommitLog=262144\ncleanFileForciblyEnable=false\ndiskMaxUsedSpaceRatio=95\n";
    let _running = start_with_descriptors(&home, 256, small);
    // The line is written by a thread of its own.
    wait_for("the warning", || home.logged().contains("is 256 (ulimit -n) and 128 of them"));
    block_on(async {
        let client = home.client();
        let producer = Producer::new(&client, "writers");
        home.create_topic(TOPIC, 8).await;
        let send = async |id: i32| {
            let message = Message::new(TOPIC, "x".repeat(20_000));
            producer.send_to(&home.queue(TOPIC, id), message).await.unwrap().stored
        };
        assert_eq!(send(0).await, Stored::Confirmed);
        let idle: Vec<TcpStream> = [home.broker(), home.namesrv()]
            .iter()
            .flat_map(|address| (0..200).map(move |_| TcpStream::connect(address).unwrap()))
            .collect();
        // Ten log files, and one file for each of eight queues.
        for id in 0..130 {
            assert_eq!(send(id % 8).await, Stored::Confirmed);
        }
        drop(idle);
    });
}

/// Anonymous memory of the process, in MiB.
fn anonymous_mib(running: &Running) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

fn pull(opaque: i32) -> Frame {
    let mut frame = Frame::request(RequestCode::PullMessage);
    let fields = [
        ("consumerGroup", "deaf"),
        ("topic", TOPIC),
        ("queueId", "0"),
        ("queueOffset", "0"),
        ("maxMsgNums", "32"),
        ("sysFlag", "4"),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", "0"),
        ("subscription", "*"),
        ("subVersion", "0"),
        ("expressionType", "TAG"),
    ];
    for (name, value) in fields {
        frame.ext.push(name, value);
    }
    frame.opaque = opaque;
    frame
}

#[test]
fn parts_of_frames_cost_no_more_than_their_bound_and_others_are_served() {
    const BOUND_MIB: usize = 32;
    let home = Home::new();
    let settings = format!("apogeeInboundTotalBytes={}\napogeeTailCacheBytes=1048576\n", BOUND_MIB << 20);
    let running = home.start_small("ASYNC_FLUSH", &settings);
    block_on(home.create_topic(TOPIC, 1));
    let before = anonymous_mib(&running);
    let frame: Arc<[u8]> = Frame::request(RequestCode::SendMessageV2).with_body(vec![0; 15 << 20]).to_bytes()[..].into();
    let halting: Vec<_> = (0..30)
        .map(|_| {
            let stream = TcpStream::connect(home.broker()).unwrap();
            let (mut writing, frame) = (stream.try_clone().unwrap(), frame.clone());
            // Blocks until the connection is closed, where the broker does not read.
            let sending = std::thread::spawn(move || drop(writing.write_all(&frame[..12 << 20])));
            (stream, sending)
        })
        .collect();
    let mut most = 0;
    block_on(async {
        let client = home.client();
        let producer = Producer::new(&client, "writers");
        for (count, bytes) in [(300, 1_000), (3, 200_000), (300, 20_000)] {
            for _ in 0..count {
                let message = Message::new(TOPIC, "x".repeat(bytes));
                let sent = producer.send_to(&home.queue(TOPIC, 0), message).await.unwrap();
                assert_eq!(sent.stored, Stored::Confirmed);
                most = most.max(anonymous_mib(&running));
            }
        }
    });
    assert!(most < before + BOUND_MIB + 16, "from {before} to {most} MiB");
    for (stream, sending) in halting {
        let _ = stream.shutdown(Shutdown::Both);
        sending.join().unwrap();
    }
    wait_for("the memory is given back", || anonymous_mib(&running) < before + 16);
}

#[test]
fn unread_answers_cost_no_more_than_their_limit_and_their_memory_is_returned() {
    const BOUND_MIB: usize = 16;
    let home = Home::new();
    let settings = format!("apogeeOutboxTotalBytes={}\napogeeTailCacheBytes=1048576\n", BOUND_MIB << 20);
    let running = home.start_small("ASYNC_FLUSH", &settings);
    block_on(async {
        home.create_topic(TOPIC, 1).await;
        let client = home.client();
        let producer = Producer::new(&client, "writers");
        // More than the tail in memory, so that other threads read for the pulls.
        for _ in 0..64 {
            let message = Message::new(TOPIC, "x".repeat(60_000));
            producer.send_to(&home.queue(TOPIC, 0), message).await.unwrap();
        }
    });
    let before = anonymous_mib(&running);
    let pulls: Vec<u8> = (0..500).flat_map(|opaque| pull(opaque).to_bytes()).collect();
    let mut deaf: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(home.broker()).unwrap()).collect();
    let mut most = 0;
    for stream in &mut deaf {
        stream.write_all(&pulls).unwrap();
        most = most.max(anonymous_mib(&running));
    }
    // While the answers are not read, others are served.
    block_on(async {
        let client = home.client();
        let producer = Producer::new(&client, "writers");
        for _ in 0..500 {
            let sent = producer.send_to(&home.queue(TOPIC, 0), Message::new(TOPIC, "y")).await.unwrap();
            assert_eq!(sent.stored, Stored::Confirmed);
            most = most.max(anonymous_mib(&running));
        }
    });
    // In addition to the limit, each thread builds an answer, and the allocator has overhead.
    assert!(most < before + 4 * BOUND_MIB, "from {before} to {most} MiB");
    drop(deaf);
    wait_for("the memory is given back", || anonymous_mib(&running) < before + BOUND_MIB);
}
