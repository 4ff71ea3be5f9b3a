//! Who is trusted beyond what rustls decides by itself.
//!
//! Whatever a verifier accepts, the peer proves with a signature that it has the private key of its certificate.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// Methods that check signatures with the algorithms of a provider.
macro_rules! signatures {
    ($own:ident => $provider:expr) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let $own = self;
            verify_tls12_signature(message, cert, dss, &$provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let $own = self;
            verify_tls13_signature(message, cert, dss, &$provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            let $own = self;
            $provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Accepts every certificate of a client.
#[derive(Debug)]
pub(crate) struct AnyClient {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) mandatory: bool,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: UnixTime) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    signatures!(own => own.provider);
}

/// Accepts every certificate of a server.
#[derive(Debug)]
pub(crate) struct AnyServer {
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures!(own => own.provider);
}

/// Accepts certificates that are trusted or that a trusted one has signed, whatever their host, as Apache's clients do.
#[derive(Debug)]
pub(crate) struct AnyHost {
    pub(crate) provider: Arc<CryptoProvider>,
    /// Those of the file. One that signed itself is often marked as an authority (`openssl req -x509`); `signed` takes none of these for a
    /// server.
    pub(crate) trusted: Vec<CertificateDer<'static>>,
    pub(crate) signed: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.trusted.iter().any(|trusted| trusted == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        // The host is checked last, after the signatures.
        match self.signed.verify_server_cert(end_entity, intermediates, host, ocsp, now) {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    signatures!(own => own.provider);
}
