//! A name server for tests with brokers and clients: `cargo run -p nameserver --example namesrv -- 9876 /tmp/namesrv`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use nameserver::{NameServer, NamesrvSettings, Options, Scan};
use net::{Server, Service};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut settings = NamesrvSettings {
        support_acting_master: true,
        notify_min_broker_id_changed: true,
        ..NamesrvSettings::default()
    };
    if let Some(port) = arguments.next() {
        settings.listen_port = port.parse()?;
    }
    if let Some(directory) = arguments.next() {
        settings.data_dir = directory.into();
    }
    let network = NameServer::network(&settings);
    let names = NameServer::new(Options::new(settings))?;
    let server = Server::start(network, Arc::clone(&names) as Arc<dyn Service>)?;
    let _scan = Scan::start(Arc::clone(&names))?;
    println!("listening on {:?}", server.local_addrs());
    loop {
        std::thread::sleep(Duration::from_secs(5));
        println!("{} brokers, {} connections", names.live_brokers(), server.connections());
    }
}
