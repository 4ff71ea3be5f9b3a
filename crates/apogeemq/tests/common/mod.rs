//! The program as a process, for the tests of this directory.
//!
//! A [`Home`] is a directory with ports, in which one server at a time runs. A [`Running`] process ends with its test.
#![allow(dead_code, reason = "each test file uses a part of this")]

pub(crate) mod wire;

use client::{Client, Options, Queue};
use protocol::topic::TopicConfig;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Time limit for what takes milliseconds on a quiet machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// Time limit for reading everything after hundreds of rounds.
const PATIENCE: Duration = Duration::from_secs(600);
/// Distances of a broker's other ports: the VIP port, and the port that is reserved for replication.
const NEIGHBOURS: [i32; 2] = [-2, 1];

/// The program in a directory, without the settings in the environment of the tests.
pub(crate) fn apogeemq(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apogeemq"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("APOGEEMQ_") || name == "NAMESRV_ADDR" {
            command.env_remove(name);
        }
    }
    // Many servers run at the same time.
    command.env("APOGEEMQ_GRPC_PORT", "0").env("APOGEEMQ_REMOTING_PORT", "0");
    command.current_dir(dir).stdin(Stdio::null());
    command
}

/// A directory and ports for one server at a time.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    pub(crate) namesrv_port: u16,
    pub(crate) broker_port: u16,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            namesrv_port: free_port(&[]),
            broker_port: free_port(&NEIGHBOURS),
        }
    }

    /// The command that starts a server here, with both roles.
    pub(crate) fn command(&self) -> Command {
        self.command_on(self.namesrv_port, self.broker_port)
    }

    /// The same on other ports.
    pub(crate) fn command_on_other_ports(&self) -> Command {
        self.command_on(free_port(&[]), free_port(&NEIGHBOURS))
    }

    fn command_on(&self, namesrv_port: u16, broker_port: u16) -> Command {
        let mut command = apogeemq(self.dir.path());
        command
            .args(["--bind", "127.0.0.1", "--data", "data"])
            .args(["--namesrv-port", &namesrv_port.to_string()])
            .args(["--broker-port", &broker_port.to_string()]);
        command
    }

    pub(crate) fn start(&self) -> Running {
        self.run(&mut self.command())
    }

    /// Starts a command of [`Self::command`]; returns when all its ports are open.
    pub(crate) fn run(&self, command: &mut Command) -> Running {
        let output = |name: &str| File::create(self.path(name)).unwrap();
        self.run_as_it_is(command.stdout(output("stdout")).stderr(output("stderr")))
    }

    /// The same, with the command's own outputs.
    pub(crate) fn run_as_it_is(&self, command: &mut Command) -> Running {
        let child = command.spawn().unwrap();
        let mut running = Running { child };
        let begun = Instant::now();
        while ![self.namesrv_port, self.broker_port, self.broker_port - 2].into_iter().all(is_open) {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended with {ended:?}: {}", self.logged());
            assert!(begun.elapsed() < DEADLINE, "the ports did not open: {}", self.logged());
            std::thread::sleep(Duration::from_millis(2));
        }
        running
    }

    /// Starts a command that needs none of the ports.
    pub(crate) fn run_beside(&self, command: &mut Command) -> Running {
        let output = |name: &str| File::create(self.path(name)).unwrap();
        let command = command.stdout(output("beside.stdout")).stderr(output("beside.stderr"));
        Running {
            child: command.spawn().unwrap(),
        }
    }

    /// Starts a server with small files, which are rolled, indexed and checkpointed during a test. `more` are lines of its
    /// configuration.
    pub(crate) fn start_small(&self, flush_disk_type: &str, more: &str) -> Running {
        let small = "mappedFileSizeCommitLog=262144\nmappedFileSizeConsumeQueue=20000\nmaxHashSlotNum=1000\nmaxIndexNum=4000\n\
                     apogeeCheckpointBytes=1048576\nflushConsumerOffsetInterval=100\ncleanFileForciblyEnable=false\n\
                     diskMaxUsedSpaceRatio=95\ndiskSpaceWarningLevelRatio=100\n";
        let lines = format!("flushDiskType={flush_disk_type}\n{small}{more}");
        std::fs::write(self.path("broker.conf"), lines).unwrap();
        self.run(self.command().args(["-c", "broker.conf", "--log", "warn,store=info"]))
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(Options::with_broker(self.broker()))
    }

    pub(crate) async fn create_topic(&self, name: &str, queues: i32) {
        let topic = TopicConfig::new(name, queues);
        self.client().create_topic(&self.broker(), &topic).await.unwrap();
    }

    pub(crate) fn queue(&self, topic: &str, id: i32) -> Queue {
        Queue::at(&self.broker(), topic, id)
    }

    pub(crate) fn namesrv(&self) -> String {
        format!("127.0.0.1:{}", self.namesrv_port)
    }

    pub(crate) fn broker(&self) -> String {
        format!("127.0.0.1:{}", self.broker_port)
    }

    /// Where the gRPC proxy of the process that runs here listens.
    pub(crate) fn proxy(&self) -> String {
        self.address_of("gRPC")
    }

    /// Where it listens for this, as its first screen says.
    pub(crate) fn address_of(&self, what: &str) -> String {
        let begun = Instant::now();
        loop {
            let printed = self.printed();
            if let Some(line) = printed.lines().find_map(|line| line.trim().strip_prefix(what)) {
                let address = line.trim().split([' ', ',']).next().unwrap_or_default();
                return address.to_owned();
            }
            assert!(begun.elapsed() < DEADLINE, "its address is not printed: {printed}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the last process here wrote to its standard output.
    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(self.path("stdout")).unwrap()
    }

    /// What the last process here wrote to its standard error.
    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// Waits until all these texts are in [`Home::logged`], which another thread writes.
    pub(crate) fn logs(&self, texts: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let logged = self.logged();
            let Some(missing) = texts.iter().find(|text| !logged.contains(**text)) else {
                return logged;
            };
            assert!(begun.elapsed() < DEADLINE, "{missing} is not in {logged}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A process that ends with its test.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn of(child: Child) -> Self {
        Self { child }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard error, if that is a pipe.
    pub(crate) fn stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().unwrap()
    }

    /// Sends a signal, as `kill` names it.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.ended().code(), None);
    }

    /// Sends SIGTERM: it shuts down cleanly.
    pub(crate) fn stop(&mut self) {
        self.signal("-TERM");
        assert_eq!(self.ended().code(), Some(0));
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "it did not stop");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Below the range of ephemeral ports: an outgoing connection could take a port while its server restarts.
const PORTS: std::ops::Range<u16> = 12_000..20_000;

/// A port that is free, together with those at the given distances; no test of this process gets it again.
pub(crate) fn free_port(neighbours: &[i32]) -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time start at different ports. Neighbours are up to 11 above: no other thread gets a port among them.
    let begin = std::process::id().wrapping_mul(16 * 37);
    loop {
        let next = begin.wrapping_add(u32::from(GIVEN.fetch_add(16, Ordering::Relaxed)));
        let port = PORTS.start + (next % u32::from(PORTS.end - PORTS.start)) as u16;
        let mut all = neighbours
            .iter()
            .map(|by| u16::try_from(i32::from(port) + by).unwrap())
            .chain([port]);
        if all.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("it hangs") })
}
