//! One process of a local cluster.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Arguments;
use crate::failure::Failure;
use crate::process::terminate;

/// Name of the brokers and of their cluster.
pub(super) const BROKER: &str = "broker-a";
pub(super) const CLUSTER: &str = "LocalCluster";
/// Distance between ports of the same kind.
const STEP: u16 = 10;
/// From a name server's port to its controller's. Compat: 9876 and 9878 are those of Apache's documents.
const TO_CONTROLLER: u16 = 2;
/// Longest wait for a process that is told to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A part of the cluster, with its process once it was started.
pub(super) struct Part {
    pub(super) name: String,
    port: u16,
    is_broker: bool,
    settings: String,
    /// Where its files are, once it was started.
    dir: PathBuf,
    child: Option<Child>,
}

/// The parts that these flags ask for.
pub(super) fn all(arguments: &Arguments) -> Vec<Part> {
    let names = if arguments.local >= 3 { 3 } else { 1 };
    let port_of = |index: u16| arguments.namesrv_port.saturating_add(index * STEP);
    let list = |port: &dyn Fn(u16) -> u16, before: &dyn Fn(u16) -> String| {
        let all = (0..names).map(|index| format!("{}127.0.0.1:{}", before(index), port(index)));
        all.collect::<Vec<_>>().join(";")
    };
    let controller = |index: u16| port_of(index).saturating_add(TO_CONTROLLER);
    let peers = list(&controller, &|index| format!("n{index}-"));
    let controllers = list(&controller, &|_| String::new());
    let name_servers = list(&port_of, &|_| String::new());
    let servers = (0..names).map(|index| Part {
        name: format!("n{index}"),
        port: port_of(index),
        is_broker: false,
        settings: format!(
            "bindAddress=127.0.0.1\nlistenPort={}\nenableControllerInNamesrv=true\ncontrollerDLegerPeers={peers}\ncontrollerDLegerSelfId=n{index}\n",
            port_of(index)
        ),
        dir: PathBuf::new(),
        child: None,
    });
    let brokers = (0..arguments.local).map(|index| {
        let port = arguments.broker_port.saturating_add(index * STEP);
        Part {
            name: format!("b{index}"),
            port,
            is_broker: true,
            settings: format!(
                "bindAddress=127.0.0.1\nbrokerIP1=127.0.0.1\nlistenPort={port}\nbrokerName={BROKER}\nbrokerClusterName={CLUSTER}\n\
                 namesrvAddr={name_servers}\nenableControllerMode=true\ncontrollerAddr={controllers}\nallAckInSyncStateSet=true\n\
                 slaveReadEnable=true\nmappedFileSizeCommitLog=67108864\napogeeGrpcEnable=false\n"
            ),
            dir: PathBuf::new(),
            child: None,
        }
    });
    servers.chain(brokers).collect()
}

impl Part {
    pub(super) fn is_broker(&self) -> bool {
        self.is_broker
    }

    pub(super) fn what(&self) -> &'static str {
        if self.is_broker() { "broker" } else { "name server and controller" }
    }

    /// For clients.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Of the controller in the process of a name server.
    pub(super) fn controller(&self) -> String {
        format!("127.0.0.1:{}", self.port.saturating_add(TO_CONTROLLER))
    }

    /// The id of its process; 0 if it was not started.
    pub(super) fn process(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Writes its file and starts it.
    pub(super) fn start(&mut self, dir: &Path) -> Result<(), Failure> {
        self.dir = dir.to_owned();
        let file = dir.join(format!("{}.conf", self.name));
        let failed = |error: io::Error| Failure::new(format!("{}: {error}", file.display()));
        let data = dir.join(&self.name);
        let text = match self.is_broker() {
            true => format!("{}storePathRootDir={}\n", self.settings, data.display()),
            false => format!("{}apogeeDataDir={}\n", self.settings, data.display()),
        };
        std::fs::write(&file, text).map_err(failed)?;
        let log = File::create(dir.join(format!("{}.log", self.name))).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .arg(if self.is_broker() { "broker" } else { "namesrv" })
            .arg("--stop-with-input")
            .arg("-c")
            .arg(&file);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("APOGEEMQ_")) {
            command.env_remove(name);
        }
        let output = log.try_clone().map_err(failed)?;
        // Ctrl-C is for this program, which stops them in order.
        // Its input is a pipe that nobody else has: it ends with this program, also when that is killed.
        command.stdin(Stdio::piped()).stdout(output).stderr(log).process_group(0);
        self.child = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    /// How to start it by hand.
    pub(super) fn command(&self) -> String {
        let program = std::env::args().next().unwrap_or_else(|| "apogeemq".to_owned());
        let role = if self.is_broker() { "broker" } else { "namesrv" };
        format!("{program} {role} -c {}", self.dir.join(format!("{}.conf", self.name)).display())
    }

    /// Whether its process has ended since the last call.
    pub(super) fn has_ended(&mut self) -> bool {
        let ended = self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        if ended {
            self.child = None;
        }
        ended
    }

    /// Tells it to stop, and kills it if it does not.
    pub(super) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        terminate(child.id());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}
