//! Flags of programs that connect with TLS.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use config::Sources;
use net::session::Connector;
use tls::{Tls, TlsSettings};

/// Flags for connections with TLS. The keys `tls.client.*` come from the file and from variables (`APOGEEMQ_TLS_CLIENT_…`).
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
pub struct TlsFlags {
    /// Connect with TLS [env: APOGEEMQ_TLS_ENABLE=true]
    #[arg(long, global = true)]
    tls: bool,
    /// Properties file with keys tls.client.*; implies --tls [default: /etc/rocketmq/tls.properties, if it exists]
    #[arg(long, value_name = "FILE", global = true)]
    tls_config: Option<PathBuf>,
}

impl TlsFlags {
    /// How to begin connections; `None` if they are plain.
    ///
    /// # Errors
    /// A text that says which value or file cannot be used.
    pub fn connector(&self) -> Result<Option<Arc<dyn Connector>>, String> {
        let mut sources = Sources::new();
        let variables = std::env::vars_os();
        sources.environment(
            variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
            &[],
        );
        if let Some(file) = &self.tls_config {
            if !file.is_file() {
                return Err(format!("--tls-config {}: there is no such file", file.display()));
            }
            sources.flag("--tls-config", "tls.config.file", &file.display().to_string());
        }
        if self.tls || self.tls_config.is_some() {
            sources.flag("--tls", "tls.enable", "true");
        }
        let settings = TlsSettings::read(&mut sources)?;
        Tls::connector_once(&settings).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_plain_unless_a_flag_asks_for_tls() {
        let none = TlsFlags::default();
        assert!(none.connector().unwrap().is_none());
        let tls = TlsFlags {
            tls: true,
            ..TlsFlags::default()
        };
        assert!(tls.connector().unwrap().is_some());
    }

    #[test]
    fn a_file_implies_tls_and_has_to_exist() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tls.properties");
        let flags = TlsFlags {
            tls: false,
            tls_config: Some(file.clone()),
        };
        assert!(flags.connector().err().unwrap().contains("no such file"));
        std::fs::write(&file, "tls.client.certPath=/no/such\n").unwrap();
        assert!(flags.connector().err().unwrap().contains("tls.client.keyPath"));
        std::fs::write(&file, "").unwrap();
        assert!(flags.connector().unwrap().is_some());
    }
}
