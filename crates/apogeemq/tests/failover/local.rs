//! `apogeemq cluster --local`: it says who leads while its processes come and go, and leaves none behind.

use crate::common::{DEADLINE, Running, apogeemq, free_port};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

fn until(file: &Path, text: &str) -> String {
    let begun = Instant::now();
    loop {
        let printed = std::fs::read_to_string(file).unwrap_or_default();
        if printed.contains(text) {
            return printed;
        }
        assert!(begun.elapsed() < DEADLINE, "'{text}' is not in: {printed}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_local_cluster_shows_who_leads_and_ends_with_its_processes() {
    let dir = tempfile::tempdir().unwrap();
    let printed = dir.path().join("printed");
    // One between them is left out: the controller's port is two above the first, a broker's VIP port two below the second.
    let [names, _, brokers] = [free_port(&[2]), free_port(&[]), free_port(&[-2, 1, 8, 10, 11])];
    let mut command = apogeemq(dir.path());
    command.args([
        "cluster",
        "--local",
        "2",
        "--namesrv-port",
        &names.to_string(),
        "--broker-port",
        &brokers.to_string(),
    ]);
    let output = File::create(&printed).unwrap();
    let mut cluster = Running::of(command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap());
    let text = until(&printed, "in sync: b0 b1");
    let process = |name: &str| {
        let line = text.lines().find(|line| line.trim().starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let master = if text.contains("b0 is the master (epoch 1)") { "b0" } else { "b1" };
    let other = if master == "b0" { "b1" } else { "b0" };
    assert!(Command::new("kill").args(["-9", &process(master)]).status().unwrap().success());
    let text = until(&printed, &format!("{other} is the master (epoch 2)"));
    assert!(text.contains(&format!("{master} has ended; start it again: ")), "{text}");
    cluster.stop();
    for name in ["n0", other] {
        let lives = Command::new("kill").args(["-0", &process(name)]).output().unwrap().status.success();
        assert!(!lives, "{name} is left behind");
    }
}
