//! An echo server on 127.0.0.1, to count system calls with `strace -c -f` and to measure what the network alone costs.
//! `cargo run --example echo -- 7000 1`

use std::error::Error;
use std::sync::Arc;

use net::{Connection, Limits, Options, Server, Service};
use protocol::frame::Frame;

struct Echo;

impl Service for Echo {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            let mut reply = Frame::response_to(&frame);
            reply.body = frame.body;
            conn.send_frame(&reply);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().map_or(Ok(7_000), |port| port.parse())?;
    let workers = arguments.next().map_or(Ok(1), |workers| workers.parse())?;
    let listen = vec![std::net::SocketAddr::from(([127, 0, 0, 1], port))];
    let options = Options {
        name: "echo".into(),
        listen,
        workers,
        limits: Limits::default(),
        encryption: net::session::Encryption::Disabled,
    };
    let server = Server::start(options, Arc::new(Echo))?;
    println!("listening on {:?}", server.local_addrs());
    loop {
        std::thread::park();
    }
}
