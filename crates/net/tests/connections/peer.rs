//! The client end against our own server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::encryption;
use crate::support::toy::{SECRET, Toys};
use bytes::Bytes;
use net::client::{Peer, PeerOptions};
use net::session::Connector;
use net::{Connection, Limits, Options, RequestError, Server, Service};
use protocol::frame::Frame;

const SOON: Duration = Duration::from_secs(10);
const ECHO: i32 = 1;
const NO_RESPONSE: i32 = 2;
const ONE_WAY: i32 = 3;
const ASK_BACK: i32 = 4;

#[derive(Default)]
struct Echo {
    one_way: AtomicUsize,
}

impl Service for Echo {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            let mut reply = Frame::response_to(&frame);
            match frame.code {
                NO_RESPONSE => {}
                ONE_WAY => drop(self.one_way.fetch_add(1, Ordering::Relaxed)),
                ASK_BACK => {
                    let answering = Arc::clone(conn);
                    let done = move |result: Result<Frame, RequestError>| {
                        reply.body = result.unwrap().body;
                        answering.send_frame(&reply);
                    };
                    conn.request(Frame::request(ECHO), SOON, done).unwrap();
                }
                _ => {
                    reply.body = frame.body;
                    conn.send_frame(&reply);
                }
            }
        }
    }
}

/// What the client answers when it is asked.
struct Answering;

impl Service for Answering {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            let mut reply = Frame::response_to(&frame);
            reply.body = Bytes::from_static(b"from the client");
            conn.send_frame(&reply);
        }
    }
}

fn start() -> (Server, Arc<Echo>, String) {
    let echo = Arc::new(Echo::default());
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let options = Options {
        name: "peer".into(),
        listen,
        workers: 1,
        limits: Limits::default(),
        encryption: encryption(),
    };
    let server = Server::start(options, Arc::clone(&echo) as Arc<dyn Service>).unwrap();
    let address = server.local_addrs()[0].to_string();
    (server, echo, address)
}

fn options() -> PeerOptions {
    PeerOptions {
        connector: crate::SECURED.then(|| Arc::new(Toys(SECRET)) as Arc<dyn Connector>),
        ..PeerOptions::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn echo(body: String) -> Frame {
    let mut frame = Frame::request(ECHO);
    frame.body = Bytes::from(body);
    frame
}

#[test]
fn requests_are_pipelined_and_matched() {
    let (_server, _, address) = start();
    runtime().block_on(async {
        let peer = Arc::new(Peer::connect(&address, options()).await.unwrap());
        let tasks: Vec<_> = (0..500)
            .map(|n| {
                let peer = Arc::clone(&peer);
                tokio::spawn(async move {
                    let answer = peer.request(echo(format!("body {n}")), SOON).await.unwrap();
                    assert_eq!(answer.body, format!("body {n}"));
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_request_without_response_times_out_and_frees_its_entry() {
    let (_server, _, address) = start();
    runtime().block_on(async {
        let limits = Limits {
            max_pending_requests: 1,
            ..Limits::default()
        };
        let peer = Peer::connect(&address, PeerOptions { limits, ..options() }).await.unwrap();
        for _ in 0..3 {
            let result = peer.request(Frame::request(NO_RESPONSE), Duration::from_millis(20)).await;
            assert_eq!(result, Err(RequestError::TimedOut));
        }
        assert_eq!(peer.request(echo("still".into()), SOON).await.unwrap().body, "still");
    });
}

#[test]
fn a_server_that_stops_fails_requests_in_flight() {
    let (server, _, address) = start();
    runtime().block_on(async {
        let peer = Peer::connect(&address, options()).await.unwrap();
        let waiting = peer.request(Frame::request(NO_RESPONSE), SOON);
        let stop = tokio::task::spawn_blocking(move || server.stop(Duration::from_millis(100)));
        assert_eq!(waiting.await, Err(RequestError::Closed));
        stop.await.unwrap();
        assert!(peer.is_closed());
        assert_eq!(peer.request(echo("late".into()), SOON).await, Err(RequestError::Closed));
    });
}

#[test]
fn one_way_frames_and_requests_in_both_directions() {
    let (_server, service, address) = start();
    runtime().block_on(async {
        let options = PeerOptions {
            service: Some(Arc::new(Answering)),
            ..options()
        };
        let peer = Peer::connect(&address, options).await.unwrap();
        peer.one_way(&Frame::request(ONE_WAY)).unwrap();
        assert_eq!(peer.request(Frame::request(ASK_BACK), SOON).await.unwrap().body, "from the client");
        assert_eq!(service.one_way.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_peer_can_be_used_from_another_runtime() {
    let (_server, _, address) = start();
    let first = runtime();
    let peer = first.block_on(Peer::connect(&address, options())).unwrap();
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(
        other.block_on(peer.request(echo("other runtime".into()), SOON)).unwrap().body,
        "other runtime"
    );
    drop(first);
    assert_eq!(
        other.block_on(peer.request(echo("no runtime".into()), SOON)),
        Err(RequestError::Closed)
    );
}

#[test]
fn a_refused_connect_is_an_error_with_the_address() {
    let (server, _, address) = start();
    drop(server);
    runtime().block_on(async {
        let begin = Instant::now();
        let error = Peer::connect(&address, options()).await.unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
        assert!(begin.elapsed() < SOON);
    });
}
