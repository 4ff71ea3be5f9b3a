//! Brokers, requests and proxies that end.

use crate::cluster::{Cluster, client, heartbeat, next, played, pull, send, stop, until};
use crate::support::SOON;
use protocol::{Frame, ResponseCode};
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn when_a_broker_ends_what_it_has_not_answered_ends_at_once_and_others_go_on() {
    Cluster::start(&["a", "b"], 1, |_| {}).run(async |cluster| {
        let (address, streams) = played();
        cluster.register("played", &address).await;
        let proxy = cluster.address(0);
        let client = client(&proxy);
        let asked = async { client.call(&proxy, send("played", "t", "x")).await.unwrap() };
        let polled = async { client.call(&proxy, pull("played", "t", 0, 20_000)).await.unwrap() };
        let broken = async {
            let (read, streams) = tokio::task::spawn_blocking(move || {
                let (mut stream, mut buffer) = (streams.recv_timeout(SOON).unwrap(), bytes::BytesMut::new());
                stream.set_read_timeout(Some(SOON)).unwrap();
                let read = [next(&mut stream, &mut buffer).code, next(&mut stream, &mut buffer).code];
                (read, streams)
            })
            .await
            .unwrap();
            assert_eq!(read, [310, 11], "in the order in which they were sent");
            streams
        };
        let begun = Instant::now();
        let (sent, pulled, streams) = tokio::join!(asked, polled, broken);
        assert!(begun.elapsed() < Duration::from_secs(20));
        for answer in [sent, pulled] {
            assert_eq!(answer.code, i32::from(ResponseCode::ServiceNotAvailable));
            assert!(answer.remark.unwrap().contains("closed before it answered"));
        }
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        // The next request connects again.
        let again = async { client.call(&proxy, send("played", "t", "x")).await.unwrap() };
        let answered = tokio::task::spawn_blocking(move || {
            let (mut stream, mut buffer) = (streams.recv_timeout(SOON).unwrap(), bytes::BytesMut::new());
            let request = next(&mut stream, &mut buffer);
            stream
                .write_all(&Frame::response_to(&request).with_field("queueOffset", 7).to_bytes())
                .unwrap();
        });
        let (answer, done) = tokio::join!(again, answered);
        done.unwrap();
        assert_eq!((answer.code, answer.ext.int::<i64>("queueOffset")), (0, Some(7)));

        // A real one that is gone: its port is closed.
        assert_eq!(client.call(&proxy, send("b", "t", "x")).await.unwrap().code, 0);
        let left = cluster.brokers.pop().unwrap();
        stop(move || left.stop().unwrap());
        until("the broker is gone", || cluster.proxies[0].broker_connections() <= 2).await;
        let answer = client.call(&proxy, send("b", "t", "x")).await.unwrap();
        assert_eq!(answer.code, i32::from(ResponseCode::ServiceNotAvailable), "{:?}", answer.remark);
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
    });
}

#[test]
fn a_broker_that_comes_back_hears_of_its_clients_first() {
    Cluster::start(&[], 1, |_| {}).run(async |cluster| {
        let (address, streams) = played();
        cluster.register("played", &address).await;
        let proxy = cluster.address(0);
        let client = Arc::new(client(&proxy));
        let broker = tokio::task::spawn_blocking(move || {
            let codes = |count: usize| {
                let (mut stream, mut buffer) = (streams.recv_timeout(SOON).unwrap(), bytes::BytesMut::new());
                stream.set_read_timeout(Some(SOON)).unwrap();
                let answered = (0..count).map(|_| {
                    let request = next(&mut stream, &mut buffer);
                    if !request.is_oneway() {
                        stream.write_all(&Frame::response_to(&request).to_bytes()).unwrap();
                    }
                    (request.code, request.is_oneway())
                });
                answered.collect::<Vec<_>>()
            };
            [codes(1), codes(2), codes(1), codes(1)]
        });
        let beat = heartbeat("c", "g", "t");
        client.heartbeat(&proxy, &beat).await.unwrap();
        let closed = async || until("it is gone", || cluster.proxies[0].broker_connections() == 0).await;
        closed().await;
        assert_eq!(client.call(&proxy, send("played", "t", "x")).await.unwrap().code, 0);
        closed().await;
        // The same heartbeat again is passed on, because a broker has to hear it.
        client.heartbeat(&proxy, &beat).await.unwrap();
        closed().await;
        // A client that has left does not come back.
        client.leave(&proxy, "c", None, Some("g")).await.unwrap();
        assert_eq!(client.call(&proxy, send("played", "t", "x")).await.unwrap().code, 0);
        assert_eq!(
            broker.await.unwrap(),
            [
                vec![(34, false)],
                vec![(34, true), (310, false)],
                vec![(34, false)],
                vec![(310, false)]
            ]
        );
    });
}

#[test]
fn a_proxy_that_stops_answers_what_was_asked_and_does_not_wait_for_messages() {
    Cluster::start(&["a"], 1, |_| {}).run(async |cluster| {
        let (address, streams) = played();
        cluster.register("slow", &address).await;
        let proxy = cluster.address(0);
        let client = Arc::new(client(&proxy));
        assert_eq!(client.call(&proxy, send("a", "t", "x")).await.unwrap().code, 0);
        let call = |request: Frame| {
            let (client, proxy) = (Arc::clone(&client), proxy.clone());
            tokio::spawn(async move { client.call(&proxy, request).await })
        };
        let (sent, parked) = (call(send("slow", "t", "x")), call(pull("a", "t", 1, 60_000)));
        let (mut stream, request) = tokio::task::spawn_blocking(move || {
            let (mut stream, mut buffer) = (streams.recv_timeout(SOON).unwrap(), bytes::BytesMut::new());
            let request = next(&mut stream, &mut buffer);
            (stream, request)
        })
        .await
        .unwrap();
        let remoting = cluster.proxies.pop().unwrap();
        let begun = Instant::now();
        let stopping = std::thread::spawn(move || remoting.stop());
        until("it accepts nothing more", || TcpStream::connect(&proxy).is_err()).await;
        stream.write_all(&Frame::response_to(&request).to_bytes()).unwrap();
        assert_eq!(sent.await.unwrap().unwrap().code, 0, "what was asked is answered");
        stopping.join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert!(
            parked.await.unwrap().is_err(),
            "a client of a proxy that is gone asks again elsewhere"
        );
    });
}

#[test]
fn a_request_that_is_never_answered_ends_with_the_next_heartbeat() {
    Cluster::start(&["a"], 1, |settings| settings.request_timeout = Duration::from_millis(100)).run(async |cluster| {
        let (address, streams) = played();
        cluster.register("silent", &address).await;
        let proxy = cluster.address(0);
        let client = Arc::new(client(&proxy));
        let asked = tokio::spawn({
            let (client, proxy) = (Arc::clone(&client), proxy.clone());
            async move { client.call(&proxy, send("silent", "t", "x")).await.unwrap() }
        });
        let _stream = tokio::task::spawn_blocking(move || streams.recv_timeout(SOON).unwrap())
            .await
            .unwrap();
        while !asked.is_finished() {
            // All brokers have to be told, so it waits a while for the silent one.
            client.heartbeat(&proxy, &heartbeat("c", "g", "t")).await.unwrap();
        }
        let answer = asked.await.unwrap();
        assert_eq!(answer.code, i32::from(ResponseCode::SystemError));
        assert!(answer.remark.unwrap().contains("did not answer in time"));
    });
}
