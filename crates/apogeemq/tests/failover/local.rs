//! `apogeemq cluster --local`: it says who leads while its processes come and go, and leaves none behind.

use crate::common::{DEADLINE, Running, apogeemq, free_port};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

fn until(file: &Path, text: &str) -> String {
    let begun = Instant::now();
    loop {
        let printed = std::fs::read_to_string(file).unwrap_or_default();
        if printed.contains(text) {
            return printed;
        }
        assert!(begun.elapsed() < DEADLINE, "'{text}' is not in: {printed}{}", logged(file));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What the processes of the cluster that prints into this file have logged.
fn logged(file: &Path) -> String {
    let log = |name: &str| std::fs::read_to_string(file.with_file_name(format!("data/cluster/{name}.log")));
    ["n0", "b0", "b1"].map(|name| format!("{name}: {:?}\n", log(name))).concat()
}

/// Held by a test: the ports of two clusters must not be among each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Starts a cluster of two brokers that prints into this file.
fn start(dir: &Path, printed: &Path) -> Running {
    // One between them is left out: the controller's port is two above the first, a broker's VIP port two below the second. The ports of the
    // second broker are up to 11 above it, and nobody else is to get them.
    let [names, _, brokers, ..] = [
        free_port(&[2]),
        free_port(&[]),
        free_port(&[-2, 1, 8, 10, 11]),
        free_port(&[]),
        free_port(&[]),
    ];
    let mut command = apogeemq(dir);
    command.args([
        "cluster",
        "--local",
        "2",
        "--namesrv-port",
        &names.to_string(),
        "--broker-port",
        &brokers.to_string(),
    ]);
    let output = File::create(printed).unwrap();
    Running::of(command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap())
}

/// The process of a part, by what the cluster printed first.
fn process(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.trim().starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

/// Whether a process runs; one that nobody has waited for does not.
fn lives(process: &str) -> bool {
    let listed = Command::new("ps").args(["-o", "stat=", "-p", process]).output().unwrap();
    let state = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

#[test]
fn a_local_cluster_that_is_killed_leaves_no_process_behind() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let printed = dir.path().join("printed");
    let cluster = start(dir.path(), &printed);
    let text = until(&printed, "in sync: b0 b1");
    let processes = ["n0", "b0", "b1"].map(|name| process(&text, name));
    assert!(processes.iter().all(|process| lives(process)));
    cluster.kill();
    let begun = Instant::now();
    while let Some(left) = processes.iter().find(|process| lives(process)) {
        assert!(begun.elapsed() < DEADLINE, "process {left} is left behind");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_local_cluster_shows_who_leads_and_ends_with_its_processes() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let printed = dir.path().join("printed");
    let mut cluster = start(dir.path(), &printed);
    let text = until(&printed, "in sync: b0 b1");
    let process = |name: &str| process(&text, name);
    let master = if text.contains("b0 is the master (epoch 1)") { "b0" } else { "b1" };
    let other = if master == "b0" { "b1" } else { "b0" };
    assert!(Command::new("kill").args(["-9", &process(master)]).status().unwrap().success());
    let text = until(&printed, &format!("{other} is the master (epoch 2)"));
    assert!(text.contains(&format!("{master} has ended; start it again: ")), "{text}");
    cluster.stop();
    for name in ["n0", other] {
        assert!(!lives(&process(name)), "{name} is left behind");
    }
}
