//! Who does not read, sends nonsense, or wants too much.

use crate::cluster::{Cluster, client, next, played, pull, send, until};
use crate::support::SOON;
use net::RequestError;
use net::client::{Peer, PeerOptions};
use protocol::{Frame, ResponseCode};
use proxy::remoting_settings::RemotingSettings;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_client_that_does_not_read_stops_its_brokers_and_nobody_else() {
    const MESSAGE: usize = 100_000;
    const PULLS: usize = 400;
    const UNREAD: usize = 64 << 10;
    Cluster::start(&["a", "b"], 1, |settings| settings.unread_bytes = UNREAD).run(async |cluster| {
        let proxy = cluster.address(0);
        let other = client(&proxy);
        for broker in ["a", "b"] {
            assert_eq!(other.call(&proxy, send(broker, "t", vec![b'x'; MESSAGE])).await.unwrap().code, 0);
        }
        let mut stream = TcpStream::connect(&proxy).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        for broker in ["a", "b"] {
            // Little may wait for a connection that is being opened.
            stream.write_all(&pull(broker, "t", 0, 0).to_bytes()).unwrap();
            assert_eq!(next(&mut stream, &mut bytes::BytesMut::new()).code, 0);
        }
        let requests: Vec<u8> = (0..PULLS)
            .flat_map(|at| {
                let request = Frame {
                    opaque: at as i32,
                    ..pull(["a", "b"][at % 2], "t", 0, 0)
                };
                request.to_bytes()
            })
            .collect();
        stream.write_all(&requests).unwrap();
        until("answers wait", || cluster.proxies[0].unread_bytes().0 > UNREAD).await;
        // Others are served meanwhile. A broker's answers are as many as one read brings, and one more.
        let most = UNREAD + 2 * (2 * MESSAGE + (256 << 10));
        for _ in 0..50 {
            assert_eq!(other.call(&proxy, send("a", "u", "x")).await.unwrap().code, 0);
            let unread = cluster.proxies[0].unread_bytes().0;
            assert!(unread < most, "{unread}");
        }
        // When it reads, it gets everything.
        let answers = tokio::task::spawn_blocking(move || {
            let mut buffer = bytes::BytesMut::new();
            (0..PULLS)
                .map(|_| next(&mut stream, &mut buffer))
                .map(|answer| (answer.opaque, answer.code, answer.body.len()))
                .collect::<Vec<_>>()
        });
        let mut answers = answers.await.unwrap();
        answers.sort_unstable();
        for (at, (opaque, code, size)) in answers.iter().enumerate() {
            assert!(
                at as i32 == *opaque && *code == 0 && *size > MESSAGE,
                "{at}: {opaque} {code} {size}"
            );
        }
        until("nothing waits", || cluster.proxies[0].unread_bytes().0 == 0).await;
    });
}

#[test]
fn a_broker_that_does_not_read_holds_its_client_up_for_a_while_only() {
    const BODY: usize = 1 << 20;
    const UNREAD: usize = 256 << 10;
    let change = |settings: &mut RemotingSettings| {
        settings.unread_bytes = UNREAD;
        settings.stall_time = Duration::from_millis(50);
    };
    Cluster::start(&["a"], 1, change).run(async |cluster| {
        let (address, streams) = played();
        cluster.register("stuck", &address).await;
        let proxy = cluster.address(0);
        let client = client(&proxy);
        let refused = async {
            loop {
                let sent = client
                    .call_within(&proxy, send("stuck", "t", vec![b'x'; BODY]), Duration::from_millis(200))
                    .await;
                if let Ok(answer) = sent {
                    return answer;
                }
                let unread = cluster.proxies[0].unread_bytes().1;
                assert!(unread < UNREAD + 4 * BODY, "{unread}");
            }
        };
        let answer = refused.await;
        assert_eq!(answer.code, i32::from(ResponseCode::SystemBusy), "{:?}", answer.remark);
        assert!(answer.remark.unwrap().contains("does not read"));
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        // When it reads, it gets requests again.
        let served = std::thread::spawn(move || {
            let mut stream = streams.recv_timeout(SOON).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            let mut buffer = bytes::BytesMut::new();
            loop {
                let request = next(&mut stream, &mut buffer);
                if request.body.len() < BODY {
                    return stream.write_all(&Frame::response_to(&request).to_bytes()).unwrap();
                }
            }
        });
        let answer = loop {
            let answer = client.call(&proxy, send("stuck", "t", "small")).await.unwrap();
            if answer.code == 0 {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(answer.code, 0);
        served.join().unwrap();
    });
}

#[test]
fn garbage_and_frames_that_are_too_large_end_their_own_connection() {
    Cluster::start(&["a"], 1, |settings| settings.max_frame_bytes = 64 << 10).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = client(&proxy);
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        let too_large = send("a", "t", vec![b'x'; 64 << 10]).to_bytes();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 100],
            &[0, 0, 0, 8, 7, 0, 0, 4, 0, 0, 0, 0],
            &too_large,
        ] {
            let mut stream = TcpStream::connect(&proxy).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            // The proxy may close it while it is written.
            let _ = stream.write_all(bytes);
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.is_empty());
        }
        // Valid frames with a body or a header of nonsense are refused.
        for code in [34, 41, 400, 200_151, 105, 38, 46] {
            let request = Frame::request(code).with_field("x", "\u{0}").with_body(&b"\xff{"[..]);
            let answer = client.call(&proxy, request).await.unwrap();
            assert_ne!(answer.code, 0, "{code}");
        }
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
    });
}

#[test]
fn requests_and_connections_over_a_limit_are_refused() {
    let change = |settings: &mut RemotingSettings| {
        settings.max_pending_requests = 2;
        settings.max_connections = 2;
        settings.max_broker_connections = 1;
    };
    Cluster::start(&["a", "b"], 1, change).run(async |cluster| {
        let proxy = cluster.address(0);
        let client = Arc::new(client(&proxy));
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        let answer = client.call(&proxy, send("b", "t", "x")).await.unwrap();
        assert_eq!(answer.code, i32::from(ResponseCode::SystemBusy));
        assert!(answer.remark.unwrap().contains("apogeeProxyRemotingMaxBrokerConnections"));

        let parked: Vec<_> = (0..2)
            .map(|_| {
                let (client, proxy) = (Arc::clone(&client), proxy.clone());
                tokio::spawn(async move {
                    loop {
                        // Until a place of a send below is free.
                        let answer = client.call(&proxy, pull("a", "t", 1, 60_000)).await.unwrap();
                        if answer.code != i32::from(ResponseCode::SystemBusy) {
                            return answer;
                        }
                    }
                })
            })
            .collect();
        // Both wait when three sends in a row are refused.
        let (mut answer, mut refused) = (None, 0);
        while refused < 3 {
            let sent = client.call(&proxy, send("a", "u", "x")).await.unwrap();
            refused = if sent.code == 0 { 0 } else { refused + 1 };
            answer = Some(sent);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = answer.unwrap();
        assert_eq!(answer.code, i32::from(ResponseCode::SystemBusy));
        assert!(answer.remark.unwrap().contains("apogeeProxyRemotingMaxPendingRequests"));
        // A message ends the pulls; another client brings it.
        let other = crate::cluster::client(&cluster.brokers[0].addresses()[0].to_string());
        let direct = cluster.brokers[0].addresses()[0].to_string();
        assert_eq!(other.call(&direct, send("a", "t", "y")).await.unwrap().code, 0);
        for pulled in parked {
            assert_eq!(pulled.await.unwrap().code, 0);
        }
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);

        let _second = Peer::connect(&proxy, PeerOptions::default()).await.unwrap();
        until("it is open", || cluster.proxies[0].connections() == 2).await;
        let third = Peer::connect(&proxy, PeerOptions::default()).await.unwrap();
        assert_eq!(third.request(Frame::request(105), SOON).await, Err(RequestError::Closed));
    });
}
