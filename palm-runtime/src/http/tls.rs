//! TLS, by rustls: certificates of servers, and whom clients trust.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::patient::Patient;
use crate::error::BoxError;

/// Why TLS cannot be spoken with what was given.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct TlsError {
    what: String,
    source: BoxError,
}

fn failed<E: Into<BoxError>>(what: impl Into<String>) -> impl FnOnce(E) -> TlsError {
    let what = what.into();
    move |source| TlsError {
        what,
        source: source.into(),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificate that a server shows, and its key. HTTP/2 and HTTP/1.1 are offered.
#[derive(Clone)]
pub struct ServerTls(TlsAcceptor);

impl ServerTls {
    /// From files in the format PEM: the certificate, followed by those that sign it, and its key.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when a file cannot be read or the two do not belong together.
    pub fn from_files(
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let (certificates, key) = (certificates.as_ref(), key.as_ref());
        let read = |path: &Path| {
            std::fs::read(path).map_err(failed(format!("cannot read `{}`", path.display())))
        };
        Self::from_pem(&read(certificates)?, &read(key)?)
    }

    /// From the contents of such files.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when they are no PEM, or do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let certificates = parse_certificates(certificates)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(failed("the key is no PEM of one"))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(certificates, key)
            })
            .map_err(failed("the certificate and the key cannot be used"))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(super) async fn accept(&self, stream: Patient) -> std::io::Result<TlsStream<Patient>> {
        self.0.accept(stream).await
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ServerTls")
    }
}

/// Whom a client trusts. Certificates are always checked.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Trusts whom these certificates, in the format PEM, have signed, and nobody else.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when they are no PEM of certificates.
    pub fn trusting(certificates: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in parse_certificates(certificates)? {
            let added = roots.add(certificate);
            added.map_err(failed("a certificate cannot be used"))?;
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(failed("TLS cannot be set up"))?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// What connects: by TLS only, unless `is_plain`.
    pub(crate) fn connector(
        tls: Option<Self>,
        is_plain: bool,
        connector: HttpConnector,
    ) -> Result<HttpsConnector<HttpConnector>, TlsError> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match tls {
            Some(Self(config)) => builder.with_tls_config(ClientConfig::clone(&config)),
            // What is not needed is not looked for: a container may have no certificates.
            None if is_plain => {
                let Self(config) = Self::trusting(&[])?;
                builder.with_tls_config(ClientConfig::clone(&config))
            }
            None => builder
                .with_provider_and_native_roots(ring::default_provider())
                .map_err(failed("the system's certificates cannot be read"))?,
        };
        let builder = if is_plain {
            builder.https_or_http()
        } else {
            builder.https_only()
        };
        Ok(builder.enable_all_versions().wrap_connector(connector))
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ClientTls")
    }
}

fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, rustls::pki_types::pem::Error> =
        CertificateDer::pem_slice_iter(pem).collect();
    certificates.map_err(failed("the certificates are no PEM"))
}
