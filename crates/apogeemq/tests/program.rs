//! The program from the outside: its output, its errors and the files that it leaves.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::apogeemq;
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refused(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(status.code(), Some(1), "{}", text(&stderr));
    assert_eq!(text(&stdout), "", "errors go to stderr only");
    text(&stderr)
}

#[test]
fn every_key_is_printed_with_its_default() {
    let dir = tempfile::tempdir().unwrap();
    let output = apogeemq(dir.path()).arg("config").output().unwrap();
    assert!(output.status.success());
    let table = text(&output.stdout);
    for line in ["    listenPort = 10911", "    listenPort = 9876", "    flushDiskType = ASYNC_FLUSH"] {
        assert!(table.contains(line), "{line} in\n{table}");
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "printing the manual leaves no files"
    );
}

#[test]
fn a_reader_that_ends_early_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = apogeemq(dir.path());
    let mut child = command
        .args(["config", "--markdown"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn a_wrong_value_in_a_file_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(dir.path().join("broker.conf")).unwrap();
    file.write_all(b"# mine\nflushDiskType=FAST\n").unwrap();
    let mut command = apogeemq(dir.path());
    command.args(["-c", "broker.conf"]);
    let expected = "apogeemq: broker.conf:2: flushDiskType=FAST is refused: allowed is ASYNC_FLUSH, SYNC_FLUSH\n\
                    All keys with their allowed values: apogeemq config\n";
    assert_eq!(refused(command), expected);
    assert!(!dir.path().join("data").exists(), "nothing starts with a wrong configuration");
}

#[test]
fn a_wrong_variable_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = apogeemq(dir.path());
    command.env("APOGEEMQ_MAX_CONNECTIONS", "none");
    assert!(refused(command).starts_with("apogeemq: environment APOGEEMQ_MAX_CONNECTIONS: apogeeMaxConnections=none is refused: "));
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = apogeemq(dir.path());
    command.args(["namesrv", "-c", "no.conf"]);
    assert!(refused(command).starts_with("apogeemq: cannot read configuration file no.conf: "));
}
