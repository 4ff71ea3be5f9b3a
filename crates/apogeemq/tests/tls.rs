//! The program with TLS on all its ports: servers, `admin` and `bench` of one build.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{DEADLINE, Home, Running, apogeemq};
use std::path::PathBuf;
use std::process::Output;
use std::time::Instant;

/// A certificate and a key that are made for tests.
fn file(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../tls/tests/keys", name].iter().collect();
    path.canonicalize().unwrap().display().to_string()
}

fn start(home: &Home, lines: &str) -> Running {
    std::fs::write(home.path("broker.conf"), lines).unwrap();
    home.run(home.command().args(["-c", "broker.conf"]))
}

/// Runs the program beside the server; `words` are its arguments.
fn run(home: &Home, words: &str) -> Output {
    apogeemq(&home.path("")).args(words.split_whitespace()).output().unwrap()
}

/// The first list of clusters that has a broker.
fn wait_registered(home: &Home, flags: &str) -> String {
    let begun = Instant::now();
    loop {
        let output = run(home, &format!("admin clusterList -n {} {flags}", home.namesrv()));
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && listed.contains("DefaultCluster") {
            return listed;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(begun.elapsed() < DEADLINE, "{said}\n{}", home.logged());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn enforcing_serves_admin_and_bench_with_tls_only_and_the_broker_registers() {
    let home = Home::new();
    let lines = format!(
        "tls.server.mode=enforcing\ntls.server.certPath={}\ntls.server.keyPath={}\ntls.server.keyPassword=apogee\n",
        file("ec-cert.pem"),
        file("pkcs8-aes256.pem")
    );
    let _server = start(&home, &lines);
    wait_registered(&home, "--tls");
    let plain = run(&home, &format!("admin clusterList -n {}", home.namesrv()));
    assert_eq!(plain.status.code(), Some(1), "{}", String::from_utf8_lossy(&plain.stdout));
    home.logs(&["this port serves TLS only", "useTLS"]);

    for (more, messages) in [("--connections 1", 200), ("--connections 8", 200)] {
        let sent = run(
            &home,
            &format!(
                "bench send -b {} -t t --tls --seconds 1 --warmup 0 --rate {messages} {more} -q --json",
                home.broker()
            ),
        );
        let text = String::from_utf8_lossy(&sent.stdout);
        assert!(text.contains("\"messages\":200") && text.contains("\"errors\":0"), "{text}");
    }
    let closed = run(
        &home,
        &format!("bench send -n {} -t t --tls --seconds 1 --warmup 0 -q --json", home.namesrv()),
    );
    assert!(closed.status.success(), "{}", String::from_utf8_lossy(&closed.stderr));
    let read = run(&home, &format!("bench recv -b {} -t t --tls -q --readers 1 --json", home.broker()));
    assert!(read.status.success() && String::from_utf8_lossy(&read.stdout).contains("\"errors\":0"));
}

#[test]
fn tools_check_the_server_if_their_file_says_so() {
    let home = Home::new();
    let lines = format!(
        "tls.server.certPath={}\ntls.server.keyPath={}\n",
        file("ec-cert.pem"),
        file("sec1.pem")
    );
    let _server = start(&home, &lines);
    let trust = |name: &str| {
        let lines = format!("tls.client.authServer=true\ntls.client.trustCertPath={}\n", file(name));
        std::fs::write(home.path("tls.properties"), lines).unwrap();
    };
    trust("rsa-cert.pem");
    wait_registered(&home, "");
    let refused = run(
        &home,
        &format!("admin clusterList -n {} --tls-config tls.properties", home.namesrv()),
    );
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("certificate"), "{said}");
    // A certificate that signed itself is its own authority.
    trust("ec-cert.pem");
    let listed = run(
        &home,
        &format!("admin clusterList -n {} --tls-config tls.properties", home.namesrv()),
    );
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(listed.status.success(), "{said}");
}

#[test]
fn a_file_that_cannot_be_used_stops_the_start_by_name_and_no_password_is_told() {
    let home = Home::new();
    let lines = format!(
        "tls.server.certPath={}\ntls.server.keyPath={}\ntls.server.keyPassword=secret\n",
        file("ec-cert.pem"),
        file("pkcs8-aes256.pem")
    );
    std::fs::write(home.path("broker.conf"), lines).unwrap();
    let output = home.command().args(["-c", "broker.conf"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("pkcs8-aes256.pem") && said.contains("password"),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn no_client_can_read_or_change_the_keys_of_tls() {
    let home = Home::new();
    let lines = format!(
        "tls.server.certPath={}\ntls.server.keyPath={}\ntls.server.keyPassword=apogee\n",
        file("ec-cert.pem"),
        file("pkcs8-aes256.pem")
    );
    let _server = start(&home, &lines);
    wait_registered(&home, "");
    let shown = run(&home, &format!("admin getBrokerConfig -b {}", home.broker()));
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.status.success() && text.contains("brokerName") && !text.contains("tls."),
        "{text}"
    );
    for key in ["tls.server.mode", "tls.server.keyPassword", "useTLS"] {
        let changed = run(&home, &format!("admin updateBrokerConfig -b {} -k {key} -v true", home.broker()));
        assert_eq!(changed.status.code(), Some(1), "{key}");
    }
}
