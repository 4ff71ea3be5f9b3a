//! From settings and files to the configurations of rustls.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use crate::certificates::{File, system_roots};
use crate::settings::{ClientAuth, TlsSettings};
use crate::verify::{AnyClient, AnyHost, AnyServer};

/// Why TLS cannot be used as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("TLS: cannot read {}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
    /// A file does not have what it should.
    #[error("TLS: {}: {why}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Settings that do not fit together.
    #[error("TLS: {0}")]
    Settings(String),
    /// The system trusts nobody.
    #[error("TLS: the system has no trusted certificates{0}; set tls.client.trustCertPath or tls.server.trustCertPath")]
    NoRoots(String),
}

impl TlsError {
    pub(crate) fn content(path: &Path, why: impl ToString) -> Self {
        Self::Content {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

/// A configuration, and the files that it was made of.
pub(crate) struct Made<C> {
    pub(crate) config: Arc<C>,
    pub(crate) files: Vec<File>,
}

/// The files that are read for one configuration.
#[derive(Default)]
struct Files(Vec<File>);

impl Files {
    fn read(&mut self, path: &Path) -> Result<File, TlsError> {
        let file = File::read(path)?;
        self.0.push(file.clone());
        Ok(file)
    }

    /// Certificate and key, which must belong together.
    fn identity(
        &mut self,
        cert: &Path,
        key: &Path,
        password: &str,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let certificates = self.read(cert)?.certificates()?;
        let private = self.read(key)?.private_key(password)?;
        CertifiedKey::from_der(certificates.clone(), private.clone_key(), &ring::default_provider()).map_err(|error| {
            let why = format!("it cannot be used with the private key {}: {error}", key.display());
            TlsError::content(cert, why)
        })?;
        Ok((certificates, private))
    }

    fn roots(&mut self, path: Option<&PathBuf>) -> Result<Arc<RootCertStore>, TlsError> {
        let roots = match path {
            Some(path) => self.read(path)?.roots()?,
            None => system_roots()?,
        };
        Ok(Arc::new(roots))
    }
}

/// The configuration of servers; `None` without a certificate.
///
/// # Errors
/// [`TlsError`] if a file cannot be used, or only one of certificate and key is set.
pub(crate) fn server(settings: &TlsSettings) -> Result<Option<Made<ServerConfig>>, TlsError> {
    let mut files = Files::default();
    let provider = provider(settings)?;
    let (certificates, key, verifier) = if settings.servers_are_tested() {
        let (certificates, key) = self_signed()?;
        (certificates, key, WebPkiClientVerifier::no_client_auth())
    } else {
        let Some((cert, key)) = pair(&settings.server_cert, &settings.server_key, "tls.server")? else {
            return Ok(None);
        };
        let (certificates, key) = files.identity(cert, key, &settings.server_key_password)?;
        (certificates, key, client_verifier(settings, &provider, &mut files)?)
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(settings)?)
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(unusable)?;
    // Sessions are not resumed: connections live long, Apache's clients do not ask for it, and each handshake sees the newest files.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Some(Made {
        config: Arc::new(config),
        files: files.0,
    }))
}

fn client_verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    files: &mut Files,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mandatory = settings.client_auth == ClientAuth::Require;
    if settings.client_auth == ClientAuth::None {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    if !settings.server_verifies {
        return Ok(Arc::new(AnyClient {
            provider: Arc::clone(provider),
            mandatory,
        }));
    }
    let roots = files.roots(settings.server_trust.as_ref())?;
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = if mandatory { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(unusable)
}

/// The configuration of outgoing connections.
///
/// # Errors
/// [`TlsError`] if a file cannot be used, or only one of certificate and key is set.
pub(crate) fn client(settings: &TlsSettings) -> Result<Made<ClientConfig>, TlsError> {
    let mut files = Files::default();
    let provider = provider(settings)?;
    let is_tested = settings.clients_are_tested();
    let verifier: Arc<dyn ServerCertVerifier> = if is_tested || !settings.client_verifies {
        Arc::new(AnyServer {
            provider: Arc::clone(&provider),
        })
    } else {
        let roots = files.roots(settings.client_trust.as_ref())?;
        let signed = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(unusable)?;
        if settings.checks_host {
            signed
        } else {
            Arc::new(AnyHost {
                provider: Arc::clone(&provider),
                trusted: settings
                    .client_trust
                    .as_ref()
                    .map_or(Ok(Vec::new()), |path| files.read(path)?.certificates())?,
                signed,
            })
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(settings)?)
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let identity = if is_tested {
        None
    } else {
        pair(&settings.client_cert, &settings.client_key, "tls.client")?
    };
    let mut config = match identity {
        Some((cert, key)) => {
            let (certificates, key) = files.identity(cert, key, &settings.client_key_password)?;
            builder.with_client_auth_cert(certificates, key).map_err(unusable)?
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Made {
        config: Arc::new(config),
        files: files.0,
    })
}

fn pair<'a>(cert: &'a Option<PathBuf>, key: &'a Option<PathBuf>, prefix: &str) -> Result<Option<(&'a Path, &'a Path)>, TlsError> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (None, None) => Ok(None),
        _ => Err(TlsError::Settings(format!(
            "{prefix}.certPath and {prefix}.keyPath belong together, and only one of them is set"
        ))),
    }
}

/// A certificate for this run.
fn self_signed() -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let failed = |error| TlsError::Settings(format!("no certificate can be made for the test mode: {error}"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(failed)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key)))
}

/// Algorithms, with the cipher suites of the settings.
fn provider(settings: &TlsSettings) -> Result<Arc<CryptoProvider>, TlsError> {
    let mut provider = ring::default_provider();
    if !settings.ciphers.is_empty() {
        provider.cipher_suites.retain(|suite| settings.ciphers.contains(&name(suite)));
        if provider.cipher_suites.is_empty() {
            let available: Vec<_> = ring::ALL_CIPHER_SUITES.iter().map(name).collect();
            return Err(TlsError::Settings(format!(
                "none of tls.ciphers={} is available; available are {}",
                settings.ciphers.join(","),
                available.join(",")
            )));
        }
    }
    Ok(Arc::new(provider))
}

/// The name of a suite as Java has it.
fn name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

fn versions(settings: &TlsSettings) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let asked = |name: &str| settings.protocols.is_empty() || settings.protocols.iter().any(|asked| asked.eq_ignore_ascii_case(name));
    let all = [("TLSv1.3", &rustls::version::TLS13), ("TLSv1.2", &rustls::version::TLS12)];
    let versions: Vec<_> = all
        .into_iter()
        .filter(|(name, _)| asked(name))
        .map(|(_, version)| version)
        .collect();
    if versions.is_empty() {
        return Err(TlsError::Settings(format!(
            "none of tls.protocols={} is available; available are TLSv1.2,TLSv1.3",
            settings.protocols.join(",")
        )));
    }
    Ok(versions)
}

fn unusable(error: impl std::fmt::Display) -> TlsError {
    TlsError::Settings(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_the_names_that_java_has() {
        let names: Vec<_> = ring::ALL_CIPHER_SUITES.iter().map(name).collect();
        for known in ["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"] {
            assert!(names.iter().any(|name| name == known), "{names:?}");
        }
    }

    #[test]
    fn versions_and_suites_that_are_not_available_are_refused_with_those_that_are() {
        let settings = TlsSettings {
            protocols: vec!["TLSv1.1".to_owned()],
            ..TlsSettings::default()
        };
        assert!(server(&settings).err().unwrap().to_string().contains("TLSv1.3"));
        let settings = TlsSettings {
            ciphers: vec!["TLS_RSA_WITH_AES_128_CBC_SHA".to_owned()],
            ..TlsSettings::default()
        };
        assert!(server(&settings).err().unwrap().to_string().contains("TLS_AES_128_GCM_SHA256"));
    }
}
