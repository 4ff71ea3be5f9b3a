//! The built program as a process: it opens its ports, says so, refuses a twin, and stops in order.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);

/// A process that does not outlive its test.
struct Running {
    child: Child,
    namesrv_port: u16,
    broker_port: u16,
}

impl Running {
    fn server(dir: &Path) -> Self {
        let (namesrv_port, broker_port) = (free_port(), free_broker_port());
        let child = command(dir, namesrv_port, broker_port).spawn().unwrap();
        let mut running = Self {
            child,
            namesrv_port,
            broker_port,
        };
        running.wait_open();
        running
    }

    fn wait_open(&mut self) {
        let begun = Instant::now();
        while !(is_open(self.namesrv_port) && is_open(self.broker_port) && is_open(self.broker_port - 2)) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status}: {}", self.stderr());
            }
            assert!(begun.elapsed() < DEADLINE, "the ports did not open");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "it did not stop");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn stdout(&mut self) -> String {
        read(self.child.stdout.take().unwrap())
    }

    fn stderr(&mut self) -> String {
        read(self.child.stderr.take().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

fn command(dir: &Path, namesrv_port: u16, broker_port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apogeemq"));
    command
        .args(["--bind", "127.0.0.1", "--data", "data"])
        .args([
            "--namesrv-port",
            &namesrv_port.to_string(),
            "--broker-port",
            &broker_port.to_string(),
        ])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One whose neighbours, the VIP port and the reserved one, are free as well.
fn free_broker_port() -> u16 {
    loop {
        let port = free_port();
        let neighbours = [port - 2, port + 1].map(|port| TcpListener::bind(("127.0.0.1", port)));
        if neighbours.iter().all(Result::is_ok) {
            return port;
        }
    }
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn it_opens_all_ports_says_so_and_stops_in_order() {
    for signal in ["-TERM", "-INT"] {
        let dir = tempfile::tempdir().unwrap();
        let mut running = Running::server(dir.path());
        assert!(dir.path().join("data/abort").exists(), "while it runs, a crash would be seen");
        running.signal(signal);
        assert_eq!(running.ended().code(), Some(0));
        assert!(
            !dir.path().join("data/abort").exists(),
            "after a stop in order nothing looks like a crash"
        );
        assert_eq!(running.stderr(), "", "a quiet life leaves no log lines");
        let screen = running.stdout();
        for part in [
            "ApogeeMQ 0.",
            "name server",
            &running.namesrv_port.to_string(),
            &running.broker_port.to_string(),
            "ASYNC_FLUSH",
        ] {
            assert!(screen.contains(part), "{part} in\n{screen}");
        }
    }
}

#[test]
fn a_second_process_on_the_same_data_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Running::server(dir.path());
    let second = command(dir.path(), free_port(), free_broker_port()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(text.contains("another process") && text.contains("--data"), "{text}");
    first.signal("-TERM");
    assert_eq!(first.ended().code(), Some(0), "the first one does not mind");
}

#[test]
fn a_taken_port_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = command(dir.path(), free_port(), taken.local_addr().unwrap().port())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot listen on") && text.contains("--broker-port"), "{text}");
}

#[test]
fn after_a_kill_it_starts_again_on_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Running::server(dir.path());
    running.signal("-KILL");
    assert_eq!(running.ended().code(), None);
    Running::server(dir.path());
}
