//! The log of the program: untrusted text forges no lines, and nothing waits for the reader of the log.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::wire::Wire;
use common::{DEADLINE, Home, Running};
use protocol::Encoding;
use std::io::Read;
use std::process::{ChildStderr, Stdio};
use std::sync::mpsc;
use std::time::Instant;

/// A server that logs into a pipe.
fn start_with_pipe(home: &Home) -> (Running, ChildStderr) {
    let mut command = home.command();
    command.args(["--log", "info"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = home.run_as_it_is(&mut command);
    let pipe = running.stderr();
    (running, pipe)
}

/// Makes a broker log several times the capacity of a pipe and the queue; each request is answered.
fn flood(home: &Home) {
    let mut wire = Wire::to(&home.broker());
    for round in 0..16 {
        let group = |n| format!(r#"{{"groupName":"{}{n}","retryMaxTimes":{round}}}"#, "g".repeat(100));
        let groups: Vec<String> = (0..1_000).map(group).collect();
        let body = format!(r#"{{"groupConfigList":[{}]}}"#, groups.join(","));
        let answer = wire.ask(Encoding::Json, 225, &[], body.as_bytes());
        assert_eq!(answer.code, 0, "{answer:?}");
    }
}

#[test]
fn a_log_that_is_not_read_blocks_neither_service_nor_shutdown() {
    let home = Home::new();
    let (mut running, _unread) = start_with_pipe(&home);
    flood(&home);
    let answer = Wire::to(&home.namesrv()).ask(Encoding::Json, 106, &[], b"");
    assert_eq!(answer.code, 0, "{answer:?}");
    running.stop();
}

const DROPPED: &str = "lines were dropped";

#[test]
fn dropped_lines_are_reported_to_a_late_reader() {
    let home = Home::new();
    let (mut running, mut pipe) = start_with_pipe(&home);
    flood(&home);
    let (tell, told) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut buffer = [0; 64 << 10];
        while let count @ 1.. = pipe.read(&mut buffer).unwrap() {
            text.extend_from_slice(&buffer[..count]);
            let newest = &text[text.len().saturating_sub(count + DROPPED.len())..];
            if newest.windows(DROPPED.len()).any(|part| part == DROPPED.as_bytes()) {
                let _ = tell.send(());
            }
        }
        String::from_utf8(text).unwrap()
    });
    let was_told = told.recv_timeout(DEADLINE);
    running.stop();
    let text = reading.join().unwrap();
    assert!(was_told.is_ok(), "{} bytes of log without a report of dropped lines", text.len());
    assert!(text.lines().all(|line| line.starts_with("20")), "every line is whole");
    assert!(text.contains("stopping"), "the last line is written before the end");
}

#[test]
fn untrusted_names_forge_no_line_and_are_escaped() {
    const FORGED: &str = "9.9.9.9:1\\n2026-11-26T00:00:00.000000Z ERROR store: forged\\u001b[2J\\u001b]0;pwn\\u0007\\u202e\\u200b";
    let home = Home::new();
    let mut command = home.command();
    let mut running = home.run(command.args(["--log", "info"]));
    let fields: [(&[u8], &[u8]); 6] = [
        (b"brokerName", b"b\\u001b[2J\\nname"),
        (b"brokerAddr", FORGED.as_bytes()),
        (b"clusterName", b"c\\u001b[31m\\nl"),
        (b"haServerAddr", b"h:1"),
        (b"brokerId", b"0"),
        (b"heartbeatTimeoutMillis", b"1000"),
    ];
    let answer = Wire::to(&home.namesrv()).ask(Encoding::Json, 103, &fields, b"{}");
    // Accepted or refused, the text is in the log or in the answer.
    let remark = answer.remark.unwrap_or_default();
    let heartbeat = "{\"clientID\":\"c\u{1b}\nlient\",\"producerDataSet\":[{\"groupName\":\"p\n\u{1b}g\"}]}";
    let answer = Wire::to(&home.broker()).ask(Encoding::Json, 34, &[], heartbeat.as_bytes());
    if answer.code == 0 {
        home.logs(&["joined"]);
    }
    running.stop();
    let logged = home.logged();
    for text in [&*logged, &remark, &answer.remark.unwrap_or_default()] {
        let raw = ['\u{1b}', '\u{7}', '\u{202e}', '\u{200b}'];
        assert!(!text.contains(raw), "{text}");
    }
    assert!(
        !logged
            .lines()
            .any(|line| line.contains("forged") && line.contains("ERROR store: forged") && !line.contains("9.9.9.9")),
        "{logged}"
    );
    assert!(logged.lines().all(|line| line.starts_with("20")), "{logged}");
}

#[test]
fn the_level_of_a_running_server_is_changed() {
    use proxy::v2::admin_client::AdminClient;
    use proxy::v2::{ChangeLogLevelRequest, change_log_level_request::Level};
    let home = Home::new();
    let mut running = home.run(home.command().args(["--log", "error"]));
    let join = |group: &str| {
        let heartbeat = format!(r#"{{"clientID":"c","consumerDataSet":[{{"groupName":"{group}"}}]}}"#);
        let answer = Wire::to(&home.broker()).ask(Encoding::Json, 34, &[], heartbeat.as_bytes());
        assert_eq!(answer.code, 0, "{answer:?}");
    };
    join("before");
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", home.proxy())).unwrap();
    let changed = common::block_on(async {
        let mut admin = AdminClient::new(endpoint.connect().await.unwrap());
        let level = Level::Debug.into();
        admin.change_log_level(ChangeLogLevelRequest { level }).await.unwrap().into_inner()
    });
    assert!(changed.remark.contains("DEBUG"), "{}", changed.remark);
    join("after");
    home.logs(&["joined"]);
    running.stop();
    let logged = home.logged();
    assert!(logged.contains("after") && !logged.contains("before"), "{logged}");
}

/// The control and invisible characters of `text`.
fn raw(text: &str) -> Vec<char> {
    let hidden = |c: &char| c.is_control() && *c != '\n' || matches!(c, '\u{202e}' | '\u{200b}');
    text.chars().filter(hidden).collect()
}

#[test]
fn the_command_line_prints_untrusted_text_in_visible_characters() {
    let home = Home::new();
    let _running = home.start();
    let mut wire = Wire::to(&home.broker());
    let heartbeat = "{\"clientID\":\"cli\u{1b}[31m\nent\u{202e}\",\"consumerDataSet\":[{\"groupName\":\"cg\",\"subscriptionDataSet\":[{\"topic\":\"t\u{7}\",\"subString\":\"a\n\u{200b}\"}]}]}";
    assert_eq!(wire.ask(Encoding::Json, 34, &[], heartbeat.as_bytes()).code, 0);
    let fields: [(&[u8], &[u8]); 9] = [
        (b"a", b"pg"),
        (b"b", b"orders"),
        (b"c", b"TBW102"),
        (b"d", b"1"),
        (b"e", b"0"),
        (b"f", b"0"),
        (b"g", b"5"),
        (b"h", b"0"),
        (b"i", b"KEYS\\u0001k\x1b[31m\n\xe2\x80\xae\\u0002UNIQ_KEY\\u0001u\\u0002"),
    ];
    let sent = wire.ask(Encoding::Json, 310, &fields, "\u{1b}[2Jbody\nline\u{9b}\u{202e}".as_bytes());
    assert_eq!(sent.code, 0, "{sent:?}");
    let begun = Instant::now();
    let printed = |words: &[&str]| {
        let mut command = common::apogeemq(&home.path("."));
        let output = command.arg("admin").args(words).args(["-n", &home.namesrv()]).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    while !printed(&["topicRoute", "-t", "orders"]).0 {
        assert!(begun.elapsed() < DEADLINE, "the topic is not registered");
    }
    let verbs: [&[&str]; 3] = [
        &["consumerConnection", "-g", "cg"],
        &["printMsg", "-t", "orders"],
        &["consumerConnection", "-g", "no\u{1b}[2J\ngroup"],
    ];
    for verb in &verbs {
        for format in ["table", "json"] {
            let (done, out, err) = printed(&[verb, &["--output", format][..]].concat());
            assert_eq!((raw(&out), raw(&err)), (vec![], vec![]), "{verb:?} {format}: {out}{err}");
            if done && format == "json" {
                let whole: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
                let told = whole.to_string();
                assert!(told.contains(r"\u001b"), "JSON has the escaped text: {told}");
            }
        }
    }
    let (_, connected, _) = printed(&["consumerConnection", "-g", "cg"]);
    assert!(connected.contains(r"cli\u{1b}[31m ent\u{202e}"), "{connected}");
    let (_, message, _) = printed(&["printMsg", "-t", "orders"]);
    assert!(message.contains(r"body") && message.contains(r"\u{1b}"), "{message}");
}
