//! Processes of a cluster: a name server with the controller in it, and the brokers of one name.

use crate::common::{DEADLINE, Running, apogeemq, block_on, free_port};
use client::{Client, Options};
use protocol::controller::BrokerReplicasInfo;
use protocol::{Frame, RequestCode, json};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// The name of the brokers.
pub(crate) const NAME: &str = "a";

/// See the module.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    names_port: u16,
    controller_port: u16,
    ports: Vec<u16>,
    /// Lines of the brokers' configuration.
    settings: String,
    names: Option<Running>,
    pub(crate) brokers: Vec<Option<Running>>,
}

/// What the controller says.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) master: Option<String>,
    pub(crate) in_sync: Vec<String>,
}

impl Cluster {
    /// With so many brokers, started one after the other: the first is the master.
    pub(crate) fn start(count: usize, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (names_port, controller_port) = (free_port(&[]), free_port(&[]));
        let text = format!(
            "bindAddress=127.0.0.1\nlistenPort={names_port}\nenableControllerInNamesrv=true\ncontrollerDLegerPeers=n0-127.0.0.1:{controller_port}\n\
             controllerStorePath=controller\n"
        );
        std::fs::write(dir.path().join("names.conf"), text).unwrap();
        let names = run(dir.path(), "names", "namesrv");
        let mut cluster = Self {
            dir,
            names_port,
            controller_port,
            ports: (0..count).map(|_| free_port(&[-2, 1])).collect(),
            settings: settings.to_owned(),
            names: Some(names),
            brokers: Vec::new(),
        };
        cluster.until("the controller leads", |cluster| cluster.asked().is_some());
        for index in 0..count {
            cluster.brokers.push(None);
            cluster.start_broker(index);
            cluster.until("the broker is in sync", |cluster| cluster.now().in_sync.len() == index + 1);
        }
        cluster
    }

    /// Kills the name server, and the controller with it.
    pub(crate) fn stop_names(&mut self) {
        self.names.take().unwrap().kill();
    }

    pub(crate) fn start_names(&mut self) {
        self.names = Some(run(self.dir.path(), "names", "namesrv"));
        self.until("the controller leads", |cluster| cluster.asked().is_some());
    }

    pub(crate) fn start_broker(&mut self, index: usize) {
        let text = format!(
            "bindAddress=127.0.0.1\nbrokerIP1=127.0.0.1\nlistenPort={}\nbrokerName={NAME}\nbrokerClusterName=c\nnamesrvAddr=127.0.0.1:{}\n\
             enableControllerMode=true\ncontrollerAddr=127.0.0.1:{}\nstorePathRootDir=b{index}\nmappedFileSizeCommitLog=1048576\n\
             apogeeGrpcEnable=false\n{}",
            self.ports[index], self.names_port, self.controller_port, self.settings
        );
        let name = format!("b{index}");
        std::fs::write(self.dir.path().join(format!("{name}.conf")), text).unwrap();
        self.brokers[index] = Some(run(self.dir.path(), &name, "broker"));
    }

    pub(crate) fn address(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.ports[index])
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(Options {
            request_timeout: Duration::from_secs(5),
            ..Options::with_name_servers([format!("127.0.0.1:{}", self.names_port)])
        })
    }

    /// Has this broker elected, as `electMaster` does.
    pub(crate) fn elect(&self, index: usize) {
        let (controller, address) = (format!("127.0.0.1:{}", self.controller_port), self.address(index));
        let client = self.client();
        block_on(async {
            let sets = client.sync_states(&controller, &[NAME.to_owned()]).await.unwrap();
            let set = &sets.replicas_info_table[NAME];
            let replica = set.in_sync_replicas.iter().find(|replica| replica.broker_address == address);
            let id = replica.unwrap().broker_id;
            client.elect_master(&controller, "c", NAME, id).await.unwrap();
        });
    }

    /// Which broker is the master.
    pub(crate) fn master(&self) -> usize {
        let master = self.now().master.unwrap();
        (0..self.ports.len()).find(|index| self.address(*index) == master).unwrap()
    }

    /// What the controller says.
    pub(crate) fn now(&self) -> Now {
        let info = self.asked().unwrap();
        let set = info.replicas_info_table.get(NAME).cloned().unwrap_or_default();
        let in_sync = set.in_sync_replicas.iter().filter(|replica| replica.alive);
        Now {
            in_sync: in_sync.map(|replica| replica.broker_address.clone()).collect(),
            master: set.master_address,
        }
    }

    fn asked(&self) -> Option<BrokerReplicasInfo> {
        let mut frame = Frame::request(RequestCode::ControllerGetSyncStateData);
        frame.body = json::write(&[NAME]).into();
        let controller = format!("127.0.0.1:{}", self.controller_port);
        block_on(async { self.client().ask_for(&controller, frame).await.ok() })
    }

    /// What a broker has logged since its last start.
    pub(crate) fn logged(&self, index: usize) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("b{index}.log"))).unwrap_or_default()
    }

    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(
                begun.elapsed() < DEADLINE,
                "{what}: not in time; {:?}; {}",
                self.asked(),
                (0..self.brokers.len()).map(|index| self.logged(index)).collect::<String>()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn run(dir: &Path, name: &str, role: &str) -> Running {
    let output = |kind: &str| File::create(dir.join(format!("{name}.{kind}"))).unwrap();
    let mut command = apogeemq(dir);
    command.args([role, "-c", &format!("{name}.conf")]);
    Running::of(command.stdout(output("out")).stderr(output("log")).spawn().unwrap())
}
