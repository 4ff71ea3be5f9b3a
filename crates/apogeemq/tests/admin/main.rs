//! `apogeemq admin` from the outside: every verb against the program, with its JSON, exit codes and errors.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod consumer;
mod verbs;

use std::collections::BTreeSet;
use std::process::Output;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{DEADLINE, Home, Running, apogeemq};
use consumer::connected;
use serde_json::Value;

const CLUSTER: &str = "DefaultCluster";

/// A server, and the verbs that were run.
struct Cluster {
    home: Home,
    _server: Running,
    broker: String,
    run: Mutex<BTreeSet<String>>,
}

impl Cluster {
    fn start() -> Self {
        let home = Home::new();
        let cluster = Self {
            // Lite topics are light queues.
            _server: home.run(
                home.command()
                    .env("APOGEEMQ_ENABLE_LMQ", "true")
                    .env("APOGEEMQ_ENABLE_MULTI_DISPATCH", "true"),
            ),
            broker: home.broker(),
            run: Mutex::default(),
            home,
        };
        eventually(|| (!cluster.json("clusterList", &[])[0]["brokers"].as_array().unwrap().is_empty()).then_some(()));
        cluster
    }

    fn verb(&self, verb: &str, flags: &[&str]) -> Output {
        self.run.lock().unwrap().insert(verb.to_owned());
        apogeemq(&self.home.path("."))
            .args(["admin", verb, "-n", &self.home.namesrv()])
            .args(flags)
            .output()
            .unwrap()
    }

    /// The documents a verb prints.
    fn json(&self, verb: &str, flags: &[&str]) -> Vec<Value> {
        let output = self.verb(verb, &[flags, &["--output", "json"]].concat());
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{verb} {flags:?}: {stdout}{stderr}");
        assert_eq!(stderr, "", "{verb} {flags:?}");
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The one document a verb prints.
    fn one(&self, verb: &str, flags: &[&str]) -> Value {
        let mut all = self.json(verb, flags);
        assert_eq!(all.len(), 1, "{verb} {flags:?}: {all:?}");
        all.remove(0)
    }

    /// Runs a verb that changes something; returns the number of servers. A failed step fails the test.
    fn change(&self, verb: &str, flags: &[&str]) -> usize {
        self.one(verb, flags)["changes"].as_array().unwrap().len()
    }

    /// The error of a verb that fails.
    fn refused(&self, verb: &str, flags: &[&str]) -> String {
        let output = self.verb(verb, flags);
        assert_eq!(output.status.code(), Some(1), "{verb} {flags:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    fn table(&self, verb: &str, flags: &[&str]) -> String {
        let output = self.verb(verb, flags);
        assert!(output.status.success(), "{verb} {flags:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn broker_name(&self) -> String {
        word(&self.one("clusterList", &[])["brokers"][0]["name"])
    }
}

fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "the condition was not met in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

#[test]
fn every_verb_works_against_the_program() {
    let cluster = Cluster::start();
    verbs::topics(&cluster);
    verbs::groups(&cluster);
    let id = verbs::messages(&cluster);
    connected(&cluster.broker, || verbs::clients(&cluster, &id));
    verbs::offsets(&cluster);
    verbs::brokers(&cluster);
    verbs::name_servers(&cluster);
    verbs::static_topics(&cluster);
    verbs::lite_topics(&cluster);
    verbs::controllers(&cluster);
    verbs::exports(&cluster);
    verbs::deletions(&cluster);

    let manual = text(
        &apogeemq(&cluster.home.path("."))
            .args(["admin", "markdown"])
            .output()
            .unwrap()
            .stdout,
    );
    let verbs: BTreeSet<_> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_owned)
        .collect();
    assert!(verbs.len() > 50, "{verbs:?}");
    let run = cluster.run.lock().unwrap().clone();
    assert_eq!(
        verbs.difference(&run).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "verbs that were not run"
    );
}

#[test]
fn a_missing_name_server_is_named_with_advice() {
    let home = Home::new();
    let nobody = home.namesrv();
    let output = apogeemq(&home.path("."))
        .args(["admin", "topicList"])
        .env("NAMESRV_ADDR", &nobody)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains(&format!("cannot connect to {nobody}")) && told.contains("-n HOST:PORT"),
        "{told}"
    );
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn errors_for_unknown_clusters_and_brokers_name_the_existing_ones() {
    let cluster = Cluster::start();
    let told = cluster.refused("updateTopic", &["-c", "Elsewhere", "-t", "t"]);
    assert!(
        told.contains("there is no cluster Elsewhere; the name server knows DefaultCluster"),
        "{told}"
    );
    let told = cluster.refused("sendMessage", &["-t", "t", "-p", "x", "-b", "nobody", "-i", "0"]);
    assert!(
        told.contains("there is no broker nobody") && told.contains(&cluster.broker_name()),
        "{told}"
    );
    let output = cluster.verb("updateTopic", &["-t", "t"]);
    assert_eq!(output.status.code(), Some(2), "wrong flags have their own code");
    let output = cluster.verb("updateTopic", &["-b", &cluster.broker, "-t", "no good"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("illegal characters"), "{}", text(&output.stdout));
}
