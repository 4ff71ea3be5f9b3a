//! The keys `tls.*`, with Apache's names and defaults. In Apache they are system properties of the JVM and lines of `tls.config.file`.

use std::path::{Path, PathBuf};

use config::shape::{flag, list, one_of, optional, path, text};
use config::{Note, Settings, Sources};

config::choice! {
    /// What a server does with TLS.
    pub enum TlsMode {
        /// Serves plain connections only.
        Disabled = "disabled",
        /// Serves both; the first byte of a connection decides.
        Permissive = "permissive",
        /// Serves TLS only.
        Enforcing = "enforcing",
    }
}

config::choice! {
    /// Whether a server asks clients for a certificate.
    pub enum ClientAuth {
        /// It does not ask.
        None = "none",
        /// It asks, and serves clients without one.
        Optional = "optional",
        /// It serves only clients with one.
        Require = "require",
    }
}

/// Keys that [`TlsSettings::add_file`] leaves out, as Apache does.
const NOT_FROM_THE_FILE: [&str; 4] = ["tls.server.mode", "tls.enable", "tls.config.file", "useTLS"];

config::declare! {
    /// TLS of all servers and outgoing connections of a process.
    pub struct TlsSettings;

    section "TLS: servers" {
        /// disabled: a connection that begins a TLS handshake is closed. permissive: plain and TLS on the same ports. enforcing: a plain
        /// connection is closed.
        mode: TlsMode { name: "tls.server.mode", default: TlsMode::Permissive, allowed: one_of(), change: AtStart }
        /// true: servers use a certificate that they sign themselves at each start, and clients accept every server; the files below have
        /// no effect. Empty: true for servers unless tls.server.certPath or tls.server.keyPath is set, and for clients unless a key
        /// tls.client.* is set. (In Apache's servers it is true until it is set to false.)
        test_mode: Option<bool> { name: "tls.test.mode.enable", default: None, allowed: optional(flag()), change: AtStart }
        /// File with the certificate of servers, followed by its intermediate certificates (PEM).
        server_cert: Option<PathBuf> { name: "tls.server.certPath", default: None, allowed: optional(path()), change: AtStart }
        /// File with the private key of that certificate (PEM: PKCS#8, encrypted PKCS#8, PKCS#1 or SEC1).
        server_key: Option<PathBuf> { name: "tls.server.keyPath", default: None, allowed: optional(path()), change: AtStart }
        /// Password of tls.server.keyPath, if it is encrypted.
        server_key_password: String { name: "tls.server.keyPassword", default: String::new(), allowed: text(), change: AtStart }
        /// Whether clients are asked for a certificate.
        client_auth: ClientAuth { name: "tls.server.need.client.auth", default: ClientAuth::None, allowed: one_of(), change: AtStart }
        /// Whether a client's certificate has to be signed by a trusted one. Otherwise any certificate counts.
        server_verifies: bool { name: "tls.server.authClient", default: false, allowed: flag(), change: AtStart }
        /// File with the certificates that sign those of clients (PEM). Empty: the system's.
        server_trust: Option<PathBuf> { name: "tls.server.trustCertPath", default: None, allowed: optional(path()), change: AtStart }
    }

    section "TLS: outgoing connections" {
        /// Whether connections to other servers use TLS. Empty: useTLS, otherwise true if tls.server.mode is enforcing.
        enable: Option<bool> { name: "tls.enable", default: None, allowed: optional(flag()), change: AtStart }
        /// The same as tls.enable under the name that it has in Apache's broker.conf.
        use_tls: Option<bool> { name: "useTLS", default: None, allowed: optional(flag()), change: AtStart }
        /// Whether the certificate of a server has to be signed by a trusted one. Otherwise any certificate counts.
        client_verifies: bool { name: "tls.client.authServer", default: false, allowed: flag(), change: AtStart }
        /// File with the certificates that sign those of servers (PEM). Empty: the system's.
        client_trust: Option<PathBuf> { name: "tls.client.trustCertPath", default: None, allowed: optional(path()), change: AtStart }
        /// Whether the certificate of a server has to be for the host that was connected to. Needs tls.client.authServer. Apache does not
        /// check it, and certificates of brokers rarely have their IP addresses.
        checks_host: bool { name: "apogeeTlsCheckHost", default: false, allowed: flag(), change: AtStart }
        /// File with the certificate that is shown to servers that ask for one (PEM).
        client_cert: Option<PathBuf> { name: "tls.client.certPath", default: None, allowed: optional(path()), change: AtStart }
        /// File with the private key of that certificate.
        client_key: Option<PathBuf> { name: "tls.client.keyPath", default: None, allowed: optional(path()), change: AtStart }
        /// Password of tls.client.keyPath, if it is encrypted.
        client_key_password: String { name: "tls.client.keyPassword", default: String::new(), allowed: text(), change: AtStart }
    }

    section "TLS: both" {
        /// Further properties file with keys tls.*, which override the configuration file. Not read if it does not exist.
        /// tls.server.mode and tls.enable have no effect there, as in Apache.
        config_file: PathBuf {
            name: "tls.config.file", default: PathBuf::from("/etc/rocketmq/tls.properties"), allowed: path(), change: AtStart,
        }
        /// Versions: TLSv1.2, TLSv1.3. Empty: both. Older ones have no effect.
        protocols: Vec<String> { name: "tls.protocols", default: Vec::new(), allowed: list(text(), ',', 16), change: AtStart }
        /// Cipher suites such as TLS_AES_128_GCM_SHA256 or TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256. Empty: all. Those that are not
        /// available (CBC, RSA key exchange) have no effect.
        ciphers: Vec<String> { name: "tls.ciphers", default: Vec::new(), allowed: list(text(), ',', 64), change: AtStart }
    }
}

impl Settings for TlsSettings {}

impl TlsSettings {
    /// Settings from these sources, after the keys `tls.*` of `tls.config.file` were added to them.
    ///
    /// # Errors
    /// A text that says what is wrong with a value or with that file.
    pub fn read(sources: &mut Sources) -> Result<Self, String> {
        let settings: Self = sources.fill().map_err(|refusals| refusals.to_string())?;
        if !Self::add_file(&settings.config_file, sources)? {
            return Ok(settings);
        }
        sources.fill().map_err(|refusals| refusals.to_string())
    }

    /// Adds the keys of a properties file; returns whether it exists.
    fn add_file(file: &Path, sources: &mut Sources) -> Result<bool, String> {
        if !file.is_file() {
            return Ok(false);
        }
        let wanted = |key: &str| key.starts_with("tls.") && !NOT_FROM_THE_FILE.contains(&key);
        let left_out = sources.file_only(file, wanted).map_err(|error| error.to_string())?;
        for key in left_out {
            sources.note(Note::new(
                &[&key],
                format!("{}: {key} has no effect in tls.config.file", file.display()),
            ));
        }
        Ok(true)
    }

    /// Whether servers sign their certificate themselves.
    pub fn servers_are_tested(&self) -> bool {
        self.test_mode.unwrap_or(self.server_cert.is_none() && self.server_key.is_none())
    }

    /// Whether clients accept every server.
    pub fn clients_are_tested(&self) -> bool {
        let given = self.client_verifies || self.client_trust.is_some() || self.client_cert.is_some() || self.client_key.is_some();
        self.test_mode.unwrap_or(!given)
    }

    /// Whether outgoing connections use TLS.
    pub fn is_outgoing(&self) -> bool {
        self.enable.or(self.use_tls).unwrap_or(self.mode == TlsMode::Enforcing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    config::declaration_tests!(TlsSettings);

    fn of(pairs: &[(&str, &str)]) -> TlsSettings {
        let mut sources = Sources::new();
        for (key, value) in pairs {
            sources.flag("test", key, value);
        }
        TlsSettings::read(&mut sources).unwrap()
    }

    #[test]
    fn without_settings_servers_are_permissive_and_clients_plain() {
        let settings = TlsSettings::default();
        assert_eq!(settings.mode, TlsMode::Permissive);
        assert!(settings.servers_are_tested() && settings.clients_are_tested() && !settings.is_outgoing());
    }

    #[test]
    fn outgoing_connections_follow_enable_then_use_tls_then_the_mode() {
        assert!(of(&[("tls.server.mode", "enforcing")]).is_outgoing());
        assert!(!of(&[("tls.server.mode", "enforcing"), ("tls.enable", "false")]).is_outgoing());
        assert!(of(&[("useTLS", "true")]).is_outgoing());
        assert!(!of(&[("useTLS", "true"), ("tls.enable", "false")]).is_outgoing());
    }

    #[test]
    fn files_end_the_test_mode_unless_it_is_set() {
        assert!(!of(&[("tls.server.certPath", "/c")]).servers_are_tested());
        assert!(of(&[("tls.server.certPath", "/c"), ("tls.test.mode.enable", "true")]).servers_are_tested());
        assert!(of(&[("tls.server.certPath", "/c")]).clients_are_tested());
        assert!(!of(&[("tls.client.authServer", "true")]).clients_are_tested());
        assert!(!of(&[("tls.test.mode.enable", "false")]).servers_are_tested());
    }

    #[test]
    fn the_file_of_apache_overrides_the_configuration_file_and_sets_only_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let (main, own) = (dir.path().join("broker.conf"), dir.path().join("tls.properties"));
        std::fs::write(&own, "tls.server.keyPassword=own\ntls.server.mode=disabled\nbrokerName=no\n").unwrap();
        std::fs::write(&main, format!("tls.config.file={}\ntls.server.keyPassword=main\n", own.display())).unwrap();
        let mut sources = Sources::new();
        sources.file(&main).unwrap();
        let settings = TlsSettings::read(&mut sources).unwrap();
        assert_eq!((settings.server_key_password.as_str(), settings.mode), ("own", TlsMode::Permissive));
        let notes = sources.take_notes();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].text.contains("tls.server.mode") && notes[1].text.contains("brokerName"));
        assert!(sources.leftovers(&[]).is_empty(), "nothing else came from the file");
    }
}
