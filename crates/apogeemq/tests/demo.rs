//! `apogeemq demo` shows what it claims, in lines that a log can keep, and leaves nothing behind.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::apogeemq;

#[test]
fn every_part_holds_what_it_claims() {
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("demo.svg");
    let output = apogeemq(directory.path())
        .args(["demo", "--plain", "--short", "--record"])
        .arg(&recording)
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    let (shown, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{shown}{errors}");
    let claims: Vec<_> = shown.lines().filter(|line| line.starts_with("  ok ")).collect();
    assert_eq!(claims.len(), 5, "{shown}");
    assert!(claims[1].contains("2,000 orders, none refused"), "{shown}");
    assert!(!shown.contains('\x1b'), "plain output has no control sequences: {shown:?}");
    assert_eq!(errors, "");
    let svg = std::fs::read_to_string(&recording).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("none refused"), "{svg}");
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["demo.svg"], "the server's directory is removed");
}
