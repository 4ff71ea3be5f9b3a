//! `apogeemq bench` against a server of the same build: every verb for a second, and its errors.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Home, apogeemq, free_port};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

fn bench(words: &str) -> Output {
    apogeemq(Path::new("."))
        .arg("bench")
        .args(words.split_whitespace())
        .output()
        .unwrap()
}

fn report(words: &str) -> Value {
    let output = bench(&format!("{words} --json"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["errors"], 0, "{text}");
    assert!(report["messages"].as_u64().unwrap() > 0, "{text}");
    let quantile = |name: &str| report["latency_ms"][name].as_f64().unwrap();
    assert!(
        quantile("p50") > 0.0 && quantile("p50") <= quantile("p99.9") && quantile("p99.9") <= quantile("max"),
        "{text}"
    );
    report
}

#[test]
fn every_verb_measures_a_second_of_our_own_server() {
    let home = Home::new();
    let server = home.start();
    let (pid, broker, namesrv) = (server.id(), home.broker(), home.namesrv());
    let brief = "--seconds 1 --warmup 0 -q";

    let closed = report(&format!(
        "send -b {broker} -t closed {brief} --connections 2 --window 4 --queues 3 --pid {pid}"
    ));
    assert!(closed["server"]["rss_mb"].as_f64().unwrap() > 0.0);
    assert!(closed["late_ms"].is_null(), "a closed loop has no times to be late for");

    let batches = report(&format!("send -b {broker} -t closed {brief} --batch 16 --window 2 --size 100"));
    assert_eq!(batches["messages"].as_u64().unwrap() % 16, 0);

    let read = report(&format!("recv -n {namesrv} -t closed -q --readers 2 --batch 100"));
    let sent = closed["messages"].as_u64().unwrap() + batches["messages"].as_u64().unwrap();
    assert!(read["messages"].as_u64().unwrap() >= sent, "{sent} were acknowledged, {read} read");

    let popped = report(&format!("recv -n {namesrv} -t closed -q --readers 2 --consume pop"));
    assert_eq!(popped["messages"], read["messages"]);
    let batched = report(&format!(
        "recv -n {namesrv} -t closed -q --consume pop --batch 16 --acknowledge batch"
    ));
    assert_eq!(batched["messages"], read["messages"]);

    let open = report(&format!("send -n {namesrv} -t open {brief} --rate 500 --connections 2"));
    assert_eq!(open["messages"], 500);
    assert!(open["late_ms"]["p50"].as_f64().unwrap() > 0.0);

    let through = report(&format!(
        "e2e -b {broker} -t through {brief} --rate 300 --queues 2 --readers 1 --size 16"
    ));
    assert_eq!((through["messages"].as_u64(), through["sent"].as_u64()), (Some(300), Some(300)));
    let popped = report(&format!(
        "e2e -b {broker} -t popped {brief} --rate 300 --queues 2 --size 16 --consume pop"
    ));
    assert_eq!(popped["messages"].as_u64(), Some(300));
    let p50 = |what: &str| through[what]["p50"].as_f64().unwrap();
    assert!(p50("latency_ms") > 0.0 && p50("acknowledgement_ms") > 0.0);
}

#[test]
fn progress_goes_to_stderr_and_the_report_to_stdout() {
    let home = Home::new();
    let _server = home.start();
    let output = bench(&format!("send -b {} -t t --seconds 2 --warmup 1 --rate 200", home.broker()));
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(
        out.starts_with("send 1024 B, 1 connection, 200 a second, 8 queues\n") && out.contains("messages        400 in 2.00 s"),
        "{out}"
    );
    assert!(
        err.lines().count() >= 2 && err.contains("warming up") && err.contains("p99"),
        "{err}"
    );
}

#[test]
fn errors_are_reported_plainly() {
    let failed = |words: &str| {
        let output = bench(words);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(failed("send -b 127.0.0.1:1 -q").contains("cannot connect to 127.0.0.1:1"));
    let home = Home::new();
    let _server = home.start();
    let said = failed(&format!("recv -b {} -t nobody_made_this -q", home.broker()));
    assert!(said.contains("topic nobody_made_this"), "{said}");
}

fn figures(words: &str) -> Value {
    let output = bench(&format!("{words} --json -q"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["errors"], 0, "{figures}");
    figures
}

fn number(figures: &Value, name: &str) -> f64 {
    figures[name].as_f64().unwrap_or_else(|| panic!("no {name} in {figures}"))
}

#[test]
fn peers_appear_and_do_what_such_peers_do() {
    let home = Home::new();
    let server = home.start();
    let (pid, broker, namesrv) = (server.id(), home.broker(), home.namesrv());
    let brief = format!("--seconds 1 --warmup 0 --pid {pid}");

    let brokers = "--brokers 12 --topics 20 --spread 5 --interval 1 --rate 200";
    let registrations = figures(&format!("registrations -n {namesrv} {brokers} {brief}"));
    assert_eq!(number(&registrations, "first_registration_answers"), 12.0);
    assert_eq!(number(&registrations, "registration_answers"), 12.0);
    assert_eq!(number(&registrations, "route_answers"), 200.0);
    assert!(number(&registrations, "change_until_routed_p50_ms") > 0.0);
    assert!(number(&registrations, "registered_anonymous_mb") > 0.0);

    for connections in ["", "--connections 5"] {
        let clients = format!("--clients 20 --groups 3 --interval 1 {connections}");
        let heartbeats = figures(&format!("heartbeats -b {broker} {clients} {brief}"));
        assert_eq!(number(&heartbeats, "join_answers"), 20.0);
        assert_eq!(number(&heartbeats, "heartbeat_answers"), 20.0);
    }

    let topics = figures(&format!(
        "topics -b {broker} --topics 30 --queues 3 --batch 20 --messages 2 --pid {pid}"
    ));
    assert_eq!((number(&topics, "create_answers"), number(&topics, "send_answers")), (2.0, 180.0));

    let groups = figures(&format!("groups -b {broker} --groups 30 --queues 3 --batch 20 --rate 100 {brief}"));
    assert_eq!(
        (number(&groups, "create_answers"), number(&groups, "first_commit_answers")),
        (2.0, 90.0)
    );
    assert_eq!(number(&groups, "commit_answers"), 100.0);
}

#[test]
fn masters_are_elected_and_replaced_when_they_are_lost() {
    let home = Home::new();
    let port = free_port(&[]);
    let settings = format!("enableControllerInNamesrv=true\ncontrollerDLegerPeers=n0-127.0.0.1:{port}\ncontrollerDLegerSelfId=n0\n");
    std::fs::write(home.path("server.conf"), settings).unwrap();
    let server = home.run(home.command().args(["-c", "server.conf"]));
    let pid = server.id();
    let words = format!("elections -c 127.0.0.1:{port} --brokers 7 --seconds 1 --warmup 0 --at-once 3 --pid {pid}");
    let elections = figures(&words);
    assert_eq!(number(&elections, "first_id_answers"), 7.0);
    assert_eq!(number(&elections, "election_answers"), 14.0);
}
