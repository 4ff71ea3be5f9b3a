//! Connections over TLS: modes, certificates of both ends, exchanged files, floods, and bytes that are no TLS.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::*;
use net::Limits;
use tls::{ClientAuth, Tls, TlsMode, TlsSettings};

fn plain() -> TlsSettings {
    TlsSettings::default()
}

fn with_cert(authority: &Authority) -> TlsSettings {
    let (cert, key) = authority.pair("localhost");
    TlsSettings {
        server_cert: Some(cert),
        server_key: Some(key),
        ..TlsSettings::default()
    }
}

fn showing(authority: &Authority) -> TlsSettings {
    let (cert, key) = authority.pair("client");
    TlsSettings {
        client_cert: Some(cert),
        client_key: Some(key),
        ..client()
    }
}

/// The first message of a client.
fn hello() -> BytesMut {
    let connector = Tls::connector_once(&client()).unwrap().unwrap();
    let mut out = BytesMut::new();
    let mut session = connector.connect("localhost").unwrap();
    session.receive(&mut BytesMut::new(), &mut BytesMut::new(), &mut out).unwrap();
    out
}

#[test]
fn each_mode_serves_what_its_name_says() {
    for (mode, plain_is_served, tls_is_served) in [
        (TlsMode::Disabled, true, false),
        (TlsMode::Permissive, true, true),
        (TlsMode::Enforcing, false, true),
    ] {
        let fixture = serve(&TlsSettings {
            mode,
            ..TlsSettings::default()
        });
        assert_eq!(fixture.try_ask(&plain()).is_ok(), plain_is_served, "{mode} plain");
        assert_eq!(fixture.try_ask(&client()).is_ok(), tls_is_served, "{mode} TLS");
    }
}

#[test]
fn both_versions_and_all_suites_are_spoken() {
    let fixture = serve(&TlsSettings::default());
    for (protocol, cipher) in [
        ("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        ("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),
    ] {
        let one = TlsSettings {
            protocols: vec![protocol.to_owned()],
            ciphers: vec![cipher.to_owned()],
            ..client()
        };
        fixture.try_ask(&one).unwrap_or_else(|error| panic!("{cipher}: {error}"));
    }
}

#[test]
fn a_peer_without_a_common_version_is_told_so() {
    let only = |protocol: &str| vec![protocol.to_owned()];
    let fixture = serve(&TlsSettings {
        protocols: only("TLSv1.3"),
        ..TlsSettings::default()
    });
    let old = TlsSettings {
        protocols: only("TLSv1.2"),
        ..client()
    };
    let error = fixture.try_ask(&old).unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}

#[test]
fn large_frames_and_many_requests_arrive_as_they_were_sent() {
    let fixture = serve(&TlsSettings::default());
    runtime().block_on(async {
        let peer = connect(fixture.address(), &client()).await.unwrap();
        for len in [0, 1, 16_383, 16_384, 16_385, 100_000, 8_000_000] {
            let body: String = ('a'..='z').cycle().take(len).collect();
            ask(&peer, &body).await.unwrap();
        }
        let mut running = tokio::task::JoinSet::new();
        let peer = std::sync::Arc::new(peer);
        for number in 0..500 {
            let peer = peer.clone();
            running.spawn(async move { ask(&peer, &format!("{number}").repeat(number)).await.unwrap() });
        }
        running.join_all().await;
    });
}

#[test]
fn a_client_that_verifies_refuses_a_server_of_another_authority() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let fixture = serve(&with_cert(&own));
    fixture.try_ask(&client()).unwrap();
    // The certificate is for another host than the address, which Apache's clients do not check.
    fixture.try_ask(&trusting(&own)).unwrap();
    let error = fixture.try_ask(&trusting(&other)).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let strict = TlsSettings {
        checks_host: true,
        ..trusting(&own)
    };
    assert!(fixture.try_ask(&strict).is_err(), "the host is not in the certificate");
}

#[test]
fn a_server_asks_clients_for_certificates_as_it_is_told() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    for (client_auth, verifies, without, with_own, with_other) in [
        (ClientAuth::None, true, true, true, true),
        (ClientAuth::Optional, false, true, true, true),
        (ClientAuth::Optional, true, true, true, false),
        (ClientAuth::Require, false, false, true, true),
        (ClientAuth::Require, true, false, true, false),
    ] {
        let fixture = serve(&TlsSettings {
            client_auth,
            server_verifies: verifies,
            server_trust: Some(own.file()),
            ..with_cert(&own)
        });
        let case = format!("{client_auth}, verifies {verifies}");
        assert_eq!(fixture.try_ask(&client()).is_ok(), without, "{case}: without");
        assert_eq!(fixture.try_ask(&showing(&own)).is_ok(), with_own, "{case}: own");
        assert_eq!(fixture.try_ask(&showing(&other)).is_ok(), with_other, "{case}: other");
    }
}

#[test]
fn changed_files_are_used_by_new_connections_and_drop_no_old_one() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let settings = with_cert(&first);
    let (cert, key) = (settings.server_cert.clone().unwrap(), settings.server_key.clone().unwrap());
    let fixture = serve(&settings);
    let runtime = runtime();
    let old = runtime.block_on(connect(fixture.address(), &trusting(&first))).unwrap();
    second.issue("localhost", &cert, &key);
    let end = Instant::now() + DEADLINE;
    let mut asked = 0;
    // Requests on the old connection, as fast as they are answered, while the files are exchanged.
    while fixture.try_ask(&trusting(&second)).is_err() {
        assert!(Instant::now() < end, "the new certificate is not used");
        runtime.block_on(async {
            for _ in 0..100 {
                ask(&old, "old").await.unwrap();
                asked += 1;
            }
        });
    }
    assert!(asked > 0, "the exchange takes a while");
    assert!(fixture.try_ask(&trusting(&first)).is_err());
    runtime.block_on(ask(&old, "old")).unwrap();
}

#[test]
fn a_broken_file_keeps_the_certificate_until_it_is_repaired() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let settings = with_cert(&first);
    let (cert, key) = (settings.server_cert.clone().unwrap(), settings.server_key.clone().unwrap());
    let fixture = serve(&settings);
    std::fs::write(&cert, "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
    // Long enough for the thread to look twice; nothing may change.
    let end = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < end {
        fixture.try_ask(&trusting(&first)).unwrap();
    }
    std::fs::remove_file(&key).unwrap();
    fixture.try_ask(&trusting(&first)).unwrap();
    second.issue("localhost", &cert, &key);
    fixture.wait_for(&trusting(&second));
}

#[test]
fn a_flood_of_half_open_handshakes_harms_nobody() {
    const HALF_OPEN: usize = 1_000;
    let limits = Limits {
        handshake_timeout: Duration::from_secs(2),
        ..Limits::default()
    };
    let fixture = serve_within(&TlsSettings::default(), limits);
    let hello = hello();
    let flood: Vec<TcpStream> = (0..HALF_OPEN)
        .map(|number| {
            let mut stream = TcpStream::connect(fixture.address()).unwrap();
            // Whole first messages, which cost the server a signature each, and beginnings of them.
            let part = if number % 2 == 0 { hello.len() } else { 1 + number % 100 };
            stream.write_all(&hello[..part]).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        fixture.try_ask(&client()).unwrap();
        fixture.try_ask(&plain()).unwrap();
    }
    wait_for("they are closed at their deadline", || fixture.server.connections() == 0);
    assert_eq!(fixture.server.inbound_bytes(), 0, "their memory is given back");
    drop(flood);
}

#[test]
fn bytes_that_are_no_tls_close_their_connection_only() {
    let fixture = serve(&TlsSettings::default());
    let hello = hello();
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..300 {
        let mut bytes = hello.to_vec();
        match round % 3 {
            // A changed message.
            0 => {
                for _ in 0..=next() % 4 {
                    let at = usize::try_from(next()).unwrap_or(0) % bytes.len();
                    bytes[at] = next().to_be_bytes()[0];
                }
            }
            // A message with something behind it.
            1 => bytes.extend((0..next() % 2_000).map(|_| next().to_be_bytes()[0])),
            // Records of any length and type.
            _ => {
                bytes.truncate(5);
                bytes.extend((0..next() % 20_000).map(|_| next().to_be_bytes()[0]));
            }
        }
        bytes[0] = net::session::HANDSHAKE_BYTE;
        let mut stream = TcpStream::connect(fixture.address()).unwrap();
        // The server may close before it has read all.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.set_read_timeout(Some(DEADLINE));
        let _ = stream.read_to_end(&mut Vec::new());
    }
    wait_for("all are closed", || fixture.server.connections() == 0);
    fixture.try_ask(&client()).unwrap();
}

#[test]
fn bytes_within_an_established_session_are_checked() {
    let fixture = serve(&TlsSettings::default());
    // A client whose records are changed on the way.
    let connector = Tls::connector_once(&client()).unwrap().unwrap();
    for change in [5_usize, 20, 37] {
        let mut session = connector.connect("localhost").unwrap();
        let mut stream = TcpStream::connect(fixture.address()).unwrap();
        let (mut records, mut plain, mut out) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        while session.is_handshaking() {
            session.receive(&mut records, &mut plain, &mut out).unwrap();
            stream.write_all(&out.split()).unwrap();
            if session.is_handshaking() {
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).unwrap();
                assert!(read > 0, "the handshake ended");
                records.extend_from_slice(&buffer[..read]);
            }
        }
        let request = protocol::Frame::request(1).with_body("changed on the way").to_bytes();
        session.seal(&[std::io::IoSlice::new(&request)], &mut out).unwrap();
        out[change] ^= 1;
        stream.write_all(&out).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut rest = Vec::new();
        // The end, or a reset if the server had something left to read.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 100, "an alert at most, not an answer");
    }
    fixture.try_ask(&client()).unwrap();
}

#[test]
fn enforcing_needs_a_certificate() {
    let settings = TlsSettings {
        mode: TlsMode::Enforcing,
        test_mode: Some(false),
        ..TlsSettings::default()
    };
    assert!(Tls::open(&settings).unwrap_err().to_string().contains("tls.server.certPath"));
    let permissive = TlsSettings {
        mode: TlsMode::Permissive,
        ..settings
    };
    let fixture = serve(&permissive);
    fixture.try_ask(&plain()).unwrap();
    assert!(fixture.try_ask(&client()).is_err());
}
