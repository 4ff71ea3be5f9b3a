//! Every form of a private key that administrators have in their files.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use tls::{Accepted, Tls, TlsSettings};

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/keys", name].iter().collect()
}

fn open(cert: &str, key: &str, password: &str) -> Result<Tls, String> {
    let settings = TlsSettings {
        server_cert: Some(file(cert)),
        server_key: Some(file(key)),
        server_key_password: password.to_owned(),
        ..TlsSettings::default()
    };
    Tls::open(&settings).map_err(|error| error.to_string())
}

#[test]
fn keys_without_encryption_are_read() {
    for (cert, key) in [
        ("ec-cert.pem", "pkcs8.pem"),
        ("ec-cert.pem", "sec1.pem"),
        ("rsa-cert.pem", "pkcs1.pem"),
    ] {
        // A password that nothing needs does no harm, as in Apache.
        for password in ["", "unused"] {
            assert!(matches!(open(cert, key, password).unwrap().accepted(), Accepted::Both(_)), "{key}");
        }
    }
}

#[test]
fn encrypted_keys_are_read_with_their_password_only() {
    for key in ["pkcs8-aes256.pem", "pkcs8-3des-sha1.pem", "pkcs8-v1-3des.pem", "pkcs8-v1-rc4.pem"] {
        open("ec-cert.pem", key, "apogee").unwrap_or_else(|why| panic!("{key}: {why}"));
        assert!(open("ec-cert.pem", key, "").unwrap_err().contains("no password is set"), "{key}");
        let why = open("ec-cert.pem", key, "other").unwrap_err();
        assert!(why.contains(key) && !why.contains("other"), "{key}: {why}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    for (cert, key, told) in [
        ("ec-cert.pem", "traditional-aes128.pem", "openssl pkcs8 -topk8"),
        ("ec-cert.pem", "pkcs1.pem", "ec-cert.pem"),
        ("ec-cert.pem", "ec-cert.pem", "ec-cert.pem"),
        ("pkcs8.pem", "pkcs8.pem", "no certificate"),
        ("ec-cert.pem", "missing.pem", "missing.pem"),
    ] {
        let why = open(cert, key, "apogee").unwrap_err();
        assert!(why.contains(told), "{cert} {key}: {why}");
    }
}

#[test]
fn a_certificate_needs_its_key() {
    let settings = TlsSettings {
        server_cert: Some(file("ec-cert.pem")),
        ..TlsSettings::default()
    };
    assert!(Tls::open(&settings).unwrap_err().to_string().contains("tls.server.keyPath"));
}
