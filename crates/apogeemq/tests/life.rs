//! The program as a process: it opens its ports, prints them, and shuts down cleanly.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{Client, Message, Options, Producer, PullOptions, Puller};
use common::{Home, block_on};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

#[test]
fn it_opens_all_ports_prints_them_and_shuts_down_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let home = Home::new();
        // So few that no limit of descriptors causes a warning.
        std::fs::write(
            home.path("broker.conf"),
            "apogeeMaxConnections=100\napogeeGrpcMaxConnections=100\napogeeReservedDescriptors=100\n",
        )
        .unwrap();
        let mut running = home.run(home.command().args(["-c", "broker.conf"]));
        assert!(home.path("data/abort").exists(), "while it runs, the abort file exists");
        running.signal(signal);
        assert_eq!(running.ended().code(), Some(0));
        assert!(!home.path("data/abort").exists(), "after a clean shutdown there is no abort file");
        assert_eq!(home.logged(), "", "a normal run logs nothing");
        let screen = home.printed();
        for part in [
            "ApogeeMQ 0.",
            "name server",
            &home.namesrv_port.to_string(),
            &home.broker_port.to_string(),
            "ASYNC_FLUSH",
        ] {
            assert!(screen.contains(part), "{part} in\n{screen}");
        }
    }
}

#[test]
fn a_proxy_runs_without_a_store_and_ends_cleanly() {
    let home = Home::new();
    let _server = home.start();
    let dir = tempfile::tempdir().unwrap();
    let mut command = common::apogeemq(dir.path());
    let mut proxy = command
        .args(["proxy", "-n", &home.namesrv(), "--bind", "127.0.0.1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(proxy.stdout.take().unwrap()).lines().map(Result::unwrap);
    let grpc = lines.find(|line| line.contains("gRPC")).unwrap();
    let address = grpc.split_whitespace().last().unwrap().to_owned();
    let remoting = lines.find(|line| line.contains("remoting")).unwrap();
    let remoting = remoting.split([' ', ',']).find(|word| word.contains(':')).unwrap().to_owned();
    let brokers = lines.find(|line| line.contains("brokers of")).unwrap();
    assert!(brokers.contains(&home.namesrv()), "{brokers}");
    lines.find(|line| line.contains("Stop it")).unwrap();
    TcpStream::connect(&address).unwrap();
    TcpStream::connect(&remoting).unwrap();
    let killed = std::process::Command::new("kill").args(["-TERM", &proxy.id().to_string()]).status();
    assert!(killed.unwrap().success());
    let output = proxy.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves no file");
    let logged = String::from_utf8(output.stderr).unwrap();
    assert!(logged.is_empty() || logged.contains("ulimit -n"), "{logged}");
}

#[test]
fn a_port_in_use_is_refused_with_advice() {
    let mut home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    home.broker_port = taken.local_addr().unwrap().port();
    let output = home.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot listen on") && text.contains("--broker-port"), "{text}");
}

#[test]
fn one_port_suffices_for_remoting_clients_if_it_is_asked_for() {
    let home = Home::new();
    let mut without = home.start();
    home.proxy();
    let has_remoting = home.printed().lines().any(|line| line.trim().starts_with("remoting"));
    assert!(!has_remoting, "{}", home.printed());
    without.stop();
    std::fs::write(home.path("broker.conf"), "apogeeProxyRemotingEnable=true\n").unwrap();
    let _running = home.run(home.command().args(["-c", "broker.conf"]));
    let address = home.address_of("remoting");
    block_on(async {
        home.create_topic("orders", 1).await;
        let client = Client::new(Options::with_name_servers([address.clone()]));
        let route = client.topic_route("orders").await.unwrap();
        assert_eq!(route.broker_datas[0].broker_addrs[&0], address);
        let sent = Producer::new(&client, "writers").send(Message::new("orders", "one")).await.unwrap();
        assert_eq!(sent.queue.address.as_ref(), address);
        let pulled = Puller::new(&client, "readers")
            .pull(&sent.queue, sent.offset, &PullOptions::default())
            .await
            .unwrap();
        assert_eq!(pulled.records().count(), 1);
    });
}

#[test]
fn a_remoting_proxy_without_a_name_server_is_refused_with_advice() {
    let (dir, home) = (tempfile::tempdir().unwrap(), Home::new());
    std::fs::write(dir.path().join("broker.conf"), "apogeeProxyRemotingEnable=true\n").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = common::apogeemq(dir.path())
        .args([
            "broker",
            "-c",
            "broker.conf",
            "--bind",
            "127.0.0.1",
            "--broker-port",
            &home.broker_port.to_string(),
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("apogeeProxyRemotingEnable=true needs a name server") && text.contains("-n HOST:PORT"),
        "{text}"
    );

    let output = common::apogeemq(dir.path())
        .args(["proxy", "-n", "127.0.0.1:1", "--bind", "127.0.0.1", "--remoting-port", &port])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot listen on") && text.contains("--remoting-port"), "{text}");
}

#[test]
fn after_a_kill_it_starts_again_on_its_data() {
    let home = Home::new();
    home.start().kill();
    home.start();
}

#[test]
fn messages_that_are_no_longer_in_memory_are_read_by_a_catch_up_thread() {
    let home = Home::new();
    let running = home.start_small("ASYNC_FLUSH", "apogeeTailCacheBytes=1048576\n");
    let threads = || {
        let names = std::fs::read_dir(format!("/proc/{}/task", running.id())).unwrap();
        // A thread may end meanwhile.
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        names.flatten().filter_map(name).collect::<String>()
    };
    block_on(async {
        home.create_topic("orders", 1).await;
        let (client, queue) = (home.client(), home.queue("orders", 0));
        let (producer, puller) = (Producer::new(&client, "writers"), Puller::new(&client, "readers"));
        for _ in 0..20 {
            producer.send_to(&queue, Message::new("orders", vec![b'x'; 100_000])).await.unwrap();
        }
        let (puller, queue, wish) = (&puller, &queue, &PullOptions::default());
        let pulled = |offset| async move { puller.pull(queue, offset, wish).await.unwrap().records().count() };
        assert!(pulled(19).await > 0);
        assert!(!threads().contains("catch-up"), "the last message is in memory");
        assert!(pulled(0).await > 0);
        assert!(threads().contains("catch-up"), "the first one is not");
    });
}

#[test]
fn a_grpc_port_in_use_is_refused_with_advice_and_need_not_be_used() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = home.command().args(["--grpc-port", &port]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot listen on") && text.contains("--grpc-port"), "{text}");
    std::fs::write(home.path("broker.conf"), "apogeeGrpcEnable=false\n").unwrap();
    home.run(home.command().args(["--grpc-port", &port, "-c", "broker.conf"]));
    assert!(!home.printed().contains("gRPC"), "{}", home.printed());
}
