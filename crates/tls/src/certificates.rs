//! Certificates and private keys in PEM files.

use std::path::{Path, PathBuf};

use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::configs::TlsError;
use crate::old_encryption;

/// Maximum size of a file. A larger one is no certificate.
const MAX_FILE_BYTES: u64 = 4 << 20;
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    bytes: Vec<u8>,
}

impl File {
    pub(crate) fn read(path: &Path) -> Result<Self, TlsError> {
        let io = |error| TlsError::File {
            path: path.to_owned(),
            error,
        };
        let len = std::fs::metadata(path).map_err(io)?.len();
        if len > MAX_FILE_BYTES {
            return Err(TlsError::content(
                path,
                format!("it has {len} bytes, at most {MAX_FILE_BYTES} are allowed"),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            bytes: std::fs::read(path).map_err(io)?,
        })
    }

    /// The certificates of the file, in their order; at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match found {
            Ok(certificates) if certificates.is_empty() => Err(TlsError::content(&self.path, "it has no certificate in PEM")),
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(TlsError::content(&self.path, error)),
        }
    }

    /// The certificates of the file as those that sign others.
    pub(crate) fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| TlsError::content(&self.path, error))?;
        }
        Ok(roots)
    }

    /// The private key of the file.
    pub(crate) fn private_key(&self, password: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
        let text = String::from_utf8_lossy(&self.bytes);
        if text.contains("Proc-Type: 4,ENCRYPTED") {
            let why = "it is encrypted in a form of before PKCS#8: convert it with openssl pkcs8 -topk8 -in FILE -out NEW";
            return Err(TlsError::content(&self.path, why));
        }
        if !text.contains(ENCRYPTED) {
            return PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| TlsError::content(&self.path, error));
        }
        // The parser does not know the label of encrypted keys.
        let relabelled = text.replace(ENCRYPTED, "PRIVATE KEY");
        let encrypted = PrivatePkcs8KeyDer::from_pem_slice(relabelled.as_bytes()).map_err(|error| TlsError::content(&self.path, error))?;
        let key = decrypt(encrypted.secret_pkcs8_der(), password).map_err(|why| TlsError::content(&self.path, why))?;
        Ok(PrivateKeyDer::Pkcs8(key.into()))
    }
}

fn decrypt(der: &[u8], password: &str) -> Result<Vec<u8>, String> {
    if password.is_empty() {
        return Err("the private key is encrypted, and no password is set".to_owned());
    }
    let wrong = "the private key cannot be decrypted: the password is wrong";
    match EncryptedPrivateKeyInfoRef::try_from(der) {
        Ok(encrypted) => match encrypted.decrypt(password) {
            Ok(key) => Ok(key.as_bytes().to_vec()),
            Err(error) => Err(format!("{wrong}, or its encryption is not supported ({error})")),
        },
        Err(_) => {
            let key = old_encryption::decrypt(der, password);
            let error = "or its encryption is not supported: convert it with openssl pkcs8 -topk8 -v2 aes-256-cbc";
            key.ok_or_else(|| format!("{wrong}, {error}"))
        }
    }
}

/// The certificates that the system trusts.
pub(crate) fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(TlsError::NoRoots(why));
    }
    Ok(roots)
}
